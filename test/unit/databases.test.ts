import * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import { provider } from "../../components/databases/list-provider.ts";
import { passwordVerifier } from "../../lib/scram.ts";
import { type Asked, namesIn, record, secretly, serverWith } from "./pulumi.ts";

describe("a change of the setting databases", () => {
  const list = (names: string[], droppable: string[] = []) => ({
    names,
    droppable,
    host: "h",
    port: 1,
    user: "u",
    password: "p",
    passwordVersion: 1,
  });
  const diff = (olds: object, news: object) => provider.diff?.("id", olds, news);

  test("is refused if it would drop a database that droppableDatabases does not name", async () => {
    await expect(diff(list(["a", "b"]), list(["a"]))).rejects.toThrow(
      "The database b would be dropped with all rows, because the setting databases no longer names it. To permit that: pulumi config set " +
        "--path 'droppableDatabases[0]' b",
    );
    await expect(diff(list(["a", "b", "c"]), list(["a"], ["b"]))).rejects.toThrow("The database c would be dropped");
    expect((await diff(list(["a", "b"]), list(["a"], ["b"])))?.changes).toBe(true);
  });

  test("is not detected in an unchanged list, and accepted in a longer one", async () => {
    expect((await diff(list(["a"]), list(["a"], ["b"])))?.changes).toBe(false);
    expect((await diff(list(["a"]), list(["b", "a"])))?.changes).toBe(true);
  });
});

describe("the component Databases", () => {
  let get: (name: string) => Asked;
  beforeAll(async () => {
    get = await record(async (opts) => {
      const { Databases } = await import("../../components/databases/databases.ts");
      const { urn, urls } = new Databases(
        "databases",
        {
          server: serverWith(),
          roles: { provider: new postgresql.Provider("superuser", {}) },
          denyList: [],
          settings: { names: ["nexus", "east"], droppable: [] },
          importSettings: { newerImage: "j", jobs: 2 },
        },
        opts,
      );
      const { nexus } = urls;
      expect(nexus && (await pulumi.isSecret(nexus.app))).toBe(true);
      return [urn];
    });
  });

  test("creates each database's roles with their own passwords, one database after the other", () => {
    expect(get("databases-nexus-app").inputs).toMatchObject({
      name: "nexus_app",
      password: secretly(passwordVerifier("nexus_app", "value-of-databases-nexus-app-password")),
    });
    expect(get("databases-east-app").inputs).toMatchObject({
      name: "east_app",
      password: secretly(passwordVerifier("east_app", "value-of-databases-east-app-password")),
    });
    expect(namesIn(get("databases-nexus").options.dependsOn)).toEqual(["databases-nexus-readonly"]);
    expect(namesIn(get("databases-east-owner").options.dependsOn)).toEqual(["databases-nexus"]);
    expect(get("databases-nexus").inputs.password).toEqual(secretly("superuser's"));
  });
});
