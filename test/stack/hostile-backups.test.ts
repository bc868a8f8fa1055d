/**
 * Backups, drills and restores of a stack whose owner role has planted code in its databases, each piece of it made to act with a
 * superuser's rights should it ever get them. The server of a drill stands beside the repository's key.
 */
import { readFile } from "node:fs/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { withConnection } from "../../lib/postgres.ts";
import { BackedUp, STORE, until } from "../support/backed-up.ts";
import { type StackUrls, TestStack, urlAddress } from "../support/test-stack.ts";

const CASE = "test/cases/security/03-owner-to-superuser-cast-in-backup-record.sql";
const DATA = "/var/lib/postgresql/data";
/** Where a program that the server was made to run leaves its trace, whichever container it runs in. */
const TRACES = ["/tmp/owned", `${DATA}/owned`, `${STORE}/owned`];
const FURTHER = "further";

/** As a superuser does anything that harms; says who it was where the server is a scratch server and the word is given. */
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
  -- Immutable, as an index wants it.
  CREATE FUNCTION evil.indexed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM evil.trap(); RETURN $1; END $$;
  CREATE TABLE public.indexed (a int);
  INSERT INTO public.indexed SELECT generate_series(1, 50);
  CREATE INDEX indexed_expression ON public.indexed (evil.indexed(a));
  CREATE INDEX indexed_predicate ON public.indexed (a) WHERE evil.indexed(a) > 0;`;

/** Casts to text, of a row, of a column's type, of a domain over it, and of a range over that. */
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

/** Functions, operators and relations that stand before PostgreSQL's own, once the database's search_path says so. */
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

/** What pg_amcheck calls by name, with arguments that fit better than those of the extension's own functions. */
const CHECKS = `
  CREATE FUNCTION evil.bt_index_check(index oid, heapallindexed boolean) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); END $$;
  CREATE FUNCTION evil.verify_heapam(relation oid, on_error_stop boolean, check_toast boolean, skip text,
    OUT blkno bigint, OUT offnum int, OUT attnum int, OUT msg text) RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); END $$;`;

/** Settings of the database that change what a session does, or end it. */
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

/** In the further database, with a session that its settings do not touch. */
const further = (sql: string): Promise<string> =>
  docker(["exec", stack.names.backups, "sectorwars-backup", "session", "psql", "-XAt", "-d", FURTHER, "-c", sql]);

/** Nothing that was planted ran as a superuser, or left a trace of having been one. */
async function expectHarmless(): Promise<void> {
  expect(await backed.value("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper")).toBe("postgres");
  for (const container of [stack.names.container, stack.names.backups]) {
    expect(await docker(["exec", container, "sh", "-c", `ls ${TRACES.join(" ")} 2>/dev/null || :`])).toBe("");
  }
}

/** The line of the newest record about a table. */
async function recorded(table: string): Promise<string> {
  const label = (await backed.report()).info?.[0]?.backup.at(-1)?.label;
  return backed.inside(`grep -F '${table}' ${STORE}/state/records/${label}`);
}

beforeAll(async () => {
  const never = { backupFull: "never", backupDifferential: "never", backupDrill: "never" };
  stack = await TestStack.make({ bootstrap: "empty", memory: "512", backups: "true", ...never });
  backed = new BackedUp(stack);
  await stack.up();
  await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
  await stack.as("superuser", (client) => client.query(`CREATE DATABASE ${FURTHER} OWNER sectorwars_owner`));
  await stack.as("owner", async (client) => {
    await client.query(await readFile(CASE, "utf8"));
    await client.query(TRAP + CASTS);
  });
  await inFurther("owner", (client) => client.query(TRAP + CASTS + NAMESAKES));
  // What a superuser may have done, not knowing better: a schema of the owner's for an extension, a function of his for a trigger.
  await inFurther("superuser", (client) =>
    client.query(`
      CREATE FUNCTION evil.on_command() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap(); END $$;
      CREATE EXTENSION amcheck SCHEMA evil;
      CREATE EVENT TRIGGER planted ON ddl_command_end EXECUTE FUNCTION evil.on_command();
      CREATE EVENT TRIGGER planted_always ON ddl_command_start EXECUTE FUNCTION evil.on_command();
      ALTER EVENT TRIGGER planted_always ENABLE ALWAYS`),
  );
  // The superuser's own commands have set the triggers off; from here on nothing of his may.
  await stack.as("superuser", (client) => client.query("ALTER ROLE sectorwars_owner NOSUPERUSER"));
  await docker(["exec", stack.names.container, "sh", "-c", `rm -f ${TRACES.join(" ")}`]);
  await inFurther("owner", (client) => client.query(CHECKS));
  await inFurther("owner", (client) => client.query(SETTINGS.join("\n")));
});
afterAll(() => stack?.end());

describe("code of the owner's in a database", () => {
  test("has no say in the settings of the image's sessions, in any database", async () => {
    const lists = await Promise.all(
      ["session-settings", "superuser-settings"].map((name) => readFile(`images/database/${name}`, "utf8")),
    );
    const names = lists.flatMap((list) => [...list.matchAll(/^[\w.]+/gm)].map(([name]) => name.toLowerCase()));
    // These two are no rows of pg_settings, or of another source.
    const shown = await further("SELECT lower(name) FROM pg_settings WHERE source = 'client'");
    for (const name of names.filter((one) => !["role", "session_replication_role"].includes(one))) {
      if (name.startsWith("plpgsql.")) continue;
      expect(shown.split("\n"), name).toContain(name);
    }
    expect(await further("SHOW search_path")).toBe("pg_catalog, pg_temp\n");
    expect(await further("SELECT current_user, current_setting('session_replication_role')")).toBe("postgres|origin\n");
  });

  test("has no say in what a backup records, and does not run for it", async () => {
    const settings = await further(
      "SELECT cardinality(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()",
    );
    expect(settings).toBe(`${SETTINGS.length}\n`);
    await backed.succeed("backup");
    const before = await recorded("public.harmless");
    expect((await backed.report()).diff.ok).toMatchObject({ recorded: true });
    await stack.as("owner", (client) => client.query("UPDATE harmless SET a = 2"));
    await backed.succeed("backup");
    expect(await recorded("public.harmless")).not.toBe(before);
    expect(await recorded(`${FURTHER} public.composed`)).toMatch(/\t1\t/);
    await expectHarmless();
  });

  test("does not run as the superuser in a drill", async () => {
    const drill = await backed.result("drill");
    expect(drill).toMatchObject({ result: "ok", compared: "recorded" });
    await expectHarmless();
  });

  test("runs as the owner where a drill checks an index of its", async () => {
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

  test("does not run as the superuser in a restore, which leaves the database as it was", async () => {
    const words = "SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1";
    const triggers = await further(words);
    expect(triggers).toBe("planted|O\nplanted_always|A\n");
    expect(await backed.succeed("restore", "--to", "latest")).toContain("Done.");
    await expectHarmless();
    expect(await further(words)).toBe(triggers);
    expect(await further("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'amcheck'")).toBe(
      "evil\n",
    );
    expect(await backed.value("SELECT count(*)::int FROM pg_extension WHERE extname = 'amcheck'")).toBe(0);
  });
});
