/** Relations and functions that show rows of denied tables to readonly are found, and no others; the test reads the rows for each. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkDenyList } from "../../cli/support/deny-list.ts";
import { describeExposed, type Exposed, readExposed } from "../../components/privileges/exposed-relations.ts";
import { preparationScript } from "../../components/privileges/scripts.ts";
import { rolesOf } from "../../lib/role-names.ts";
import type { StackOutputs } from "../../lib/stack.ts";
import { DENY_LIST, Lab, type Server } from "../support/lab.ts";
import { PreparedDatabase, prepareServer } from "../support/prepared.ts";
import { withConnection } from "../support/session.ts";

let lab: Lab;
let server: Server;
let game: PreparedDatabase;
let passwords: Awaited<ReturnType<typeof prepareServer>>;
const found = (database = game) => withConnection(database.address("monitor"), (client) => readExposed(client));
const named = (exposed: readonly Exposed[]) => exposed.map(({ kind, name }) => `${kind} ${name}`).sort();
beforeAll(async () => {
  lab = await Lab.open();
  server = await lab.startTarget();
  passwords = await prepareServer(server);
  game = await PreparedDatabase.create(server, "game", passwords);
  await game.as(
    "owner",
    `CREATE TABLE mfa_codes (code text); INSERT INTO mfa_codes VALUES ('SECRET');
     CREATE TABLE one_secrets (code text) PARTITION BY LIST (code);
     CREATE TABLE part PARTITION OF one_secrets DEFAULT; INSERT INTO one_secrets VALUES ('SECRET');
     CREATE TABLE ships (code text); INSERT INTO ships VALUES ('not at all');

     CREATE VIEW plain AS SELECT * FROM mfa_codes;
     CREATE VIEW of_partition AS SELECT * FROM part;
     CREATE VIEW on_top AS SELECT * FROM plain;
     CREATE MATERIALIZED VIEW copied AS SELECT * FROM mfa_codes;
     CREATE VIEW of_copied AS SELECT * FROM copied;
     CREATE VIEW invoker WITH (security_invoker = on) AS SELECT * FROM mfa_codes;
     CREATE VIEW on_invoker AS SELECT * FROM invoker;
     CREATE MATERIALIZED VIEW copied_from_invoker AS SELECT * FROM invoker;
     CREATE VIEW withheld AS SELECT * FROM mfa_codes; REVOKE ALL ON withheld FROM sectorwars_readonly;
     CREATE VIEW over_withheld AS SELECT * FROM withheld;
     CREATE VIEW harmless AS SELECT * FROM ships;
     CREATE VIEW column_only AS SELECT * FROM mfa_codes; REVOKE ALL ON column_only FROM sectorwars_readonly;
     GRANT SELECT (code) ON column_only TO sectorwars_readonly;
     CREATE SCHEMA side; REVOKE USAGE ON SCHEMA side FROM sectorwars_readonly; CREATE VIEW side.unreachable AS SELECT * FROM mfa_codes;

     CREATE FUNCTION definer() RETURNS SETOF text SECURITY DEFINER LANGUAGE sql AS 'SELECT code FROM public.MFA_Codes';
     CREATE FUNCTION atomic() RETURNS SETOF text SECURITY DEFINER LANGUAGE sql BEGIN ATOMIC SELECT code FROM mfa_codes; END;
     CREATE FUNCTION caller() RETURNS SETOF text LANGUAGE sql AS 'SELECT code FROM public.mfa_codes';
     CREATE FUNCTION through_caller() RETURNS SETOF text SECURITY DEFINER LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT * FROM public.caller(); END';
     CREATE FUNCTION revoked() RETURNS SETOF text SECURITY DEFINER LANGUAGE sql AS 'SELECT code FROM public.mfa_codes';
     REVOKE EXECUTE ON FUNCTION revoked() FROM PUBLIC;
     CREATE FUNCTION of_ships() RETURNS SETOF text SECURITY DEFINER LANGUAGE sql AS 'SELECT code FROM public.ships';
     CREATE FUNCTION fired() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS 'BEGIN INSERT INTO mfa_codes VALUES (1); RETURN NEW; END';
     CREATE VIEW calls AS SELECT caller() AS code;`,
  );
});
afterAll(() => lab?.close());

/** Whether readonly sees the secret in a relation or function. */
const shows = (database: PreparedDatabase, relation: string) =>
  database.as("readonly", `SELECT code FROM ${relation} AS s(code)`).then(
    (rows) => rows.some(({ code }) => String(code).startsWith("SECRET")),
    () => false,
  );

const SHOWN = [
  ...["column_only", "of_copied", "of_partition", "on_top", "over_withheld", "plain"].map(
    (name) => `view public.${name}`,
  ),
  ...["copied", "copied_from_invoker"].map((name) => `materialized view public.${name}`),
  ...["atomic", "definer", "through_caller"].map((name) => `function public.${name}()`),
].sort();

describe("relations and functions that show rows of denied tables to readonly", () => {
  test("are found: views, views on them, materialized views, partitions and functions, and no others", async () => {
    expect(named(await found())).toEqual(SHOWN);
  });

  test("are exactly those that readonly can read", async () => {
    const all = await game.as<{ what: string }>(
      "owner",
      `SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END || ' ' || n.nspname || '.' || relname AS what
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('public', 'side')
       WHERE c.relkind IN ('r', 'p', 'v', 'm') AND pg_get_userbyid(relowner) = 'sectorwars_owner'
       UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc p WHERE pg_get_userbyid(p.proowner) = 'sectorwars_owner'`,
    );
    const shown: string[] = [];
    for (const { what } of all) {
      const name = what.replace(/^(table|view|materialized view|function) /, "");
      if (await shows(game, name)) shown.push(what.replace(/^function (?!public\.)/, "function public."));
    }
    expect(shown.sort()).toEqual(SHOWN);
  });

  test("are reported with the rows' origin and a remedy", async () => {
    const exposed = (await found()).filter(({ name }) => /\.(on_top|definer\(\))$/.test(name));
    expect(describeExposed(exposed)).toEqual({
      seen: "sectorwars_readonly can read rows of denied tables through function public.definer() (names public.mfa_codes); view public.on_top (reads public.plain)",
      remedy: expect.stringContaining("ALTER VIEW name SET (security_invoker = true)"),
    });
  });

  test("are no longer found after the remedies", async () => {
    await game.as(
      "owner",
      "ALTER VIEW plain SET (security_invoker = true)",
      "REVOKE SELECT ON copied FROM sectorwars_readonly, PUBLIC",
      "REVOKE EXECUTE ON FUNCTION definer() FROM sectorwars_readonly, PUBLIC",
    );
    const left = named(await found());
    for (const name of [
      "view public.plain",
      "view public.on_top",
      "materialized view public.copied",
      "function public.definer()",
    ]) {
      expect(left).not.toContain(name);
    }
    expect(await shows(game, "on_top")).toBe(false);
  });
});

test("the views of the adversary's script are found", async () => {
  const other = await PreparedDatabase.create(server, "trial", passwords);
  await other.as("owner", "CREATE TABLE admin_credentials (code text)");
  await other.psql("owner", await readFile("test/cases/security/07-deny-list-holes.sql", "utf8"));
  expect(named(await found(other))).toEqual(["materialized view public.harmless_mat", "view public.harmless_view"]);
});

test("a denied table that readonly reads through a membership is reported", async () => {
  const other = await PreparedDatabase.create(server, "membership", passwords);
  await other.as("owner", "CREATE TABLE mfa_codes (code text)");
  expect(await found(other)).toEqual([]);
  await other.as("superuser", "GRANT sectorwars_app TO sectorwars_readonly");
  const exposed = await found(other);
  await other.as("superuser", "REVOKE sectorwars_app FROM sectorwars_readonly");
  expect(exposed).toEqual([{ kind: "table", name: "public.mfa_codes", reads: [] }]);
  expect(describeExposed(exposed)).toMatchObject({
    seen: "sectorwars_readonly can read rows of denied tables through table public.mfa_codes itself",
    remedy: expect.stringContaining("or membership in another role"),
  });
});

describe("doctor", () => {
  const check = (databases: string[] = []) => {
    const { host, port, user, password, database } = game.address("monitor");
    return checkDenyList({
      urls: { monitor: `postgresql://${user}:${password}@${host}:${port}/${database}` },
      databaseUrls: Object.fromEntries(databases.map((name) => [name, {}])),
    } as unknown as StackOutputs);
  };

  test("also checks further databases, each with its own readonly role", async () => {
    const { owner, app, readonly } = rolesOf("east");
    await server.sql("postgres", `CREATE ROLE ${owner}; CREATE ROLE ${app}; CREATE ROLE ${readonly}`);
    await server.sql("postgres", "CREATE DATABASE east TEMPLATE template0");
    await server.sql("east", `BEGIN; ${preparationScript("east", DENY_LIST, rolesOf("east"))}; COMMIT`);
    await server.sql(
      "east",
      `SET ROLE ${owner}; CREATE TABLE mfa_codes (code text); CREATE VIEW leak AS SELECT * FROM mfa_codes`,
    );
    const [first, further] = await check(["east"]);
    expect(first).toMatchObject({ what: "Deny list of sectorwars_readonly", fine: false });
    expect(further).toMatchObject({
      what: "Deny list of east_readonly",
      fine: false,
      seen: "east_readonly can read rows of denied tables through view public.leak (reads public.mfa_codes)",
      remedy: expect.stringContaining("REVOKE SELECT ON name FROM east_readonly, PUBLIC"),
    });
  });

  test("names the remedy for a database that an earlier version prepared", async () => {
    await server.sql("postgres", "CREATE DATABASE west TEMPLATE template0");
    const [, further] = await check(["west"]);
    expect(further).toMatchObject({
      fine: false,
      seen: 'the deny list cannot be read: relation "sectorwars_stack.readonly_denied" does not exist',
      remedy: "The database was prepared by another version: pulumi up",
    });
  });
});
