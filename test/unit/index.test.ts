import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, describe, expect, test, vi } from "vitest";
import { awaited, takeHooks } from "./pulumi.ts";

const DEFAULTS = {
  bootstrap: "auto",
  database: "sectorwars_dev",
  port: "0",
  memory: "2048",
  cpus: "2",
  maxConnections: "100",
  passwordVersion: "1",
  readonlyDenyList: '["mfa_*"]',
  keepDataOnDestroy: "auto",
  profile: "development",
  protectData: "auto",
  logging: "auto",
  listen: "127.0.0.1",
  tls: "auto",
  certificateNames: "[]",
  certificateDays: "825",
  statementTimeout: "auto",
  lockTimeout: "auto",
  idleInTransactionTimeout: "auto",
  importJobs: "2",
  safetyCopy: "auto",
  safetyCopyFolder: "backups/safety",
  safetyCopyRecipient: "auto",
  safetyCopyIdentity: "auto",
  importExclude: "[]",
  importSchemaOnly: "false",
  importSubset: "[]",
  importMasks: "[]",
  baseImage: "auto",
  dockerHost: "auto",
  alembic: "",
  alembicImage: "auto",
  alembicService: "auto",
  alembicEnvironment: "[]",
  alembicArguments: "[]",
  alembicRevision: "head",
  alembicDowngrade: "false",
  seed: "auto",
  seedFiles: "[]",
  seedAdmin: "admin",
  seedPasswordHash: "argon2id",
  handoverFolder: "",
  handoverFile: ".env",
  handoverTarget: "local",
  handoverRole: "app",
  handoverDriver: "none",
  composeFiles: "[]",
  composeService: "database",
  composeNetwork: "sectorwars-network",
  composeSuperusers: '["region-manager"]',
  poolServices: "1",
  poolWorkers: "1",
  poolSize: "5",
  poolOverflow: "10",
  poolTimeout: "30",
  databases: "[]",
  droppableDatabases: "[]",
  backups: "false",
  backupRepository: "volume",
  backupS3Endpoint: "",
  backupS3Region: "us-east-1",
  backupS3Authority: "",
  backupS3Credentials: "auto",
  backupFull: "0 3 * * 0",
  backupDifferential: "0 3 * * 1-6",
  backupDrill: "30 3 * * *",
  backupCompression: "zst",
  backupKeepDays: "14",
  backupKeepFulls: "2",
  backupGiveUpAt: "90",
  backupKeepOnDestroy: "false",
  backupRecoverTo: "latest",
};

/** A resource as the engine is asked for it. */
interface Registered {
  name: string;
  parent: string;
  aliases: (string | undefined)[];
}

/** Notes what the engine is asked for, with the aliases, which mocks are not told. To be called behind setMocks. */
function noteRegistrations(): Registered[] {
  interface Request {
    getName(): string;
    getParent(): string;
    getAliasesList(): { getSpec(): { getName(): string } | undefined }[];
  }
  const monitor = pulumi.runtime.getMonitor() as unknown as { registerResource(request: Request, done: unknown): void };
  const noted: Registered[] = [];
  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (request, done) => {
    const aliases = request.getAliasesList().map((alias) => alias.getSpec()?.getName());
    noted.push({ name: request.getName(), parent: request.getParent(), aliases });
    register(request, done);
  };
  return noted;
}

/** Runs the whole program for one stack. Returns the types of its resources, and its exports. */
async function run(stack: string, settings: Partial<typeof DEFAULTS> = {}) {
  const types: string[] = [];
  await pulumi.runtime.setMocks(
    {
      newResource: async ({ type, name, inputs }) => {
        // A resource that does not wait for this one is registered before it.
        if (type.endsWith(":Written")) await sleep(200);
        types.push(type);
        return { id: name, state: { ...inputs, result: pulumi.secret(`value-of-${name}`), version: "15.14" } };
      },
      call: ({ inputs }) => inputs,
    },
    "sectorwars-database",
    stack,
  );
  takeHooks();
  const registered = noteRegistrations();
  pulumi.runtime.setAllConfig(
    Object.fromEntries(
      Object.entries({ ...DEFAULTS, ...settings }).map(([key, value]) => [`sectorwars-database:${key}`, value]),
    ),
  );
  vi.stubEnv("NEON_DATABASE_URL", "");
  vi.resetModules();
  const { default: program } = await import("../../index.ts");
  // After this, all requests of the program have been answered, including those that it does not await.
  await pulumi.runtime.disconnect();
  return { types, program, registered };
}

/** The program replaces this function, so each test restores it for the error messages of other tests. */
const { prepareStackTrace } = Error;
afterEach(() => {
  vi.unstubAllEnvs();
  Error.prepareStackTrace = prepareStackTrace;
});

describe("the Pulumi program", () => {
  test("exports one URL for each role, as a secret", async () => {
    const { program } = await run("dev");
    const urls: Record<string, pulumi.Output<string>> = program.urls ?? {};
    expect(Object.keys(urls)).toEqual(["superuser", "owner", "app", "readonly", "monitor"]);
    for (const [key, url] of Object.entries(urls)) {
      const [user, owner] = key === "superuser" ? ["postgres", "database"] : [`sectorwars_${key}`, "roles"];
      expect(await awaited(url)).toBe(
        `postgresql://${user}:value-of-${owner}-${key}-password@127.0.0.1:5433/sectorwars_dev`,
      );
      expect(await pulumi.isSecret(url)).toBe(true);
    }
    expect(program.address).toBe("127.0.0.1:5433/sectorwars_dev");
    expect(program.container).toBe("sectorwars-database");
    // Pulumi would warn of an export without a value.
    expect(program).not.toHaveProperty("revision");
  });

  // Without these aliases, Pulumi would replace what earlier versions made: the volume with the data, for one.
  test("gives its resources names that begin with their component's, and finds them in a state by the former ones", async () => {
    const application = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
    const { registered } = await run("dev", {
      handoverFolder: application,
      alembic: "test/application/services/gameserver",
      alembicImage: "generic",
      backups: "true",
      databases: '["nexus"]',
      dockerHost: "unix:///var/run/docker.sock",
      seed: "always",
    }).finally(() => rm(application, { recursive: true }));
    const children = registered.filter(({ parent }) => parent.includes("sectorwars:"));
    const named = children.filter(({ name }) => !name.startsWith("deletes all data"));
    for (const { name, parent } of named) expect(name).toMatch(new RegExp(`^${parent.split("::").at(-1)}-`));
    expect(Object.fromEntries(named.map(({ name, aliases }) => [name, aliases.join()]))).toEqual({
      "database-state": "state",
      "database-engine": "engine",
      "database-host": "host",
      "database-network": "network",
      "database-data": "data",
      "database-backups": "backups",
      "database-socket": "socket",
      "database-image": "image",
      "database-initial-password": "initial-password",
      "database-superuser-password": "superuser-password",
      "database-server": "server",
      "database-ready": "ready",
      "roles-superuser": "superuser",
      "roles-owner": "owner",
      "roles-owner-password": "owner-password",
      "roles-app": "app",
      "roles-app-password": "app-password",
      "roles-readonly": "readonly",
      "roles-readonly-password": "readonly-password",
      "roles-monitor": "monitor",
      "roles-monitor-password": "monitor-password",
      "roles-kept": "kept-roles",
      "roles-drift": "role-drift",
      "import-once": "once",
      "privileges-grants": "prepared",
      "databases-list": "list",
      "databases-nexus": "nexus",
      "databases-nexus-owner": "nexus-owner",
      "databases-nexus-owner-password": "nexus-owner-password",
      "databases-nexus-app": "nexus-app",
      "databases-nexus-app-password": "nexus-app-password",
      "databases-nexus-readonly": "nexus-readonly",
      "databases-nexus-readonly-password": "nexus-readonly-password",
      "migrations-image": "",
      "migrations-run": "migrated",
      "seed-admin-password": "admin-password",
      "seed-rows": "seeded",
      "handover-test-database": "tests",
      "handover-files": "written",
      "backups-container": "backup-container",
      "backups-repository": "begun",
    });
  });

  // Also for an empty database, so that a later change of the bootstrap is noticed.
  test.each(["sample", "neon", "empty"])("records once that its data comes from %s", async (bootstrap) => {
    const { types } = await run("dev", { bootstrap });
    expect(types.filter((type) => type.endsWith(":ImportOnce"))).toHaveLength(1);
  });

  test.each([
    ["local", ["Migrated", "Written"]],
    // A failed migration must not keep the services from going back to Neon.
    ["neon", ["Written", "Migrated"]],
  ])("with the target %s migrates and hands over in the order %j", async (handoverTarget, expected) => {
    // Outside of a repository, because git does not ignore the file in this one.
    const application = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
    const alembic = "test/application/services/gameserver";
    await writeFile(join(application, ".env"), "DATABASE_URL=postgresql://u:p@ep-1.neon.tech/neondb\n");
    const { types } = await run("dev", { handoverTarget, handoverFolder: application, alembic }).finally(() =>
      rm(application, { recursive: true }),
    );
    const kinds = types.map((type) => type.split(":").at(-1) ?? "");
    expect(kinds.filter((kind) => expected.includes(kind))).toEqual(expected);
  });

  test("fails if the hand-over cannot write its file", async () => {
    await expect(run("dev", { handoverFolder: "test/application" })).rejects.toThrow(
      "test/application/.env would get passwords, but git does not ignore it. Add it to .gitignore",
    );
    await expect(run("dev", { handoverFolder: "package.json" })).rejects.toThrow("which is not a folder");
  });

  test("fails if a setting is invalid", async () => {
    await expect(run("dev", { memory: "1" })).rejects.toThrow("memory is 1: give MiB, at least 256");
  });
});
