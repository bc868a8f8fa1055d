/** The whole hand-over: migrations, seed data, .env, docker compose with four services, the return to Neon, and destroy. */
import { randomBytes } from "node:crypto";
import { chmod, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { provider as databaseProvider } from "../../components/databases/database-provider.ts";
import { valuesOf } from "../../components/handover/env-values.ts";
import { runMigrations } from "../../components/migrations/run-migrations.ts";
import { fitsPassword } from "../../components/seed/password-hash.ts";
import type { SeedFile, SeedInputs } from "../../components/seed/seed.ts";
import { provider } from "../../components/seed/seed-provider.ts";
import { docker } from "../../lib/docker.ts";
import { composeWords } from "../../lib/docker-compose.ts";
import type { Address } from "../../lib/postgres.ts";
import { Application } from "../support/application.ts";
import { images } from "../support/lab.ts";
import { withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

const PROFILE = ["--profile", "development"];
const GAME = ["admin-ui", "gameserver", "player-client", "region-manager"];
const OTHERS = ["central-nexus-db", "central-nexus-server", "exporter", "metrics"];
const project = `swgame${randomBytes(4).toString("hex")}`;
/** The gameserver's image, in which the migrations run, and which the services use. */
const gameserver = `${project}-gameserver`;
const oldVolume = `${project}_postgres_data`;
const ENV_BEFORE = `# The team's own file.
COMPOSE_PROJECT_NAME=${project}
JWT_SECRET="a secret
of two lines"
DATABASE_URL='postgresql://neon_user:neonpw@ep-cold-1.eu.aws.neon.tech/neondb?sslmode=require'
DB_PORT=5432
  SPACES = kept\r
LAST=without newline`;

let stack: TestStack;
let game: Application;
let first: string;
/** The outputs with connection URLs. */
interface Urls {
  urls: { superuser: string };
  databaseUrls: Record<string, { owner: string }>;
}
const env = () => game.read(".env");
const git = (...args: string[]) => run("git", ["-C", game.folder, ...args]);
/** Local images that replace the base images of the game's. */
const composeEnvironment = () => ({
  NEXUS_IMAGE: images().databaseBase,
  DATABASE_URL: undefined,
});
/** Runs docker compose as users do: in the application's folder, without -f. */
const compose = async (...args: string[]) =>
  run("sh", ["-c", 'cd "$0" && exec "$@"', game.folder, ...composeWords(), ...PROFILE, ...args], composeEnvironment());
const get = async (service: string, path: string): Promise<Record<string, unknown>> => {
  const port = (await compose("port", service, "8080")).stdout.trim().split(":").pop();
  return (await (await fetch(`http://127.0.0.1:${port}${path}`)).json()) as Record<string, unknown>;
};

beforeAll(async () => {
  game = await Application.make();
  await writeFile(join(game.folder, ".env"), ENV_BEFORE, { mode: 0o640 });
  await chmod(join(game.folder, ".env"), 0o640);
  // The game's complete set-up: profiles, other databases, other networks.
  await rename(join(game.folder, "full.yml"), join(game.folder, "docker-compose.override.yml"));
  await git("init", "--quiet");
  await game.write(".gitignore", ".env\n");
  stack = await TestStack.make(
    { bootstrap: "empty", memory: "512", maxConnections: "150", alembic: game.gameserver, handoverFolder: game.folder },
    game.buildEnvironment,
  );
  await stack.succeed("config", "set", "--path", "databases[0]", "nexus", "--stack", stack.name);
  await docker(["volume", "create", oldVolume]);
  first = (await stack.up()).text;
});
afterAll(async () => {
  await compose("down", "--volumes", "--remove-orphans", "--timeout", "0");
  await docker(["volume", "rm", oldVolume]).catch(() => {});
  await docker(["image", "rm", gameserver]).catch(() => {});
  await stack.end();
  await game.end();
});

describe("seed data", () => {
  test("is inserted, counted and reported", async () => {
    const { seeded } = await stack.outputs();
    expect(seeded).toEqual({
      "10-languages.sql": 12,
      "20-translation-namespaces.sql": 8,
      "30-admin-user.sql": 2,
    });
    await stack.as("app", async (client) => {
      const { rows } = await client.query("SELECT count(*)::int AS n FROM languages");
      expect(rows[0].n).toBe(12);
    });
  });

  test("the administrator's password is a secret output; the database has its argon2id hash", async () => {
    const { adminPassword } = await stack.outputs();
    expect(adminPassword).toMatch(/^[a-zA-Z0-9]{24}$/);
    await stack.as("owner", async (client) => {
      const { rows } = await client.query("SELECT password_hash FROM admin_credentials");
      expect(rows).toEqual([{ password_hash: expect.stringMatching(/^\$argon2id\$v=19\$m=65536,t=3,p=4\$/) }]);
    });
    expect(await stack.stateText()).not.toContain(adminPassword);
    const { text } = await stack.succeed("stack", "output", "--stack", stack.name);
    expect(text).not.toContain(adminPassword);
  });
});

describe("seed data with other settings", () => {
  /** Seeds another database, which has only the schema, as the stack's own resource does. */
  let seed: (more?: Partial<SeedInputs>) => Promise<Record<string, number | null>>;
  let address: Address;
  const file = (sql: string): SeedFile[] => [{ name: "mine.sql", sql }];
  const sql = (text: string) => withConnection(address, (client) => client.query(text));

  beforeAll(async () => {
    const { urls } = await stack.outputs();
    address = { ...urlAddress(urls.superuser), database: "seeding" };
    await stack.as("superuser", (client) => client.query("CREATE DATABASE seeding TEMPLATE nexus"));
    await stack.as("superuser", (client) => client.query("GRANT CONNECT ON DATABASE seeding TO sectorwars_owner"));
    await sql(
      "CREATE SCHEMA IF NOT EXISTS sectorwars_stack; CREATE TABLE ranks (name text PRIMARY KEY, grade int NOT NULL)",
    );
    await sql("ALTER TABLE ranks OWNER TO sectorwars_owner; GRANT USAGE, CREATE ON SCHEMA public TO sectorwars_owner");
    const usual: SeedInputs = {
      ...address,
      passwordVersion: 1,
      owner: "sectorwars_owner",
      ownerPassword: urlAddress(urls.owner).password,
      admin: "admin",
      adminPassword: "adminpw",
      passwordHash: "sql: 'hash of ' || $1",
      evenImported: false,
      files: [],
      revision: null,
    };
    seed = async (more) => (await provider.create({ ...usual, ...more })).outs.rows;
  });

  test("a file that omits a required column is refused with the column and table; no file is inserted", async () => {
    const files = [
      ...file("INSERT INTO ranks VALUES ('Captain', 1)"),
      { name: "second.sql", sql: "INSERT INTO ranks (name) VALUES ('Cadet')" },
    ];
    await expect(seed({ files })).rejects.toThrow(
      "The seed data in second.sql gives no value for the column grade of the table ranks, which is NOT NULL without a default.",
    );
    await expect(seed({ files: file("INSERT INTO ranks (name, color) VALUES ('a', 'b')") })).rejects.toThrow(
      'does not match its table: column "color" of relation "ranks" does not exist',
    );
    await expect(seed({ files: file("INSERT INTO ranks VALUES ('Captain', 1);\ncommit;") })).rejects.toThrow(
      "contains COMMIT, but all files",
    );
    expect((await sql("SELECT FROM ranks")).rowCount).toBe(0);
  });

  test("a file of the team is inserted once, again when it changes, and only once its tables exist", async () => {
    const [captain, all] = ["('Captain', 1)", "('Captain', 1), ('Cadet', 0)"].map((rows) =>
      file(`INSERT INTO ranks VALUES ${rows} ON CONFLICT DO NOTHING`),
    );
    await expect(seed({ files: all, passwordHash: "sql: nullif($1, $1)" })).rejects.toThrow(
      "which returns null or an empty text",
    );
    expect(await seed({ files: captain })).toEqual({ "mine.sql": 1 });
    await sql("DELETE FROM ranks");
    expect(await seed({ files: captain })).toEqual({ "mine.sql": 1 });
    expect((await sql("SELECT FROM ranks")).rowCount).toBe(0);
    expect(await seed({ files: all })).toEqual({ "mine.sql": 3 });
    expect(await seed({ files: file("-- needs: ranks, medals\nINSERT INTO medals VALUES (1)") })).toEqual({
      "mine.sql": null,
    });
  });

  test("an imported database is not seeded unless the settings say so", async () => {
    await sql("CREATE TABLE sectorwars_stack.import AS SELECT '{}'::jsonb AS summary; TRUNCATE ranks");
    const files = file("INSERT INTO ranks VALUES ('Admiral', 9)");
    expect(await seed({ files })).toEqual({});
    expect(await seed({ files, evenImported: true })).toEqual({ "mine.sql": 4 });
    expect((await sql("SELECT FROM ranks")).rowCount).toBe(1);
    await stack.as("superuser", (client) => client.query("DROP DATABASE seeding"));
  });
});

describe("the .env file", () => {
  test("has our variables in a block, and every other line unchanged", async () => {
    const text = await env();
    const values = valuesOf(text);
    const { port } = urlAddress((await stack.outputs()).urls.app);
    expect(text).toMatch(/^# >>> sectorwars-database: stack /);
    expect(
      text.endsWith(
        `<<< sectorwars-database\n# The team's own file.\nCOMPOSE_PROJECT_NAME=${project}\nJWT_SECRET="a secret\nof two lines"\n` +
          `DB_PORT=5432\n  SPACES = kept\r\nLAST=without newline`,
      ),
    ).toBe(true);
    expect(text).toContain("# was line 4: DATABASE_URL='postgresql://neon_user:neonpw@ep-cold-1");
    expect(values.DATABASE_URL).toMatch(
      new RegExp(`^postgresql://sectorwars_app:\\w+@localhost:${port}/sectorwars_dev$`),
    );
    expect(values).toMatchObject({
      SQLALCHEMY_POOL_SIZE: "5",
      SQLALCHEMY_MAX_OVERFLOW: "10",
      SQLALCHEMY_POOL_TIMEOUT: "30",
    });
    expect(text).not.toMatch(/DB_SUPERUSER|IN_NETWORK/);
    expect((await stat(join(game.folder, ".env"))).mode & 0o777).toBe(0o600);
    expect((await git("status", "--porcelain", "--", ".env")).stdout).toBe("");
  });

  test("is reported in one list, with the command to run next", () => {
    const list = /handover: the application uses the local database\n(.*\n)+?.* next +.*\n/.exec(first)?.[0] ?? first;
    expect(list).toMatch(/files +\S.*\.env \(the block of the stack/);
    expect(list).toMatch(/variables +DATABASE_URL, DATABASE_TEST_URL, DATABASE_URL_NEXUS, SQLALCHEMY_POOL_SIZE/);
    expect(list).toMatch(/services +exporter, gameserver, metrics \(at 127.0.0.1:\d+\), region-manager \(superuser\)/);
    expect(list).toMatch(/replaced +database/);
    expect(list).toMatch(/unchanged +admin-ui, central-nexus-db, central-nexus-server, player-client/);
    expect(list).toMatch(/next +cd '.*the pilot'\\''s game' && \S.*compose --profile development up --wait/);
  });

  test("does not affect the volume of the application's own database, which the list names", async () => {
    expect(first).toContain(`the volume ${oldVolume} of the application's own database still exists`);
    expect(first).toContain(`./db adopt ${oldVolume} --image postgres:15-alpine`);
    expect((await docker(["volume", "inspect", oldVolume])).trim()).not.toBe("[]");
  });

  test("connects host tools to the database, and tests to a database in which they may do everything", async () => {
    const { DATABASE_URL = "", DATABASE_TEST_URL = "" } = valuesOf(await env());
    await withConnection(urlAddress(DATABASE_URL), (client) => client.query("SELECT * FROM ships"));
    expect(DATABASE_TEST_URL).toMatch(/\/sectorwars_dev_test$/);
    await withConnection(urlAddress(DATABASE_TEST_URL), (client) =>
      client.query("CREATE TABLE t (id uuid DEFAULT uuid_generate_v4()); CREATE SCHEMA s; DROP TABLE t; DROP SCHEMA s"),
    );
  });
});

describe("docker compose", () => {
  test("starts the services on the stack's database with the listed command, without the application's own", async () => {
    const next = /next +(cd .*--wait)/.exec(first)?.[1] ?? "false";
    const up = await run("sh", ["-c", next], composeEnvironment());
    expect(up.text).not.toContain("error");
    expect(up.code).toBe(0);
    const services = (await compose("ps", "--services")).stdout.trim().split("\n").sort();
    expect(services).toEqual([...GAME, ...OTHERS].sort());
    const health = await get("gameserver", "/health");
    const seen = ["sectorwars_app", "sectorwars_dev", "0002ships", 12];
    expect(health).toEqual({ sync: seen, async: seen, pool: [5, 10, 30] });
  });

  test("the administrator can log in with the generated password only", async () => {
    const { adminPassword } = await stack.outputs();
    const port = (await compose("port", "gameserver", "8080")).stdout.trim().split(":").pop();
    const login = async (password: unknown) =>
      (
        await fetch(`http://127.0.0.1:${port}/login`, {
          method: "POST",
          body: JSON.stringify({ name: "admin", password }),
        })
      ).status;
    expect(await login(adminPassword)).toBe(200);
    expect(await login("another")).toBe(401);
  });

  test("another hash scheme hashes the generated password again, unless it was changed in the application", async () => {
    const hashes = async () =>
      stack.as(
        "owner",
        async (client) => (await client.query("SELECT password_hash FROM admin_credentials")).rows[0]?.password_hash,
      );
    await stack.set("seedPasswordHash", "sql: crypt($1, gen_salt('bf', 4))");
    expect((await stack.up()).text).toContain("password is now hashed with sql: crypt($1, gen_salt('bf', 4))");
    expect(await hashes()).toMatch(/^\$2a\$04\$/);
    await stack.unset("seedPasswordHash");
    await stack.up();
    const made = await hashes();
    expect(made).toMatch(/^\$argon2id\$/);
    const { adminPassword } = await stack.outputs();
    expect(await fitsPassword(made, String(adminPassword))).toBe(true);
    await stack.as("owner", (client) => client.query("UPDATE admin_credentials SET password_hash = 'changed'"));
    await stack.set("seedPasswordHash", "scrypt");
    expect((await stack.up()).text).toContain("password is unchanged, because it is no longer the generated one");
    expect(await hashes()).toBe("changed");
  });

  test("connects services on other networks too, but not a service with its own database", async () => {
    const seen = async (service: string) => (await compose("exec", "-T", service, "cat", "/tmp/seen")).stdout;
    expect(await seen("metrics")).toBe("sectorwars_app in sectorwars_dev");
    expect(await seen("exporter")).toBe("sectorwars_app in sectorwars_dev");
    expect(await seen("central-nexus-server")).toBe("postgres in nexus");
  });

  test("gives the superuser's password only to the service that needs it", async () => {
    const { services } = JSON.parse((await compose("config", "--format", "json")).stdout);
    const { password } = urlAddress((await stack.outputs()).urls.superuser);
    expect(services["region-manager"].environment.DB_SUPERUSER_PASSWORD).toBe(password);
    const { "region-manager": _, ...others } = services;
    expect(JSON.stringify(others)).not.toContain(password);
    expect(await env()).not.toContain(password);
  });

  test("the region manager can create a database and a role", async () => {
    expect(await get("region-manager", "/regions/alpha")).toEqual({ database: "sectorwars_dev" });
    const { host, port } = urlAddress((await stack.outputs()).urls.app);
    await withConnection({ host, port, database: "alpha", user: "alpha_admin", password: "regional" }, (client) =>
      client.query("CREATE TABLE here ()"),
    );
  });

  test("starting waits until the database is healthy", async () => {
    await compose("stop", "--timeout", "0");
    await docker(["pause", stack.names.container]);
    const started = compose("up", "--wait", "--detach");
    const waits = await Promise.race([started.then(() => false), new Promise((done) => setTimeout(done, 4000, true))]);
    expect(waits).toBe(true);
    expect((await compose("ps", "--services", "--status", "running")).stdout).not.toContain("gameserver");
    await docker(["unpause", stack.names.container]);
    expect((await started).code).toBe(0);
    expect(await get("gameserver", "/health")).toMatchObject({
      sync: ["sectorwars_app", "sectorwars_dev", "0002ships", 12],
    });
  });
});

describe("further databases", () => {
  test("have their own roles, and other databases' roles cannot connect", async () => {
    const { DATABASE_URL_NEXUS = "", DATABASE_URL = "" } = valuesOf(await env());
    const { services } = JSON.parse((await compose("config", "--format", "json")).stdout);
    expect(services.gameserver.environment.DATABASE_URL_NEXUS).toMatch(
      /^postgresql:\/\/nexus_app:\w+@database:5432\/nexus$/,
    );
    expect(services["admin-ui"].environment).toBeUndefined();
    const nexus = urlAddress(DATABASE_URL_NEXUS);
    const main = urlAddress(DATABASE_URL);
    const { databaseUrls } = (await stack.outputs()) as unknown as Urls;
    await withConnection(urlAddress(databaseUrls.nexus?.owner ?? ""), (client) =>
      client.query("CREATE TABLE gates (id serial PRIMARY KEY, at uuid DEFAULT uuid_generate_v4())"),
    );
    await withConnection(nexus, (client) => client.query("INSERT INTO gates DEFAULT VALUES"));
    await expect(withConnection(nexus, (client) => client.query("CREATE TABLE mine ()"))).rejects.toThrow("denied");
    for (const [who, where] of [
      [nexus, main],
      [main, nexus],
    ] as const) {
      const strange = { ...who, database: where.database };
      await expect(withConnection(strange, (client) => client.query("SELECT 1"))).rejects.toThrow("permission denied");
    }
  });

  test("an added one is imported from its own source, the others stay unchanged; a refresh repairs a manually changed block", async () => {
    const { urls } = await stack.outputs();
    const right = await env();
    await game.write(".env", right.replace("SQLALCHEMY_POOL_SIZE=5", "SQLALCHEMY_POOL_SIZE=50"));
    await stack.succeed("config", "set", "--path", "databases[1]", "east", "--stack", stack.name);
    stack.env.NEON_DATABASE_URL_EAST = `${urls.superuser.replace("127.0.0.1", "localhost")}?sslmode=disable`;
    const { text } = await stack.up("--refresh");
    delete stack.env.NEON_DATABASE_URL_EAST;
    expect(text).toMatch(/east: import: .* proven equal/);
    // Only the variables of east are new.
    expect((await env()).replaceAll(/^DATABASE_URL_EAST.*\n/gm, "")).toBe(right);
    const east = urlAddress(valuesOf(await env()).DATABASE_URL_EAST ?? "");
    await withConnection(east, async (client) => {
      expect((await client.query("SELECT count(*)::int AS n FROM languages")).rows).toEqual([{ n: 12 }]);
    });
  });

  test("one whose import was killed after the swap is recognised by the import's mark; a foreign one is refused", async () => {
    const { stdout } = await stack.succeed("stack", "export", "--show-secrets", "--stack", stack.name);
    const { resources } = JSON.parse(stdout).deployment;
    const { inputs } = resources.find(({ urn }: { urn: string }) => urn.endsWith("::databases-east"));
    const plain = JSON.parse(JSON.stringify(inputs), (_key, value) =>
      value?.plaintext === undefined ? value : JSON.parse(value.plaintext),
    );
    const comment = `SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = 'east'`;
    await stack.as("superuser", async (client) => {
      await client.query("COMMENT ON DATABASE east IS NULL");
      await client.query("CREATE DATABASE stranger");
      await databaseProvider.create(plain);
      expect((await client.query(comment)).rows).toEqual([{ comment: "made by sectorwars-database" }]);
      await expect(databaseProvider.create({ ...plain, database: "stranger" })).rejects.toThrow(
        "The database stranger already exists, and this project did not create it. Choose another name in the setting databases, or rename",
      );
      await client.query("DROP DATABASE stranger");
    });
    const east = urlAddress(valuesOf(await env()).DATABASE_URL_EAST ?? "");
    await withConnection(east, async (client) => {
      expect((await client.query("SELECT count(*)::int AS n FROM languages")).rows).toEqual([{ n: 12 }]);
    });
  });

  test("an imported one is migrated too, by its own owner", async () => {
    const { urls, databaseUrls } = (await stack.outputs()) as unknown as Urls;
    const owner = urlAddress(databaseUrls.east?.owner ?? "");
    await game.addRevision(
      "0003crew",
      "0002ships",
      "CREATE TABLE crew (id int); ALTER TABLE ships ADD COLUMN crew int",
    );
    const result = await runMigrations(
      {
        stack: stack.name,
        address: { ...urlAddress(urls.superuser), database: "east" },
        owner: owner.user,
        ownerPassword: owner.password,
        folder: game.gameserver,
        image: gameserver,
        variables: {
          JWT_SECRET: "a secret",
          ARIA_ENCRYPTION_KEY: "a key",
          ADMIN_USERNAME: "admin",
          ADMIN_PASSWORD: "pw",
        },
        arguments: [],
        wanted: "head",
        allowDowngrade: false,
        network: stack.names.network,
        alias: stack.names.alias,
        dockerHost: undefined,
      },
      () => {},
    );
    await game.removeRevision("0003crew");
    expect(result).toEqual({ revision: "0003crew", ran: ["0003crew"] });
    const east = urlAddress(valuesOf(await env()).DATABASE_URL_EAST ?? "");
    await withConnection(east, (client) => client.query("INSERT INTO crew VALUES (1); SELECT crew FROM ships"));
    await stack.as("superuser", (client) => client.query("DROP DATABASE east_before_migration"));
  });
});

describe("later updates", () => {
  test("a second up changes nothing and runs no migration, and a refresh finds no drift", async () => {
    expect((await stack.up("--refresh", "--expect-no-changes")).text).not.toMatch(/migrations: (\d|the)/);
  });

  test("status shows the hand-over's target, and the sum of the pools", async () => {
    const said = await stack.db("status");
    expect(said.text).toContain("revision    0002ships");
    expect(said.text).toContain(`handover    local database, by ${game.folder}/.env`);
    expect(said.text).toContain(
      "pools       4 services x 1 worker x 2 engines (sync, async) x (pool 5 + overflow 10) = 120 of 147 (max_connections 150 less 3 reserved)",
    );
    expect(said.text).toContain("services    exporter, gameserver, metrics, region-manager");
    expect(said.text).toMatch(/start +cd '.*the pilot'\\''s game' && \S.*compose --profile development up --wait/);
  });

  test("handoverTarget neon restores the former URL even if a migration fails; the local stack keeps running", async () => {
    await game.addRevision("0003fails", "0002ships", "SELECT nonsense");
    await stack.set("handoverTarget", "neon");
    expect(await stack.upFails()).toContain("The migration 0003fails makes 0003fails failed");
    const values = valuesOf(await env());
    expect(values.DATABASE_URL).toBe("postgresql://neon_user:neonpw@ep-cold-1.eu.aws.neon.tech/neondb?sslmode=require");
    // The rest of the file is unchanged, byte for byte.
    expect((await env()).split("sectorwars-database\n").at(-1)).toBe(ENV_BEFORE);
    expect(values.DATABASE_TEST_URL).toContain("@localhost:");
    const config = JSON.parse((await compose("config", "--format", "json")).stdout);
    expect(Object.keys(config.services).sort()).toEqual([...GAME, ...OTHERS].sort());
    expect(config.services.metrics.environment.DATABASE_URL).toBe(values.DATABASE_URL);
    expect(config.services.exporter.network_mode).toBeUndefined();
    expect(config.services["central-nexus-server"].environment.DATABASE_URL).toContain("@central-nexus-db:");
    expect(config.services.gameserver.environment.DATABASE_URL).toBe(values.DATABASE_URL);
    expect(await stack.stateText()).not.toContain("neonpw");
    await stack.as("app", (client) => client.query("SELECT 1"));
    await game.removeRevision("0003fails");
  });

  test("the preview fails for an .env file that git does not ignore, and for a database that would be dropped", async () => {
    const preview = async () => {
      const said = await stack.pulumi("preview", "--stack", stack.name);
      expect(said.code).not.toBe(0);
      return said.text;
    };
    await stack.unset("handoverTarget");
    await game.write(".gitignore", "");
    expect(await preview()).toContain(
      `${join(game.folder, ".env")} would get passwords, but git does not ignore it. Add it to .gitignore`,
    );
    await game.write(".gitignore", ".env\n");
    await stack.succeed("config", "rm", "--path", "databases[1]", "--stack", stack.name);
    expect(await preview()).toContain("The database east would be dropped with all rows");
  });

  test("handoverTarget local restores the local URL; a removed database is dropped once droppableDatabases names it", async () => {
    await stack.succeed("config", "set", "--path", "droppableDatabases[0]", "east", "--stack", stack.name);
    await stack.up();
    await stack.as("superuser", async (client) => {
      const { rows } = await client.query("SELECT datname FROM pg_database WHERE datname IN ('nexus', 'east')");
      expect(rows).toEqual([{ datname: "nexus" }]);
      expect((await client.query("SELECT FROM pg_roles WHERE rolname ~ '^east_'")).rowCount).toBe(0);
    });
    const { DATABASE_URL = "", DATABASE_URL_NEXUS = "", ...others } = valuesOf(await env());
    expect(DATABASE_URL).toContain("@localhost:");
    expect(others.DATABASE_URL_EAST).toBeUndefined();
    await withConnection(urlAddress(DATABASE_URL_NEXUS), async (client) => {
      expect((await client.query("SELECT FROM gates")).rowCount).toBe(1);
    });
  });
});

describe("pulumi destroy", () => {
  test("removes the block: the file is as before, byte for byte, with its mode", async () => {
    await compose("down", "--volumes", "--timeout", "0");
    await stack.succeed("destroy", "--yes", "--skip-preview", "--stack", stack.name);
    expect(await env()).toBe(ENV_BEFORE);
    expect((await stat(join(game.folder, ".env"))).mode & 0o777).toBe(0o640);
    expect(await stack.leftovers()).toEqual([]);
  });
});
