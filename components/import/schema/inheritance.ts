/**
 * Creates tables that inherit with their columns in the source's order. pg_dump writes `CREATE TABLE child (...) INHERITS (parent)`,
 * which puts all inherited columns first, so `SELECT *` and `INSERT` without a column list would mean something else on the target.
 */
import type pg from "pg";
import { ident, qualified } from "../../../lib/postgres.ts";
import { isUsers } from "./catalog.ts";
import type { Entry } from "./dump-entries.ts";
import { entryKey } from "./dump-entries.ts";
import type { Schema } from "./schema.ts";

/** A column of a table that inherits, as the catalog has it. */
export interface InheritingColumn {
  name: string;
  /** With its modifier, and with the collation if it is not the type's default. */
  type: string;
  notNull: boolean;
  /** Expression of a generated column. */
  generated: string | null;
  /** Expression of any other column's default. */
  default: string | null;
  /** The table declares it itself; a parent may have it, too. */
  local: boolean;
  /** A parent has it. */
  inherited: boolean;
}

/** A CHECK constraint of a table that inherits. */
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
  /** Storage parameters in the form of WITH; may be empty. */
  options: string;
  columns: InheritingColumn[];
  checks: Check[];
  /** In the order of inheritance. */
  parents: { schema: string; name: string; columns: string[] }[];
}

const COLUMN_NAMES = (table: string) => `
  (SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute a
   WHERE a.attrelid = ${table} AND a.attnum > 0 AND NOT a.attisdropped)`;

/**
 * A condition: a parent still has the constraint. `ALTER TABLE ONLY parent DROP COLUMN` leaves a child's constraint that is marked as
 * inherited and has no parent; pg_dump does not write it.
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

/** Returns the column order of a table created with pg_dump's SQL: the parents' columns first, each once. */
export function dumpedOrder({ columns, parents }: Pick<InheritingTable, "columns" | "parents">): string[] {
  const own = columns.map(({ name }) => name);
  const there = new Set(own);
  const inherited = parents.flatMap((parent) => parent.columns).filter((name) => there.has(name));
  return [...new Set([...inherited, ...own])];
}

const isReordered = (table: InheritingTable): boolean =>
  table.columns.map(({ name }) => name).join("\n") !== dumpedOrder(table).join("\n");

/** Returns what follows an entry's first statement: pg_dump's ALTER TABLEs. Only strings and quoted names contain other semicolons. */
function trailingStatements(sql: string): string {
  const end = [...sql.matchAll(/'[^']*'|"[^"]*"|;/g)].find(([text]) => text === ";");
  return end === undefined ? "" : sql.slice(end.index + 1).trim();
}

/** Temporary parent of a table while it is created. */
const HELPER = "sectorwars_column_order";

/**
 * Returns SQL that creates a table with its columns in the source's order, each local or inherited as on the source. Columns that are
 * only inherited come from a temporary parent, to which they are added one by one; then the real parents are attached and the temporary
 * one is dropped. (`pg_dump --binary-upgrade` writes to pg_attribute instead, which needs a superuser.)
 * @param sql pg_dump's entry for the table.
 * @param apart returns whether the dump has a separate entry for a column's default (`DEFAULT`) or a constraint (`CHECK CONSTRAINT`).
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
  // The helper needs these columns, too, because inherited constraints may refer to any inherited column.
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
    // Only now does the table have columns, and with them a TOAST table, which the options may be about.
    table.options === "" ? "" : `ALTER TABLE ${child} SET (${table.options})`,
    `DROP TABLE ${helper}`,
    trailingStatements(sql),
  ]
    .filter((statement) => statement !== "")
    .map((statement) => statement.replace(/;?$/, ";"))
    .join("\n");
}

/**
 * Returns SQL that drops the defaults which `CREATE TABLE child (...) INHERITS (parent)` copies and the child does not have on the
 * source; otherwise an empty text. pg_dump writes `DEFAULT NULL` only for some of them: a grandchild gets the default that its parent
 * loses later.
 */
export function dropInheritedDefaults({ schema, name, columns }: InheritingTable): string {
  const without = columns.filter((column) => column.inherited && column.default === null && column.generated === null);
  if (without.length === 0) return "";
  const actions = without.map((column) => `ALTER COLUMN ${ident(column.name)} DROP DEFAULT`);
  return `\nALTER TABLE ONLY ${qualified(schema, name)} ${actions.join(", ")};`;
}

/**
 * Adds SQL to the entries of tables that inherit, so that their columns have the source's order and no default that the source does not
 * have.
 * @param source a session in the exported snapshot in which the schema was dumped.
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
