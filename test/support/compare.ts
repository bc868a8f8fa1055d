/** Reads the contents of databases with other queries than those of the import. */
import type pg from "pg";
import { type Address, qualified } from "../../lib/postgres.ts";
import { withConnection } from "./session.ts";

const NOT_USERS = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'sectorwars_stack')";
const NOT_EXTENSIONS =
  "NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/** Settings for the same output format on both servers. */
const PLAIN = "SET timezone = 'UTC'; SET datestyle = 'ISO'; SET lc_monetary = 'C'; SET search_path = ''";

/** Returns the single column of a query as a list. */
async function list(client: pg.Client, query: string): Promise<string[]> {
  const { rows } = await client.query({ text: query, rowMode: "array" });
  return rows.map(([value]) => String(value));
}

/** Returns every table with its number of rows and the MD5 of its rows' sorted MD5s. */
export async function tableDigests(client: pg.Client): Promise<Record<string, string>> {
  const { rows } = await client.query<{ schema: string; name: string; filled: boolean }>(`
    SELECT n.nspname AS schema, c.relname AS name, c.relispopulated AS filled FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND ${NOT_USERS} AND ${NOT_EXTENSIONS} ORDER BY 1, 2`);
  const digests: Record<string, string> = {};
  for (const { schema, name, filled } of rows) {
    if (!filled) {
      digests[`${schema}.${name}`] = "a materialized view that was never filled";
      continue;
    }
    const [digest] = await list(
      client,
      `SELECT count(*) || ' rows, ' || md5(coalesce(string_agg(r, '' ORDER BY r COLLATE "C"), ''))
       FROM (SELECT md5(t::text) AS r FROM ${qualified(schema, name)} t) x`,
    );
    digests[`${schema}.${name}`] = digest ?? "";
  }
  return digests;
}

export interface Contents {
  tables: Record<string, string>;
  sequences: Record<string, string>;
  objects: string[];
}

const OBJECTS = [
  // Columns with type, nullability, default, identity, generation.
  `SELECT 'column ' || n.nspname || '.' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' ||
     a.attnotnull || ' ' || a.attidentity::text || a.attgenerated::text || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
   FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
   WHERE c.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND ${NOT_USERS} AND ${NOT_EXTENSIONS}`,
  `SELECT 'index ' || pg_get_indexdef(i.indexrelid) || ' valid=' || i.indisvalid || ' ready=' || i.indisready
   FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE ${NOT_USERS} AND ${NOT_EXTENSIONS}`,
  // Since version 18, NOT NULL is also a constraint; the columns already contain it.
  `SELECT 'constraint ' || k.conrelid::regclass || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid) || ' ' || k.convalidated
   FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE k.contype <> 'n' AND k.conrelid <> 0 AND ${NOT_USERS}`,
  `SELECT 'trigger ' || pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text FROM pg_trigger t WHERE NOT t.tgisinternal`,
  `SELECT 'policy ' || polname || ' ' || polrelid::regclass || ' ' || polcmd::text || ' ' || coalesce(pg_get_expr(polqual, polrelid), '')
   FROM pg_policy`,
  `SELECT 'row security ' || c.oid::regclass || ' ' || c.relrowsecurity || ' ' || c.relforcerowsecurity
   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND ${NOT_USERS}`,
  `SELECT c.relkind::text || ' ' || c.oid::regclass || ' ' || md5(pg_get_viewdef(c.oid)) FROM pg_class c
   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND ${NOT_USERS} AND ${NOT_EXTENSIONS}`,
  `SELECT 'function ' || p.oid::regprocedure || ' ' || md5(pg_get_functiondef(p.oid)) FROM pg_proc p
   JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind = 'f' AND ${NOT_USERS}
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')`,
  `SELECT 'enum ' || e.enumtypid::regtype || ' ' || string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e GROUP BY e.enumtypid`,
  `SELECT 'comment ' || d.classoid::regclass || ' ' || c.oid::regclass || ' ' || d.objsubid || ' ' || d.description FROM pg_description d
   JOIN pg_class c ON d.classoid = 'pg_class'::regclass AND c.oid = d.objoid
   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${NOT_USERS} AND ${NOT_EXTENSIONS}`,
  `SELECT 'statistics ' || pg_get_statisticsobjdef(s.oid) FROM pg_statistic_ext s`,
  `SELECT 'partition ' || c.oid::regclass || ' ' || pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.relispartition AND c.relkind = 'r'`,
];

/** Returns rows, sequences and objects of a database. */
export async function contentsOf(address: Address): Promise<Contents> {
  return withConnection(
    address,
    async (client) => {
      const objects: string[] = [];
      for (const query of OBJECTS) objects.push(...(await list(client, query)));
      const names = await list(
        client,
        `SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind = 'S' AND ${NOT_USERS} ORDER BY 1`,
      );
      const sequences: Record<string, string> = {};
      for (const name of names) {
        const [state] = await list(client, `SELECT last_value || ' ' || is_called FROM ${name}`);
        sequences[name] = state ?? "";
      }
      return { tables: await tableDigests(client), sequences, objects: objects.sort() };
    },
    { setup: PLAIN },
  );
}

/** Everything in a cluster's and a database's catalog that a writing session could change. */
const CATALOG = `
  SELECT string_agg(line, E'\\n' ORDER BY line) AS digest FROM (
    SELECT 'class ' || oid || relname || relnamespace || relfilenode || relowner || relkind::text || coalesce(relacl::text, '') ||
      relhasindex || relhastriggers || relrowsecurity || relispartition AS line FROM pg_class
    UNION ALL SELECT 'namespace ' || oid || nspname || nspowner || coalesce(nspacl::text, '') FROM pg_namespace
    UNION ALL SELECT 'proc ' || oid || proname || md5(prosrc) || proowner || coalesce(proacl::text, '') FROM pg_proc
    UNION ALL SELECT 'type ' || oid || typname || typowner FROM pg_type
    UNION ALL SELECT 'attribute ' || attrelid || attname || atttypid || attnotnull || attisdropped FROM pg_attribute
    UNION ALL SELECT 'constraint ' || oid || conname || contype::text FROM pg_constraint
    UNION ALL SELECT 'index ' || indexrelid || indisvalid FROM pg_index
    UNION ALL SELECT 'trigger ' || oid || tgname || tgenabled::text FROM pg_trigger
    UNION ALL SELECT 'policy ' || oid || polname FROM pg_policy
    UNION ALL SELECT 'extension ' || oid || extname || extversion FROM pg_extension
    UNION ALL SELECT 'event trigger ' || oid || evtname FROM pg_event_trigger
    UNION ALL SELECT 'default acl ' || oid || defaclacl::text FROM pg_default_acl
    UNION ALL SELECT 'comment ' || objoid || classoid || objsubid || description FROM pg_description
    UNION ALL SELECT 'setting ' || setdatabase || setrole || setconfig::text FROM pg_db_role_setting
    UNION ALL SELECT 'large object ' || oid FROM pg_largeobject_metadata
    UNION ALL SELECT 'role ' || oid || rolname || rolsuper || rolcreaterole || rolcanlogin || coalesce(rolpassword, '') FROM pg_authid
    UNION ALL SELECT 'member ' || roleid || member FROM pg_auth_members
    UNION ALL SELECT 'database ' || oid || datname || datdba || coalesce(datacl::text, '') FROM pg_database
    UNION ALL SELECT 'tablespace ' || oid || spcname FROM pg_tablespace
    UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
    UNION ALL SELECT 'publication ' || oid || pubname FROM pg_publication
    UNION ALL SELECT 'prepared ' || gid FROM pg_prepared_xacts
    UNION ALL SELECT 'sequence ' || seqrelid || seqstart || seqincrement FROM pg_sequence
  ) s`;

/** Returns a text that changes with every change of the catalog. Needs a superuser, because it reads password verifiers. */
export async function catalogDigest(address: Address): Promise<string> {
  return withConnection(address, async (client) => {
    const { rows } = await client.query<{ digest: string }>(CATALOG);
    return rows[0]?.digest ?? "";
  });
}

/** Returns the position and transaction of every row of the user's tables, which every write changes, even one of equal values. */
export async function physicalDigest(address: Address): Promise<Record<string, string>> {
  return withConnection(address, async (client) => {
    const { rows } = await client.query<{ table: string }>(`
      SELECT c.oid::regclass AS table FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1`);
    const digests: Record<string, string> = {};
    for (const { table } of rows) {
      const [digest] = await list(
        client,
        `SELECT coalesce(md5(string_agg(ctid || ' ' || xmin || ' ' || xmax || ' ' || tableoid, ',' ORDER BY ctid)), '') FROM ${table}`,
      );
      digests[table] = digest ?? "";
    }
    return digests;
  });
}
