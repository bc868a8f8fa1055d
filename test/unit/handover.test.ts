import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Target } from "../../components/handover/handover.ts";
import { awaited, namesIn, record, secretly } from "./pulumi.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function make(more: { target?: Target; folder?: string } = {}) {
  let path: pulumi.Output<string> | undefined;
  const get = await record(
    async (opts) => {
      const { HandOver } = await import("../../components/handover/handover.ts");
      const volume = new pulumi.ComponentResource("test:Volume", "volume");
      const schema = new pulumi.ComponentResource("test:Schema", "schema");
      const handover = new HandOver(
        "handover",
        {
          stack: "test",
          database: "game",
          host: "127.0.0.1",
          port: 15500,
          alias: "database",
          network: "some-network",
          superuser: "postgres",
          superuserPassword: pulumi.secret("superuserpw"),
          passwordVersion: 1,
          login: { name: "app", password: pulumi.secret("apppw") },
          logins: { nexus: { name: "nexus_app", password: pulumi.secret("nexuspw") } },
          folder: more.folder ?? folder,
          file: ".env",
          service: "database",
          networkKey: "net",
          superuserServices: ["region-manager"],
          target: more.target ?? "local",
          pools: { services: 1, workers: 1, size: 5, overflow: 10 },
          poolTimeout: 30,
          budget: { wanted: 30, available: 97, fits: true, sum: "" },
          dockerHost: undefined,
          image: "some-image",
          after: [schema],
          volume,
        },
        opts,
      );
      path = handover.summary.file;
      return [handover.ready.urn];
    },
    { written: { path: "/the/file" } },
  );
  return { get, path: path as pulumi.Output<string> };
}

/** The block's variables as the provider gets them: secret as a whole. */
function variables(inputs: Record<string, unknown>): Record<string, string> {
  const { value } = inputs.variables as { value: Record<string, string> };
  expect(inputs.variables).toEqual(secretly(value));
  return value;
}

describe("the hand-over", () => {
  test("tells bare URLs for this machine and for containers, all of it a secret", async () => {
    const { get, path } = await make();
    expect(await awaited(path)).toBe("/the/file");
    expect(variables(get("written").inputs)).toEqual({
      DATABASE_URL: "postgresql://app:apppw@localhost:15500/game",
      DATABASE_URL_IN_NETWORK: "postgresql://app:apppw@database:5432/game",
      DATABASE_TEST_URL: "postgresql://app:apppw@localhost:15500/game_test",
      DATABASE_TEST_URL_IN_NETWORK: "postgresql://app:apppw@database:5432/game_test",
      DATABASE_URL_NEXUS: "postgresql://nexus_app:nexuspw@localhost:15500/nexus",
      DATABASE_URL_NEXUS_IN_NETWORK: "postgresql://nexus_app:nexuspw@database:5432/nexus",
      DB_HOST: "localhost",
      DB_PORT: "15500",
      DB_SUPERUSER: "postgres",
      DB_SUPERUSER_PASSWORD: "superuserpw",
      SQLALCHEMY_POOL_SIZE: "5",
      SQLALCHEMY_MAX_OVERFLOW: "10",
      SQLALCHEMY_POOL_TIMEOUT: "30",
    });
  });

  test("comes behind the schema and the tests' database, which belongs to the services' role", async () => {
    const { get } = await make();
    expect(get("tests").inputs).toMatchObject({ database: "game_test", owner: "app" });
    expect(namesIn(get("tests").options.dependsOn)).toEqual(["schema"]);
    expect(namesIn(get("written").options.dependsOn)).toEqual(["schema", "tests"]);
  });

  test("back to Neon waits for nothing local, and names no local database but the tests'", async () => {
    const { get } = await make({ target: "neon" });
    expect(namesIn(get("written").options.dependsOn)).toEqual([]);
    const given = variables(get("written").inputs);
    for (const name of ["DATABASE_URL", "DATABASE_URL_IN_NETWORK", "DB_HOST", "DB_SUPERUSER_PASSWORD"])
      expect(given).not.toHaveProperty(name);
    expect(given.DATABASE_TEST_URL).toBe("postgresql://app:apppw@localhost:15500/game_test");
  });

  test("to a folder that is not there, or to a file, is refused before anything is made", async () => {
    await expect(make({ folder: join(folder, "none") })).rejects.toThrow(
      `application is "${folder}/none", where there is no folder`,
    );
    await expect(make({ folder: "package.json" })).rejects.toThrow('package.json", which is no folder');
  });
});
