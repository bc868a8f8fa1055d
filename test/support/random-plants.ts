/** Differences that can be planted into a random schema, each into an existing object. */

/** A difference. */
export interface RandomPlant {
  schema: string;
  what: string;
  /** SQL that plants it, for a superuser's session in which ordinary triggers do not fire. */
  sql: string;
}

/** Relations in users' schemas. */
const RELATIONS = `pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public', 'sectorwars_stack')`;
const TABLES = `${RELATIONS} AND c.relkind = 'r'`;
const COLUMNS = `${RELATIONS} AND c.relkind IN ('r', 'm') JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped`;
const TABLE = "n.nspname, c.relname";

/** Each kind: its description, the statement as arguments of format(), and where it can be planted. */
const KINDS: readonly [what: string, statement: string, from: string][] = [
  [
    "a row lost",
    `'DELETE FROM ONLY %1$I.%2$I WHERE ctid = (SELECT min(ctid) FROM ONLY %1$I.%2$I)', ${TABLE}`,
    `${TABLES} AND ROWS`,
  ],
  [
    "a value changed",
    `'UPDATE ONLY %1$I.%2$I SET ref = coalesce(ref, 0) + 1 WHERE ctid = (SELECT max(ctid) FROM ONLY %1$I.%2$I)', ${TABLE}`,
    `${TABLES} AND ROWS AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'ref')`,
  ],
  ["a comment on a table", `'COMMENT ON TABLE %I.%I IS ''another''', ${TABLE}`, TABLES],
  ["a statistics target", `'ALTER TABLE %I.%I ALTER %I SET STATISTICS 4321', ${TABLE}, a.attname`, COLUMNS],
  [
    "a column's option",
    `'ALTER TABLE ONLY %I.%I ALTER %I SET (n_distinct = 12)', ${TABLE}, a.attname`,
    `${COLUMNS} AND c.relkind = 'r'`,
  ],
  [
    "a default",
    `'ALTER TABLE ONLY %I.%I ALTER %I SET DEFAULT ''a planted default''', ${TABLE}, a.attname`,
    `${COLUMNS} AND c.relkind = 'r' AND a.atttypid = 'text'::regtype AND a.attgenerated = ''`,
  ],
  [
    "a column's storage",
    `'ALTER TABLE ONLY %I.%I ALTER %I SET STORAGE %s', ${TABLE}, a.attname, CASE a.attstorage WHEN 'p' THEN 'x' WHEN 'm' THEN 'EXTENDED' ELSE 'MAIN' END`,
    `${COLUMNS} AND c.relkind = 'r' AND a.attstorage <> 'p'`,
  ],
  [
    "a column's compression",
    `'ALTER TABLE ONLY %I.%I ALTER %I SET COMPRESSION %s', ${TABLE}, a.attname, CASE a.attcompression WHEN 'p' THEN 'default' ELSE 'pglz' END`,
    `${COLUMNS} AND c.relkind = 'r' AND a.atttypid = 'text'::regtype`,
  ],
  [
    "an index dropped",
    `'DROP INDEX %I.%I', ${TABLE}`,
    `${RELATIONS} AND c.relkind = 'i' AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid)
     AND NOT EXISTS (SELECT FROM pg_depend WHERE refobjid = c.oid)`,
  ],
  [
    "an index's option",
    `'ALTER INDEX %I.%I SET (fillfactor = 51)', ${TABLE}`,
    `${RELATIONS} AND c.relkind = 'i' AND c.relam = 403`,
  ],
  [
    "a mark of CLUSTER",
    `'ALTER TABLE %I.%I SET WITHOUT CLUSTER', ${TABLE}`,
    `${RELATIONS} AND c.relkind = 'r' JOIN pg_index i ON i.indrelid = c.oid AND i.indisclustered`,
  ],
  [
    "a replica identity",
    `'ALTER TABLE %I.%I REPLICA IDENTITY %s', ${TABLE}, CASE c.relreplident WHEN 'f' THEN 'NOTHING' ELSE 'FULL' END`,
    TABLES,
  ],
  [
    "row security that no longer holds for the owner",
    `'ALTER TABLE %I.%I NO FORCE ROW LEVEL SECURITY', ${TABLE}`,
    `${TABLES} AND c.relforcerowsecurity`,
  ],
  ["row security", `'ALTER TABLE %I.%I DISABLE ROW LEVEL SECURITY', ${TABLE}`, `${TABLES} AND c.relrowsecurity`],
  [
    "a policy",
    `'ALTER POLICY %I ON %I.%I USING (42 = 42)', p.polname, ${TABLE}`,
    `${RELATIONS} JOIN pg_policy p ON p.polrelid = c.oid`,
  ],
  [
    "a trigger's state",
    `'ALTER TABLE %I.%I %s TRIGGER %I', ${TABLE}, CASE t.tgenabled WHEN 'D' THEN 'ENABLE' ELSE 'DISABLE' END, t.tgname`,
    `${TABLES} JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal`,
  ],
  [
    "a check that was not valid",
    `'ALTER TABLE %I.%I VALIDATE CONSTRAINT %I', ${TABLE}, k.conname`,
    `${TABLES} JOIN pg_constraint k ON k.conrelid = c.oid AND NOT k.convalidated`,
  ],
  [
    "a check dropped",
    `'ALTER TABLE %I.%I DROP CONSTRAINT %I', ${TABLE}, k.conname`,
    `${TABLES} JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype IN ('c', 'x', 'f') AND k.coninhcount = 0`,
  ],
  [
    "a parent that no longer is one",
    `'ALTER TABLE %I.%I NO INHERIT %s', ${TABLE}, i.inhparent::regclass`,
    `${TABLES} AND NOT c.relispartition JOIN pg_inherits i ON i.inhrelid = c.oid`,
  ],
  ["a sequence's step", `'ALTER SEQUENCE %I.%I INCREMENT 77', ${TABLE}`, `${RELATIONS} AND c.relkind = 'S'`],
  [
    "a sequence's position",
    `'SELECT nextval(''%I.%I'')', ${TABLE}`,
    `${RELATIONS} AND c.relkind = 'S' AND c.relname !~ ''''`,
  ],
  [
    "a view's option",
    `'ALTER VIEW %I.%I SET (check_option = local)', ${TABLE}`,
    `${RELATIONS} AND c.relkind = 'v' AND pg_relation_is_updatable(c.oid, false) <> 0`,
  ],
  ["a comment on a view", `'COMMENT ON VIEW %I.%I IS ''another''', ${TABLE}`, `${RELATIONS} AND c.relkind = 'v'`],
  [
    "a materialized view emptied",
    `'REFRESH MATERIALIZED VIEW %I.%I WITH NO DATA', ${TABLE}`,
    `${RELATIONS} AND c.relkind = 'm' AND c.relispopulated`,
  ],
  [
    "a target of extended statistics",
    "'ALTER STATISTICS %I.%I SET STATISTICS 1234', n.nspname, s.stxname",
    "pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace",
  ],
  [
    "a domain's default",
    "'ALTER DOMAIN %I.%I SET DEFAULT NULL', n.nspname, t.typname",
    "pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND t.typtype = 'd' AND t.typdefault IS NOT NULL AND n.nspname <> 'information_schema'",
  ],
  [
    "a domain's check",
    "'ALTER DOMAIN %I.%I DROP CONSTRAINT %I', n.nspname, t.typname, k.conname",
    "pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace AND n.nspname <> 'information_schema'",
  ],
  [
    "a label of an enum",
    "'ALTER TYPE %I.%I ADD VALUE ''planted''', n.nspname, t.typname",
    "pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace AND t.typtype = 'e'",
  ],
  [
    "a function's cost",
    "'ALTER ROUTINE %s COST 4321', p.oid::regprocedure",
    "pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND p.prokind = 'f' AND n.nspname !~ '^(pg_|information_schema$|public$|sectorwars_stack$|Helper)'",
  ],
];

/** Returns a query for all differences that can be planted in a database. */
export const RANDOM_PLANTS = KINDS.map(
  ([what, statement, from]) =>
    `SELECT n.nspname::text AS schema, '${what.replaceAll("'", "''")}' AS what, format(${statement}) AS sql FROM ${from.replace(
      /ROWS/,
      "(xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM ONLY %I.%I', n.nspname, c.relname), false, true, '')))[1]::text::int > 0",
    )}`,
).join("\nUNION ALL ");
