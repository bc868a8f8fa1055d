/** The read replicas' settings and resources. */
import * as pulumi from "@pulumi/pulumi";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { describeReplica } from "../../cli/support/replicas.ts";
import { endpointsAt } from "../../components/handover/database-names.ts";
import { urlVariables } from "../../components/handover/redirection.ts";
import { replicaProblems, replicasOf } from "../../components/replicas/settings.ts";
import { type Asked, namesIn, record, SERVER } from "./pulumi.ts";

describe("the settings of replicas", () => {
  test("without replicas there are none", () =>
    expect(replicasOf({ replicas: 0, replicaPort: 0 }, 5433)).toBe(undefined));

  test("the default port is the server's plus 5000, below the ephemeral ports for every stack", () => {
    fc.assert(
      fc.property(fc.integer({ min: 15433, max: 19432 }), fc.integer({ min: 1, max: 8 }), (port, replicas) => {
        const settings = replicasOf({ replicas, replicaPort: 0 }, port);
        expect(settings).toEqual({ count: replicas, port: port + 5000 });
        expect(port + 5000 + replicas).toBeLessThan(32_768);
        expect(settings && replicaProblems(settings, port)).toEqual([]);
      }),
    );
  });

  test("a range of ports that contains the server's is refused, and one above the last port too", () => {
    expect(replicaProblems({ count: 3, port: 5431 }, 5433)).toEqual([
      "replicaPort is 5431: the 3 replicas would have the ports 5431 to 5433, and 5433 is the server's. Choose another one, or 0 for " +
        "the default",
    ]);
    expect(replicaProblems({ count: 3, port: 5430 }, 5433)).toEqual([]);
    expect(replicaProblems({ count: 2, port: 65_535 }, 5433)).toEqual([
      "replicaPort is 65535: the last replica's port would be 65536. Choose a lower one",
    ]);
  });
});

describe("the resources of two replicas", () => {
  let get: (name: string) => Asked;
  beforeAll(async () => {
    get = await record(async (opts) => {
      const { DatabaseServer } = await import("../../components/server/database-server.ts");
      const { Replicas } = await import("../../components/replicas/replicas.ts");
      const { Provider } = await import("@pulumi/postgresql");
      const server = new DatabaseServer("database", { stack: "test", database: "game", settings: SERVER }, opts);
      const superuser = new Provider("superuser", { host: "127.0.0.1" }, opts);
      const replicas = new Replicas("replicas", { server, superuser, settings: { count: 2, port: 16000 } }, opts);
      return [server.urn, replicas.replicatorUrl, pulumi.output(replicas.addresses)];
    });
  });

  test("are a volume, a container and a port for each, with the server's image and limits", () => {
    for (const [index, name] of ["replica1", "replica2"].entries()) {
      const { inputs } = get(`replicas-${name}-server`);
      expect(inputs).toMatchObject({
        name: `sectorwars-test-${name}`,
        image: "sha256:1234",
        memory: 512,
        memorySwap: 512,
        init: true,
        entrypoints: ["sectorwars-replica"],
        ports: [{ internal: 5432, external: 16000 + index, ip: "127.0.0.1", protocol: "tcp" }],
        volumes: [{ volumeName: `sectorwars-test-${name}-data`, containerPath: "/var/lib/postgresql/data" }],
      });
      expect(inputs.envs).toContain(`REPLICA_NAME=${name}`);
      expect(JSON.stringify(inputs.command)).not.toContain("archive_mode");
    }
  });

  test("get the password as a file of root's, as a secret, and not in the environment", () => {
    const { inputs } = get("replicas-replica1-server");
    expect(JSON.stringify(inputs.uploads)).toContain("/run/primary-password");
    expect(JSON.stringify(inputs.uploads)).toContain("0600");
    expect(JSON.stringify([inputs.envs, inputs.command])).not.toContain("value-of-");
  });

  test("check their health by the stream, not by pg_isready", () => {
    expect(get("replicas-replica1-server").inputs.healthcheck).toMatchObject({
      tests: ["CMD", "sectorwars-replica", "healthy"],
    });
  });

  test("remove the slot after the container, which would create it again", () => {
    expect(namesIn(get("replicas-replica1-server").options.dependsOn)).toContain("replicas-replica1-slot");
  });

  test("have a role that replicates and is a member of nothing", () => {
    const { inputs } = get("replicas-replicator");
    expect(inputs).toMatchObject({ name: "sectorwars_replicator", login: true, replication: true });
    expect(inputs.roles).toBe(undefined);
  });
});

describe("the hand-over of replicas", () => {
  const login = { database: "game", user: "app", password: "pw" };
  const logins = { main: login, test: login, further: {}, readonly: { ...login, user: "readonly" } };
  const place = { alias: "database", port: 5433, replicas: { alias: "replica", port: 10433 } };

  test.each([
    ["network", "postgresql://readonly:pw@replica:5432/game"],
    ["container", "postgresql://readonly:pw@replica:5432/game"],
    ["host", "postgresql://readonly:pw@127.0.0.1:10433/game"],
    ["machine", "postgresql://readonly:pw@localhost:10433/game"],
  ] as const)("sets DATABASE_URL_READONLY as seen from the %s", (view, url) => {
    const variables = urlVariables(endpointsAt(logins, place)(view), { driver: "", remoteUrl: undefined }, undefined);
    expect(variables.DATABASE_URL_READONLY).toBe(url);
  });

  test("leads through the pooler, to the name that it gives the database on the replicas", () => {
    const pooler = { alias: "pooler", port: 6433 };
    const at = endpointsAt(logins, place, undefined, pooler);
    const urls = (["network", "machine"] as const).map((view) => at(view).readonly);
    expect(urls).toEqual([
      { host: "pooler", port: 6432, database: "game_readonly", user: "readonly", password: "pw" },
      { host: "localhost", port: 6433, database: "game_readonly", user: "readonly", password: "pw" },
    ]);
  });

  test("sets no DATABASE_URL_READONLY without replicas, or for an application on the remote database", () => {
    const without = endpointsAt(logins, { alias: "database", port: 5433 })("network");
    const remote = endpointsAt(logins, place, { ...login, host: "ep-x.neon.tech", port: 5432 })("network");
    for (const endpoints of [without, remote]) {
      expect(urlVariables(endpoints, { driver: "", remoteUrl: undefined }, undefined)).not.toHaveProperty(
        "DATABASE_URL_READONLY",
      );
    }
  });
});

describe("a replica in words", () => {
  const replica = { name: "replica1", address: "127.0.0.1:10433" };
  test("says how late it is, or that it does not stream", () => {
    expect(describeReplica({ ...replica, streaming: true, lagBytes: 2_500_000, lagSeconds: 1.26 })).toBe(
      "replica1 at 127.0.0.1:10433 streams, 2.4 MB and 1.3 s late",
    );
    expect(describeReplica({ ...replica, streaming: false })).toBe("replica1 at 127.0.0.1:10433 does not stream");
  });
});
