/** Each role tries, over TCP, what it may do and what it must not do. */
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { withConnection } from "../support/session.ts";
import { type StackUrls, TestStack, urlAddress } from "../support/test-stack.ts";

const DENIED = "42501";
let stack: TestStack;
let urls: StackUrls;
const as = <T>(role: keyof StackUrls, work: (client: pg.Client) => Promise<T>) =>
  withConnection(urlAddress(urls[role]), work);
const tries = (role: keyof StackUrls, sql: string) => as(role, (client) => client.query(sql));

beforeAll(async () => {
  stack = await TestStack.make({ bootstrap: "empty", memory: "512" });
  await stack.up();
  ({ urls } = await stack.outputs());
  await tries(
    "owner",
    `CREATE TABLE ships (id serial PRIMARY KEY, name text);
     INSERT INTO ships (name) VALUES ('first');
     CREATE TABLE admin_action_logs (id serial PRIMARY KEY, what text);
     REVOKE UPDATE, DELETE ON admin_action_logs FROM sectorwars_app;
     CREATE TABLE withheld (id int); REVOKE SELECT ON withheld FROM sectorwars_readonly;
     CREATE TABLE mfa_secrets (secret text);
     CREATE SCHEMA side; CREATE TABLE side.things (id int);
     CREATE FUNCTION doubled(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';`,
  );
});
afterAll(() => stack.end());

describe("owner", () => {
  test.each([
    "CREATE TABLE made_by_owner (id int); DROP TABLE made_by_owner",
    "CREATE SCHEMA s; DROP SCHEMA s",
    "TRUNCATE side.things",
  ])("may: %s", (sql) => expect(tries("owner", sql)).resolves.toBeDefined());
  test.each([
    "CREATE DATABASE more",
    "CREATE ROLE another_role",
    "SELECT * FROM sectorwars_stack.readonly_denied",
    "CREATE TABLE sectorwars_stack.mine (id int)",
    "CREATE FUNCTION sectorwars_stack.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER SYSTEM SET jit = on",
  ])("must not: %s", (sql) => expect(tries("owner", sql)).rejects.toMatchObject({ code: DENIED }));
});

describe("app", () => {
  test.each([
    "INSERT INTO ships (name) VALUES ('by app')",
    "UPDATE ships SET name = 'renamed' WHERE name = 'by app'",
    "DELETE FROM ships WHERE name = 'renamed'",
    "SELECT * FROM ships, side.things",
    "SELECT nextval('ships_id_seq'), gen_random_uuid(), uuid_generate_v4(), doubled(2)",
    "INSERT INTO admin_action_logs (what) VALUES ('seen')",
    "CREATE TEMP TABLE t (id int)",
  ])("may: %s", (sql) => expect(tries("app", sql)).resolves.toBeDefined());
  test.each([
    "CREATE TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "TRUNCATE ships",
    "UPDATE admin_action_logs SET what = 'nothing'",
    "DELETE FROM admin_action_logs",
    "CREATE EXTENSION hstore",
    "SELECT * FROM pg_authid",
    "SET session_replication_role = replica",
    "SELECT lo_create(0)",
    "SELECT * FROM sectorwars_stack.readonly_denied",
  ])("must not: %s", (sql) => expect(tries("app", sql)).rejects.toMatchObject({ code: DENIED }));
  test.each(["DROP TABLE ships", "ALTER TABLE ships ADD x int"])("must not, because it is not the owner: %s", (sql) =>
    expect(tries("app", sql)).rejects.toThrow("must be owner"),
  );
});

describe("readonly", () => {
  test.each(["SELECT * FROM ships", "SELECT * FROM side.things", "SELECT last_value FROM ships_id_seq"])(
    "may: %s",
    (sql) => expect(tries("readonly", sql)).resolves.toBeDefined(),
  );
  test.each([
    "INSERT INTO ships (name) VALUES ('x')",
    "UPDATE ships SET name = 'x'",
    "DELETE FROM ships",
    "SELECT nextval('ships_id_seq')",
    "SELECT * FROM mfa_secrets",
    "CREATE TABLE mine (id int)",
    "CREATE TEMP TABLE t (id int)",
  ])("must not: %s", (sql) => expect(tries("readonly", sql)).rejects.toMatchObject({ code: DENIED }));

  test("reads later tables, except those whose name is on the deny list, even after a rename", async () => {
    await tries(
      "owner",
      "CREATE TABLE later (id int); CREATE TABLE game_secrets (id int); CREATE TABLE plain (id int)",
    );
    await tries("owner", "ALTER TABLE plain RENAME TO refresh_tokens; CREATE TABLE oauth_accounts AS SELECT 1 AS id");
    await expect(tries("readonly", "SELECT * FROM later")).resolves.toBeDefined();
    for (const table of ["game_secrets", "refresh_tokens", "oauth_accounts"]) {
      await expect(tries("readonly", `SELECT * FROM ${table}`)).rejects.toMatchObject({ code: DENIED });
    }
  });
});

describe("monitor", () => {
  test("reads statistics", () =>
    expect(
      tries(
        "monitor",
        "SELECT query FROM pg_stat_activity; SELECT pg_database_size(current_database()); SHOW data_directory",
      ),
    ).resolves.toBeDefined());
  test("must not read rows", () =>
    expect(tries("monitor", "SELECT * FROM public.ships")).rejects.toMatchObject({ code: DENIED }));
});

test("a role without grants cannot connect", async () => {
  await tries("superuser", "CREATE ROLE stranger LOGIN PASSWORD 'stranger'");
  const { host, port, database } = urlAddress(urls.app);
  await expect(
    withConnection({ host, port, database, user: "stranger", password: "stranger" }, (client) =>
      client.query("SELECT 1"),
    ),
  ).rejects.toMatchObject({ code: DENIED });
  await tries("superuser", "DROP ROLE stranger");
});

test("every SECURITY DEFINER function sets a search_path that ends with pg_temp, and PUBLIC cannot call it", async () => {
  const address = urlAddress(urls.superuser);
  const databases = await tries("superuser", "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1");
  const names = databases.rows.map(({ datname }) => datname);
  expect(names).toEqual(expect.arrayContaining([address.database, "postgres", "template1"]));
  const found: string[] = [];
  for (const database of names) {
    const { rows } = await withConnection({ ...address, database }, (client) =>
      client.query<{ name: string; pinned: string | null; public: boolean }>(
        `SELECT p.oid::regprocedure::text AS name,
           (SELECT c FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') AS pinned,
           EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0) AS public
         FROM pg_proc p WHERE p.prosecdef`,
      ),
    );
    for (const row of rows) {
      found.push(row.name);
      expect(row, row.name).toMatchObject({
        pinned: expect.stringMatching(/^search_path=.*\bpg_temp$/),
        public: false,
      });
    }
  }
  expect(found).toContain("sectorwars_stack.deny_readonly()");
});

test("only monitor can connect to PostgreSQL's own databases, and it cannot create anything there", async () => {
  const inside = (role: "owner" | "app" | "readonly" | "monitor", database: string, sql: string) =>
    withConnection({ ...urlAddress(urls[role]), database }, (client) => client.query(sql));
  for (const role of ["owner", "app", "readonly", "monitor"] as const) {
    await expect(inside(role, "template1", "SELECT"), role).rejects.toMatchObject({ code: DENIED });
    if (role === "monitor") await expect(inside(role, "postgres", "SELECT")).resolves.toBeDefined();
    else await expect(inside(role, "postgres", "SELECT"), role).rejects.toMatchObject({ code: DENIED });
  }
  for (const sql of ["CREATE TEMP TABLE t (id int)", "SELECT lo_create(0)"]) {
    await expect(inside("monitor", "postgres", sql), sql).rejects.toMatchObject({ code: DENIED });
  }
});

test("a refresh notices loosened privileges and the next update repairs them; then nothing changes", async () => {
  await tries(
    "superuser",
    `GRANT CONNECT, TEMPORARY ON DATABASE postgres TO PUBLIC; GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC;
     ALTER EVENT TRIGGER sectorwars_deny_readonly DISABLE; GRANT SELECT ON mfa_secrets TO PUBLIC`,
  );
  await expect(tries("readonly", "SELECT * FROM mfa_secrets")).resolves.toBeDefined();
  await stack.succeed("refresh", "--yes", "--skip-preview", "--stack", stack.name);
  await stack.up();
  await expect(tries("readonly", "SELECT * FROM mfa_secrets")).rejects.toMatchObject({ code: DENIED });
  await expect(tries("app", "SELECT lo_create(0)")).rejects.toMatchObject({ code: DENIED });
  await expect(
    withConnection({ ...urlAddress(urls.app), database: "postgres" }, (client) => client.query("SELECT")),
  ).rejects.toMatchObject({ code: DENIED });
  await stack.up("--expect-no-changes");
});

test("doctor names a view that shows rows of a denied table, until the view has security_invoker", async () => {
  const doctor = () => stack.db("doctor");
  expect((await doctor()).text).toContain("ok     Deny list of sectorwars_readonly");
  await tries("owner", "CREATE VIEW leak AS SELECT secret FROM mfa_secrets");
  const ill = await doctor();
  expect(ill.code).toBe(1);
  expect(ill.text).toContain(
    "WRONG  Deny list of sectorwars_readonly: sectorwars_readonly can read rows of denied tables through view public.leak (reads public.mfa_secrets)",
  );
  await tries("owner", "ALTER VIEW leak SET (security_invoker = true)");
  expect((await doctor()).text).toContain("ok     Deny list of sectorwars_readonly");
  await tries("owner", "DROP VIEW leak");
});

test("a shorter deny list grants a table, a longer one revokes it, and a migration's REVOKE survives both", async () => {
  await stack.succeed("config", "set", "--path", "readonlyDenyList[0]", "ships", "--stack", stack.name);
  await stack.up();
  await expect(tries("readonly", "SELECT * FROM ships")).rejects.toMatchObject({ code: DENIED });
  await expect(tries("readonly", "SELECT * FROM mfa_secrets")).resolves.toBeDefined();
  await stack.unset("readonlyDenyList");
  await stack.up();
  await expect(tries("readonly", "SELECT * FROM ships")).resolves.toBeDefined();
  await expect(tries("readonly", "SELECT * FROM mfa_secrets")).rejects.toMatchObject({ code: DENIED });
  await expect(tries("readonly", "SELECT * FROM withheld")).rejects.toMatchObject({ code: DENIED });
  await expect(tries("app", "DELETE FROM admin_action_logs")).rejects.toMatchObject({ code: DENIED });
});
