/**
 * Kinds of objects that only a superuser can create, and what the import does about each. The import creates none of them. It may
 * only create harmless objects as a superuser, and these are not: they are machine code, or make the server trust other code, or act
 * on other sessions. So an object that rows or other objects may need is a blocker with a remedy; one that belongs to a server and not
 * to its data is left out and listed. docs/import.md has the same table for readers. Pure.
 */
import { literal } from "../../../lib/postgres.ts";

/** What the import does about the objects of a kind. */
export type KindDecision = "blocker" | "left out";

/** A kind of objects that only a superuser can create. */
export interface SuperuserKind {
  /** The name that the documentation uses. */
  kind: string;
  decision: KindDecision;
  /** For a blocker, a sentence without its subject; otherwise the reason for leaving it out. */
  what: string;
  /** Instruction for a blocker. */
  remedy?: string;
  /**
   * A query for the names of the source's objects, in a column called `value`. An ordinary role can run it, and PostgreSQL 12 to 18
   * understand it.
   */
  query: (helpers: QueryHelpers) => string;
}

/** Conditions that the queries share. */
export interface QueryHelpers {
  /** The schema is a user's. */
  users: (namespace: string) => string;
  /** The object belongs to no extension. */
  own: (catalog: string, oid: string) => string;
}

/** The first OID of an object that is not PostgreSQL's own (FirstNormalObjectId). */
const FIRST_USER_OID = 16384;

const DROP_IT = "Drop it on the source, or package it as an extension that the database image has";

/** Functions in users' schemas, except those that are part of another object, such as a range type's. */
const functions = (what: string, condition: string, { users, own }: QueryHelpers, more = "") => `
  SELECT ${what} AS value FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language g ON g.oid = p.prolang${more}
  WHERE ${condition} AND ${users("n.nspname")} AND ${own("pg_proc", "p.oid")}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')`;

/** Objects of a catalog with schemas. */
const inSchemas =
  (word: string, catalog: string, prefix: string, condition = "true") =>
  ({ users, own }: QueryHelpers) =>
    `
  SELECT '${word} ' || quote_ident(n.nspname) || '.' || quote_ident(o.${prefix}name) AS value
  FROM ${catalog} o JOIN pg_namespace n ON n.oid = o.${prefix}namespace
  WHERE ${condition} AND ${users("n.nspname")} AND ${own(catalog, "o.oid")}`;

/** Objects of a catalog without schemas. */
const global =
  (word: string, catalog: string, name: string) =>
  ({ own }: QueryHelpers) =>
    `
  SELECT '${word} ' || quote_ident(${name}) AS value FROM ${catalog} o WHERE o.oid >= ${FIRST_USER_OID} AND ${own(catalog, "o.oid")}`;

/**
 * A condition: on the target, a superuser owns the type, which holds for PostgreSQL's own types and those of extensions. An array's
 * type has the owner of its element, and a row type that of its table.
 */
const foreignType = (oid: string, { users, own }: QueryHelpers) => `EXISTS (
  SELECT FROM pg_type t LEFT JOIN pg_type e ON e.typarray = t.oid JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.oid = ${oid} AND NOT (${users("n.nspname")} AND ${own("pg_type", "coalesce(e.oid, t.oid)")}
    AND ${own("pg_class", "coalesce(nullif(e.typrelid, 0), t.typrelid)")}))`;

/** A user's table that depends on a table of an extension, which a superuser owns on the target. */
const onExtensionTable =
  (what: string, from: string, table: string) =>
  ({ users, own }: QueryHelpers) =>
    `
  SELECT ${what} AS value FROM ${from} JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE ${users("n.nspname")} AND ${own("pg_class", "c.oid")} AND EXISTS (
    SELECT FROM pg_depend x WHERE x.classid = 'pg_class'::regclass AND x.objid = ${table} AND x.deptype = 'e')`;

/** Superuser-only settings of libraries that the target loads. pg_settings has them only in a session that has loaded the library. */
const SETTINGS_OF_LIBRARIES = [
  "plpgsql.variable_conflict",
  ...["", "_utility", "_planning"].map((x) => `pg_stat_statements.track${x}`),
]
  .map((name) => literal(name))
  .join(", ");

/** All kinds. */
export const SUPERUSER_KINDS: readonly SuperuserKind[] = [
  {
    kind: "function in C, internal, or another untrusted language",
    decision: "blocker",
    what: "is written in an untrusted language, so it could do everything that the server's process may",
    remedy: DROP_IT,
    query: (helpers) =>
      // Aggregates are written as internal functions, but any role may create them.
      functions(
        "'function ' || p.oid::regprocedure || ' (' || g.lanname || ')'",
        "NOT g.lanpltrusted AND p.prokind <> 'a'",
        helpers,
      ),
  },
  {
    kind: "LEAKPROOF function",
    decision: "blocker",
    what: "is LEAKPROOF, so PostgreSQL would show it rows that row-level security hides",
    remedy: "On the source: ALTER FUNCTION ... NOT LEAKPROOF",
    query: (helpers) => functions("'function ' || p.oid::regprocedure", "p.proleakproof", helpers),
  },
  {
    kind: "function with SUPPORT",
    decision: "blocker",
    what: "has a planner support function",
    remedy: "Create it again on the source without SUPPORT",
    query: (helpers) => functions("'function ' || p.oid::regprocedure", "p.prosupport <> 0", helpers),
  },
  {
    kind: "function with SET of a superuser's setting",
    decision: "blocker",
    what: "sets a parameter that only a superuser may set",
    remedy: "On the source: ALTER FUNCTION ... RESET ...",
    query: (helpers) =>
      functions(
        "'function ' || p.oid::regprocedure || ' (SET ' || s.name || ')'",
        `(s.name IN (${SETTINGS_OF_LIBRARIES}) OR s.name IN (SELECT lower(name) FROM pg_settings WHERE context = 'superuser'))`,
        helpers,
        ", unnest(p.proconfig) o, LATERAL (SELECT lower(split_part(o, '=', 1)) AS name) s",
      ),
  },
  {
    kind: "aggregate with an internal state",
    decision: "blocker",
    what: "has a state of type internal, so its functions could access the server's memory",
    remedy: "Drop it on the source, or give it a state of another type (STYPE)",
    query: ({ users, own }) => `
      SELECT 'aggregate ' || p.oid::regprocedure AS value FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
      JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE 'internal'::regtype IN (a.aggtranstype, a.aggmtranstype) AND ${users("n.nspname")} AND ${own("pg_proc", "p.oid")}`,
  },
  {
    kind: "procedural language",
    decision: "blocker",
    what: "is a procedural language outside an extension",
    remedy: DROP_IT,
    query: global("language", "pg_language", "o.lanname"),
  },
  {
    kind: "base type",
    decision: "blocker",
    what: "is a base type: functions in C read and write its values",
    remedy: DROP_IT,
    query: ({ users, own }) => `
      SELECT 'base type ' || t.oid::regtype AS value FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
      WHERE t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
        AND ${users("n.nspname")} AND ${own("pg_type", "t.oid")}`,
  },
  {
    kind: "shell type",
    decision: "blocker",
    what: "is a shell type, declared and never defined",
    remedy: "On the source: DROP TYPE",
    query: inSchemas("type", "pg_type", "typ", "o.typtype = 'p' AND NOT o.typisdefined"),
  },
  {
    kind: "range type with a CANONICAL function",
    decision: "blocker",
    what: "is a range type with a canonical function, which needs a shell type first",
    remedy: "Create it again on the source without CANONICAL",
    query: ({ users, own }) => `
      SELECT 'type ' || t.oid::regtype AS value FROM pg_range r JOIN pg_type t ON t.oid = r.rngtypid
      JOIN pg_namespace n ON n.oid = t.typnamespace
      WHERE r.rngcanonical <> 0 AND ${users("n.nspname")} AND ${own("pg_type", "t.oid")}`,
  },
  {
    kind: "operator class",
    decision: "blocker",
    what: "is an operator class: indexes would trust its functions",
    remedy: DROP_IT,
    query: inSchemas("operator class", "pg_opclass", "opc"),
  },
  {
    kind: "operator family",
    decision: "blocker",
    what: "is an operator family: indexes would trust its functions",
    remedy: DROP_IT,
    query: inSchemas("operator family", "pg_opfamily", "opf"),
  },
  {
    kind: "cast WITHOUT FUNCTION",
    decision: "blocker",
    what: "uses the bytes of one type as another",
    remedy: "Create it again on the source WITH INOUT, or drop it",
    query: ({ own }) => `
      SELECT 'cast from ' || castsource::regtype || ' to ' || casttarget::regtype AS value FROM pg_cast
      WHERE oid >= ${FIRST_USER_OID} AND castmethod = 'b' AND ${own("pg_cast", "pg_cast.oid")}`,
  },
  {
    kind: "cast between types that are PostgreSQL's or an extension's",
    decision: "blocker",
    what: "is between types that a superuser owns",
    remedy: "Drop it on the source, and call its function by name",
    query: (helpers) => `
      SELECT 'cast from ' || castsource::regtype || ' to ' || casttarget::regtype AS value FROM pg_cast
      WHERE oid >= ${FIRST_USER_OID} AND castmethod <> 'b' AND ${helpers.own("pg_cast", "pg_cast.oid")}
        AND ${foreignType("castsource", helpers)} AND ${foreignType("casttarget", helpers)}`,
  },
  {
    kind: "transform",
    decision: "blocker",
    what: "is a transform: functions in C convert its type's values for a language",
    remedy: DROP_IT,
    query: ({ own }) => `
      SELECT 'transform for ' || o.trftype::regtype || ' language ' || quote_ident(g.lanname) AS value
      FROM pg_transform o JOIN pg_language g ON g.oid = o.trflang
      WHERE o.oid >= ${FIRST_USER_OID} AND ${own("pg_transform", "o.oid")}`,
  },
  {
    kind: "text search parser",
    decision: "blocker",
    what: "is a text search parser, made of functions in C",
    remedy: DROP_IT,
    query: inSchemas("text search parser", "pg_ts_parser", "prs"),
  },
  {
    kind: "text search template",
    decision: "blocker",
    what: "is a text search template, made of functions in C",
    remedy: DROP_IT,
    query: inSchemas("text search template", "pg_ts_template", "tmpl"),
  },
  {
    kind: "access method",
    decision: "blocker",
    what: "is an access method outside an extension",
    remedy: DROP_IT,
    query: global("access method", "pg_am", "o.amname"),
  },
  {
    kind: "table or index of such an access method",
    decision: "blocker",
    what: "uses an access method that the target will not have",
    remedy: "On the source: ALTER TABLE ... SET ACCESS METHOD heap, or build the index with another method",
    query: ({ users, own }) => `
      SELECT CASE WHEN c.relkind IN ('i', 'I') THEN 'index ' ELSE 'table ' END || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
        AS value FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
      WHERE a.oid >= ${FIRST_USER_OID} AND ${own("pg_am", "a.oid")} AND ${users("n.nspname")} AND ${own("pg_class", "c.oid")}`,
  },
  {
    kind: "foreign-data wrapper",
    decision: "blocker",
    what: "is a foreign-data wrapper outside an extension",
    remedy: DROP_IT,
    query: global("foreign-data wrapper", "pg_foreign_data_wrapper", "o.fdwname"),
  },
  {
    kind: "foreign key to a table of an extension",
    decision: "blocker",
    what: "refers to a table of an extension; PostgreSQL would check it as that table's owner, a superuser",
    remedy: "Drop it on the source",
    query: onExtensionTable(
      "'foreign key ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' ' || quote_ident(k.conname)",
      "pg_constraint k JOIN pg_class c ON c.oid = k.conrelid AND k.contype = 'f'",
      "k.confrelid",
    ),
  },
  {
    kind: "table that inherits from a table of an extension",
    decision: "blocker",
    what: "inherits from a table that belongs to a superuser",
    remedy: "On the source: ALTER TABLE ... NO INHERIT",
    query: onExtensionTable(
      "'table ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname)",
      "pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid AND c.relkind IN ('r', 'p', 'f')",
      "h.inhparent",
    ),
  },
  {
    kind: "event trigger",
    decision: "left out",
    what: "it would act on all DDL in the database",
    query: global("event trigger", "pg_event_trigger", "o.evtname"),
  },
  {
    kind: "publication",
    decision: "left out",
    what: "replication is set up per server",
    query: () => "SELECT 'publication ' || pubname AS value FROM pg_publication",
  },
  {
    kind: "subscription",
    decision: "left out",
    what: "replication is set up per server",
    query: () => `
      SELECT 'subscription ' || subname AS value FROM pg_subscription
      WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  },
  {
    kind: "tablespace",
    decision: "left out",
    what: "it is a directory of that server; the copy uses the default tablespace",
    query: () => `
      SELECT 'tablespace ' || s.spcname AS value FROM pg_tablespace s
      WHERE (s.oid IN (SELECT reltablespace FROM pg_class)
        OR s.oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database())) AND s.spcname NOT IN ('pg_default', 'pg_global')`,
  },
  {
    kind: "security label",
    decision: "left out",
    what: "only that provider module can interpret them",
    query: () => `
      SELECT count(*) || ' security label' || CASE count(*) WHEN 1 THEN '' ELSE 's' END || ' of ' || provider AS value
      FROM pg_seclabel GROUP BY provider`,
  },
];

/** Returns one query for the objects that are blockers: the index of the kind in {@link SUPERUSER_KINDS}, and the object. */
export const blockersSql = (helpers: QueryHelpers): string =>
  SUPERUSER_KINDS.flatMap((kind, index) =>
    kind.decision === "blocker" ? [`SELECT ${index} AS kind, q.value AS object FROM (${kind.query(helpers)}) q`] : [],
  ).join("\nUNION ALL ");

/** Returns one query for what is left out, with the reason. */
export const leftOutSql = (helpers: QueryHelpers): string =>
  SUPERUSER_KINDS.filter(({ decision }) => decision === "left out")
    .map(({ what, query }) => `SELECT q.value AS what, ${literal(what)} AS why FROM (${query(helpers)}) q`)
    .join("\nUNION ALL ");
