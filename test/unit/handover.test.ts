import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Target } from "../../components/handover/handover.ts";
import { awaited, namesIn, record, secretly, serverWith } from "./pulumi.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function make(more: { target?: Target; folder?: string; pooled?: boolean } = {}) {
  let path: pulumi.Output<string> | undefined;
  const get = await record(
    async (opts) => {
      const { HandOver } = await import("../../components/handover/handover.ts");
      const schema = new pulumi.ComponentResource("test:Schema", "schema");
      const role = (name: string) => ({ name, password: pulumi.secret(`${name}pw`) });
      const further = {
        nexus: { owner: role("nexus_owner"), app: role("nexus_app"), readonly: role("nexus_readonly") },
      };
      const handover = new HandOver(
        "handover",
        {
          server: serverWith({ superuserPassword: pulumi.secret("superuserpw") }),
          roles: {
            access: { owner: role("owner"), app: role("app"), readonly: role("readonly"), monitor: role("monitor") },
          },
          databases: { access: further },
          settings: {
            folder: more.folder ?? folder,
            file: ".env",
            role: "app",
            composeFiles: ["compose.yaml"],
            service: "database",
            networkKey: "net",
            superuserServices: ["region-manager"],
            target: more.target ?? "local",
            pools: { services: 1, workers: 1, size: 5, overflow: 10 },
            poolTimeout: 30,
            driver: "none",
            throughPooler: more.pooled ?? false,
            directServices: ["importer"],
          },
          pooler: { alias: "pooler", port: 16432, size: 20, databases: 2 },
        },
        { ...opts, dependsOn: schema },
      );
      path = handover.summary.file;
      return [handover.files.urn];
    },
    { "handover-files": { path: "/the/file" } },
  );
  return { get, path: path as pulumi.Output<string> };
}

describe("the hand-over", () => {
  test("passes the user and password of each database, as secrets", async () => {
    const { get, path } = await make();
    expect(await awaited(path)).toBe("/the/file");
    const app = { user: "app", password: "apppw" };
    expect(get("handover-files").inputs).toMatchObject({
      logins: secretly({
        main: { database: "game", ...app },
        test: { database: "game_test", ...app },
        further: { nexus: { database: "nexus", user: "nexus_app", password: "nexus_apppw" } },
      }),
      superuser: secretly({ user: "postgres", password: "superuserpw" }),
      port: 15500,
      alias: "database",
      container: "some-container",
    });
  });

  test("waits for the schema and for the tests' database, which the services' role owns", async () => {
    const { get } = await make();
    expect(get("handover-test-database").inputs).toMatchObject({ database: "game_test", owner: "app" });
    expect(namesIn(get("handover-test-database").options.dependsOn)).toEqual(["schema"]);
    expect(namesIn(get("handover-files").options.dependsOn)).toEqual(["handover-test-database"]);
  });

  test("to Neon waits for nothing local, and Neon's URL is not among its inputs", async () => {
    const { get } = await make({ target: "neon" });
    expect(namesIn(get("handover-files").options.dependsOn)).toEqual([]);
    expect(namesIn(get("handover").options.dependsOn)).toEqual([]);
    expect(get("handover-files").inputs.target).toBe("neon");
  });

  test("to a missing folder or to a file is refused", async () => {
    await expect(make({ folder: join(folder, "none") })).rejects.toThrow(
      `application is "${folder}/none", which does not exist`,
    );
    await expect(make({ folder: "package.json" })).rejects.toThrow('package.json", which is not a folder');
  });

  test("names the pooler only if the services connect through it", async () => {
    expect((await make()).get("handover-files").inputs).not.toHaveProperty("pooled");
    expect((await make({ pooled: true })).get("handover-files").inputs.pooled).toEqual({
      alias: "pooler",
      port: 16432,
      size: 20,
      databases: 2,
      directServices: ["importer"],
    });
  });
});
