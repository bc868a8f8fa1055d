/**
 * Backups, drills and restores of a stack whose owner role has planted code in its databases. The code abuses a superuser's rights if it
 * ever gets them. A drill's server runs in the container that holds the repository's key.
 */
import { readFile } from "node:fs/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { withConnection } from "../../lib/postgres.ts";
import { BACKED_UP, BackedUp, STORE, until } from "../support/backed-up.ts";
import { type StackUrls, TestStack, urlAddress } from "../support/test-stack.ts";

const CASE = "test/cases/security/03-owner-to-superuser-cast-in-backup-record.sql";
const DATA = "/var/lib/postgresql/data";
/** Files that a planted program creates, whichever container it runs in. */
const TRACES = ["/tmp/owned", `${DATA}/owned`, `${STORE}/owned`];
const FURTHER = "further";

/** Code that tries, by several ways to a superuser's rights, to make the owner a superuser and to run a program. */
const TRAP = `
  CREATE SCHEMA evil;
  GRANT USAGE ON SCHEMA evil TO PUBLIC;
  CREATE FUNCTION evil.trap() RETURNS int LANGUAGE plpgsql AS $$
  DECLARE way text; who text := current_user;
  BEGIN
    FOREACH way IN ARRAY ARRAY['SELECT 1', 'RESET ROLE', 'SET ROLE postgres', 'RESET SESSION AUTHORIZATION', 'SET LOCAL ROLE NONE'] LOOP
      BEGIN
        EXECUTE way;
        EXECUTE 'ALTER ROLE sectorwars_owner SUPERUSER';
      EXCEPTION WHEN OTHERS THEN NULL; END;
      BEGIN
        EXECUTE way;
        EXECUTE 'COPY (SELECT 1) TO PROGRAM ''touch ${TRACES.join(" ")}; true''';
      EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    RETURN 1;
  END $$;
  -- An index requires an immutable function.
  CREATE FUNCTION evil.indexed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM evil.trap(); RETURN $1; END $$;
  CREATE TABLE public.indexed (a int);
  INSERT INTO public.indexed SELECT generate_series(1, 50);
  CREATE INDEX indexed_expression ON public.indexed (evil.indexed(a));
  CREATE INDEX indexed_predicate ON public.indexed (a) WHERE evil.indexed(a) > 0;`;

/** Casts to text: of a row, a column's type, a domain over it, and a range over it. */
const CASTS = `
  CREATE TYPE public.pair AS (a int, b text);
  CREATE DOMAIN public.positive AS int CHECK (evil.indexed(VALUE) > 0);
  CREATE TYPE public.pairs AS RANGE (subtype = public.pair);
  CREATE TABLE public.composed (p public.pair, many public.pair[], d public.positive, r public.pairs);
  INSERT INTO public.composed VALUES ((1, 'x'), ARRAY[(2, 'y')::public.pair], 3, public.pairs((1, 'a'), (2, 'b')));
  CREATE FUNCTION evil.to_text(public.composed) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); RETURN 'c'; END $$;
  CREATE FUNCTION evil.to_text(public.pair) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); RETURN 'c'; END $$;
  CREATE FUNCTION evil.to_text(public.pairs) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); RETURN 'c'; END $$;
  CREATE CAST (public.composed AS text) WITH FUNCTION evil.to_text(public.composed) AS IMPLICIT;
  CREATE CAST (public.pair AS text) WITH FUNCTION evil.to_text(public.pair) AS IMPLICIT;
  CREATE CAST (public.pairs AS text) WITH FUNCTION evil.to_text(public.pairs) AS IMPLICIT;`;

/** Functions, operators and relations that precede PostgreSQL's own once the database's search_path lists their schema first. */
const NAMESAKES = `
  CREATE FUNCTION evil.format(text, VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'SELECT ' || evil.trap() $$;
  CREATE FUNCTION evil.format(text, text, regclass, text) RETURNS text LANGUAGE sql AS $$ SELECT 'SELECT ' || evil.trap() $$;
  CREATE FUNCTION evil.string_agg(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' || evil.trap() $$;
  CREATE FUNCTION evil.current_database() RETURNS text LANGUAGE sql AS $$ SELECT 'x' || evil.trap() $$;
  CREATE FUNCTION evil.hashtextextended(text, int) RETURNS bigint LANGUAGE sql AS $$ SELECT evil.trap()::bigint $$;
  CREATE FUNCTION evil.joined(text, regclass) RETURNS text LANGUAGE sql AS $$ SELECT 'x' || evil.trap() $$;
  CREATE OPERATOR evil.|| (FUNCTION = evil.joined, LEFTARG = text, RIGHTARG = regclass);
  CREATE FUNCTION evil.same("char", text) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.trap() = 1 $$;
  CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = "char", RIGHTARG = text);
  CREATE VIEW evil.pg_class AS SELECT *, evil.trap() FROM pg_catalog.pg_class;
  CREATE VIEW evil.pg_extension AS SELECT *, evil.trap() FROM pg_catalog.pg_extension;`;

/** Functions that pg_amcheck calls by name; their argument types match better than those of the extension's functions. */
const CHECKS = `
  CREATE FUNCTION evil.bt_index_check(index oid, heapallindexed boolean) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); END $$;
  CREATE FUNCTION evil.verify_heapam(relation oid, on_error_stop boolean, check_toast boolean, skip text,
    OUT blkno bigint, OUT offnum int, OUT attnum int, OUT msg text) RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); END $$;`;

/** Settings of the database that change what a session does, or terminate it. */
const SETTINGS = [
  ["search_path", "evil, pg_catalog"],
  ["role", "sectorwars_owner"],
  ["default_transaction_read_only", "on"],
  ["statement_timeout", "1"],
  ["lock_timeout", "1"],
  ["idle_in_transaction_session_timeout", "1"],
  ["idle_session_timeout", "1"],
  ["local_preload_libraries", "nothing_there"],
  ["standard_conforming_strings", "off"],
  ["quote_all_identifiers", "on"],
  ["datestyle", "german"],
  ["bytea_output", "escape"],
  ["extra_float_digits", "-15"],
  ["timezone", "Asia/Kolkata"],
].map(([name, value]) => `ALTER DATABASE ${FURTHER} SET ${name} = ${name === "search_path" ? value : `'${value}'`};`);

let stack: TestStack;
let backed: BackedUp;

async function inFurther<T>(role: keyof StackUrls, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const { urls } = await stack.outputs();
  return withConnection({ ...urlAddress(urls[role]), database: FURTHER }, work);
}

/** Runs SQL in the further database, in a session that the database's settings do not affect. */
const further = (sql: string): Promise<string> =>
  docker(["exec", stack.names.backups, "sectorwars-backup", "session", "psql", "-XAt", "-d", FURTHER, "-c", sql]);

/** Checks that no planted code has run as a superuser or left a trace of that. */
async function expectHarmless(): Promise<void> {
  expect(await backed.value("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper")).toBe("postgres");
  for (const container of [stack.names.container, stack.names.backups]) {
    expect(await docker(["exec", container, "sh", "-c", `ls ${TRACES.join(" ")} 2>/dev/null || :`])).toBe("");
  }
}

/** Returns the line about a table in what the newest backup recorded. */
async function recordedLine(table: string): Promise<string> {
  const label = (await backed.report()).info?.[0]?.backup.at(-1)?.label;
  return backed.inside(`grep -F '${table}' ${STORE}/state/records/${label}`);
}

beforeAll(async () => {
  stack = await TestStack.make(BACKED_UP);
  backed = new BackedUp(stack);
  await stack.up();
  await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
  await stack.as("superuser", (client) => client.query(`CREATE DATABASE ${FURTHER} OWNER sectorwars_owner`));
  await stack.as("owner", async (client) => {
    await client.query(await readFile(CASE, "utf8"));
    await client.query(TRAP + CASTS);
  });
  await inFurther("owner", (client) => client.query(TRAP + CASTS + NAMESAKES));
  // A careless superuser may have put an extension into the owner's schema, and used the owner's function in an event trigger.
  await inFurther("superuser", (client) =>
    client.query(`
      CREATE FUNCTION evil.on_command() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); END $$;
      CREATE EXTENSION amcheck SCHEMA evil;
      CREATE EVENT TRIGGER planted ON ddl_command_end EXECUTE FUNCTION evil.on_command();
      CREATE EVENT TRIGGER planted_always ON ddl_command_start EXECUTE FUNCTION evil.on_command();
      ALTER EVENT TRIGGER planted_always ENABLE ALWAYS`),
  );
  // The superuser's own commands above have fired the triggers; from here on, nothing may.
  await stack.as("superuser", (client) => client.query("ALTER ROLE sectorwars_owner NOSUPERUSER"));
  await docker(["exec", stack.names.container, "sh", "-c", `rm -f ${TRACES.join(" ")}`]);
  await inFurther("owner", (client) => client.query(CHECKS));
  await inFurther("owner", (client) => client.query(SETTINGS.join("\n")));
});
afterAll(() => stack?.end());

describe("code that the owner planted in a database", () => {
  test("cannot change the settings of the image's sessions, in any database", async () => {
    const lists = await Promise.all(
      ["session-settings", "superuser-settings"].map((name) => readFile(`images/database/${name}`, "utf8")),
    );
    const names = lists.flatMap((list) => [...list.matchAll(/^[\w.]+/gm)].map(([name]) => name.toLowerCase()));
    // pg_settings omits these two, or shows another source for them.
    const shown = await further("SELECT lower(name) FROM pg_settings WHERE source = 'client'");
    for (const name of names.filter((one) => !["role", "session_replication_role"].includes(one))) {
      if (name.startsWith("plpgsql.")) continue;
      expect(shown.split("\n"), name).toContain(name);
    }
    expect(await further("SHOW search_path")).toBe("pg_catalog, pg_temp\n");
    expect(await further("SELECT current_user, current_setting('session_replication_role')")).toBe("postgres|origin\n");
  });

  test("cannot change what a backup records, and does not run during a backup", async () => {
    const settings = await further(
      "SELECT cardinality(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()",
    );
    expect(settings).toBe(`${SETTINGS.length}\n`);
    await backed.succeed("backup");
    const before = await recordedLine("public.harmless");
    expect((await backed.report()).diff.ok).toMatchObject({ recorded: true });
    await stack.as("owner", (client) => client.query("UPDATE harmless SET a = 2"));
    await backed.succeed("backup");
    expect(await recordedLine("public.harmless")).not.toBe(before);
    expect(await recordedLine(`${FURTHER} public.composed`)).toMatch(/\t1\t/);
    await expectHarmless();
  });

  test("does not run as a superuser in a drill", async () => {
    const drill = await backed.result("drill");
    expect(drill).toMatchObject({ result: "ok", compared: "recorded" });
    await expectHarmless();
  });

  test("runs as the owner when a drill checks the owner's index", async () => {
    const telling = (body: string) =>
      stack.as("owner", (client) =>
        client.query(
          `CREATE OR REPLACE FUNCTION evil.indexed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN ${body} PERFORM evil.trap(); RETURN $1; END $$`,
        ),
      );
    await telling(
      `IF current_setting('listen_addresses') = '' THEN
         RAISE EXCEPTION 'ran as % of %, superuser %', current_user, session_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
       END IF;`,
    );
    await backed.succeed("backup");
    const { code, text } = await backed.command("drill");
    expect(code).toBe(1);
    expect(text).toContain("ran as sectorwars_owner of postgres, superuser f");
    await telling("");
    await backed.succeed("backup");
    await expectHarmless();
  });

  test("does not run as a superuser in a restore, which restores the database unchanged", async () => {
    const triggerQuery = "SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1";
    const triggers = await further(triggerQuery);
    expect(triggers).toBe("planted|O\nplanted_always|A\n");
    expect(await backed.succeed("restore", "--to", "latest")).toContain("Done.");
    await expectHarmless();
    expect(await further(triggerQuery)).toBe(triggers);
    expect(await further("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'amcheck'")).toBe(
      "evil\n",
    );
    expect(await backed.value("SELECT count(*)::int FROM pg_extension WHERE extname = 'amcheck'")).toBe(0);
  });
});
