import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import type { DatabaseServer } from "../../components/server/database-server.ts";
import type { ServerSettings } from "../../components/server/settings.ts";
import { type Asked, awaited, namesIn, record, SERVER, secretly } from "./pulumi.ts";

const SETTINGS: ServerSettings = { ...SERVER, memoryMiB: 2048 };

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

describe("the server's container", () => {
  test("accepts connections from this machine only", () => {
    expect(get("database-server").inputs.ports).toEqual([
      { internal: 5432, external: 15500, ip: "127.0.0.1", protocol: "tcp" },
    ]);
    expect(get("database-server").inputs.networkMode).toBe("bridge");
    expect(server.host).toBe("127.0.0.1");
  });

  test("gets its password only in a file whose content is a secret, not in a variable or an argument", () => {
    const { inputs } = get("database-server");
    expect(inputs.uploads).toEqual(
      secretlyAnywhere([{ file: "/run/initial-password", content: "value-of-database-initial-password" }]),
    );
    const { uploads: _, ...rest } = inputs;
    expect(JSON.stringify(rest)).not.toContain("value-of-");
    expect(inputs.envs).toContain("POSTGRES_PASSWORD_FILE=/run/initial-password");
    expect((inputs.envs as string[]).filter((env) => /^POSTGRES_PASSWORD=|PGPASSWORD/.test(env))).toEqual([]);
  });

  test("is healthy once it answers over TCP, which it does not while initdb runs", () => {
    const { tests } = get("database-server").inputs.healthcheck as { tests: string[] };
    expect(tests).toEqual(["CMD-SHELL", "pg_isready -q -h 127.0.0.1 -U postgres -d sectorwars_test"]);
    expect(get("database-server").options.replaceOnChanges).toEqual(["healthcheck"]);
  });

  test("is stopped by a fast shutdown with 120 s for the last checkpoint", () => {
    expect(get("database-server").inputs).toMatchObject({
      stopTimeout: 120,
      destroyGraceSeconds: 120,
      stopSignal: "SIGINT",
    });
  });

  test("is deleted before its replacement, which takes its name and port", () => {
    expect(get("database-server").options.deleteBeforeReplace).toBe(true);
  });

  test("is limited to the memory and CPUs that its settings are tuned for", () => {
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

  test("runs the built image by its digest, with the stack's volume and network", () => {
    const { inputs } = get("database-server");
    expect(inputs.image).toBe("sha256:1234");
    expect(inputs.volumes).toEqual([{ volumeName: "sectorwars-test-data", containerPath: "/var/lib/postgresql/data" }]);
    expect(inputs.networksAdvanced).toEqual([{ name: "sectorwars-test-network", aliases: ["database"] }]);
  });

  test("creates a cluster with an ICU locale, checksums, and passwords for every connection over the network", () => {
    const [initdb = ""] = (get("database-server").inputs.envs as string[]).filter((env) =>
      env.startsWith("POSTGRES_INITDB"),
    );
    expect(initdb).toContain("--locale-provider=icu");
    expect(initdb).toContain("--auth-host=scram-sha-256");
    expect(initdb).toContain("--data-checksums");
  });
});

describe("a server with TLS", () => {
  let get: (name: string) => Asked;
  let server: DatabaseServer;
  const outputs = { authority: "the authority", authorityKey: "value-of-authority-key", first: "value-of-first" };
  beforeAll(async () => {
    const tls = { names: ["db.example.org"], days: 825 };
    ({ get, server } = await make({ tls, listen: "192.0.2.7" }, { "database-authority": outputs }));
  });

  test("accepts only TLS 1.2 or newer, by the access rules with hostssl", () => {
    const command = (get("database-server").inputs.command as string[]).join(" ");
    for (const setting of ["ssl=on", "ssl_min_protocol_version=TLSv1.2", "hba_file=/run/pg_hba.conf"]) {
      expect(command).toContain(`-c ${setting}`);
    }
    expect(command).not.toContain("/etc/postgresql/pg_hba.conf");
    expect(get("database-server").inputs.entrypoints).toEqual(["sh", "/run/start-tls.sh"]);
  });

  test("gets its key only in an uploaded file that is a secret", () => {
    const { uploads, ...rest } = get("database-server").inputs;
    expect(JSON.stringify(uploads)).toContain("value-of-first");
    expect(JSON.stringify(uploads)).toContain('"permissions":"0600"');
    expect(JSON.stringify(rest)).not.toContain("value-of-");
    expect(get("database-certificate").inputs.authorityKey).toEqual(secretly("value-of-authority-key"));
  });

  test("is published on the address of the setting, and its certificate names that", () => {
    expect(get("database-server").inputs.ports).toMatchObject([{ ip: "192.0.2.7" }]);
    expect(server.host).toBe("192.0.2.7");
    expect(get("database-certificate").inputs.hosts).toEqual(
      expect.arrayContaining(["database", "localhost", "127.0.0.1", "::1", "192.0.2.7", "db.example.org"]),
    );
  });

  test("is waited for after its certificate is in the container, by a client that verifies it", async () => {
    expect(get("database-ready").inputs.authority).toBe("the authority");
    expect(namesIn(get("database-ready").options.dependsOn)).toEqual(["database-certificate"]);
    expect(await awaited(server.authority as pulumi.Output<string>)).toBe("the authority");
  });
});

test("a server without TLS has the inputs of earlier versions", () => {
  expect(server.authority).toBeUndefined();
  expect(get("database-server").written.entrypoints).toBeUndefined();
  expect(Object.keys(get("database-ready").inputs)).not.toContain("authority");
  expect(Object.keys(get("database-host").inputs)).not.toContain("listen");
  expect(get("database-data").options.protect).toBeUndefined();
});

test("with protectData, Pulumi refuses to delete the volume", async () => {
  expect((await make({ protectData: true })).get("database-data").options.protect).toBe(true);
});

test("with the log of production, its settings are a file that includes the image's", async () => {
  const { inputs } = (await make({ logsForProduction: true })).get("database-server");
  expect(inputs.command).toContain("config_file=/run/production.conf");
  expect(JSON.stringify(inputs.uploads)).toContain("include '/etc/postgresql/postgresql.conf'");
});

/** Matches a list that is secret as a whole or in its content: Pulumi stores neither in clear text. */
function secretlyAnywhere([upload]: { file: string; content: string }[]) {
  return expect.toSatisfy((uploads: unknown) => {
    const inner = [{ ...upload, content: secretly(upload?.content) }];
    const whole = secretly([upload]);
    return [inner, whole].some((fine) => JSON.stringify(sorted(fine)) === JSON.stringify(sorted(uploads)));
  });
}

/** Returns the value with sorted keys, so that JSON texts can be compared. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

describe("the server's image", () => {
  test("is built without BuildKit, which would ignore the settings' engine, if they name one", async () => {
    const far = await make({ dockerHost: "ssh://me@box", dockerHostIsSet: true });
    expect(far.get("database-image").inputs.build).toMatchObject({
      context: "images/database",
      useLegacyBuilder: true,
    });
    expect(far.get("database-host").inputs.baseImage).toBe("postgres:15-alpine");
  });

  test("is built with BuildKit on the docker command's own engine, also that of Docker's current context", async () => {
    for (const dockerHost of [undefined, "unix:///home/me/.colima/default/docker.sock"]) {
      const near = await make({ dockerHost });
      expect(near.get("database-image").inputs.build).not.toHaveProperty("useLegacyBuilder");
      expect(near.get("database-host").inputs).not.toHaveProperty("baseImage");
    }
  });
});

describe("the data volume", () => {
  test("is not replaced by a change of any setting", async () => {
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

  test("ignores changes of its labels and driver options", () => {
    expect(get("database-data").options.ignoreChanges).toEqual(expect.arrayContaining(["labels", "driverOpts"]));
  });

  test("is kept when the stack is destroyed, if keepData is set", async () => {
    expect(get("database-data").options.retainOnDelete).toBe(false);
    expect((await make({ keepDataOnDestroy: true })).get("database-data").options.retainOnDelete).toBe(true);
  });
});

describe("passwords", () => {
  test("are 32 alphanumeric characters long", () => {
    for (const name of ["database-initial-password", "database-superuser-password"]) {
      expect(get(name).inputs).toMatchObject({ length: 32, special: false });
    }
  });

  test("change with passwordVersion, except for the container's initial one", async () => {
    const second = await make({ passwordVersion: 2 });
    expect(get("database-superuser-password").inputs.keepers).toEqual({ version: "1" });
    expect(second.get("database-superuser-password").inputs.keepers).toEqual({ version: "2" });
    expect(second.get("database-initial-password").inputs).toEqual(get("database-initial-password").inputs);
    expect(second.get("database-server").inputs).toEqual(get("database-server").inputs);
    expect(second.get("database-ready").inputs.passwordVersion).toBe(2);
  });

  test("reach the resource that waits for the server as secrets", () => {
    expect(get("database-ready").inputs.password).toEqual(secretly("value-of-database-superuser-password"));
  });
});

describe("containers and networks", () => {
  test("have a label with the state that records them, so that another state's are never taken for leftovers", () => {
    const labels = [
      { label: "sectorwars.stack", value: "test" },
      { label: "sectorwars.state", value: "0123456789abcdef" },
    ];
    for (const name of ["database-network", "database-server"]) expect(get(name).inputs.labels, name).toEqual(labels);
    expect(namesIn(get("database-network").options.dependsOn)).toEqual(["database-host"]);
  });

  test("keep the network, which the application's services use, if only its labels change", () => {
    expect(get("database-network").options.ignoreChanges).toEqual(["labels"]);
  });
});

describe("names", () => {
  test("contain the stack's name", () => {
    expect(get("database-server").inputs.name).toBe("sectorwars-test-database");
    expect(get("database-network").inputs.name).toBe("sectorwars-test-network");
    expect(get("database-image").inputs.name).toBe("sectorwars-test-database:15");
    expect(server.containerName).toBe("sectorwars-test-database");
    expect(server.alias).toBe("database");
  });

  test("of the stack dev are the application's names", async () => {
    const { get } = await make({ stack: "dev" });
    expect(get("database-server").inputs.name).toBe("sectorwars-database");
    expect(get("database-data").inputs.name).toBe("sectorwars-data");
  });
});

describe("the order of the resources", () => {
  test("starts with the check of the host, before anything is created", () => {
    for (const name of ["database-network", "database-data", "database-image"]) {
      expect(namesIn(get(name).options.dependsOn), name).toEqual(["database-host"]);
    }
    expect(get("database-host").inputs).toMatchObject({ container: "sectorwars-test-database", port: 15500 });
  });

  test("ends with a server that answers, and deleting the volume also deletes that resource", () => {
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

test("the image is rebuilt if its base or a file changes, and is never deleted from the machine", () => {
  expect(get("database-image").inputs).toMatchObject({
    keepLocally: true,
    build: { context: "images/database", buildArgs: { BASE: "postgres:15-alpine" }, dockerfile: "Dockerfile" },
    triggers: { base: "postgres:15-alpine", files: expect.stringMatching(/^[0-9a-f]{16}$/) },
  });
});

test("an engine without startInterval gets one health check interval of 3 s", async () => {
  expect(get("database-server").inputs.healthcheck).toMatchObject({
    interval: "15s",
    startInterval: "1s",
    startPeriod: "1m0s",
  });
  const old = await make({}, { "database-host": { knowsStartInterval: false } });
  expect(old.get("database-server").inputs.healthcheck).toMatchObject({ interval: "3s", startPeriod: "1m0s" });
  expect(old.get("database-server").inputs.healthcheck).not.toHaveProperty("startInterval");
});

describe("folderHash", () => {
  const inFolder = async (files: Record<string, string>): Promise<string> => {
    const { folderHash } = await import("../../lib/folder-hash.ts");
    const folder = mkdtempSync(join(tmpdir(), "folder-hash-"));
    const here = process.cwd();
    try {
      for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
      // A relative path, as in the program, because the project's location must not matter.
      process.chdir(folder);
      return folderHash(".");
    } finally {
      process.chdir(here);
      rmSync(folder, { recursive: true });
    }
  };

  test("changes with a file's name and content, and not with the order of the files", async () => {
    const hash = await inFolder({ a: "1", b: "2" });
    expect(await inFolder({ b: "2", a: "1" })).toBe(hash);
    expect(await inFolder({ a: "1", b: "3" })).not.toBe(hash);
    expect(await inFolder({ a: "1", c: "2" })).not.toBe(hash);
    expect(await inFolder({ a: "1" })).not.toBe(hash);
  });

  // Without a separator, the end of one file could be read as the name of the next one.
  test("changes if content moves from one file to the next", async () => {
    expect(await inFolder({ a: "1b\0", c: "" })).not.toBe(await inFolder({ a: "1", b: "c\0" }));
  });
});
