/**
 * Tables that inherit, with their columns in the source's order. pg_dump writes `CREATE TABLE child (...) INHERITS (parent)`, which
 * puts all inherited columns first: `SELECT *` and `INSERT` without a list of columns would mean something else on the target.
 */
import type pg from "pg";
import { ident, qualified } from "../../lib/postgres.ts";
import { isUsers } from "./catalog.ts";
import type { Entry } from "./dump-entries.ts";
import { entryKey } from "./load.ts";
import type { Schema } from "./schema.ts";

/** A column of a table that inherits, as the catalog has it. */
export interface InheritingColumn {
  name: string;
  /** With its modifier, and the collation where it is not the type's own. */
  type: string;
  notNull: boolean;
  /** Expression of a generated column. */
  generated: string | null;
  /** Expression of any other column's default. */
  default: string | null;
  /** Declared by the table itself, whether or not a parent has it, too. */
  local: boolean;
  /** Comes from a parent. */
  inherited: boolean;
}

/** A CHECK constraint of such a table. */
interface Check {
  name: string;
  definition: string;
  local: boolean;
}

/** A table that inherits. */
export interface InheritingTable {
  schema: string;
  name: string;
  unlogged: boolean;
  /** Storage parameters as WITH takes them; empty for none. */
  options: string;
  columns: InheritingColumn[];
  checks: Check[];
  /** In the order in which the table inherits from them. */
  parents: { schema: string; name: string; columns: string[] }[];
}

const COLUMN_NAMES = (table: string) => `
  (SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute a
   WHERE a.attrelid = ${table} AND a.attnum > 0 AND NOT a.attisdropped)`;

/**
 * A constraint is still a parent's. `ALTER TABLE ONLY parent DROP COLUMN` leaves one behind that says to be inherited and is nobody's;
 * pg_dump writes none of that kind.
 */
const OF_A_PARENT = `EXISTS (
  SELECT FROM pg_constraint p JOIN pg_inherits i ON i.inhparent = p.conrelid
  WHERE i.inhrelid = k.conrelid AND p.contype = 'c' AND p.conname = k.conname)`;

const INHERITING = `
  SELECT n.nspname AS schema, c.relname AS name, c.relpersistence = 'u' AS unlogged,
    concat_ws(', ',
      (SELECT string_agg(format('%I = %L', o.option_name, o.option_value), ', ') FROM pg_options_to_table(c.reloptions) o),
      (SELECT string_agg(format('toast.%I = %L', o.option_name, o.option_value), ', ')
         FROM pg_class t, pg_options_to_table(t.reloptions) o WHERE t.oid = c.reltoastrelid)) AS options,
    (SELECT json_agg(json_build_object(
         'name', a.attname,
         'type', format_type(a.atttypid, a.atttypmod) || coalesce((
            SELECT format(' COLLATE %I.%I', cn.nspname, l.collname) FROM pg_collation l JOIN pg_namespace cn ON cn.oid = l.collnamespace
            WHERE l.oid = a.attcollation AND a.attcollation <> t.typcollation), ''),
         'notNull', a.attnotnull, 'local', a.attislocal, 'inherited', a.attinhcount > 0,
         'generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END,
         'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END) ORDER BY a.attnum)
       FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
       LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
    (SELECT coalesce(json_agg(json_build_object(
         'name', k.conname, 'definition', pg_get_constraintdef(k.oid), 'local', k.conislocal) ORDER BY k.conname), '[]')
       FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated AND (k.conislocal OR ${OF_A_PARENT})) AS checks,
    (SELECT json_agg(json_build_object('schema', pn.nspname, 'name', p.relname, 'columns', ${COLUMN_NAMES("p.oid")}) ORDER BY i.inhseqno)
       FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
       WHERE i.inhrelid = c.oid) AS parents
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND NOT c.relispartition AND ${isUsers("n.nspname")}
    AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)`;

/** The order in which a table has its columns when it is made as pg_dump writes it: the parents' columns first, each once. */
export function dumpedOrder({ columns, parents }: Pick<InheritingTable, "columns" | "parents">): string[] {
  const own = columns.map(({ name }) => name);
  const there = new Set(own);
  const inherited = parents.flatMap((parent) => parent.columns).filter((name) => there.has(name));
  return [...new Set([...inherited, ...own])];
}

const isReordered = (table: InheritingTable): boolean =>
  table.columns.map(({ name }) => name).join("\n") !== dumpedOrder(table).join("\n");

/** What follows the first statement of an entry: pg_dump's own ALTER TABLEs. Only strings and quoted names hold other semicolons. */
function statementsBehind(sql: string): string {
  const end = [...sql.matchAll(/'[^']*'|"[^"]*"|;/g)].find(([text]) => text === ";");
  return end === undefined ? "" : sql.slice(end.index + 1).trim();
}

/** Parent of a table while it is made. */
const HELPER = "sectorwars_column_order";

/**
 * SQL that makes a table with its columns in the source's order, and each of them local or inherited as there. Columns that are
 * inherited alone come from a parent of this function's own, which gets them one after the other; the real parents take the
 * columns over, and the helper goes. (`pg_dump --binary-upgrade` writes pg_attribute instead, which takes a superuser.)
 * @param sql pg_dump's entry for the table.
 * @param apart whether the dump has another entry for a column's default (`DEFAULT`) or a constraint (`CHECK CONSTRAINT`).
 */
export function orderedTableSql(
  table: InheritingTable,
  sql: string,
  apart: (type: "DEFAULT" | "CHECK CONSTRAINT", name: string) => boolean,
): string {
  const { schema, name, columns, checks, parents } = table;
  const child = qualified(schema, name);
  const helper = qualified(schema, HELPER);
  const kind = table.unlogged ? "UNLOGGED TABLE" : "TABLE";
  const define = (column: InheritingColumn) =>
    `ADD COLUMN ${ident(column.name)} ${column.type}` +
    (column.generated === null ? "" : ` GENERATED ALWAYS AS (${column.generated}) STORED`) +
    (column.notNull ? " NOT NULL" : "");
  const made = checks.filter((check) => !apart("CHECK CONSTRAINT", check.name));
  const addCheck = (check: Check) => `ADD CONSTRAINT ${ident(check.name)} ${check.definition}`;
  // What is inherited may speak of any column that is.
  const merged = columns.filter(({ local, inherited }) => local && inherited);
  return [
    `CREATE ${kind} ${helper} ()`,
    `CREATE ${kind} ${child} () INHERITS (${helper})`,
    ...columns.flatMap((column) =>
      column.local
        ? [
            `ALTER TABLE ${child} ${define(column)}`,
            ...(merged.includes(column)
              ? [`ALTER TABLE ${helper} ADD COLUMN ${ident(column.name)} ${column.type}`]
              : []),
          ]
        : [`ALTER TABLE ${helper} ${define(column)}`],
    ),
    ...columns
      .filter((column) => column.local && column.default !== null && !apart("DEFAULT", column.name))
      .map((column) => `ALTER TABLE ONLY ${child} ALTER COLUMN ${ident(column.name)} SET DEFAULT ${column.default}`),
    ...made.map((check) => `ALTER TABLE ${check.local ? child : helper} ${addCheck(check)}`),
    ...parents.map((parent) => `ALTER TABLE ${child} INHERIT ${qualified(parent.schema, parent.name)}`),
    `ALTER TABLE ${child} NO INHERIT ${helper}`,
    // Only now does it have columns, and with them a TOAST table that may have options, too.
    table.options === "" ? "" : `ALTER TABLE ${child} SET (${table.options})`,
    `DROP TABLE ${helper}`,
    statementsBehind(sql),
  ]
    .filter((statement) => statement !== "")
    .map((statement) => statement.replace(/;?$/, ";"))
    .join("\n");
}

/**
 * SQL that takes away the defaults which `CREATE TABLE child (...) INHERITS (parent)` has copied and the child does not have on the source;
 * empty for none. pg_dump says `DEFAULT NULL` only for some of them: a grandchild gets the default that its parent loses later on.
 */
export function dropInheritedDefaults({ schema, name, columns }: InheritingTable): string {
  const without = columns.filter((column) => column.inherited && column.default === null && column.generated === null);
  if (without.length === 0) return "";
  const actions = without.map((column) => `ALTER COLUMN ${ident(column.name)} DROP DEFAULT`);
  return `\nALTER TABLE ONLY ${qualified(schema, name)} ${actions.join(", ")};`;
}

/**
 * Gives the entries of tables that inherit what makes their columns as the source has them: in its order, where pg_dump would put them into
 * another, and without a default that they do not have there.
 * @param source a session inside the snapshot in which the schema was dumped.
 */
export async function keepInheritedColumns<S extends Schema>(schema: S, source: pg.Client): Promise<S> {
  const { before, after } = schema;
  const { rows } = await source.query<InheritingTable>(INHERITING);
  if (rows.length === 0) return schema;
  const keyOf = (type: string, schema: string, name: string) => `${type} ${entryKey(schema, name)}`;
  const entries = new Set([...before, ...after].map((entry) => keyOf(entry.type, entry.schema, entry.name)));
  const tables = new Map(rows.map((table) => [entryKey(table.schema, table.name), table]));
  const withColumns = (entry: Entry): Entry => {
    const table = entry.type === "TABLE" ? tables.get(entryKey(entry.schema, entry.name)) : undefined;
    if (table === undefined) return entry;
    if (!isReordered(table)) return { ...entry, made: entry.sql + dropInheritedDefaults(table) };
    const relations = [table, ...table.parents];
    const apart = (type: string, name: string) =>
      relations.some((relation) => entries.has(keyOf(type, relation.schema, `${relation.name} ${name}`)));
    const apartHere = (type: string, name: string) => entries.has(keyOf(type, table.schema, `${table.name} ${name}`));
    const made = orderedTableSql(table, entry.sql, (type, name) =>
      type === "DEFAULT" ? apartHere(type, name) : apart(type, name),
    );
    return { ...entry, made };
  };
  return { ...schema, before: before.map(withColumns) };
}
