/** `./db refresh`, which replaces the data with fresh data from the source, and branches, on one stack with migrations. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createBranch, deleteBranch, readBranches } from "../../components/branches/branches.ts";
import { lockServer } from "../../components/import/staging/swap.ts";
import {
  deleteSnapshot,
  listSnapshots,
  restoreSnapshot,
  type SnapshotPlace,
  saveSnapshot,
} from "../../components/snapshots/snapshots.ts";
import { LOCK_KEY as MIGRATIONS_LOCK } from "../../lib/connection-lock.ts";
import { docker } from "../../lib/docker.ts";
import { Application } from "../support/application.ts";
import { connect, withConnection } from "../support/session.ts";
import { type CommandResult, TestStack, urlAddress } from "../support/test-stack.ts";

let stack: TestStack;
let game: Application;
let place: SnapshotPlace;
let database: string;

const command = (name: string, ...args: string[]): Promise<CommandResult> => stack.db(name, ...args);
async function succeed(name: string, ...args: string[]): Promise<string> {
  const said = await command(name, ...args);
  if (said.code !== 0) throw new Error(`${name} ${args.join(" ")} failed:\n${said.text}`);
  return said.text;
}
const beginRefresh = () => stack.beginDb("refresh", "--yes");
const message = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "it went well",
    (error: Error) => error.message,
  );
const onServer = <T>(work: (client: pg.Client) => Promise<T>): Promise<T> =>
  withConnection({ ...place.address, database: "postgres" }, work, { patienceMs: 20_000 });
const onSource = <T>(work: (client: pg.Client) => Promise<T>): Promise<T> =>
  withConnection({ ...place.address, database: "origin" }, work);
const value = (sql: string, role: "superuser" | "app" | "readonly" = "superuser"): Promise<unknown> =>
  stack.as(role, async (client) => (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows[0]?.[0]);
const ships = () => value("SELECT string_agg(name, ',' ORDER BY name) FROM ships");
const revision = () => value("SELECT version_num FROM alembic_version");
const snapshots = async () =>
  (await onServer((client) => listSnapshots(client, database))).map(({ name }) => name).sort();
const databases = () =>
  onServer(async (client) => {
    const { rows } = await client.query<{ datname: string }>("SELECT datname FROM pg_database ORDER BY 1");
    return rows.map(({ datname }) => datname);
  });
/** Returns the database's properties that are not its content. */
const properties = () =>
  value(`SELECT concat_ws(' ', (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a), pg_get_userbyid(datdba),
    shobj_description(d.oid, 'pg_database'), datallowconn, datconnlimit, datistemplate,
    (SELECT string_agg(setrole::regrole || setconfig::text, ' ' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid))
    FROM pg_database d WHERE datname = current_database()`);
/** Lists the databases that an interrupted refresh, snapshot or branch has left. */
const leftoverDatabases = async () =>
  (await databases()).filter((name) => /(_import|_import_check|__restoring|__former|__former_imported)$/.test(name));

beforeAll(async () => {
  game = await Application.makePlain();
  stack = await TestStack.make({ bootstrap: "empty", memory: "512", alembic: game.gameserver });
  await stack.succeed("config", "set", "--path", "databases[0]", "nexus", "--stack", stack.name);
  await stack.up();
  const { urls } = await stack.outputs();
  const address = urlAddress(urls.superuser);
  place = { address, container: stack.names.container };
  database = address.database;
  // The source: the application's schema, with its own rows and a setting.
  await onServer((client) => client.query(`CREATE DATABASE origin TEMPLATE ${database}`));
  await onSource(async (client) => {
    await client.query("DROP SCHEMA sectorwars_stack CASCADE");
    await client.query("INSERT INTO ships (name) VALUES ('Rocinante'), ('Nostromo')");
    await client.query(
      "CREATE TABLE mfa_secrets (id int PRIMARY KEY, secret text); INSERT INTO mfa_secrets VALUES (1, 'x')",
    );
    await client.query(
      "ALTER DATABASE origin SET intervalstyle = 'sql_standard'; ALTER TABLE mfa_secrets OWNER TO sectorwars_owner",
    );
  });
  stack.env.NEON_DATABASE_URL = `${urls.superuser.replace("127.0.0.1", "localhost").replace(database, "origin")}?sslmode=disable`;
  // Data that only the local database has.
  await stack.as("app", (client) => client.query("INSERT INTO ships (name) VALUES ('Serenity')"));
  await value(`ALTER ROLE sectorwars_app IN DATABASE ${database} SET application_name = 'it''s, me'`);
  await value(`COMMENT ON DATABASE ${database} IS 'the game''s'`);
});
afterAll(async () => {
  await stack.end();
  await game.end();
});

describe("a refresh", () => {
  test("needs a source and a confirmation; --check lists what would be copied, and writes nothing", async () => {
    const { NEON_DATABASE_URL: url } = stack.env;
    delete stack.env.NEON_DATABASE_URL;
    stack.env.NEON_DATABASE_URL = undefined;
    const without = await command("refresh", "--yes");
    expect(without).toMatchObject({ code: 1 });
    expect(without.text).toContain("./db refresh copies the source that it names, but NEON_DATABASE_URL is not set");
    stack.env.NEON_DATABASE_URL = url;
    const unsure = await command("refresh");
    expect(unsure).toMatchObject({ code: 2 });
    expect(unsure.text).toMatch(
      /This replaces all data in sectorwars_dev by that of localhost:\d+\/origin \(\d+ tables: .*To confirm, add --yes\./,
    );
    const before = await databases();
    const checked = await succeed("refresh", "--check");
    expect(checked).toContain("sectorwars_dev was not filled by an import: a refresh would replace all of it.");
    expect(checked).toMatch(/A refresh would copy:\n.*the source: .* on its disk/);
    expect(checked).toContain("Nothing was written.");
    expect(await databases()).toEqual(before);
    expect(await ships()).toBe("Serenity");
  });

  test("replaces the data, proves and migrates it, and keeps the stack's own properties; services can reconnect", async () => {
    // A migration that needs a setting that only the local database has.
    await value(`ALTER DATABASE ${database} SET game.shard = 'east'`);
    await game.addRevision(
      "0003crew",
      "0002ships",
      "CREATE TABLE crew (id serial PRIMARY KEY, shard text); INSERT INTO crew (shard) VALUES (current_setting('game.shard'))",
    );
    const [had, urls] = [await properties(), JSON.stringify((await stack.outputs()).urls)];
    const nexus = await onServer((client) =>
      client.query("SELECT oid, datacl::text FROM pg_database WHERE datname = 'nexus'"),
    );
    const service = await connect(urlAddress((await stack.outputs()).urls.app));
    service.on("error", () => {});
    const forgotten = await connect(urlAddress((await stack.outputs()).urls.app));
    forgotten.on("error", () => {});
    await forgotten.query("BEGIN; UPDATE ships SET name = 'never'");
    const said = await succeed("refresh", "--yes");
    expect(said).toMatch(/import: 8 tables, [\d,]+ rows, .* proven equal/);
    expect(said).toContain("migrations: 1 revision from 0002ships to 0003crew");
    expect(said).toContain("Migrated to 0003crew: 0003crew.");
    expect(said).toMatch(
      /Refreshed: sectorwars_dev contains 8 tables, \d+ rows, proven equal to localhost:\d+\/origin/,
    );
    expect(said).toContain("To restore it:  ./db snapshot restore before_refresh");
    await expect(service.query("SELECT 1")).rejects.toThrow();
    await expect(forgotten.query("SELECT 1")).rejects.toThrow();
    expect(await ships()).toBe("Nostromo,Rocinante");
    expect(await revision()).toBe("0003crew");
    // The roles keep their passwords and privileges.
    expect(await value("SELECT count(*)::int FROM ships", "app")).toBe(2);
    expect(await message(value("SELECT * FROM mfa_secrets", "readonly"))).toContain("permission denied");
    expect(await value("SELECT has_table_privilege('sectorwars_app', 'admin_action_logs', 'DELETE')")).toBe(false);
    expect(await value("SELECT has_table_privilege('sectorwars_app', 'crew', 'INSERT')")).toBe(true);
    expect(await value("SELECT shard FROM crew")).toBe("east");
    expect(await value("SHOW intervalstyle", "app")).toBe("sql_standard");
    const now = String(await properties());
    for (const part of ["it's, me", "the game's", "sectorwars_owner"]) expect(now).toContain(part);
    expect(now.split(" ").slice(0, 6)).toEqual(String(had).split(" ").slice(0, 6));
    expect(await snapshots()).toEqual(["before_refresh", "imported"]);
    expect(await leftoverDatabases()).toEqual([]);
    const still = await onServer((client) =>
      client.query("SELECT oid, datacl::text FROM pg_database WHERE datname = 'nexus'"),
    );
    expect(still.rows).toEqual(nexus.rows);
    expect(JSON.stringify((await stack.outputs()).urls)).toBe(urls);
    const report = JSON.parse(await readFile(`reports/${stack.name}/import.json`, "utf8"));
    expect(report).toMatchObject({ verdict: "identical", source: expect.stringContaining("/origin") });
    const { import: imported, healthy } = JSON.parse((await stack.db("status", "--json")).stdout);
    expect(imported).toMatchObject({ tables: 8, markPresent: true, source: expect.stringContaining("/origin") });
    expect(healthy).toBe(true);
    await Promise.all([service, forgotten].map((client) => client.end().catch(() => {})));
    const [copy = ""] = await stack.safetyCopies();
    expect(said).toContain(`Safety copy: ${copy.replace(/.*\//, "")}`);
  });

  test("keeps the migration backup of the former data, and undo refuses to restore it", async () => {
    const before = await databases();
    expect(before).toContain(`${database}_before_migration`);
    const refused = await command("migrations", "undo", "--yes");
    expect(refused.code).toBe(1);
    expect(refused.text).toContain(
      `The migration backup ${database}_before_migration of ${JSON.parse((await stack.db("migrations", "--json")).stdout).restorePoint.at} ` +
        `contains the data of no import, but ${database} contains that of the import from`,
    );
    expect(refused.text).toContain(
      "Nothing was changed. To restore the data that a refresh replaced: ./db snapshot restore before_refresh.",
    );
    expect(await succeed("migrations")).toMatch(
      /other data +the migration backup is from no import, the database from the import from localhost/,
    );
    expect(await databases()).toEqual(before);
    expect(await ships()).toBe("Nostromo,Rocinante");
  });

  test("needs one update, which only records the newer migrations; the next one changes nothing", async () => {
    const { text } = await stack.up();
    expect(text).toContain("migrations: sectorwars_dev is at 0003crew; nothing to run");
    expect((await stack.outputs()).imported).toMatchObject({ source: expect.stringContaining("/origin") });
    await stack.up("--expect-no-changes");
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  });

  test("--check lists later changes, in the source and here", async () => {
    await onSource((client) => client.query("INSERT INTO ships (name) VALUES ('Tachi'); CREATE TABLE ports (id int)"));
    await stack.as("app", (client) =>
      client.query(
        "INSERT INTO languages (code, name, native_name, direction, is_active) VALUES ('xx', 'x', 'x', 'ltr', true)",
      ),
    );
    const before = await databases();
    const report = JSON.parse((await stack.db("refresh", "--check", "--json")).stdout);
    const objects = (differences: { object: string }[]) => differences.map(({ object }) => object);
    expect(objects(report.changes)).toEqual(expect.arrayContaining(["rows of public.ships", "table public.ports"]));
    expect(objects(report.ours)).toEqual(expect.arrayContaining(["rows of public.languages", "table public.crew"]));
    expect(objects(report.changes)).not.toContain("rows of public.languages");
    expect(objects(report.ours)).not.toContain("rows of public.ships");
    expect(report.unknown).toEqual([]);
    expect(await databases()).toEqual(before);
  });

  test("is undone by the command that it printed, which restores the former data with its settings", async () => {
    await restoreSnapshot(place, "before_refresh");
    expect(await ships()).toBe("Serenity");
    expect(await value("SHOW intervalstyle", "app")).not.toBe("sql_standard");
    // The former data did not come from an import.
    expect(await succeed("status")).toContain("ITS MARK IS GONE");
    // The migration backup belongs to this data, so its migration can be undone again.
    expect((await command("migrations", "undo")).text).toContain(`This restores ${database} as it was at`);
    await restoreSnapshot(place, "before_restore");
    expect(await value("SHOW intervalstyle", "app")).toBe("sql_standard");
    expect(await ships()).toBe("Nostromo,Rocinante");
    expect(await succeed("reset", "--yes")).toContain("The database is in its state after the import.");
    expect(await revision()).toBe("0003crew");
  });

  /** Kills a refresh while a short-lived database exists. If the query misses the database, another refresh is started. */
  async function killWhen(transient: string): Promise<void> {
    for (let tries = 1; ; tries++) {
      const refresh = beginRefresh();
      let hasEnded = false;
      void refresh.ended.then(() => {
        hasEnded = true;
      });
      const isSeen = await onServer(async (client) => {
        const sql = "SELECT FROM pg_database WHERE datname = $1";
        while (!hasEnded) {
          if ((await client.query(sql, [transient])).rowCount !== 0) return true;
          await sleep(2);
        }
        return false;
      });
      if (isSeen) return stack.killAll(refresh);
      if (tries === 5) throw new Error(`${transient} was not seen in ${tries} refreshes:\n${refresh.text}`);
    }
  }

  test("killed at any time, leaves either the old or the new data complete, and the next one succeeds", async () => {
    const old = await ships();
    const loading = beginRefresh();
    await loading.until("import: copying the rows of");
    await stack.killAll(loading);
    expect(await ships()).toBe(old);
    expect(await leftoverDatabases()).toEqual([`${database}_import`]);
    await saveSnapshot(place, "clears");
    await deleteSnapshot(place, "clears");
    expect(await leftoverDatabases()).toEqual([]);

    await game.addRevision("0004slow", "0003crew", "SELECT pg_sleep(3)");
    const migrating = beginRefresh();
    await migrating.until("2 of 2: 0004slow");
    await sleep(500);
    await stack.killAll(migrating);
    expect(await ships()).toBe(old);
    expect(await value("SELECT has_parameter_privilege('sectorwars_owner', 'session_replication_role', 'SET')")).toBe(
      false,
    );

    // Immediately before the swap, and immediately after it.
    for (const [copy, isExchanged] of [
      ["__restoring", false],
      ["__former", true],
    ] as const) {
      await killWhen(database + copy);
      expect(["Nostromo,Rocinante,Tachi", ...(isExchanged ? [] : [old])], copy).toContain(await ships());
      expect(await message(value("SELECT 1", "app"))).toBe("it went well");
    }

    const said = await succeed("refresh", "--yes");
    expect(said).toContain("proven equal");
    expect(await ships()).toBe("Nostromo,Rocinante,Tachi");
    expect(await revision()).toBe("0004slow");
    expect(await leftoverDatabases()).toEqual([]);
    expect(await snapshots()).toEqual(["before_refresh", "before_restore", "imported"]);
  });

  test("stopped by Ctrl-C during the migration, leaves the data unchanged and no other database", async () => {
    await onSource((client) => client.query("INSERT INTO ships (name) VALUES ('Canterbury')"));
    const refresh = beginRefresh();
    await refresh.until("0004slow");
    process.kill(-refresh.pid, "SIGINT");
    expect(await refresh.ended).not.toBe(0);
    expect(refresh.text).toMatch(/stopped.*as it was|stopped.*Nothing was changed/i);
    expect(await ships()).toBe("Nostromo,Rocinante,Tachi");
    expect(await leftoverDatabases()).toEqual([]);
    expect(await docker(["ps", "-aq", "--filter", `label=sectorwars.migrations=${stack.name}`])).toBe("");
    await game.addRevision("0004slow", "0003crew", "SELECT 1");
  });

  test("changes nothing if a migration fails, or if the project lacks the source's revision", async () => {
    await game.addRevision("0005wrong", "0004slow", "SELECT 1 / 0");
    const failed = await command("refresh", "--yes");
    expect(failed).toMatchObject({ code: 1 });
    expect(failed.text).toMatch(/The migration 0005wrong .* failed: .*division by zero/);
    expect(failed.text).toContain("Nothing was changed.");
    expect(await ships()).toBe("Nostromo,Rocinante,Tachi");
    expect(await leftoverDatabases()).toEqual([]);
    await game.removeRevision("0005wrong");
    // The report still describes the current data.
    expect(JSON.parse(await readFile(`reports/${stack.name}/import.json`, "utf8"))).toMatchObject({
      verdict: "identical",
    });
    await onSource((client) => client.query("UPDATE alembic_version SET version_num = 'elsewhere'"));
    const unknown = await command("refresh", "--yes");
    expect(unknown.text).toContain("The source is at Alembic revision elsewhere, which is not among the revisions in");
    await onSource((client) => client.query("UPDATE alembic_version SET version_num = '0002ships'"));
  });

  test("refuses to run twice at the same time, and so do snapshots and migrations during a refresh", async () => {
    const first = beginRefresh();
    await first.until("import: checking");
    const second = command("refresh", "--yes");
    expect(await message(saveSnapshot(place, "meanwhile"))).toContain("A refresh is running on this server.");
    expect(await message(createBranch(place, "meanwhile"))).toContain("A refresh is running on this server.");
    const { code, text } = await second;
    expect(code).toBe(1);
    expect(text).toContain("A refresh is running on this server. Wait until it ends, then try again.");
    expect(await first.ended, first.text).toBe(0);
    expect(await ships()).toBe("Canterbury,Nostromo,Rocinante,Tachi");
    for (const [lock, expected] of [
      [lockServer, "An import into this server is running"],
      [
        (client: pg.Client) => client.query(`SELECT pg_advisory_lock(${MIGRATIONS_LOCK})`),
        "Migrations are running on this server",
      ],
    ] as const) {
      await onServer(async (client) => {
        await lock(client);
        expect((await command("refresh", "--yes")).text).toContain(expected);
      });
    }
  });
});

describe("a branch", () => {
  test("is a copy with its own URL, and the roles have the same privileges in it", async () => {
    const rows = await ships();
    expect(await succeed("branch", "create", "feature-x")).toMatch(/Created feature-x, [\d.]+ MB, in [\d.]+ s\./);
    const url = async (...args: string[]) => (await succeed("branch", "url", "feature-x", ...args)).trim();
    const { urls } = await stack.outputs();
    expect(await url()).toBe(urls.app.replace(`/${database}`, "/branch__feature-x"));
    expect(await url("--role", "owner", "--in-network")).toContain(`@${stack.names.alias}:5432/branch__feature-x`);
    await withConnection(urlAddress(await url()), async (client) => {
      await client.query("INSERT INTO ships (name) VALUES ('Pachyderm')");
      expect((await client.query("SHOW application_name")).rows).toEqual([{ application_name: expect.any(String) }]);
      await expect(client.query("DELETE FROM admin_action_logs")).rejects.toMatchObject({ code: "42501" });
    });
    await withConnection(urlAddress(await url("--role", "owner")), (client) =>
      client.query("CREATE TABLE only_here (id int); CREATE TABLE session_secrets (id int)"),
    );
    await withConnection(urlAddress(await url("--role", "readonly")), async (client) => {
      await client.query("SELECT FROM only_here");
      await expect(client.query("SELECT FROM mfa_secrets")).rejects.toMatchObject({ code: "42501" });
      await expect(client.query("INSERT INTO only_here VALUES (1)")).rejects.toThrow();
    });
    expect(await ships()).toBe(rows);
    expect(await value("SELECT to_regclass('only_here')")).toBe(null);
    // Owner, privileges, connection limit and settings of the roles.
    const of = (name: string) =>
      onServer(async (client) => {
        const { rows } = await client.query(
          `SELECT datacl::text, pg_get_userbyid(datdba) AS owner, datconnlimit,
             (SELECT array_agg(setrole::regrole || setconfig::text ORDER BY 1) FROM pg_db_role_setting WHERE setdatabase = d.oid) AS settings
           FROM pg_database d WHERE datname = $1`,
          [name],
        );
        return rows;
      });
    expect(await of("branch__feature-x")).toEqual(await of(database));
    expect(await succeed("status")).toMatch(/branches {4}1, [\d.]+ MB/);
    const [listed] = JSON.parse((await stack.db("branch", "list", "--json")).stdout);
    expect(listed).toMatchObject({ name: "feature-x", from: null, sessions: 0, bytes: expect.any(Number) });
  });

  test("of a snapshot disconnects no session; a restore and a refresh do not affect branches", async () => {
    const service = await connect(urlAddress((await stack.outputs()).urls.app));
    await succeed("branch", "create", "old", "--from", "before_refresh");
    await service.query("SELECT 1");
    await service.end();
    await restoreSnapshot(place, "imported");
    expect((await readBranches(place)).map(({ name, from }) => [name, from])).toEqual([
      ["feature-x", null],
      ["old", "before_refresh"],
    ]);
    await stack.up("--refresh");
    expect((await readBranches(place)).length).toBe(2);
  });

  test("is deleted after a confirmation; a command that is refused says why and changes nothing", async () => {
    const before = await databases();
    const { urls } = await stack.outputs();
    await withConnection({ ...urlAddress(urls.owner), database: "branch__old" }, (client) =>
      client.query(
        `ALTER DATABASE branch__old IS_TEMPLATE true; COMMENT ON DATABASE branch__old IS 'as a migration may'`,
      ),
    );
    for (const [code, args, message] of [
      [1, ["create", "old"], "The branch old already exists. Delete it first: ./db branch delete old"],
      [1, ["create", "Old"], '"Old" is not a valid name for a branch'],
      [1, ["create", "x", "--from", "nosuch"], "There is no snapshot nosuch. Existing snapshots: "],
      [1, ["url", "nosuch"], "There is no branch nosuch. Existing branches: feature-x, old"],
      [2, ["url", "old", "--role", "superuser"], "Allowed choices are owner, app, readonly."],
      [2, ["delete", "old"], "This permanently deletes the branch old with "],
    ] as const) {
      const said = await command("branch", ...args);
      expect(said.code, args.join(" ")).toBe(code);
      expect(said.text).toContain(message);
    }
    await onServer((client) => client.query("CREATE DATABASE branch__theirs"));
    expect((await command("branch", "create", "theirs")).text).toContain("is not a branch of sectorwars_dev");
    expect((await command("branch", "delete", "theirs", "--yes")).text).toContain("There is no branch theirs.");
    await onServer((client) => client.query("DROP DATABASE branch__theirs"));
    expect(await databases()).toEqual(before);
    // Deleting a branch ends its sessions.
    const user = await connect({ ...urlAddress(urls.app), database: "branch__old" });
    user.on("error", () => {});
    await succeed("branch", "delete", "old", "--yes");
    await expect(user.query("SELECT 1")).rejects.toThrow();
    expect((await readBranches(place)).map(({ name }) => name)).toEqual(["feature-x"]);
    await deleteBranch(place, "feature-x");
  });

  test("that is killed during its creation locks no session out, and the next one removes it; there are at most 12", async () => {
    const busy = await connect(urlAddress((await stack.outputs()).urls.app));
    await busy.query("BEGIN; SELECT count(*) FROM ships");
    const creating = stack.beginDb("branch", "create", "never");
    await onServer(async (client) => {
      const sql = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE DATABASE %'";
      for (const end = Date.now() + 20_000; (await client.query(sql)).rowCount === 0; await sleep(10)) {
        if (Date.now() > end) throw new Error(`CREATE DATABASE did not start: ${creating.text}`);
      }
    });
    await stack.killAll(creating);
    await busy.query("COMMIT");
    await busy.end();
    await expect.poll(() => message(createBranch(place, "next")), { timeout: 20_000 }).toBe("it went well");
    expect(await leftoverDatabases()).toEqual([]);
    await onServer(async (client) => {
      for (let i = 1; i < 12; i += 1) {
        await client.query(`CREATE DATABASE branch__many${i} TEMPLATE template0`);
        await client.query(
          "INSERT INTO sectorwars_stack.branches SELECT oid, $1, NULL, now() FROM pg_database WHERE datname = $2",
          [database, `branch__many${i}`],
        );
      }
    });
    expect(await message(createBranch(place, "one-more"))).toContain(
      "There are already 12 branches, the maximum. Delete one:",
    );
  });
});
