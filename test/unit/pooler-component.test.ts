import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import { type Asked, namesIn, record, SERVER, secretly } from "./pulumi.ts";

/** The stack's server and its pooler. */
const make = ({ memoryMiB = 512, passwordVersion = 1 } = {}): Promise<(name: string) => Asked> =>
  record(async (opts) => {
    const { holdBeforeReplace, Pooler } = await import("../../components/pooler/pooler.ts");
    const { DatabaseServer } = await import("../../components/server/database-server.ts");
    const settings = { ...SERVER, memoryMiB, passwordVersion };
    const beforeReplace = holdBeforeReplace({ stack: "test", dockerHost: undefined });
    const server = new DatabaseServer("database", { stack: "test", database: "game", settings, beforeReplace }, opts);
    const roles = new pulumi.ComponentResource("test:Roles", "roles");
    const pooler = new Pooler(
      "pooler",
      {
        server,
        databases: ["game", "nexus"],
        hasReplicas: true,
        settings: { port: 19500, size: 20, baseImage: "debian:trixie-slim" },
      },
      { ...opts, dependsOn: roles },
    );
    return [server.urn, server.version, pooler.urn];
  });

let get: (name: string) => Asked;
beforeAll(async () => {
  get = await make();
});

describe("the pooler's container", () => {
  test("is published on this machine only, has a memory limit, and stops by SIGINT", () => {
    expect(get("pooler-container").inputs).toMatchObject({
      name: "sectorwars-test-pooler",
      ports: [{ internal: 6432, external: 19500, ip: "127.0.0.1", protocol: "tcp" }],
      networksAdvanced: [{ aliases: ["pooler"] }],
      memory: 128,
      memorySwap: 128,
      stopSignal: "SIGINT",
      restart: "unless-stopped",
    });
  });

  test("contains no password and no settings, so neither a rotation nor a new database replaces it", async () => {
    const rotated = await make({ passwordVersion: 2 });
    expect(get("pooler-container").inputs).toEqual(rotated("pooler-container").inputs);
    expect(JSON.stringify(get("pooler-container").inputs)).not.toMatch(/value-of|nexus|uploads/);
  });

  test("does not wait for the roles; its login does, and gets the passwords as secrets", () => {
    expect(namesIn(get("pooler-container").options.dependsOn)).toEqual(["pooler-port"]);
    const { inputs, options } = get("pooler-ready");
    expect(namesIn(options.dependsOn)).toEqual(["roles"]);
    expect(inputs).toMatchObject({
      poolerPassword: secretly("value-of-pooler-password"),
      databases: ["game", "nexus"],
      size: 20,
      alias: "database",
      containerId: "id-of-pooler-container",
      serverId: "id-of-database-server",
    });
  });
});

describe("the hold of queries", () => {
  test("comes before the server's container, and changes with what the container is made from", async () => {
    expect(namesIn(get("database-server").options.dependsOn)).toEqual(["pooler-hold"]);
    const madeFrom = (of: (name: string) => Asked) => JSON.stringify(of("pooler-hold").inputs.madeFrom);
    expect(madeFrom(await make())).toBe(madeFrom(get));
    expect(madeFrom(await make({ memoryMiB: 1024 }))).not.toBe(madeFrom(get));
  });

  test("does not come with a rotation, which replaces nothing", async () => {
    const rotated = await make({ passwordVersion: 2 });
    expect(rotated("pooler-hold").inputs).toEqual(get("pooler-hold").inputs);
  });
});
