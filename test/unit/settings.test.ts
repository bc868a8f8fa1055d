import * as pulumi from "@pulumi/pulumi";
import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import {
  defaultPort,
  type RawSettings,
  readSettings,
  refuseOldNode,
  resolveSettings,
  type Surroundings,
  unknownKeys,
} from "../../components/settings.ts";
import { DEFAULT_SETTINGS } from "../support/default-settings.ts";

const RAW: RawSettings = {
  ...DEFAULT_SETTINGS,
  readonlyDenyList: ["admin_credentials", "mfa_*"],
  backups: "true",
};
const AROUND: Surroundings = {
  stack: "dev",
  neonUrlIsSet: false,
  furtherSources: [],
  recorded: { hasBackups: false, isPrecious: undefined },
  images: {},
};

const resolve = (raw: Partial<RawSettings> = {}, around: Partial<Surroundings> = {}) =>
  resolveSettings({ ...RAW, ...raw }, { ...AROUND, ...around });

const all = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i).join(",");

/** The error message without its first line, which names the stack. */
function complaint(raw: Partial<RawSettings>): string {
  try {
    resolve(raw);
  } catch (error) {
    expect(pulumi.RunError.isInstance(error)).toBe(true);
    const [first, ...rest] = (error as Error).message.split("\n");
    expect(first).toBe('Settings of the stack "dev":');
    return rest.map((line) => line.trim()).join("\n");
  }
  throw new Error("nothing was wrong");
}

test("the profile production reads like the settings that it chooses", () => {
  const production = resolve({ profile: "production", backups: "auto" });
  expect(production.server).toMatchObject({ tls: { days: 825 }, keepDataOnDestroy: true, protectData: true });
  expect(production.timeouts).toEqual({ statement: 60, lock: 10, idleInTransaction: 60 });
  expect(production.backups).toBeDefined();
  expect(production.warnings).toEqual([expect.stringContaining("backupRepository is")]);
  expect(resolve({ profile: "production", tls: "false" }).server.tls).toBeUndefined();
});

test("values that no server can have are refused, each with the remedy", () => {
  expect(complaint({ listen: "db.example.org" })).toMatch(/^listen is "db.example.org": give an IPv4 address/);
  expect(complaint({ listen: "0.0.0.0" })).toMatch(/^listen is "0.0.0.0" and tls is "false"/);
  expect(complaint({ certificateNames: ["db.example.org:5432"] })).toMatch(/^certificateNames is .*without a port$/);
  expect(complaint({ certificateDays: 900 })).toBe("certificateDays is 900: choose 1 to 825");
  expect(complaint({ statementTimeout: "1min" })).toMatch(/^statementTimeout is "1min": give seconds/);
  expect(complaint({ tls: "true", pooler: true })).toMatch(/^pooler is true and the server accepts only TLS/);
  expect(complaint({ tls: "true", replicas: 1 })).toMatch(/^replicas is 1 and the server accepts only TLS/);
  expect(complaint({ profile: "test" })).toBe('profile is "test": choose development or production');
});

describe("settings for the application", () => {
  test.each<[Partial<RawSettings>, string]>([
    [{ seed: "yes" }, 'seed is "yes": choose auto, always or never'],
    [{ seedAdmin: " " }, 'seedAdmin is " ": give a name'],
    [
      { seedPasswordHash: "crypt($1, 'x')" },
      "seedPasswordHash is \"crypt($1, 'x')\": choose argon2id, bcrypt, scrypt, pbkdf2_sha256, or give an SQL expression with $1 for " +
        "the password: \"sql: crypt($1, gen_salt('bf', 12))\"",
    ],
    [{ handoverTarget: "cloud" }, 'handoverTarget is "cloud": choose local or neon'],
    [{ handoverRole: "postgres" }, 'handoverRole is "postgres": choose app or owner'],
    [{ handoverDriver: "pg8000" }, 'handoverDriver is "pg8000": choose none, psycopg2, psycopg or asyncpg'],
    [
      { handoverPooled: true },
      "handoverPooled is true, but the stack has no pooler: pulumi config set pooler true, or set handoverPooled to false",
    ],
    [{ poolerPort: 80 }, "poolerPort is 80: choose 1024 to 65535, or 0 for the default"],
    [
      { pooler: true, poolerPort: 5433 },
      "poolerPort is 5433, which is the server's port: choose another one, or 0 for the default",
    ],
    [{ poolerSize: -1 }, "poolerSize is -1: use a whole number, or 0 to derive it from maxConnections"],
    [{ handoverFile: "" }, 'handoverFile is "": use a file name, for example .env'],
    [{ composeService: "a b" }, 'composeService is "a b": use the name from the Compose file'],
    [{ poolSize: 0 }, "poolSize is 0: use a whole number, at least 1"],
    [{ poolOverflow: -1 }, "poolOverflow is -1: use a whole number, 0 or more"],
    [{ alembicRevision: "head; rm" }, 'alembicRevision is "head; rm": use a revision id, head or base'],
  ])("are refused with the valid values: %j", (raw, message) => {
    expect(complaint(raw)).toBe(message);
  });

  test.each<[Partial<RawSettings>, string]>([
    [{ seedPasswordHash: "sql: md5('x')" }, 'seedPasswordHash is "sql: md5'],
    [{ seedPasswordHash: "toString" }, 'seedPasswordHash is "toString": choose argon2id'],
    [{ alembicService: "a b" }, 'alembicService is "a b": use the name of a service from the Compose file, or auto'],
    [{ alembicEnvironment: ["A=1", "no name=hidden"] }, "alembicEnvironment[1]: use NAME=VALUE, or NAME"],
    [{ alembicEnvironment: ["DATABASE_URL=hidden"] }, "alembicEnvironment[0]: use NAME=VALUE, or NAME"],
  ])("are refused without the value of a variable in the error: %j", (raw, message) => {
    expect(complaint(raw)).toContain(message);
    expect(complaint(raw)).not.toContain("hidden");
  });

  test.each([["East"], ["sectorwars_dev"], ["sectorwars_dev_test"], ["postgres"], ["sectorwars"], ["1st"]])(
    "do not accept %s as the name of a further database",
    (name) => {
      expect(complaint({ databases: [name] })).toContain("databases is");
    },
  );
});

describe("the Docker engine", () => {
  const contextEndpoint = "unix:///home/me/.colima/default/docker.sock";
  test.each([
    ["auto", undefined, undefined, false],
    ["auto", contextEndpoint, contextEndpoint, false],
    ["ssh://me@box", contextEndpoint, "ssh://me@box", true],
  ])("with dockerHost %s and a context at %s is %s, set by the settings: %s", (given, endpoint, dockerHost, isSet) => {
    expect(resolve({ dockerHost: given }, { contextEndpoint: endpoint }).server).toMatchObject({
      dockerHost,
      dockerHostIsSet: isSet,
    });
  });
});

describe("resolveSettings", () => {
  test("returns all settings of the stack dev with their defaults", () => {
    expect(resolve()).toEqual({
      stack: "dev",
      database: "sectorwars_dev",
      denyList: ["admin_credentials", "mfa_*"],
      timeouts: { statement: 0, lock: 0, idleInTransaction: 0 },
      warnings: [],
      server: {
        baseImage: "postgres:15-alpine",
        listen: "127.0.0.1",
        tls: undefined,
        protectData: false,
        logsForProduction: false,
        port: 5433,
        memoryMiB: 2048,
        cpus: 2,
        maxConnections: 100,
        passwordVersion: 1,
        keepDataOnDestroy: false,
        dockerHost: undefined,
        dockerHostIsSet: false,
      },
      import: {
        bootstrap: "sample",
        bootstrapChosen: false,
        jobs: 2,
        newerImage: "postgres:18-alpine",
        safetyCopy: undefined,
        selection: { importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [] },
      },
      databases: { names: [], droppable: [] },
      migrations: undefined,
      seed: undefined,
      handover: undefined,
      backups: {
        folder: undefined,
        s3: undefined,
        schedules: {
          full: `0|3|${all(1, 31)}|${all(1, 12)}|0|0`,
          diff: `0|3|${all(1, 31)}|${all(1, 12)}|1,2,3,4,5,6|0`,
          drill: `30|3|${all(1, 31)}|${all(1, 12)}|${all(0, 6)}|0`,
        },
        compression: "zst",
        keepDays: 14,
        keepFulls: 2,
        walDropThresholdPercent: 90,
        keepOnDestroy: false,
        recoverTo: "latest",
      },
    });
  });

  test("enables migrations if alembic is set, with the Python image that was found", () => {
    const images = { python: "python:mine" };
    expect(resolve({ alembic: "../game" }, { images }).migrations).toEqual({
      folder: "../game",
      image: "auto",
      application: undefined,
      envFile: ".env",
      service: undefined,
      environment: [],
      arguments: [],
      revision: "head",
      allowDowngrade: false,
      pythonImage: "python:mine",
    });
    const more = {
      alembicImage: "game:1",
      alembicService: "game",
      alembicEnvironment: ["A=1", "B"],
      handoverFolder: "../all",
    };
    expect(resolve({ alembic: "../game", ...more }).migrations).toMatchObject({
      image: "game:1",
      service: "game",
      environment: ["A=1", "B"],
      application: "../all",
    });
  });

  test.each([
    ["auto", "empty", "../game", true],
    ["auto", "empty", "", false],
    ["auto", "sample", "../game", false],
    ["always", "neon", "", true],
    ["never", "empty", "../game", false],
  ])("with seed %s, bootstrap %s and alembic %j enables seed data: %s", (seed, bootstrap, alembic, isSeeded) => {
    expect(resolve({ seed, bootstrap, alembic }).seed !== undefined).toBe(isSeeded);
  });

  test("checks the sum of the pools only if the application gets the database", () => {
    expect(resolve({ poolWorkers: 4 }).handover).toBeUndefined();
    expect(resolve({ handoverFolder: "../game", poolServices: 1 }).handover?.pools.services).toBe(1);
    expect(complaint({ handoverFolder: "../game", poolServices: 1, poolWorkers: 4 })).toBe(
      "maxConnections is 100: the application's pools do not fit. 1 service x 4 workers x 2 engines (sync, async) x (pool 5 + " +
        "overflow 10) = 120 of 97 (max_connections 100 less 3 reserved). Raise maxConnections, or lower poolSize, poolOverflow or poolWorkers",
    );
  });

  test("uses the images that were found or built, unless baseImage is set", () => {
    const images = { databaseBase: "base:15", newerPostgres: "newer:18" };
    expect(resolve({}, { images })).toMatchObject({
      server: { baseImage: "base:15" },
      import: { newerImage: "newer:18" },
    });
    expect(resolve({ baseImage: "mine:15" }, { images }).server).toMatchObject({ baseImage: "mine:15" });
  });

  test("keeps a safety copy of data from Neon, unless safetyCopy says otherwise", () => {
    vi.stubEnv("XDG_CONFIG_HOME", "/home/me/settings");
    const copy = {
      folder: "backups/safety",
      identityFile: "/home/me/settings/sectorwars/age-identity.txt",
      recipient: undefined,
    };
    expect(resolve({ bootstrap: "neon" }).import.safetyCopy).toEqual(copy);
    expect(resolve({}, { neonUrlIsSet: true }).import.safetyCopy).toEqual(copy);
    expect(resolve({ bootstrap: "sample" }).import.safetyCopy).toBeUndefined();
    expect(resolve({ bootstrap: "sample", safetyCopy: "true" }).import.safetyCopy).toEqual(copy);
    expect(resolve({ bootstrap: "neon", safetyCopy: "false" }).import.safetyCopy).toBeUndefined();
    expect(resolve({ bootstrap: "empty", safetyCopy: "true" }).import.safetyCopy).toBeUndefined();
    const recipient = `age1${"q".repeat(58)}`;
    expect(
      resolve({
        bootstrap: "neon",
        safetyCopyFolder: "/vault",
        safetyCopyRecipient: recipient,
        safetyCopyIdentity: "/key",
      }).import.safetyCopy,
    ).toEqual({ folder: "/vault", identityFile: "/key", recipient });
  });

  test("uses a configured Docker engine and port", () => {
    expect(resolve({ dockerHost: "ssh://me@box", port: 6000 }).server).toMatchObject({
      dockerHost: "ssh://me@box",
      port: 6000,
    });
  });
});

describe("bootstrap", () => {
  test.each([
    ["auto", false, "sample", false],
    ["auto", true, "neon", false],
    ["sample", true, "sample", true],
    ["neon", false, "neon", true],
    ["empty", true, "empty", true],
    ["backup", true, "backup", true],
  ])(
    "%s, with a URL in the environment (%s), is %s, chosen by the settings: %s",
    (given, neonUrlIsSet, bootstrap, bootstrapChosen) => {
      expect(resolve({ bootstrap: given }, { neonUrlIsSet })).toMatchObject({ import: { bootstrap, bootstrapChosen } });
    },
  );
});

const SCHEDULE_RULE =
  'give a cron expression of minute, hour, day, month and weekday, for instance "0 3 * * 0", or never';
const NAME_RULE = "use at most 41 lowercase letters, digits or underscores, starting with a letter";

describe("the validation of settings", () => {
  test.each<[Partial<RawSettings>, string]>([
    [{ bootstrap: "neno" }, 'bootstrap is "neno": choose sample, neon, empty, backup or auto'],
    [{ bootstrap: "" }, 'bootstrap is "": choose sample, neon, empty, backup or auto'],
    [{ bootstrap: "backup", backups: "false" }, 'backups is "false", but bootstrap is "backup": choose true or auto'],
    [
      { backupRepository: "backups" },
      'backupRepository is "backups": choose volume, or give the absolute path of a folder on Docker\'s machine, or s3://BUCKET/FOLDER',
    ],
    [
      { backupRepository: "s3://game/backups", backupS3Endpoint: "https://s3.example.org" },
      'backupS3Endpoint is "https://s3.example.org": give the store\'s host, as host or host:port',
    ],
    [{ backupFull: "daily" }, `backupFull is "daily": ${SCHEDULE_RULE}`],
    [{ backupDifferential: "61 * * * *" }, `backupDifferential is "61 * * * *": ${SCHEDULE_RULE}`],
    [{ backupDrill: "" }, `backupDrill is "": ${SCHEDULE_RULE}`],
    [{ backupCompression: "gz" }, 'backupCompression is "gz": choose zst or lz4'],
    [{ backupKeepDays: -1 }, "backupKeepDays is -1: choose 0 to 3650"],
    [{ backupKeepFulls: 0 }, "backupKeepFulls is 0: choose 1 to 1000"],
    [{ backupGiveUpAt: 101 }, "backupGiveUpAt is 101: give a percentage from 1 to 100"],
    ...[
      "yesterday",
      "10/11/2026 10:00",
      "1",
      "2026-11-22T10:00:00",
      "2026-02-30T10:00:00Z",
      "2999-01-01T10:00:00Z",
    ].map((backupRecoverTo): [object, string] => [
      { backupRecoverTo },
      `backupRecoverTo is "${backupRecoverTo}": choose latest, or give a time in the past with its zone: 2026-11-22T10:00:00Z`,
    ]),
    [{ database: "Sector" }, `database is "Sector": ${NAME_RULE}`],
    [{ database: "" }, `database is "": ${NAME_RULE}`],
    [{ database: "1st" }, `database is "1st": ${NAME_RULE}`],
    [{ database: "a\n" }, `database is "a\\n": ${NAME_RULE}`],
    [{ database: `a${"b".repeat(41)}` }, `database is "a${"b".repeat(41)}": ${NAME_RULE}`],
    [{ database: "postgres" }, `database is "postgres": PostgreSQL uses that name itself`],
    [{ database: "template0" }, `database is "template0": PostgreSQL uses that name itself`],
    [{ port: 80 }, "port is 80: choose 1024 to 65535, or 0 for the default"],
    [{ port: 65536 }, "port is 65536: choose 1024 to 65535, or 0 for the default"],
    [{ port: 5433.5 }, "port is 5433.5: choose 1024 to 65535, or 0 for the default"],
    [{ port: -1 }, "port is -1: choose 1024 to 65535, or 0 for the default"],
    [{ memory: 255 }, "memory is 255: give MiB, at least 256"],
    [{ memory: 512.5 }, "memory is 512.5: give MiB, at least 256"],
    [{ cpus: 0 }, "cpus is 0: give a whole number, at least 1"],
    [{ cpus: 1.5 }, "cpus is 1.5: give a whole number, at least 1"],
    [{ maxConnections: 9 }, "maxConnections is 9: choose 10 to 10000"],
    [{ maxConnections: 10_001 }, "maxConnections is 10001: choose 10 to 10000"],
    [{ passwordVersion: 0 }, "passwordVersion is 0: give a whole number, at least 1"],
    [{ importJobs: 0 }, "importJobs is 0: choose 1 to 16"],
    [{ importJobs: 17 }, "importJobs is 17: choose 1 to 16"],
    [{ safetyCopy: "yes" }, 'safetyCopy is "yes": choose auto, true or false'],
    [{ safetyCopyFolder: " " }, 'safetyCopyFolder is " ": give a folder'],
    [
      { safetyCopyRecipient: "ssh-ed25519 AAAA" },
      'safetyCopyRecipient is "ssh-ed25519 AAAA": give an age public key (age1 and 58 more characters; age-keygen prints one), or auto',
    ],
    [
      { importMasks: ["players.email: email"] },
      'importMasks: "players.email: email" is not a mask: write [schema.]table.column = KIND, where KIND is email, name, text, hash, null or fixed VALUE',
    ],
    [{ safetyCopyIdentity: "" }, 'safetyCopyIdentity is "": give the path of a file, or auto'],
    [
      { readonlyDenyList: ["fine_*", "public.users"] },
      'readonlyDenyList is ["fine_*","public.users"]: give names of tables; * stands for any characters',
    ],
    [
      { readonlyDenyList: ["a'; DROP TABLE x"] },
      'readonlyDenyList is ["a\'; DROP TABLE x"]: give names of tables; * stands for any characters',
    ],
  ])("names the valid values for %j", (raw, message) => {
    expect(complaint(raw)).toBe(message);
  });

  test("reports all invalid settings at once, in the order of the settings", () => {
    expect(complaint({ bootstrap: "x", port: 1, memory: 1, cpus: 0, importJobs: 99 })).toMatchInlineSnapshot(`
      "bootstrap is "x": choose sample, neon, empty, backup or auto
      importJobs is 99: choose 1 to 16
      port is 1: choose 1024 to 65535, or 0 for the default
      memory is 1: give MiB, at least 256
      cpus is 0: give a whole number, at least 1"
    `);
  });

  test("accepts values at their limits", () => {
    for (const raw of [
      { port: 1024 },
      { port: 65535 },
      { memory: 256 },
      { cpus: 1 },
      { maxConnections: 10 },
      { maxConnections: 10_000 },
      { importJobs: 1 },
      { importJobs: 16 },
      { database: `a${"b".repeat(40)}` },
      { readonlyDenyList: [] },
    ]) {
      expect(() => resolve(raw)).not.toThrow();
    }
  });
});

describe("the default port", () => {
  test("is 5433 for dev, as in the application", () => expect(defaultPort("dev")).toBe(5433));

  test("is between 15433 and 19432 for every other stack, and always the same", () => {
    fc.assert(
      fc.property(
        fc.string().filter((stack) => stack !== "dev"),
        (stack) => {
          const port = defaultPort(stack);
          expect(port).toBeGreaterThanOrEqual(15433);
          expect(port).toBeLessThanOrEqual(19432);
          expect(defaultPort(stack)).toBe(port);
          expect(resolve({}, { stack }).server.port).toBe(port);
        },
      ),
    );
    // Existing stacks must keep their ports when this code changes.
    expect([defaultPort("ci"), defaultPort("test"), defaultPort("staging")]).toMatchInlineSnapshot(`
      [
        19394,
        15978,
        15996,
      ]
    `);
  });
});

test("settings are immutable", () => {
  const given = ["a"];
  const settings = resolve({ readonlyDenyList: given });
  expect(Object.isFrozen(settings)).toBe(true);
  expect(Object.isFrozen(settings.denyList)).toBe(true);
  given.push("b");
  expect(settings.denyList).toEqual(["a"]);
});

test("unknownKeys returns the keys of this project that are not settings", () => {
  expect(
    unknownKeys("sectorwars-database", [
      "sectorwars-database:port",
      "sectorwars-database:prot",
      "docker:host",
      "sectorwars-database-two:whatever",
      "sectorwars-database:Memory",
      "sectorwars-database:toString",
    ]),
  ).toEqual(["prot", "Memory", "toString"]);
});

describe("the settings in Pulumi's configuration", () => {
  const asConfig = (values: Record<string, unknown>) =>
    Object.fromEntries(
      Object.entries(values).map(([key, value]) => [
        `sectorwars-database:${key}`,
        typeof value === "string" ? value : JSON.stringify(value),
      ]),
    );

  const configure = async (values: Record<string, unknown>) => {
    await pulumi.runtime.setMocks(
      { newResource: () => ({ id: "", state: {} }), call: ({ inputs }) => inputs },
      "sectorwars-database",
      "elsewhere",
    );
    pulumi.runtime.setAllConfig(asConfig(values));
  };

  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test("are read with Neon's URL from the environment", async () => {
    await configure({ ...RAW, baseImage: "base:15", bootstrap: "auto" });
    vi.stubEnv("NEON_DATABASE_URL", "postgresql://u:p@h/d");
    expect(await readSettings()).toMatchObject({
      stack: "elsewhere",
      import: { bootstrap: "neon", bootstrapChosen: false },
      database: "sectorwars_dev",
      server: { port: defaultPort("elsewhere"), keepDataOnDestroy: false, baseImage: "base:15" },
      denyList: ["admin_credentials", "mfa_*"],
    });
    vi.stubEnv("NEON_DATABASE_URL", "");
    expect((await readSettings()).import.bootstrap).toBe("sample");
  });

  test("are refused if a key is unknown, and the error names a similar or renamed setting", async () => {
    await configure({ ...RAW, prot: 5434, memroy: 1, application: "../game", zzzzzzzzzz: "" });
    await expect(readSettings()).rejects.toThrow(
      new pulumi.RunError(
        `Settings of the stack "elsewhere":
  prot is not a setting. Did you mean port? Remove it: pulumi config rm prot
  memroy is not a setting. Did you mean memory? Remove it: pulumi config rm memroy
  application was renamed to handoverFolder: pulumi config set handoverFolder VALUE, then pulumi config rm application
  zzzzzzzzzz is not a setting. Remove it: pulumi config rm zzzzzzzzzz
  docs/settings.md lists all settings`,
      ),
    );
  });
});

describe("an old Node", () => {
  test.each(["22.12.0", "24.6.9"])("%s is refused, with the oldest supported version", (version) => {
    expect(() => refuseOldNode(version)).toThrow(`needs Node 24.7 or newer, but Node ${version} runs it`);
  });

  test.each(["24.7.0", "24.21.0", "25.0.0"])("%s is not refused", (version) => {
    expect(() => refuseOldNode(version)).not.toThrow();
  });
});
