import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { DatabaseServer } from "../../components/server/database-server.ts";
import type { ServerSettings } from "../../components/server/settings.ts";
import { type Asked, awaited, namesIn, record, secretly } from "./pulumi.ts";

const SETTINGS: ServerSettings = {
  baseImage: "postgres:15-alpine",
  port: 15500,
  memoryMiB: 2048,
  cpus: 2,
  maxConnections: 100,
  passwordVersion: 1,
  keepDataOnDestroy: false,
  dockerHost: undefined,
  dockerHostIsSet: false,
};

interface More extends Partial<ServerSettings> {
  stack?: string;
  database?: string;
}

async function make(
  { stack = "test", database = "sectorwars_test", ...settings }: More = {},
  answers: Parameters<typeof record>[1] = {},
) {
  let server: DatabaseServer | undefined;
  const get = await record(async (opts) => {
    // Imported here: a component that is loaded before the mocks are set would talk to an engine.
    const { DatabaseServer } = await import("../../components/server/database-server.ts");
    server = new DatabaseServer("database", { stack, database, settings: { ...SETTINGS, ...settings } }, opts);
    return [server.version, server.volume.urn, server.networkName, server.imageId, server.superuserPassword];
  }, answers);
  return { get, server: server as DatabaseServer };
}

let get: (name: string) => Asked;
let server: DatabaseServer;
beforeAll(async () => {
  ({ get, server } = await make());
});

describe("the container", () => {
  test("is reached from this machine only", () => {
    expect(get("database-server").inputs.ports).toEqual([
      { internal: 5432, external: 15500, ip: "127.0.0.1", protocol: "tcp" },
    ]);
    expect(get("database-server").inputs.networkMode).toBe("bridge");
    expect(server.host).toBe("127.0.0.1");
  });

  test("shows no password: not in a variable, not in an argument, only in a file whose content is secret", () => {
    const { inputs } = get("database-server");
    expect(inputs.uploads).toEqual(
      secretlyAnywhere([{ file: "/run/initial-password", content: "value-of-database-initial-password" }]),
    );
    const { uploads: _, ...rest } = inputs;
    expect(JSON.stringify(rest)).not.toContain("value-of-");
    expect(inputs.envs).toContain("POSTGRES_PASSWORD_FILE=/run/initial-password");
    expect((inputs.envs as string[]).filter((env) => /^POSTGRES_PASSWORD=|PGPASSWORD/.test(env))).toEqual([]);
  });

  test("is healthy when it answers over TCP, which it does not while the cluster is being made", () => {
    const { tests } = get("database-server").inputs.healthcheck as { tests: string[] };
    expect(tests).toEqual(["CMD-SHELL", "pg_isready -q -h 127.0.0.1 -U postgres -d sectorwars_test"]);
    expect(get("database-server").options.replaceOnChanges).toEqual(["healthcheck"]);
  });

  test("gets time for its last checkpoint when it is stopped, and is stopped the fast way", () => {
    expect(get("database-server").inputs).toMatchObject({
      stopTimeout: 120,
      destroyGraceSeconds: 120,
      stopSignal: "SIGINT",
    });
  });

  test("gives its name and port free before its successor takes them", () => {
    expect(get("database-server").options.deleteBeforeReplace).toBe(true);
  });

  test("is limited to what its settings are tuned to", () => {
    const { inputs } = get("database-server");
    expect(inputs).toMatchObject({
      memory: 2048,
      memorySwap: 2048,
      cpuPeriod: 100_000,
      cpuQuota: 200_000,
      shmSize: 256,
    });
    expect(inputs.command).toContain("shared_buffers=512MB");
    expect((inputs.command as string[])[0]).toBe("postgres");
  });

  test("runs the built image by its content, on the stack's volume and network", () => {
    const { inputs } = get("database-server");
    expect(inputs.image).toBe("sha256:1234");
    expect(inputs.volumes).toEqual([{ volumeName: "sectorwars-test-data", containerPath: "/var/lib/postgresql/data" }]);
    expect(inputs.networksAdvanced).toEqual([{ name: "sectorwars-test-network", aliases: ["database"] }]);
  });

  test("makes a cluster that sorts alike everywhere and asks everybody over the network for a password", () => {
    const [initdb = ""] = (get("database-server").inputs.envs as string[]).filter((env) =>
      env.startsWith("POSTGRES_INITDB"),
    );
    expect(initdb).toContain("--locale-provider=icu");
    expect(initdb).toContain("--auth-host=scram-sha-256");
    expect(initdb).toContain("--data-checksums");
  });
});

/** Secret as a whole, or at the innermost value: either way it is not kept in clear. */
function secretlyAnywhere([upload]: { file: string; content: string }[]) {
  return expect.toSatisfy((uploads: unknown) => {
    const inner = [{ ...upload, content: secretly(upload?.content) }];
    const whole = secretly([upload]);
    return [inner, whole].some((fine) => JSON.stringify(sorted(fine)) === JSON.stringify(sorted(uploads)));
  });
}

/** With keys in order, so that texts can be compared. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

describe("the image", () => {
  test("is built on the engine that the settings name, which BuildKit in the provider would pass by", async () => {
    const far = await make({ dockerHost: "ssh://me@box", dockerHostIsSet: true });
    expect(far.get("database-image").inputs.build).toMatchObject({
      context: "images/database",
      useLegacyBuilder: true,
    });
    expect(far.get("database-host").inputs.baseImage).toBe("postgres:15-alpine");
  });

  test("is built by BuildKit where the docker command's own engine is used, Docker's current context for one", async () => {
    for (const dockerHost of [undefined, "unix:///home/me/.colima/default/docker.sock"]) {
      const near = await make({ dockerHost });
      expect(near.get("database-image").inputs.build).not.toHaveProperty("useLegacyBuilder");
      expect(near.get("database-host").inputs).not.toHaveProperty("baseImage");
    }
  });
});

describe("the volume", () => {
  test("is the same whatever else is changed: nothing replaces it", async () => {
    const changed = await make({
      baseImage: "postgres:15-bookworm",
      database: "other",
      port: 15501,
      memoryMiB: 4096,
      cpus: 8,
      maxConnections: 200,
      passwordVersion: 2,
      keepDataOnDestroy: true,
      dockerHost: "ssh://me@box",
    });
    expect(changed.get("database-data").inputs).toEqual(get("database-data").inputs);
    expect(get("database-data").inputs).toEqual({
      name: "sectorwars-test-data",
      labels: [{ label: "sectorwars.stack", value: "test" }],
    });
  });

  test("survives a change of its labels", () => {
    expect(get("database-data").options.ignoreChanges).toEqual(expect.arrayContaining(["labels", "driverOpts"]));
  });

  test("is left when the stack is destroyed, where that is wanted", async () => {
    expect(get("database-data").options.retainOnDelete).toBe(false);
    expect((await make({ keepDataOnDestroy: true })).get("database-data").options.retainOnDelete).toBe(true);
  });
});

describe("passwords", () => {
  test("are alphanumeric and long", () => {
    for (const name of ["database-initial-password", "database-superuser-password"]) {
      expect(get(name).inputs).toMatchObject({ length: 32, special: false });
    }
  });

  test("change with their version, but for the one that the container is born with", async () => {
    const second = await make({ passwordVersion: 2 });
    expect(get("database-superuser-password").inputs.keepers).toEqual({ version: "1" });
    expect(second.get("database-superuser-password").inputs.keepers).toEqual({ version: "2" });
    expect(second.get("database-initial-password").inputs).toEqual(get("database-initial-password").inputs);
    expect(second.get("database-server").inputs).toEqual(get("database-server").inputs);
    expect(second.get("database-ready").inputs.passwordVersion).toBe(2);
  });

  test("reach the one who waits for the server as secrets", () => {
    expect(get("database-ready").inputs.password).toEqual(secretly("value-of-database-superuser-password"));
  });
});

describe("containers and networks", () => {
  test("say which state records them, so that another one's are never taken for leftovers", () => {
    const labels = [
      { label: "sectorwars.stack", value: "test" },
      { label: "sectorwars.state", value: "0123456789abcdef" },
    ];
    for (const name of ["database-network", "database-server"]) expect(get(name).inputs.labels, name).toEqual(labels);
    expect(namesIn(get("database-network").options.dependsOn)).toEqual(["database-host"]);
  });

  test("do not take the network from under the application's services for a label's sake", () => {
    expect(get("database-network").options.ignoreChanges).toEqual(["labels"]);
  });
});

describe("names", () => {
  test("follow from the stack", () => {
    expect(get("database-server").inputs.name).toBe("sectorwars-test-database");
    expect(get("database-network").inputs.name).toBe("sectorwars-test-network");
    expect(get("database-image").inputs.name).toBe("sectorwars-test-database:15");
    expect(server.containerName).toBe("sectorwars-test-database");
    expect(server.alias).toBe("database");
  });

  test("of dev are the application's", async () => {
    const { get } = await make({ stack: "dev" });
    expect(get("database-server").inputs.name).toBe("sectorwars-database");
    expect(get("database-data").inputs.name).toBe("sectorwars-data");
  });
});

describe("the order", () => {
  test("begins with a look at the host, before anything is made", () => {
    for (const name of ["database-network", "database-data", "database-image"]) {
      expect(namesIn(get(name).options.dependsOn), name).toEqual(["database-host"]);
    }
    expect(get("database-host").inputs).toMatchObject({ container: "sectorwars-test-database", port: 15500 });
  });

  test("ends with a server that answers, of which nothing need be undone when the volume goes", () => {
    expect(get("database-ready").options.deletedWith).toBe(server.volume);
    expect(get("database-ready").inputs).toMatchObject({
      containerId: "id-of-database-server",
      host: "127.0.0.1",
      port: 15500,
    });
  });
});

test("the outputs describe the server", async () => {
  expect(await awaited(server.version)).toBe("15.14");
  expect(await awaited(server.imageId)).toBe("sha256:1234");
  expect(await awaited(server.networkName)).toBe("sectorwars-test-network");
  expect(server.port).toBe(15500);
});

test("the image is built anew when its base or a file changes, and is never deleted from the machine", () => {
  expect(get("database-image").inputs).toMatchObject({
    keepLocally: true,
    build: { context: "images/database", buildArgs: { BASE: "postgres:15-alpine" }, dockerfile: "Dockerfile" },
    triggers: { base: "postgres:15-alpine", files: expect.stringMatching(/^[0-9a-f]{16}$/) },
  });
});

test("an engine that does not know a pace for the start gets a middling one", async () => {
  expect(get("database-server").inputs.healthcheck).toMatchObject({
    interval: "15s",
    startInterval: "1s",
    startPeriod: "1m0s",
  });
  const old = await make({}, { "database-host": { knowsStartInterval: false } });
  expect(old.get("database-server").inputs.healthcheck).toMatchObject({ interval: "3s", startPeriod: "1m0s" });
  expect(old.get("database-server").inputs.healthcheck).not.toHaveProperty("startInterval");
});

describe("a folder's hash", () => {
  const inFolder = async (files: Record<string, string>): Promise<string> => {
    const { folderHash } = await import("../../lib/folder-hash.ts");
    const folder = mkdtempSync(join(tmpdir(), "folder-hash-"));
    const here = process.cwd();
    try {
      for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
      // Relative, as the program calls it: where the project lies must not matter.
      process.chdir(folder);
      return folderHash(".");
    } finally {
      process.chdir(here);
      rmSync(folder, { recursive: true });
    }
  };

  test("changes with a name and with a content, and with nothing else", async () => {
    const hash = await inFolder({ a: "1", b: "2" });
    expect(await inFolder({ b: "2", a: "1" })).toBe(hash);
    expect(await inFolder({ a: "1", b: "3" })).not.toBe(hash);
    expect(await inFolder({ a: "1", c: "2" })).not.toBe(hash);
    expect(await inFolder({ a: "1" })).not.toBe(hash);
  });

  // Without a mark at a file's end, what one file ends with may as well be the name of the next.
  test("changes when a content moves from one file to the next", async () => {
    expect(await inFolder({ a: "1b\0", c: "" })).not.toBe(await inFolder({ a: "1", b: "c\0" }));
  });
});
