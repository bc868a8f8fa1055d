/** A digest of all privileges that the files in sql/ define, to detect changes by hand. */
import { createHash } from "node:crypto";
import type pg from "pg";
import { ROLE_NAMES } from "../../lib/role-names.ts";

/** Functions that create large objects. PostgreSQL keeps their privileges in each database. */
const LARGE_OBJECT_FUNCTIONS = "'lo_creat', 'lo_create', 'lo_from_bytea'";

/** The privileges on PostgreSQL's own databases, and on the functions for large objects, which every database has. */
const SERVER_LINES = `
  SELECT 'server database ' || d.datname || ' ' || coalesce(d.datacl::text, '') AS line
    FROM pg_catalog.pg_database d WHERE d.datname IN ('postgres', 'template1')
  UNION ALL SELECT 'large objects ' || p.oid::pg_catalog.regprocedure || ' ' || coalesce(p.proacl::text, '')
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.proname IN (${LARGE_OBJECT_FUNCTIONS})`;

/**
 * The further privileges in the stack's own database. Grants on the application's tables belong to the migrations. For tables in the
 * stack's schema, which is extended later, only grants to roles other than the intended ones count.
 */
const DATABASE_LINES = `${SERVER_LINES}
  UNION ALL SELECT 'database ' || pg_catalog.pg_get_userbyid(d.datdba) || ' ' || coalesce(d.datacl::text, '')
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
  UNION ALL SELECT 'schema ' || n.nspname || ' ' || pg_catalog.pg_get_userbyid(n.nspowner) || ' ' || coalesce(n.nspacl::text, '')
    FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('public', 'sectorwars_stack')
  UNION ALL SELECT 'default ' || pg_catalog.pg_get_userbyid(a.defaclrole) || ' ' || a.defaclnamespace::pg_catalog.regnamespace
      || ' ' || a.defaclobjtype::text || ' ' || a.defaclacl::text
    FROM pg_catalog.pg_default_acl a
  UNION ALL SELECT 'event trigger ' || e.evtname || ' ' || pg_catalog.pg_get_userbyid(e.evtowner) || ' ' || e.evtevent || ' '
      || e.evtenabled::text || ' ' || coalesce(e.evttags::text, '') || ' ' || e.evtfoid::pg_catalog.regprocedure
    FROM pg_catalog.pg_event_trigger e
  UNION ALL SELECT 'function ' || p.oid::pg_catalog.regprocedure || ' ' || pg_catalog.pg_get_userbyid(p.proowner) || ' '
      || p.prosecdef || ' ' || coalesce(p.proconfig::text, '') || ' ' || coalesce(p.proacl::text, '') || ' ' || p.prosrc
    FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'sectorwars_stack'::pg_catalog.regnamespace
  UNION ALL SELECT 'table ' || c.relname || ' ' || pg_catalog.pg_get_userbyid(a.grantee) || ' ' || a.privilege_type
    FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
    WHERE c.relnamespace = 'sectorwars_stack'::pg_catalog.regnamespace AND a.grantee <> c.relowner
      AND pg_catalog.pg_get_userbyid(a.grantee) NOT IN ('${ROLE_NAMES.owner}', '${ROLE_NAMES.monitor}')
  UNION ALL SELECT 'trigger ' || t.tgname || ' ' || t.tgrelid::pg_catalog.regclass
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'sectorwars_stack'::pg_catalog.regnamespace
  UNION ALL SELECT 'extension ' || x.extname FROM pg_catalog.pg_extension x`;

/** The deny list, and grants to readonly that contradict it. Needs the functions of sql/privileges.sql. */
const DENIED_LINES = `
  SELECT 'denied ' || d.pattern AS line FROM sectorwars_stack.readonly_denied d
  UNION ALL SELECT 'denied and granted ' || g.relation::pg_catalog.regclass || ' ' || pg_catalog.pg_get_userbyid(g.grantee)
    FROM sectorwars_stack.denied_grants(ARRAY(
      SELECT r FROM sectorwars_stack.denied_relations(ARRAY(SELECT d.pattern FROM sectorwars_stack.readonly_denied d), NULL) r)) g`;

async function linesOf(client: pg.Client, query: string): Promise<string> {
  const { rows } = await client.query<{ lines: string | null }>(
    `SELECT pg_catalog.string_agg(s.line, E'\\n' ORDER BY s.line COLLATE "C") AS lines FROM (${query}) s`,
  );
  return rows[0]?.lines ?? "";
}

/**
 * Describes the privileges in a database that the scripts in sql/ prepared, one line each.
 * @param client connected to it as a superuser.
 */
export async function readDatabaseGrants(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ there: boolean }>(
    "SELECT pg_catalog.to_regprocedure('sectorwars_stack.denied_grants(oid[])') IS NOT NULL AS there",
  );
  const schema = await client.query("SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'sectorwars_stack'");
  if (schema.rowCount === 0) return "no schema sectorwars_stack";
  const denied = rows[0]?.there ? await linesOf(client, DENIED_LINES) : "no deny list";
  return `${await linesOf(client, DATABASE_LINES)}\n${denied}`;
}

/** Describes the privileges in the server's own database, one line each. */
export const readServerGrants = (client: pg.Client): Promise<string> => linesOf(client, SERVER_LINES);

/** Returns a short digest of descriptions. */
export const digestOf = (...descriptions: readonly string[]): string =>
  createHash("sha256").update(descriptions.join("\n\n")).digest("hex").slice(0, 16);
