/** Reads a source's contents from its catalog. */
import type pg from "pg";
import { ident, qualified } from "../../../lib/postgres.ts";
import { ROLE_NAMES } from "../../../lib/role-names.ts";
import { STACK_SCHEMA } from "../../../lib/stack-schema.ts";
import { readRows } from "../session/reading.ts";
import type { Catalog, SequenceState, Skipped, Table } from "../types.ts";
import { leftOutSettings, readSettings } from "./database-settings.ts";
import { leftOutSql } from "./superuser-kinds.ts";

/** Neon's own schemas and extensions, which have no use on another server. */
export const NEON_SCHEMAS = ["neon", "neon_migration", "neon_auth", "neon_control_plane"];
export const NEON_EXTENSIONS = ["neon", "neon_utils", "neon_test_utils", "pg_session_jwt", "neon_rmgr"];

/** A condition on the name of a schema: it is a user's, and not PostgreSQL's, Neon's or this stack's. */
export const isUsers = (namespace: string) =>
  `${namespace} NOT LIKE 'pg\\_%' AND ${namespace} NOT IN ('information_schema', '${STACK_SCHEMA}', ${NEON_SCHEMAS.map((name) => `'${name}'`).join(", ")})`;

/** A condition on an object: it does not belong to an extension. */
export const notExtension = (catalog: string, oid: string) =>
  `NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '${catalog}'::regclass AND x.objid = ${oid} AND x.deptype = 'e')`;

/**
 * Types that COPY must carry as text. In binary format, a type's send function writes OIDs, which are valid only on one server, for
 * reg* types and inside arrays and composites of a user's types; a few types have no send function. Of a user's own types, only a
 * plain enum is safe, which is sent as its label.
 */
const NEEDS_TEXT = `
  t.typsend = 0 OR t.typreceive = 0
  OR (t.typnamespace = 'pg_catalog'::regnamespace AND t.typname ~ '^_?reg')
  OR (t.typnamespace <> 'pg_catalog'::regnamespace AND t.typtype <> 'e')
  OR (e.oid IS NOT NULL AND (e.typsend = 0 OR e.typreceive = 0 OR e.typnamespace <> 'pg_catalog'::regnamespace))`;

/**
 * Partitioned tables in which a row may belong to another partition on another server. The hash of an enum, a reg* type or a type that
 * may contain one is a hash of OIDs; a range of texts depends on the collation; the hash of a text does so if the collation is not
 * deterministic; a user's operator class may do anything. (pg_dump 16 handles only enums, see load_via_partition_root.) Rows of a
 * foreign partition are on another server, so such a table is excluded here.
 */
const MOVING_ROOTS = `
  SELECT DISTINCT pg_partition_root(p.partrelid)::oid AS root
  FROM pg_partitioned_table p, unnest(p.partclass::oid[], p.partcollation::oid[]) AS k(class, coll)
  JOIN pg_opclass o ON o.oid = k.class LEFT JOIN pg_collation l ON l.oid = k.coll
  WHERE (o.opcnamespace <> 'pg_catalog'::regnamespace
      OR p.partstrat = 'h' AND o.opcintype IN ('anyenum'::regtype, 'oid'::regtype, 'anyarray'::regtype, 'record'::regtype,
        'anyrange'::regtype, 'anymultirange'::regtype)
      OR p.partstrat = 'r' AND l.collname NOT IN ('C', 'POSIX', 'ucs_basic')
      OR NOT l.collisdeterministic)
    AND NOT EXISTS (SELECT FROM pg_partition_tree(pg_partition_root(p.partrelid)) t JOIN pg_class f ON f.oid = t.relid AND f.relkind = 'f')`;

/** Types, and domains over them, whose values may be too large for a row's text, which must stay below 1 GB. */
const LARGE = `
  CASE WHEN coalesce(nullif(t.typbasetype, 0), t.oid) = 'bytea'::regtype THEN 'bytes'
    WHEN coalesce(nullif(t.typbasetype, 0), t.oid) IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype) THEN 'text'
    WHEN t.typlen = -1 AND t.typstorage IN ('x', 'e') THEN 'stored' END`;

const TABLES = `
  WITH moving AS (${MOVING_ROOTS})
  SELECT n.nspname AS schema, c.relname AS name, c.relkind = 'p' AS through,
    coalesce((SELECT sum(pg_table_size(t.relid)) FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p'), pg_table_size(c.oid))::float8 AS bytes,
    coalesce((
      SELECT json_agg(json_build_object('name', a.attname, 'generated', a.attgenerated <> '', 'large', ${LARGE}) ORDER BY a.attnum)
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    ), '[]') AS columns,
    EXISTS (
      SELECT FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (${NEEDS_TEXT})
    ) AS text,
    coalesce((
      SELECT json_agg(a.attname ORDER BY k.position)
      FROM (
        SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND NOT EXISTS (
            SELECT FROM pg_attribute x WHERE x.attrelid = c.oid AND x.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
              AND NOT x.attnotnull)
        ORDER BY i.indisprimary DESC, i.indnatts, i.indexrelid LIMIT 1
      ) i, unnest(i.columns) WITH ORDINALITY k(attnum, position)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
    ), '[]') AS key
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE (c.relkind = 'r' AND NOT (c.relispartition AND pg_partition_root(c.oid) IN (SELECT root FROM moving))
      OR c.oid IN (SELECT root FROM moving))
    AND c.relpersistence <> 't' AND ${isUsers("n.nspname")}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  ORDER BY bytes DESC, n.nspname, c.relname`;

const SEQUENCES = `
  SELECT n.nspname AS schema, c.relname AS name
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'S' AND ${isUsers("n.nspname")}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  ORDER BY 1, 2`;

const EXTENSIONS = `
  SELECT e.extname AS name, n.nspname AS schema, e.extversion AS version
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
  WHERE e.extname <> 'plpgsql' ORDER BY e.oid`;

/** What is not copied, each with its reason. */
const LEFT_OUT = `
  SELECT 'schema ' || nspname AS what, 'Neon''s own' AS why FROM pg_namespace WHERE nspname = ANY ($1)
  UNION ALL
  SELECT 'foreign table ' || n.nspname || '.' || c.relname, 'its rows are on another server; only its definition is copied'
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'f' AND ${isUsers("n.nspname")}
  UNION ALL
  SELECT 'index ' || n.nspname || '.' || c.relname, 'it is not valid on the source: its CREATE INDEX CONCURRENTLY did not finish'
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i' AND ${isUsers("n.nspname")}
  UNION ALL
  SELECT 'comment of the database', 'the stack stores its own data there'
    WHERE shobj_description((SELECT oid FROM pg_database WHERE datname = current_database()), 'pg_database') IS NOT NULL
  UNION ALL
  SELECT 'default privileges that ' || pg_get_userbyid(defaclrole) || ' gives', 'the stack has its own' FROM pg_default_acl GROUP BY defaclrole
  UNION ALL
  -- pg_shdepend lists the roles in the privileges of any kind of object.
  SELECT 'grants to ' || pg_get_userbyid(s.refobjid), 'that role is not copied; the stack''s roles have the stack''s grants'
    FROM pg_shdepend s
    WHERE s.deptype = 'a' AND s.refclassid = 'pg_authid'::regclass AND s.classid <> 'pg_default_acl'::regclass
      AND (SELECT oid FROM pg_database WHERE datname = current_database())
        = CASE WHEN s.classid = 'pg_database'::regclass THEN s.objid ELSE s.dbid END
      AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = s.classid AND x.objid = s.objid AND x.deptype = 'e')
      AND pg_get_userbyid(s.refobjid) <> ALL ($2)
    GROUP BY s.refobjid
  UNION ALL
  SELECT 'user mapping of ' || usename || ' for the server ' || srvname,
    'it holds a login for another server; if the application needs it: CREATE USER MAPPING' FROM pg_user_mappings
  UNION ALL
  SELECT p.what, 'it belongs to that server; here, the stack sets it' FROM pg_database d, LATERAL (VALUES
      ('connection limit of the database', d.datconnlimit >= 0),
      ('template mark of the database', d.datistemplate)) p(what, given)
    WHERE d.datname = current_database() AND p.given
  UNION ALL
  ${leftOutSql({ users: isUsers, own: notExtension })}`;

/** Relations whose existence means that a database is not empty. */
const ANY_RELATION = `
  SELECT n.nspname || '.' || c.relname AS relation
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND ${isUsers("n.nspname")}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  ORDER BY 1 LIMIT 5`;

/** Reads the contents of a session's database. */
export async function readCatalog(client: pg.Client): Promise<Catalog> {
  const about = await client.query(`
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
      pg_encoding_to_char(encoding) AS encoding, to_jsonb(d) AS db,
      (SELECT count(*)::int FROM pg_largeobject_metadata) AS "largeObjects"
    FROM pg_database d WHERE datname = current_database()`);
  const { version, major, encoding, db, largeObjects } = about.rows[0];
  const tables = await client.query(TABLES);
  const sequences = await client.query(SEQUENCES);
  const extensions = await client.query(EXTENSIONS);
  const skipped = await client.query<Skipped>(LEFT_OUT, [NEON_SCHEMAS, Object.values(ROLE_NAMES)]);
  const settings = await readSettings(client);
  return {
    version: version.split(" ")[0],
    majorVersion: major,
    encoding,
    collation: describeCollation(db),
    tables: tables.rows.map(asTable),
    sequences: sequences.rows.map((row) => qualified(row.schema, row.name)),
    extensions: extensions.rows.filter((row) => !NEON_EXTENSIONS.includes(row.name)),
    largeObjects,
    skipped: [
      ...skipped.rows,
      ...extensions.rows
        .filter((row) => NEON_EXTENSIONS.includes(row.name))
        .map((row) => ({ what: `extension ${row.name}`, why: "Neon's own" })),
      ...leftOutSettings(settings),
    ],
    alembicRevision: await readAlembicRevision(client, tables.rows),
  };
}

function asTable(row: {
  schema: string;
  name: string;
  columns: Table["columns"];
  text: boolean;
  key: string[];
  bytes: number;
  through: boolean;
}): Table {
  return {
    schema: row.schema,
    name: row.name,
    sql: qualified(row.schema, row.name),
    columns: row.columns,
    format: row.text ? "text" : "binary",
    key: row.key,
    bytes: row.bytes,
    ...(row.through && { throughRoot: true }),
  };
}

/** Returns provider and locale. The column's name depends on the version (daticulocale in 15, datlocale in 17). */
export function describeCollation(db: Record<string, string | null>): string {
  const locale = db.datlocale ?? db.daticulocale;
  switch (db.datlocprovider) {
    case "i":
      return `ICU ${locale}`;
    case "b":
      return `builtin ${locale}`;
    default:
      return `libc ${db.datcollate}`;
  }
}

async function readAlembicRevision(client: pg.Client, tables: { schema: string; name: string }[]) {
  const table = tables.find(({ name }) => name === "alembic_version");
  if (table === undefined) return undefined;
  const from = qualified(table.schema, table.name);
  const rows = await readRows<{ version_num: string }>(client, `SELECT version_num FROM ${from} ORDER BY 1`);
  return rows.map((row) => row.version_num).join(", ") || undefined;
}

/** Returns up to five relations of a database; an empty list if the database is empty. */
export async function findRelations(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ relation: string }>(ANY_RELATION);
  return rows.map((row) => row.relation);
}

/** Reads the state of sequences in one round trip. Snapshots do not cover sequences, so this is their current state. */
export async function readSequences(client: pg.Client, sequences: string[]): Promise<SequenceState[]> {
  if (sequences.length === 0) return [];
  const { rows } = await client.query(
    sequences
      .map((name, index) => `SELECT ${index} AS i, last_value::text AS last, is_called FROM ${name}`)
      .join(" UNION ALL "),
  );
  return rows
    .sort((a, b) => a.i - b.i)
    .map((row) => ({ name: sequences[row.i] ?? "", lastValue: row.last, isCalled: row.is_called }));
}

/** Returns a table for FROM or LOCK TABLE: its own rows, without those of tables that inherit from it. */
export const fromTable = ({ sql, throughRoot }: Pick<Table, "sql" | "throughRoot">): string =>
  throughRoot ? sql : `ONLY ${sql}`;

/** Returns the list of columns that COPY carries, as SQL; empty for a table without columns. */
export function columnList(table: Pick<Table, "columns">): string {
  const copied = table.columns.filter((column) => !column.generated).map((column) => ident(column.name));
  return copied.length === 0 ? "" : ` (${copied.join(", ")})`;
}
