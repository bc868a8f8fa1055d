import fc from "fast-check";
import { expect, test } from "vitest";
import { namesFor, replicaNames } from "../../lib/naming.ts";

/** Names that Pulumi accepts for a stack. */
const stackName = fc.stringMatching(/^[a-zA-Z0-9_.-]{1,40}$/);

test("the stack dev has the names that the application's Compose file uses", () => {
  expect(namesFor("dev")).toEqual({
    container: "sectorwars-database",
    network: "sectorwars-network",
    volume: "sectorwars-data",
    image: "sectorwars-database",
    backups: "sectorwars-backups",
    backupVolume: "sectorwars-backups",
    socketVolume: "sectorwars-socket",
    pooler: "sectorwars-pooler",
    poolerImage: "sectorwars-pooler",
    alias: "database",
    replicaAlias: "replica",
    poolerAlias: "pooler",
  });
});

test("another stack has its name in all names except the alias", () => {
  expect(namesFor("ci")).toEqual({
    container: "sectorwars-ci-database",
    network: "sectorwars-ci-network",
    volume: "sectorwars-ci-data",
    image: "sectorwars-ci-database",
    backups: "sectorwars-ci-backups",
    backupVolume: "sectorwars-ci-backups",
    socketVolume: "sectorwars-ci-socket",
    pooler: "sectorwars-ci-pooler",
    poolerImage: "sectorwars-ci-pooler",
    alias: "database",
    replicaAlias: "replica",
    poolerAlias: "pooler",
  });
});

test("two stacks share no name except the alias", () => {
  fc.assert(
    fc.property(stackName, stackName, (one, other) => {
      fc.pre(one !== other);
      const a = namesFor(one);
      const b = namesFor(other);
      for (const kind of ["container", "network", "volume", "image"] as const) expect(a[kind]).not.toBe(b[kind]);
      expect(a.alias).toBe(b.alias);
    }),
  );
});

test("names of containers, networks and volumes are valid in Docker", () => {
  fc.assert(
    fc.property(stackName, (stack) => {
      const { container, network, volume } = namesFor(stack);
      for (const name of [container, network, volume]) expect(name).toMatch(/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/);
    }),
  );
});

// An image name allows lowercase letters only, and no two separators of different kinds in a row.
test.each(["Test", "a.-b", "x."])("the image of the stack %s has a name that is valid in Docker", (stack) => {
  expect(namesFor(stack).image).toMatch(/^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*$/);
});

test("a replica has its number in all names, and the stack's in those of Docker", () => {
  expect(replicaNames("dev", 1)).toEqual({
    name: "replica1",
    container: "sectorwars-replica1",
    volume: "sectorwars-replica1-data",
  });
  expect(replicaNames("ci", 2)).toMatchObject({ name: "replica2", container: "sectorwars-ci-replica2" });
});
