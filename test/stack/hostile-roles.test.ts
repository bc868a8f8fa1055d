/**
 * The stack's own roles plant code wherever PostgreSQL runs code by itself, and create whatever else they may. Then the test runs every
 * command and every step of a stack's life: no planted code may ever run with a superuser's rights.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { containerLog, docker } from "../../lib/docker.ts";
import { connect, withConnection } from "../../lib/postgres.ts";
import { Application } from "../support/application.ts";
import { BACKED_UP, BackedUp } from "../support/backed-up.ts";
import { deedsIn, hostileScript } from "../support/hostile.ts";
import { TestStack, urlAddress } from "../support/test-stack.ts";

/** Returns a recorded attack without its psql commands. */
const caseFile = async (name: string): Promise<string> =>
  (await readFile(`test/cases/security/${name}`, "utf8")).replaceAll(/^\\.*$/gm, "");

let stack: TestStack;
let backed: BackedUp;
let game: Application;

beforeAll(async () => {
  game = await Application.makePlain();
  stack = await TestStack.make({
    ...BACKED_UP,
    alembic: game.gameserver,
  });
  await stack.succeed("config", "set", "--path", "databases[0]", "nexus", "--stack", stack.name);
  backed = new BackedUp(stack);
  await stack.up();
});
afterAll(async () => {
  await stack.end();
  await game.end();
});

/** Runs statements one after another, as an attacker would, and returns those that succeed. */
async function tryAll(role: "app" | "readonly" | "monitor", statements: readonly string[]): Promise<string[]> {
  return stack.as(role, async (client) => {
    const done: string[] = [];
    for (const sql of statements) {
      await client.query(sql).then(
        () => done.push(sql),
        () => {},
      );
    }
    return done;
  });
}

/** Returns the statements of other sessions during some work. The monitor role may read every statement in pg_stat_activity. */
async function seenByMonitor(work: () => Promise<unknown>): Promise<string[]> {
  const { urls } = await stack.outputs();
  const monitor = { ...urlAddress(urls.monitor), database: "postgres" };
  const seen = new Set<string>();
  let isOver = false;
  const watch = async () => {
    // The work changes the role's password, but an open session stays.
    const client = await connect(monitor);
    while (!isOver) {
      const { rows } = await client.query<{ query: string }>(
        "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
      );
      for (const { query } of rows) seen.add(query);
      await sleep(5);
    }
    await client.end();
  };
  const watching = watch();
  await work().finally(() => {
    isOver = true;
  });
  await watching;
  return [...seen];
}

let read = 0;
/** Checks that planted code did no harm in the server or the backup container, and that no role has excess rights. */
async function expectHarmless(): Promise<void> {
  const logs = await Promise.all(
    [stack.names.container, stack.names.backups].map((name) => containerLog(name, 10_000_000)),
  );
  const log = logs.join("\n");
  const deeds = deedsIn(log);
  expect(deeds.ruled.slice(0, 10)).toEqual([]);
  expect(deeds.succeeded).toEqual([]);
  read = deeds.ran.length;
  expect(
    await docker(["exec", stack.names.container, "sh", "-c", "ls /tmp | grep -E 'by-source|executed' || true"]),
  ).toBe("");
  // withConnection pins the session's settings: the database's own settings would make a superuser run the planted code.
  const { urls } = await stack.outputs();
  await withConnection(urlAddress(urls.superuser), async (client) => {
    for (const schema of ["evil2", "evil3", "evil4"]) {
      const there = await client.query(`SELECT to_regclass('${schema}.log') IS NOT NULL AS there`);
      if (there.rows[0].there) expect((await client.query(`SELECT * FROM ${schema}.log`)).rows).toEqual([]);
    }
    const { rows } = await client.query(
      `SELECT rolname FROM pg_roles WHERE rolname ~ '^(sectorwars|nexus|east)_'
         AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication)
       UNION ALL SELECT datname FROM pg_database WHERE datname = 'stolen'`,
    );
    expect(rows).toEqual([]);
  });
}

describe("the roles plant code", () => {
  test("the owner: in every place and with the recorded attacks, and none of it runs as a superuser", async () => {
    await stack.as("owner", async (client) => {
      // The recorded attacks bring their own operators and search_path.
      await client.query(hostileScript("nowhere", ["better operator", "better function", "search path"]));
      await client.query(
        "CREATE TRIGGER seeded BEFORE INSERT ON languages FOR EACH ROW EXECUTE FUNCTION evil.trigger(); " +
          "CREATE TRIGGER stamped BEFORE INSERT OR UPDATE OR DELETE ON alembic_version FOR EACH ROW EXECUTE FUNCTION evil.trigger()",
      );
      const [two, three, four] = await Promise.all(
        [
          "02-owner-to-superuser-search_path.sql",
          "03-owner-to-superuser-cast-in-backup-record.sql",
          "04-owner-to-superuser-better-match.sql",
        ].map(caseFile),
      );
      // Two recorded attacks use the same schema name.
      await client.query((two ?? "").replaceAll(/\bevil\b/g, "evil2"));
      await client.query(three ?? "");
      await client.query(four ?? "");
    });
    await expectHarmless();
  });

  test("the owner: settings and comments of the database that inject SQL, for the tests below", async () => {
    await stack.as("owner", async (client) => {
      const { database } = client;
      await client.query(
        "SELECT set_config('search_path', 'a;ALTER/**/ROLE/**/sectorwars_owner/**/SUPERUSER;--', false)",
      );
      await client
        .query(`ALTER ROLE sectorwars_owner IN DATABASE "${database}" SET search_path FROM CURRENT`)
        .catch(() => {});
      await client.query(`ALTER DATABASE "${database}" SET search_path FROM CURRENT`);
      await client.query(
        `COMMENT ON DATABASE "${database}" IS '{"madeBy":"sectorwars-database migrations","open":["ALTER ROLE sectorwars_owner SUPERUSER"],"running":true}'`,
      );
    });
    // Another setting: a search_path whose functions precede PostgreSQL's own.
    await stack.as("owner", (client) =>
      client.query(`ALTER DATABASE "${client.database}" SET standard_conforming_strings = off`),
    );
  });

  test("the owner cannot change migration backups and snapshots", async () => {
    await backed.succeed("snapshot", "save", "safe", "--force");
    await backed.succeed("snapshot", "restore", "safe", "--force", "--yes");
    const refused = await stack.as("owner", async (client) => {
      const copies = [`${client.database}_before_migration`, "save__safe", "save__before_restore"];
      const found = await client.query("SELECT datname FROM pg_database WHERE datname = ANY ($1)", [copies]);
      expect(found.rowCount).toBe(3);
      const answers: string[] = [];
      for (const copy of copies) {
        for (const sql of [
          `COMMENT ON DATABASE "${copy}" IS 'made by the import, and dropped by it'`,
          `DROP DATABASE "${copy}"`,
        ])
          await client.query(sql).then(
            () => answers.push(`done: ${sql}`),
            (error: Error) => answers.push(error.message.replace(copy, "COPY")),
          );
      }
      return answers;
    });
    expect(new Set(refused)).toEqual(new Set(["must be owner of database COPY"]));
    await backed.succeed("snapshot", "delete", "safe", "--yes");
  });

  test("the owner: a database marked as a template is still recorded by backups and included in portable copies", async () => {
    await stack.as("owner", (client) => client.query(`ALTER DATABASE "${client.database}" IS_TEMPLATE true`));
    await backed.quiet();
    await backed.succeed("backup", "--full");
    const { urls } = await stack.outputs();
    const { database } = urlAddress(urls.superuser);
    const written = await docker([
      ...["exec", stack.names.backups, "sh", "-c"],
      "cut -f 1 /var/lib/sectorwars-backups/state/records/*F",
    ]);
    expect(written).toContain(`${database} public.languages`);
    const portable = await backed.succeed("backup", "--portable", "--folder", `${stack.stateFolder}/template`);
    expect(JSON.stringify(portable)).toContain(database);
    await stack.up();
    const isTemplate = await stack.as("superuser", (client) =>
      client.query("SELECT datistemplate FROM pg_database WHERE datname = $1", [client.database]),
    );
    expect(isTemplate.rows).toEqual([{ datistemplate: false }]);
  });

  test("the app: a temporary view in place of a catalog, as in the recorded attack, which has no effect", async () => {
    const statements = (await caseFile("01-app-to-superuser-temp-pg_class.sql")).split(
      /;\s*$(?!\s*(?:END|RETURN|RAISE|EXECUTE))/m,
    );
    await tryAll("app", statements);
    const more = await tryAll("app", [
      "CREATE TEMP TABLE pg_roles (rolname name, rolsuper boolean)",
      "SELECT lo_create(0)",
      "CREATE SCHEMA mine",
      "CREATE TABLE public.mine (a int)",
      "CREATE FUNCTION public.format(text) RETURNS text LANGUAGE sql AS 'SELECT 1'",
      "ALTER ROLE sectorwars_app SUPERUSER",
      "ALTER ROLE sectorwars_readonly PASSWORD 'known'",
    ]);
    expect(more).toEqual(["CREATE TEMP TABLE pg_roles (rolname name, rolsuper boolean)"]);
    await expectHarmless();
  });

  test.each(["readonly", "monitor"] as const)("%s cannot create anything", async (role) => {
    const made = await tryAll(role, [
      "CREATE TEMP TABLE t (a int)",
      "CREATE TABLE public.t (a int)",
      "CREATE SCHEMA mine",
      "SELECT lo_create(0)",
      "SELECT lo_from_bytea(0, 'x')",
      "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
      "COPY (SELECT 1) TO PROGRAM 'true'",
      "SELECT pg_read_file('/etc/passwd')",
    ]);
    expect(made).toEqual([]);
  });
});

describe("no planted code runs as a superuser when the stack", () => {
  test("is updated with other settings, with new passwords, and after a refresh", async () => {
    await stack.up("--refresh");
    await expectHarmless();
    await stack.set("passwordVersion", "2");
    await stack.succeed("config", "set", "--path", "readonlyDenyList[0]", "t_*", "--stack", stack.name);
    const statements = await seenByMonitor(() => stack.up());
    expect(statements.some((text) => /ALTER ROLE .* PASSWORD 'SCRAM-SHA-256/.test(text))).toBe(true);
    expect(statements.filter((text) => /PASSWORD '(?!SCRAM-SHA-256)/.test(text))).toEqual([]);
    await expectHarmless();
  });

  test("runs status, doctor, verify and migrations", async () => {
    await backed.command("status", "--json");
    await backed.command("doctor", "--json");
    await backed.command("verify", "--database", "nexus");
    await backed.succeed("migrations", "--json");
    await expectHarmless();
  });

  test("is backed up, drilled, copied and restored", async () => {
    await backed.succeed("backup", "--full");
    await backed.succeed("drill");
    await expectHarmless();
    await backed.succeed("backup", "--portable", "--folder", `${stack.stateFolder}/portable`);
    await backed.succeed("restore", "--to", "latest");
    await expectHarmless();
  });

  test("saves and restores snapshots", async () => {
    await backed.succeed("snapshot", "save", "before", "--force");
    await backed.succeed("snapshot", "restore", "before", "--force", "--yes");
    await expectHarmless();
  });

  test("is branched, and refreshed from a source with the same code", async () => {
    await backed.succeed("branch", "create", "wild", "--force");
    const { urls } = await stack.outputs();
    const owner = urlAddress(urls.owner);
    const branch = await connect({ ...owner, database: "branch__wild" });
    await branch.query("COMMENT ON DATABASE branch__wild IS 'made by the import, and dropped by it'");
    await branch.query("ALTER DATABASE branch__wild IS_TEMPLATE true");
    await branch.end();
    await backed.succeed("branch", "list");
    await backed.command("status", "--json");
    await backed.succeed("branch", "delete", "wild", "--yes");
    await withConnection({ ...urlAddress(urls.superuser), database: "postgres" }, async (client) => {
      await client.query(`CREATE DATABASE origin TEMPLATE ${owner.database} OWNER sectorwars_owner`);
    });
    const runs = async () => (await containerLog(stack.names.container, 10_000_000)).split("evil ran").length;
    const before = await runs();
    stack.env.NEON_DATABASE_URL = `${urls.owner.replace("127.0.0.1", "localhost").replace(`/${owner.database}`, "/origin")}?sslmode=disable`;
    const said = await backed.command("refresh", "--yes");
    delete stack.env.NEON_DATABASE_URL;
    await expectHarmless();
    expect(said.text).toContain("proven equal");
    expect(await runs()).toBeGreaterThan(before);
    await backed.succeed("snapshot", "restore", "before_refresh", "--force", "--yes");
    await expectHarmless();
  });

  test("is migrated, undone and seeded", async () => {
    await game.addRevision("0003crew", "0002ships", "CREATE TABLE crew (id serial PRIMARY KEY)");
    await game.write(
      "more.sql",
      "INSERT INTO languages (code, name, native_name, direction, is_active) VALUES ('eo', 'Esperanto', 'Esperanto', 'ltr', true)",
    );
    await stack.succeed("config", "set", "--path", "seedFiles[0]", `${game.folder}/more.sql`, "--stack", stack.name);
    await stack.succeed("config", "set", "seed", "always", "--stack", stack.name);
    // Alembic needs a schema to create its tables in. The database's own setting stays.
    await stack.as("owner", (client) =>
      client.query(`ALTER ROLE sectorwars_owner IN DATABASE "${client.database}" SET search_path = public`),
    );
    const before = read;
    await stack.up();
    await expectHarmless();
    // The planted code does run: triggers of the tables that were written ran as the owner.
    expect(read).toBeGreaterThan(before);
    await backed.succeed("migrations", "undo", "--yes");
    await expectHarmless();
  });

  test("gets and drops a database", async () => {
    await stack.succeed("config", "set", "--path", "databases[1]", "east", "--stack", stack.name);
    await stack.up();
    await stack.succeed("config", "set", "--path", "droppableDatabases[0]", "east", "--stack", stack.name);
    await stack.succeed("config", "rm", "--path", "databases[1]", "--stack", stack.name);
    await stack.up();
    await expectHarmless();
  });
});
