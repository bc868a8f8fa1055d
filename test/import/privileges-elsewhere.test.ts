/** Privileges of the other databases on a stack's server, and how changes by hand are found. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { provider as databaseProvider } from "../../components/databases/database-provider.ts";
import { provider as testDatabaseProvider } from "../../components/handover/test-database-provider.ts";
import { writeMarker } from "../../components/import/staging/swap.ts";
import { digestOf, readDatabaseGrants, readServerGrants } from "../../components/privileges/grants.ts";
import { provider as preparedProvider } from "../../components/privileges/prepared-provider.ts";
import { preparationScript, serverScript } from "../../components/privileges/scripts.ts";
import { docker } from "../../lib/docker.ts";
import type { Address } from "../../lib/postgres.ts";
import { DENY_LIST, Lab, type Server } from "../support/lab.ts";
import { PreparedDatabase, prepareServer } from "../support/prepared.ts";
import { withConnection } from "../support/session.ts";

const DENIED = "42501";
let lab: Lab;
let server: Server;
let game: PreparedDatabase;
beforeAll(async () => {
  lab = await Lab.open();
  server = await lab.startTarget();
  game = await PreparedDatabase.create(server, "game", await prepareServer(server));
});
afterAll(() => lab?.close());

const tries = (address: Address, sql: string) => withConnection(address, (client) => client.query(sql));
const denied = (attempt: Promise<unknown>, what: string) =>
  expect(attempt, what).rejects.toMatchObject({ code: DENIED });
const login = () => {
  const { host, port, user, password } = server.admin;
  return { host, port, user, password, passwordVersion: 1 };
};

describe("the database for the application's own tests", () => {
  beforeAll(() => testDatabaseProvider.create({ ...login(), database: "game_test", owner: "sectorwars_owner" }));
  const inTests = (who: "owner" | "app" | "readonly" | "monitor") => game.address(who, "game_test");

  test.each([
    "CREATE TABLE made (id int); DROP TABLE made",
    "CREATE TEMP TABLE t (id int)",
    "SELECT lo_create(0), gen_random_uuid()",
    "CREATE SCHEMA s; DROP SCHEMA s",
  ])("allows the owner: %s", (sql) => expect(tries(inTests("owner"), sql)).resolves.toBeDefined());
  test.each(["app", "readonly", "monitor"] as const)("refuses connections of %s", (who) =>
    denied(tries(inTests(who), "SELECT"), who),
  );
  test("is updated if an earlier version created it", async () => {
    await server.sql("game_test", "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC");
    await server.sql("game_test", "GRANT TEMPORARY, CONNECT ON DATABASE game_test TO PUBLIC");
    const inputs = { ...login(), database: "game_test", owner: "sectorwars_owner" };
    const olds = { ...inputs, fingerprint: "of an earlier version" };
    expect(await testDatabaseProvider.diff?.("game_test", olds, inputs)).toMatchObject({ changes: true });
    const { outs } = (await testDatabaseProvider.update?.("game_test", olds, inputs)) ?? {};
    expect(await testDatabaseProvider.diff?.("game_test", outs, inputs)).toMatchObject({ changes: false });
    await denied(tries(inTests("app"), "SELECT"), "app");
    expect(
      await server.value("game_test", "SELECT has_function_privilege('sectorwars_app', 'lo_create(oid)', 'EXECUTE')"),
    ).toBe(false);
  });
});

describe("a further database", () => {
  const roles = ["east_owner", "east_app", "east_readonly"];
  const as = (role: string, database = "east") => ({ ...server.admin, database, user: role, password: "of the test" });
  const inputs = () => ({
    ...login(),
    ...{ database: "east", denyList: DENY_LIST, stack: "test", container: server.container },
    ...{ image: "none", newerImage: "none", jobs: 1 },
  });
  beforeAll(async () => {
    for (const role of roles) await server.sql("postgres", `CREATE ROLE ${role} LOGIN PASSWORD 'of the test'`);
    await databaseProvider.create(inputs());
  });

  test("grants its roles what the first database grants the stack's", async () => {
    await tries(as("east_owner"), "CREATE TABLE ships (id int); CREATE TABLE mfa_codes (id int); SELECT lo_create(0)");
    await tries(as("east_app"), "INSERT INTO ships VALUES (1); CREATE TEMP TABLE t (id int)");
    await tries(as("east_readonly"), "SELECT * FROM ships");
    for (const sql of ["SELECT * FROM mfa_codes", "CREATE TEMP TABLE t (id int)", "SELECT lo_create(0)"]) {
      await denied(tries(as("east_readonly"), sql), sql);
    }
    await denied(tries(as("east_app"), "SELECT lo_create(0)"), "lo_create");
  });
  test("rejects the stack's other roles, and its roles cannot use the other databases", async () => {
    for (const who of ["owner", "app", "readonly"] as const)
      await denied(tries(game.address(who, "east"), "SELECT"), who);
    for (const role of roles) {
      for (const database of ["game", "postgres", "template1"]) await denied(tries(as(role, database), "SELECT"), role);
    }
  });
  test("is updated if an earlier version prepared it", async () => {
    const { outs } = (await databaseProvider.update?.("east", {}, inputs())) ?? {};
    expect(await databaseProvider.diff?.("east", outs, inputs())).toMatchObject({ changes: false });
    const olds = { ...outs, fingerprint: "of an earlier version" };
    expect(await databaseProvider.diff?.("east", olds, inputs())).toMatchObject({ changes: true });
  });
});

test("an operator of the owner runs in no session that reads or repairs privileges", async () => {
  await game.as(
    "owner",
    "CREATE TABLE witnesses (who text)",
    `CREATE FUNCTION public.trap(text, name) RETURNS text LANGUAGE plpgsql AS $$
     BEGIN INSERT INTO public.witnesses VALUES (current_user); RETURN $1; END $$`,
    "CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = name, FUNCTION = public.trap)",
    "ALTER DATABASE game SET search_path = public, pg_catalog",
  );
  const inputs = {
    ...login(),
    database: "game",
    script: preparationScript("game", DENY_LIST),
    serverScript: serverScript(),
  };
  const { outs } = (await preparedProvider.update?.("game", {}, inputs)) ?? {};
  await preparedProvider.read?.("game", outs);
  await withConnection(game.address("superuser"), (client) => client.query("SELECT 'x'::text || 'y'::name"));
  expect(await game.as("owner", "SELECT who FROM public.witnesses")).toEqual([{ who: "postgres" }]);
  await game.as("owner", "ALTER DATABASE game RESET search_path", "DROP FUNCTION public.trap CASCADE");
});

test("a portable copy, restored elsewhere by a superuser, has the same privileges and deny list", async () => {
  await game.as("owner", "CREATE TABLE portable_secrets (c text)", "CREATE TABLE portable_ships (c text)");
  const copy =
    "pg_dump --format=custom game >/tmp/game.dump && createdb -T template0 carried && " +
    "pg_restore --exit-on-error --single-transaction --dbname=carried /tmp/game.dump";
  await docker(["exec", "-u", "postgres", server.container, "sh", "-c", copy]);
  const grantsIn = (database: string) =>
    withConnection({ ...server.admin, database }, async (client) =>
      (await readDatabaseGrants(client)).split("\n").filter((line) => !line.startsWith("database ")),
    );
  expect(await grantsIn("carried")).toEqual(await grantsIn("game"));
  const may = (table: string) =>
    server.value("carried", `SELECT has_table_privilege('sectorwars_readonly', '${table}', 'SELECT')`);
  expect([await may("portable_secrets"), await may("portable_ships")]).toEqual([false, true]);
});

test("monitor reads what a database was imported from, and no other role does", async () => {
  const summary = { source: "s", finishedAt: "f", tables: 1, rows: 2, bytes: 3, seconds: 4, fingerprint: "p" };
  await withConnection(game.address("superuser"), (client) => writeMarker(client, summary));
  const query = "SELECT summary->>'source' AS source FROM sectorwars_stack.import";
  expect(await game.as("monitor", query)).toEqual([{ source: "s" }]);
  for (const who of ["owner", "app", "readonly"] as const) await denied(game.as(who, query), who);
  // As an earlier version's import left it.
  await game.as("superuser", "REVOKE ALL ON sectorwars_stack.import FROM sectorwars_monitor");
  await game.prepare();
  expect(await game.as("monitor", query)).toEqual([{ source: "s" }]);
});

describe("a change by hand", () => {
  const inputs = () => ({
    ...login(),
    database: game.name,
    script: preparationScript(game.name, DENY_LIST),
    serverScript: serverScript(),
  });
  const digest = async () =>
    digestOf(
      await withConnection(game.address("superuser"), readDatabaseGrants),
      await withConnection(game.address("superuser", "postgres"), readServerGrants),
    );
  let right: string;
  beforeEach(async () => {
    await preparedProvider.update?.("game", {}, inputs());
    right = await digest();
  });

  test.each([
    ["postgres", "GRANT CONNECT ON DATABASE postgres TO PUBLIC"],
    ["postgres", "GRANT TEMPORARY ON DATABASE template1 TO sectorwars_app"],
    ["postgres", "GRANT EXECUTE ON FUNCTION lo_from_bytea(oid, bytea) TO PUBLIC"],
    ["postgres", "GRANT EXECUTE ON FUNCTION lo_create(oid) TO sectorwars_monitor"],
    ["game", "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC"],
    ["game", "GRANT EXECUTE ON FUNCTION lo_create(oid) TO sectorwars_app"],
    ["game", "REVOKE EXECUTE ON FUNCTION lo_creat(int) FROM sectorwars_owner"],
    ["game", "GRANT CREATE ON DATABASE game TO sectorwars_readonly"],
    ["game", "GRANT TEMPORARY ON DATABASE game TO PUBLIC"],
    ["game", "GRANT CREATE ON SCHEMA sectorwars_stack TO sectorwars_owner"],
    ["game", "REVOKE USAGE ON SCHEMA sectorwars_stack FROM sectorwars_monitor"],
    ["game", "ALTER EVENT TRIGGER sectorwars_deny_readonly DISABLE"],
    ["game", "ALTER EVENT TRIGGER sectorwars_deny_readonly ENABLE"],
    ["game", "DROP EVENT TRIGGER sectorwars_deny_readonly"],
    ["game", "ALTER FUNCTION sectorwars_stack.deny_readonly() SECURITY INVOKER"],
    ["game", "ALTER FUNCTION sectorwars_stack.deny_readonly() SET search_path = public"],
    ["game", "GRANT EXECUTE ON FUNCTION sectorwars_stack.revoke_denied(text[], oid[]) TO PUBLIC"],
    [
      "game",
      "CREATE OR REPLACE FUNCTION sectorwars_stack.revoke_denied(patterns text[], altered oid[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
    ],
    ["game", "DELETE FROM sectorwars_stack.readonly_denied WHERE pattern LIKE 'mfa%'"],
    ["game", "GRANT SELECT ON sectorwars_stack.readonly_denied TO sectorwars_app"],
    [
      "game",
      "CREATE TABLE mfa_codes (c text); ALTER EVENT TRIGGER sectorwars_deny_readonly DISABLE; GRANT SELECT ON mfa_codes TO PUBLIC; ALTER EVENT TRIGGER sectorwars_deny_readonly ENABLE ALWAYS",
    ],
  ])("is found, and repaired by the next update, in %s: %s", async (database, sql) => {
    await server.sql(database, sql);
    const before = { ...inputs(), grants: right, fingerprint: "right" };
    const { props } = (await preparedProvider.read?.("game", before)) ?? {};
    expect(props.fingerprint).toBe("changed by hand");
    await preparedProvider.update?.("game", props, inputs());
    expect(await digest()).toBe(right);
    const after = await preparedProvider.read?.("game", before);
    expect(after?.props.fingerprint).toBe("right");
  });

  test("is not reported for tables and grants of the application", async () => {
    await game.as("owner", "CREATE TABLE own (id int)", "GRANT SELECT ON own TO PUBLIC", "CREATE SCHEMA more");
    await game.as(
      "superuser",
      "CREATE TABLE sectorwars_stack.seeded (file text); GRANT INSERT ON sectorwars_stack.seeded TO sectorwars_owner",
    );
    expect(await digest()).toBe(right);
  });
});
