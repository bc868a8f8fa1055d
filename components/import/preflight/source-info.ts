/**
 * Reads what a preflight needs from the source, in two round trips: several statements are sent as one simple query. None of them
 * needs a lock on a user's table, so a locked table does not block the other findings.
 */
import type pg from "pg";
import { literal } from "../../../lib/postgres.ts";
import { UNREADABLE_LARGE_OBJECTS } from "../rows/large-objects.ts";
import { describeCollation, isUsers, NEON_EXTENSIONS, notExtension } from "../schema/catalog.ts";
import { TARGET_MAJOR } from "../schema/schema.ts";
import { blockersSql } from "../schema/superuser-kinds.ts";

/** The server, the role, and other sessions. */
export interface ServerInfo {
  major: number;
  /** For instance 17.5. */
  version: string;
  encoding: string;
  /** The database's default collation, for instance `libc C.UTF-8`. */
  collation: string;
  role: string;
  isReplica: boolean;
  /** Bytes of the whole database on the source's disk. */
  bytes: number;
  /** Connections that the role may still open; Infinity for a superuser. */
  connectionsLeft: number;
  /** Open prepared transactions. */
  prepared: { gid: string; age: string }[];
}

/** A lock on a table that blocks readers, granted or waited for. */
export interface Lock {
  table: string;
  /** Process on the source, or undefined for a prepared transaction. */
  pid: number | null;
  age: string | null;
  application: string | null;
}

/** A relation with the properties that the checks use. */
export interface Relation {
  name: string;
  /** pg_class.relkind. */
  kind: "r" | "p" | "v" | "m" | "f" | "S";
  unlogged: boolean;
  isPartition: boolean;
  inherits: boolean;
  keyed: boolean;
  /** Whether row-level security may hide rows from the role. */
  hidden: boolean;
  forced: boolean;
  readable: boolean;
  generated: number;
  identity: number;
}

/** An index whose order or uniqueness depends on rules for text. */
export interface TextIndex {
  name: string;
  table: string;
  unique: boolean;
  /** Columns sorted by the database's default collation. */
  columns: string[];
  usesDefault: boolean;
  /** Whether it ignores case (lower, upper, initcap, citext). */
  folds: boolean;
  /** Whether its collation treats different texts as equal. */
  loose: boolean;
}

/** A collation that an object was declared with. */
export interface UsedCollation {
  schema: string;
  name: string;
  provider: string;
  locale: string | null;
  rules: string | null;
  /** The version under which indexes were built, and the current one. */
  made: string | null;
  now: string | null;
}

/** Contents of the source. */
export interface SourceContents {
  extensions: { name: string; version: string }[];
  relations: Relation[];
  schemas: string[];
  policyRoles: { role: string; table: string }[];
  /** Objects that only a superuser can create, each with the number of its kind in {@link SUPERUSER_KINDS}. */
  superuserObjects: { kind: number; object: string }[];
  extensionTables: { extension: string; table: string }[];
  invalidIndexes: string[];
  textIndexes: TextIndex[];
  textBounds: string[];
  textComputed: string[];
  collations: UsedCollation[];
  databaseCollation: { made: string | null; now: string | null }[];
  largeObjects: { count: number }[];
  /** OIDs of those that the role may not read. */
  unreadableLargeObjects: string[];
  features: { kind: string; object: string }[];
  calls: { name: string; objects: string[]; count: number }[];
  bodies: { object: string; uses: string[] }[];
}

const NEONS = `${literal(`{${NEON_EXTENSIONS.join(",")}}`)}::name[]`;
const RELATIONS = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace";
const USERS = `${isUsers("n.nspname")} AND ${notExtension("pg_class", "c.oid")}`;

const serverSql = (major: number) => `
  SELECT current_setting('server_version') AS version, pg_encoding_to_char(d.encoding) AS encoding, current_user AS role,
    to_jsonb(d) AS database, pg_is_in_recovery() AS "isReplica", pg_database_size(d.oid)::float8 AS bytes, r.rolsuper AS superuser,
    -- + 1, because the count includes this session, which ends before the import's sessions begin.
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      ${major >= 16 ? "- current_setting('reserved_connections')::int" : ""} - a.everybody + 1 AS "serverLeft",
    CASE WHEN r.rolconnlimit >= 0 THEN r.rolconnlimit - a.own + 1 END AS "roleLeft",
    CASE WHEN d.datconnlimit >= 0 THEN d.datconnlimit - a.here + 1 END AS "databaseLeft"
  FROM pg_database d, pg_roles r, (
    SELECT count(*) AS everybody, count(*) FILTER (WHERE usename = current_user) AS own,
      count(*) FILTER (WHERE datname = current_database()) AS here
    FROM pg_stat_activity WHERE backend_type = 'client backend') a
  WHERE d.datname = current_database() AND r.rolname = current_user`;

const PREPARED = `
  SELECT gid, to_char(now() - prepared, 'FMDDD "days" HH24:MI:SS') AS age FROM pg_prepared_xacts
  WHERE database = current_database() ORDER BY prepared`;

/** Locks that are granted or waited for: a reader waits for both. */
const LOCKS = `
  SELECT n.nspname || '.' || c.relname AS table, l.pid, to_char(now() - a.xact_start, 'HH24:MI:SS') AS age,
    nullif(a.application_name, '') AS application
  FROM pg_locks l JOIN ${RELATIONS} ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND c.relkind IN ('r', 'p', 'm', 'S') AND ${USERS}
  ORDER BY 1`;

/** Operators < <= > >= of text and character, and lower, upper, initcap: their results depend on the collation. */
const BY_COLLATION = "(:opno (66[4-7]|1058|1059|1060|1061) |:funcid (870|871|872) )[^{]*:inputcollid 100\\y";
const FOLDING = ":funcid (870|871|872) ";

/** Collations that objects were declared with, except those that every server has (default, C, POSIX). */
const USED_COLLATIONS = `
  SELECT a.attcollation AS oid FROM pg_attribute a JOIN ${RELATIONS} ON c.oid = a.attrelid WHERE ${USERS}
  UNION SELECT unnest(i.indcollation::oid[]) FROM pg_index i JOIN ${RELATIONS} ON c.oid = i.indrelid WHERE ${USERS}
  UNION SELECT unnest(p.partcollation::oid[]) FROM pg_partitioned_table p
  UNION SELECT t.typcollation FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE ${isUsers("n.nspname")}
  UNION SELECT d.refobjid FROM pg_depend d WHERE d.refclassid = 'pg_collation'::regclass AND d.deptype = 'n'`;

/** Stored expressions as parse trees, which name functions by OID. A string body is not such an expression. */
const TREES = `
  SELECT 'view ' || n.nspname || '.' || c.relname AS object, w.ev_action::text AS tree
    FROM pg_rewrite w JOIN ${RELATIONS} ON c.oid = w.ev_class WHERE ${USERS}
  UNION ALL SELECT 'function ' || p.oid::regprocedure, p.prosqlbody::text
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prosqlbody IS NOT NULL AND ${isUsers("n.nspname")} AND ${notExtension("pg_proc", "p.oid")}
  UNION ALL SELECT 'default of ' || n.nspname || '.' || c.relname || '.' || a.attname, e.adbin::text
    FROM pg_attrdef e JOIN pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
    JOIN ${RELATIONS} ON c.oid = e.adrelid WHERE ${USERS}
  UNION ALL SELECT 'constraint ' || k.conname, k.conbin::text
    FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
    WHERE k.conbin IS NOT NULL AND ${isUsers("n.nspname")} AND ${notExtension("pg_constraint", "k.oid")}
  UNION ALL SELECT 'index ' || n.nspname || '.' || c.relname, concat(i.indexprs::text, i.indpred::text)
    FROM pg_index i JOIN ${RELATIONS} ON c.oid = i.indexrelid
    WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND ${USERS}
  UNION ALL SELECT 'policy ' || o.polname || ' on ' || n.nspname || '.' || c.relname, concat(o.polqual::text, o.polwithcheck::text)
    FROM pg_policy o JOIN ${RELATIONS} ON c.oid = o.polrelid WHERE ${USERS}
  UNION ALL SELECT 'trigger ' || g.tgname || ' on ' || n.nspname || '.' || c.relname, g.tgqual::text
    FROM pg_trigger g JOIN ${RELATIONS} ON c.oid = g.tgrelid WHERE g.tgqual IS NOT NULL AND ${USERS}`;

/** Patterns that only a server newer than 15 leaves in such a tree. */
const NEWER_SYNTAX: Record<string, string> = {
  "SQL/JSON": "\\{(JSONEXPR|JSONCONSTRUCTOREXPR|JSONISPREDICATE)",
  "MERGE ... RETURNING": ":mergeActionList \\((?:(?!:mergeActionList).)*:returningList \\(",
  "MERGE ... WHEN NOT MATCHED BY SOURCE": "\\{MERGEACTION :matchKind 1",
  "XMLSERIALIZE ... INDENT": ":indent true",
  "RETURNING OLD or NEW": ":varreturningtype [12]",
};

/** Storage parameters that 15 rejects (PostgreSQL 18 release notes). */
const NEWER_PARAMETERS = "^(toast\\.)?(autovacuum_vacuum_max_threshold|vacuum_max_eager_freeze_failure_rate)=";

/** Returns the query for objects of a newer server that use features which 15 lacks. */
function featuresSql(major: number): string {
  const constraints = `pg_constraint k JOIN ${RELATIONS} ON c.oid = k.conrelid`;
  const named = "n.nspname || '.' || c.relname || '.' || k.conname";
  const parts = [
    `SELECT 'partitioned-exclusion' AS kind, ${named} AS object FROM ${constraints}
     WHERE k.contype = 'x' AND c.relkind = 'p' AND k.conparentid = 0 AND ${USERS}`,
    `SELECT 'partition-identity', n.nspname || '.' || c.relname || '.' || a.attname FROM pg_attribute a
     JOIN ${RELATIONS} ON c.oid = a.attrelid WHERE a.attidentity <> '' AND c.relispartition AND NOT a.attisdropped AND ${USERS}`,
    `SELECT 'storage-parameter', n.nspname || '.' || c.relname FROM ${RELATIONS}
     WHERE EXISTS (SELECT FROM unnest(c.reloptions) o WHERE o ~ ${literal(NEWER_PARAMETERS)}) AND ${USERS}`,
    `SELECT 'expression ' || s.name, t.object FROM (${TREES}) t,
       (VALUES ${Object.entries(NEWER_SYNTAX)
         .map(([name, pattern]) => `(${literal(name)}, ${literal(pattern)})`)
         .join(", ")}) s(name, pattern)
     WHERE t.tree ~ s.pattern`,
  ];
  if (major >= 18) {
    parts.push(
      `SELECT 'virtual-column', n.nspname || '.' || c.relname || '.' || a.attname FROM pg_attribute a
       JOIN ${RELATIONS} ON c.oid = a.attrelid WHERE a.attgenerated = 'v' AND NOT a.attisdropped AND ${USERS}`,
      `SELECT 'temporal-constraint', ${named} FROM ${constraints} WHERE k.conperiod AND k.conparentid = 0 AND ${USERS}`,
      `SELECT 'not-enforced', ${named} FROM ${constraints} WHERE NOT k.conenforced AND k.conparentid = 0 AND ${USERS}`,
      `SELECT 'not-null', ${named} FROM ${constraints}
       WHERE k.contype = 'n' AND (NOT k.convalidated OR k.connoinherit) AND ${USERS}`,
    );
  }
  return parts.join("\nUNION ALL\n");
}

/** PostgreSQL's own functions that expressions call. The target's list shows which of them it lacks. */
const CALLS = `
  SELECT f.oid::regprocedure::text AS name, (array_agg(DISTINCT u.object))[1:20] AS objects, count(DISTINCT u.object)::int AS count
  FROM (
    SELECT t.object, (regexp_matches(t.tree, ':(?:funcid|aggfnoid|winfnoid|opfuncid) (\\d+)', 'g'))[1]::oid AS oid FROM (${TREES}) t
  ) u JOIN pg_proc f ON f.oid = u.oid
  WHERE f.pronamespace = 'pg_catalog'::regnamespace GROUP BY f.oid ORDER BY 1`;

/** Returns the query for functions whose string body seems to call a newer function. Text in a body is a hint, not a proof. */
function bodiesSql(known: readonly string[]): string {
  return `
  WITH newer AS (
    SELECT '\\m(' || string_agg(DISTINCT proname::text, '|') || ')\\s*\\(' AS pattern FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^[a-z0-9_]+$'
      AND proname <> ALL (${literal(`{${known.filter((name) => /^[a-z0-9_]+$/.test(name)).join(",")}}`)}::name[])
  )
  SELECT 'function ' || p.oid::regprocedure AS object, m.uses
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language g ON g.oid = p.prolang, newer, LATERAL (
    SELECT array_agg(DISTINCT lower(x[1])) AS uses
    FROM regexp_matches(p.prosrc, newer.pattern || '|\\m(json_table|merge_action|json_exists|json_value|json_query)\\s*\\(', 'gi') x
    WHERE x[1] IS NOT NULL) m
  WHERE g.lanname IN ('sql', 'plpgsql') AND m.uses IS NOT NULL AND ${isUsers("n.nspname")} AND ${notExtension("pg_proc", "p.oid")}
  ORDER BY 1`;
}

/** Returns the statements of {@link readContents}, in the order of their results. */
function contentsSql(
  major: number,
  knownFunctions: readonly string[] | undefined,
): Record<keyof SourceContents, string> {
  const newer = major > TARGET_MAJOR;
  const nothing = (columns: string) => `SELECT ${columns} WHERE false`;
  return {
    extensions: `
      SELECT extname AS name, extversion AS version FROM pg_extension
      WHERE extname <> 'plpgsql' AND extname <> ALL (${NEONS}) ORDER BY 1`,
    relations: `
      SELECT n.nspname || '.' || c.relname AS name, c.relkind::text AS kind, c.relpersistence = 'u' AS unlogged,
        c.relispartition AS "isPartition",
        NOT c.relispartition AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid) AS inherits,
        EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS keyed,
        c.relkind = 'r' AND row_security_active(c.oid) AS hidden, c.relforcerowsecurity AS forced,
        coalesce(has_table_privilege(c.oid, 'SELECT'), true) AS readable,
        (SELECT count(*)::int FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attgenerated <> '') AS generated,
        (SELECT count(*)::int FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attidentity <> '') AS identity
      FROM ${RELATIONS}
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND ${USERS} ORDER BY 1`,
    schemas: `
      SELECT n.nspname AS value FROM pg_namespace n WHERE ${isUsers("n.nspname")} AND NOT has_schema_privilege(n.oid, 'USAGE')
        AND EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'm', 'S')) ORDER BY 1`,
    policyRoles: `
      SELECT DISTINCT pg_get_userbyid(u.role) AS role, n.nspname || '.' || c.relname AS table
      FROM pg_policy o JOIN ${RELATIONS} ON c.oid = o.polrelid, unnest(o.polroles) u(role)
      WHERE u.role <> 0 AND ${USERS} ORDER BY 1, 2`,
    superuserObjects: blockersSql({ users: isUsers, own: notExtension }),
    extensionTables: `
      SELECT e.extname AS extension, c.oid::regclass::text AS table
      FROM pg_extension e, unnest(e.extconfig) x(oid) JOIN pg_class c ON c.oid = x.oid
      WHERE c.relkind = 'r' AND e.extname <> ALL (${NEONS}) ORDER BY 1, 2`,
    invalidIndexes: `
      SELECT n.nspname || '.' || c.relname AS value FROM pg_index i JOIN ${RELATIONS} ON c.oid = i.indexrelid
      WHERE NOT i.indisvalid AND c.relkind = 'i' AND ${USERS} ORDER BY 1`,
    textIndexes: `
      SELECT n.nspname || '.' || c.relname AS name, n.nspname || '.' || t.relname AS table, i.indisunique AS unique,
        100 = ANY (i.indcollation) AS "usesDefault",
        coalesce(i.indexprs::text ~ '${FOLDING}', false) OR EXISTS (
          SELECT FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
          WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND y.typname = 'citext') AS folds,
        EXISTS (SELECT FROM pg_collation k WHERE k.oid = ANY (i.indcollation) AND NOT k.collisdeterministic) AS loose,
        coalesce((SELECT array_agg(n.nspname || '.' || t.relname || '.' || a.attname ORDER BY a.attnum) FROM pg_attribute a
          WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attcollation = 100), '{}') AS columns
      FROM pg_index i JOIN ${RELATIONS} ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
      WHERE t.relkind IN ('r', 'm') AND (100 = ANY (i.indcollation)
        OR EXISTS (SELECT FROM pg_collation k WHERE k.oid = ANY (i.indcollation) AND NOT k.collisdeterministic)) AND ${USERS}
      ORDER BY 1`,
    textBounds: `
      SELECT n.nspname || '.' || c.relname AS value FROM pg_partitioned_table p JOIN ${RELATIONS} ON c.oid = p.partrelid
      WHERE p.partstrat = 'r' AND 100 = ANY (p.partcollation) AND ${USERS} ORDER BY 1`,
    textComputed: `
      SELECT 'check ' || n.nspname || '.' || c.relname || '.' || k.conname AS value
        FROM pg_constraint k JOIN ${RELATIONS} ON c.oid = k.conrelid
        WHERE k.contype = 'c' AND k.conbin::text ~ ${literal(BY_COLLATION)} AND ${USERS}
      UNION ALL SELECT 'generated column ' || n.nspname || '.' || c.relname || '.' || a.attname
        FROM pg_attrdef e JOIN pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum JOIN ${RELATIONS} ON c.oid = a.attrelid
        WHERE a.attgenerated <> '' AND e.adbin::text ~ ${literal(BY_COLLATION)} AND ${USERS}`,
    // Column names depend on the version: colliculocale became colllocale, collicurules came with 16.
    collations: `
      SELECT n.nspname AS schema, k.collname AS name, k.collprovider::text AS provider,
        coalesce(to_jsonb(k) ->> 'colllocale', to_jsonb(k) ->> 'colliculocale', k.collcollate) AS locale,
        to_jsonb(k) ->> 'collicurules' AS rules, k.collversion AS made, pg_collation_actual_version(k.oid) AS now
      FROM pg_collation k JOIN pg_namespace n ON n.oid = k.collnamespace
      WHERE k.oid NOT IN (0, 100, 950, 951) AND k.oid IN (${USED_COLLATIONS}) ORDER BY 1, 2`,
    databaseCollation:
      major >= 15
        ? `SELECT datcollversion AS made, pg_database_collation_actual_version(oid) AS now FROM pg_database WHERE datname = current_database()`
        : nothing("NULL::text AS made, NULL::text AS now"),
    largeObjects: "SELECT count(*)::int AS count FROM pg_largeobject_metadata HAVING count(*) > 0",
    unreadableLargeObjects: UNREADABLE_LARGE_OBJECTS,
    features: newer ? featuresSql(major) : nothing("'' AS kind, '' AS object"),
    calls: newer ? CALLS : nothing("'' AS name, '{}'::text[] AS objects, 0 AS count"),
    bodies: newer && knownFunctions ? bodiesSql(knownFunctions) : nothing("'' AS object, '{}'::text[] AS uses"),
  };
}

/** Runs several statements as one query, and returns their rows in the same order. */
async function askAll(client: pg.Client, statements: readonly string[]): Promise<Record<string, unknown>[][]> {
  const answer = (await client.query(statements.join(";\n"))) as unknown as pg.QueryResult | pg.QueryResult[];
  return (Array.isArray(answer) ? answer : [answer]).map(({ rows }) => rows);
}

/** Reads the server's info and the locks that block readers, in one round trip. */
export async function readServerInfo(client: pg.Client, major: number): Promise<{ about: ServerInfo; locks: Lock[] }> {
  const [about = [], prepared = [], locks = []] = await askAll(client, [serverSql(major), PREPARED, LOCKS]);
  const { version, database, superuser, serverLeft, roleLeft, databaseLeft, ...rest } = about[0] as Record<
    string,
    unknown
  > & {
    version: string;
    database: Record<string, string | null>;
  };
  const left = [serverLeft, roleLeft, databaseLeft].filter((value) => value !== null).map(Number);
  return {
    about: {
      ...(rest as unknown as ServerInfo),
      major,
      version: version.split(" ")[0] ?? version,
      collation: describeCollation(database),
      connectionsLeft: superuser ? Number.POSITIVE_INFINITY : Math.min(...left),
      prepared: prepared as unknown as ServerInfo["prepared"],
    },
    locks: locks as unknown as Lock[],
  };
}

/**
 * Reads the contents from the source's catalog, in one round trip.
 * @param knownFunctions names of the target's own functions; undefined without a target.
 */
export async function readContents(
  client: pg.Client,
  major: number,
  knownFunctions: readonly string[] | undefined,
): Promise<SourceContents> {
  const statements = contentsSql(major, knownFunctions);
  const names = Object.keys(statements) as (keyof SourceContents)[];
  const answers = await askAll(client, Object.values(statements));
  const contents = Object.fromEntries(names.map((name, index) => [name, answers[index] ?? []]));
  // Statements with one column are lists of names.
  return Object.fromEntries(
    Object.entries(contents).map(([name, rows]) => [name, rows.map((row) => ("value" in row ? row.value : row))]),
  ) as unknown as SourceContents;
}
