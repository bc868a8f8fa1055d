/** The whole hand-over: migrations, seed data, .env, a real docker compose with four services, the way back, the end. */
import { randomBytes } from "node:crypto";
import { chmod, lstat, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { valuesOf } from "../../components/handover/env-block.ts";
import { composeCommand, docker } from "../../lib/docker.ts";
import { withConnection } from "../../lib/postgres.ts";
import { Application } from "../support/application.ts";
import { run, TestStack, urlAddress } from "./test-stack.ts";

const project = `swgame${randomBytes(4).toString("hex")}`;
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
const env = () => game.read(".env");
const git = (...args: string[]) => run("git", ["-C", game.folder, ...args]);
/** docker compose as people call it: in the application's folder, without a word about files. */
const compose = async (...args: string[]) =>
  run("sh", ["-c", 'cd "$0" && exec "$@"', game.folder, ...(await composeCommand()), ...args], {
    SERVICE_IMAGE: `sectorwars-migrations-${stack.name}:latest`,
    DATABASE_URL: undefined,
  });
const get = async (service: string, path: string): Promise<Record<string, unknown>> => {
  const port = (await compose("port", service, "8080")).stdout.trim().split(":").pop();
  return (await (await fetch(`http://127.0.0.1:${port}${path}`)).json()) as Record<string, unknown>;
};

beforeAll(async () => {
  game = await Application.make();
  await writeFile(join(game.folder, ".env"), ENV_BEFORE, { mode: 0o640 });
  await chmod(join(game.folder, ".env"), 0o640);
  await git("init", "--quiet");
  await game.write(".gitignore", ".env\n");
  stack = await TestStack.make({
    bootstrap: "empty",
    memory: "512",
    alembic: game.gameserver,
    application: game.folder,
  });
  await stack.succeed("config", "set", "--path", "databases[0]", "nexus", "--stack", stack.name);
  await docker(["volume", "create", oldVolume]);
  first = (await stack.up()).text;
});
afterAll(async () => {
  await compose("down", "--volumes", "--remove-orphans");
  await docker(["volume", "rm", oldVolume]).catch(() => {});
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

  test("the administrator's password is a secret output that fits the stored hash", async () => {
    const { adminPassword } = await stack.outputs();
    expect(adminPassword).toMatch(/^[a-zA-Z0-9]{24}$/);
    await stack.as("owner", async (client) => {
      const { rows } = await client.query(
        "SELECT crypt($1, password_hash) = password_hash AS fits, password_hash ~ '^\\$2a\\$12\\$' AS is_bcrypt FROM admin_credentials",
        [adminPassword],
      );
      expect(rows).toEqual([{ fits: true, is_bcrypt: true }]);
    });
    expect(await stack.stateText()).not.toContain(adminPassword);
    const { text } = await stack.succeed("stack", "output", "--stack", stack.name);
    expect(text).not.toContain(adminPassword);
  });
});

describe("the .env file", () => {
  test("has our variables in a block, and every other line as it was", async () => {
    const text = await env();
    const values = valuesOf(text);
    const { port } = urlAddress((await stack.outputs()).urls.app);
    expect(text).toContain(
      `# The team's own file.\nCOMPOSE_PROJECT_NAME=${project}\nJWT_SECRET="a secret\nof two lines"\n  SPACES = kept\r\nLAST=without newline\n# >>>`,
    );
    expect(text).toContain("# was line 4: DATABASE_URL='postgresql://neon_user:neonpw@ep-cold-1");
    expect(text).toContain("# was line 5: DB_PORT=5432");
    expect(values.DATABASE_URL).toMatch(
      new RegExp(`^postgresql://sectorwars_app:\\w+@localhost:${port}/sectorwars_dev$`),
    );
    expect(values.DATABASE_URL_IN_NETWORK).toMatch(/^postgresql:\/\/sectorwars_app:\w+@database:5432\/sectorwars_dev$/);
    expect(values).toMatchObject({
      SQLALCHEMY_POOL_SIZE: "5",
      SQLALCHEMY_MAX_OVERFLOW: "10",
      SQLALCHEMY_POOL_TIMEOUT: "30",
      DB_HOST: "localhost",
      DB_PORT: String(port),
      DB_SUPERUSER: "postgres",
    });
    expect((await stat(join(game.folder, ".env"))).mode & 0o777).toBe(0o600);
    expect((await git("status", "--porcelain", "--", ".env")).stdout).toBe("");
  });

  test("a volume of the application's own database is named, and left alone", async () => {
    expect(first).toContain(`the volume ${oldVolume}, which the application's own database made, is there`);
    expect(first).toContain(`npm run adopt -- ${oldVolume}`);
    expect((await docker(["volume", "inspect", oldVolume])).trim()).not.toBe("[]");
  });

  test("leads host tools to the database, and tests to one where they may do what they like", async () => {
    const { DATABASE_URL = "", DATABASE_TEST_URL = "" } = valuesOf(await env());
    await withConnection(urlAddress(DATABASE_URL), (client) => client.query("SELECT * FROM ships"));
    expect(DATABASE_TEST_URL).toMatch(/\/sectorwars_dev_test$/);
    await withConnection(urlAddress(DATABASE_TEST_URL), (client) =>
      client.query("CREATE TABLE t (id uuid DEFAULT uuid_generate_v4()); CREATE SCHEMA s; DROP TABLE t; DROP SCHEMA s"),
    );
  });
});

describe("docker compose", () => {
  test("starts the four services on the stack's database, without one of its own", async () => {
    const up = await compose("up", "--wait", "--detach");
    expect(up.text).not.toContain("error");
    expect(up.code).toBe(0);
    const services = (await compose("ps", "--services")).stdout.trim().split("\n").sort();
    expect(services).toEqual(["admin-ui", "gameserver", "player-client", "region-manager"]);
    const health = await get("gameserver", "/health");
    const seen = ["sectorwars_app", "sectorwars_dev", "0002ships", 12];
    expect(health).toEqual({ sync: seen, async: seen, pool: [5, 10, 30] });
  });

  test("the region manager makes a database and a role", async () => {
    expect(await get("region-manager", "/regions/alpha")).toEqual({ database: "sectorwars_dev" });
    const { host, port } = urlAddress((await stack.outputs()).urls.app);
    await withConnection({ host, port, database: "alpha", user: "alpha_admin", password: "regional" }, (client) =>
      client.query("CREATE TABLE here ()"),
    );
  });

  test("a start waits for a database that is not healthy yet", async () => {
    await compose("stop");
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
  test("have roles of their own, and nobody else gets in", async () => {
    const { DATABASE_URL_NEXUS = "", DATABASE_URL_NEXUS_IN_NETWORK = "", DATABASE_URL = "" } = valuesOf(await env());
    expect(DATABASE_URL_NEXUS_IN_NETWORK).toMatch(/^postgresql:\/\/nexus_app:\w+@database:5432\/nexus$/);
    const nexus = urlAddress(DATABASE_URL_NEXUS);
    const main = urlAddress(DATABASE_URL);
    const { databaseUrls } = (await stack.outputs()) as unknown as { databaseUrls: Record<string, { owner: string }> };
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

  test("one that is added is filled from its own source; the others are not touched", async () => {
    const { urls } = await stack.outputs();
    const passwords = valuesOf(await env());
    await stack.succeed("config", "set", "--path", "databases[1]", "east", "--stack", stack.name);
    stack.env.NEON_DATABASE_URL_EAST = `${urls.superuser.replace("127.0.0.1", "localhost")}?sslmode=disable`;
    const { text } = await stack.up();
    delete stack.env.NEON_DATABASE_URL_EAST;
    expect(text).toMatch(/east: import: .* proven equal/);
    const now = valuesOf(await env());
    expect(now.DATABASE_URL_NEXUS).toBe(passwords.DATABASE_URL_NEXUS);
    await withConnection(urlAddress(now.DATABASE_URL_EAST ?? ""), async (client) => {
      expect((await client.query("SELECT count(*)::int AS n FROM languages")).rows).toEqual([{ n: 12 }]);
    });
    await stack.up("--expect-no-changes");
  });

  test("one that is taken off the list is dropped only when that was said", async () => {
    await stack.succeed("config", "rm", "--path", "databases[1]", "--stack", stack.name);
    const refused = await stack.pulumi("preview", "--stack", stack.name);
    expect(refused.text).toContain("The database east would be dropped, with all rows");
    expect(refused.code).not.toBe(0);
    await stack.succeed("config", "set", "--path", "droppableDatabases[0]", "east", "--stack", stack.name);
    await stack.up();
    await stack.as("superuser", async (client) => {
      const { rows } = await client.query("SELECT datname FROM pg_database WHERE datname IN ('nexus', 'east')");
      expect(rows).toEqual([{ datname: "nexus" }]);
      expect((await client.query("SELECT FROM pg_roles WHERE rolname ~ '^east_'")).rowCount).toBe(0);
    });
    const { DATABASE_URL_NEXUS = "", ...others } = valuesOf(await env());
    expect(others.DATABASE_URL_EAST).toBeUndefined();
    await withConnection(urlAddress(DATABASE_URL_NEXUS), async (client) => {
      expect((await client.query("SELECT FROM gates")).rowCount).toBe(1);
    });
  });
});

describe("again, and on the way back", () => {
  test("a second up changes nothing, a refresh finds no drift", async () => {
    await stack.up("--expect-no-changes");
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  });

  test("status shows where it leads, and the sum of the pools", async () => {
    const said = await run("node", ["commands/status.ts", "--stack", stack.name], stack.env);
    expect(said.text).toContain("revision    0002ships");
    expect(said.text).toContain(`handover    local database, by ${game.folder}/.env`);
    expect(said.text).toContain(
      "pools       1 service x 1 worker x 2 engines (sync, async) x (pool 5 + overflow 10) = 30 of 97 (max_connections 100 less 3 reserved)",
    );
  });

  test("handoverTarget neon puts the kept URL back, as it was; the local stack and the tests' database stay", async () => {
    await stack.set("handoverTarget", "neon");
    await stack.up();
    const values = valuesOf(await env());
    expect(values.DATABASE_URL).toBe("postgresql://neon_user:neonpw@ep-cold-1.eu.aws.neon.tech/neondb?sslmode=require");
    expect(values.DATABASE_URL_IN_NETWORK).toBe(values.DATABASE_URL);
    expect(values.DATABASE_TEST_URL).toContain("@localhost:");
    // What only the local database has is as it was before.
    expect(values.DB_PORT).toBe("5432");
    expect(values.DB_SUPERUSER_PASSWORD).toBeUndefined();
    const config = JSON.parse((await compose("config", "--format", "json")).stdout);
    expect(Object.keys(config.services).sort()).toEqual(["admin-ui", "gameserver", "player-client", "region-manager"]);
    expect(config.services.gameserver.environment.DATABASE_URL).toBe(values.DATABASE_URL);
    expect(await stack.stateText()).not.toContain("neonpw");
    await stack.as("app", (client) => client.query("SELECT 1"));
    await stack.up("--expect-no-changes");
    await stack.unset("handoverTarget");
    await stack.up();
    expect(valuesOf(await env()).DATABASE_URL).toContain("@localhost:");
  });

  test("a refresh notices a block that was changed by hand, and the next up mends it", async () => {
    const right = await env();
    await game.write(".env", right.replace("SQLALCHEMY_POOL_SIZE=5", "SQLALCHEMY_POOL_SIZE=50"));
    await stack.succeed("refresh", "--yes", "--stack", stack.name);
    await stack.up();
    expect(await env()).toBe(right);
  });
});

describe("what cannot be written to", () => {
  const refuses = async (...texts: string[]) => {
    await stack.set("poolSize", "6");
    try {
      const said = await stack.upFails();
      for (const text of texts) expect(said).toContain(text);
    } finally {
      await stack.unset("poolSize");
    }
  };

  test("a file that git would take, and a link", async () => {
    const file = join(game.folder, ".env");
    const before = await env();
    await game.write(".gitignore", "");
    await refuses(
      `${file} would get passwords, but git does not ignore it. Add it to .gitignore`,
      "Nothing was written",
    );
    await game.write(".gitignore", ".env\n");
    expect(await env()).toBe(before);

    await rm(file);
    await game.write("elsewhere", before);
    await symlink("elsewhere", file);
    await refuses(`${file} is a link; the passwords would go where it leads`);
    expect((await lstat(file)).isSymbolicLink()).toBe(true);
    await rm(file);
    await writeFile(file, before, { mode: 0o600 });
  });
});

describe("the end", () => {
  test("destroy takes the block out: the file is what it was, byte for byte, with its mode", async () => {
    await compose("down");
    await stack.succeed("destroy", "--yes", "--skip-preview", "--stack", stack.name);
    expect(await env()).toBe(ENV_BEFORE);
    expect((await stat(join(game.folder, ".env"))).mode & 0o777).toBe(0o640);
    expect(await stack.leftovers()).toEqual([]);
  });
});
