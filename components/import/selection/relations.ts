/** Reads what a selection needs of the source's tables: names, foreign keys and columns. */
import type pg from "pg";
import { qualified } from "../../../lib/postgres.ts";
import type { Table } from "../types.ts";
import type { MaskedColumn } from "./masks.ts";

/** A foreign key between two tables that hold rows. A partitioned table's key is listed once for each of its partitions. */
export interface ForeignKey {
  /** Name of the constraint, for messages. */
  name: string;
  child: string;
  /** The tables that may hold the referenced row: one, or all partitions of one. */
  parents: string[];
  /** Pairs of columns, with the operator that compares them, as SQL. */
  pairs: { child: string; parent: string; operator: string }[];
}

/** A table with all names by which a setting may refer to it. */
export interface Relation {
  table: Table;
  /** Its own name, and those of the partitioned tables that it belongs to. */
  names: { schema: string; name: string }[];
  columns: MaskedColumn[];
}

const NAMES = `
  SELECT n.nspname AS schema, c.relname AS name, (
    SELECT json_agg(json_build_object('schema', an.nspname, 'name', a.relname) ORDER BY a.oid <> c.oid)
    FROM pg_class a JOIN pg_namespace an ON an.oid = a.relnamespace
    WHERE a.oid = c.oid OR (c.relispartition AND a.oid IN (SELECT relid FROM pg_partition_ancestors(c.oid)))
  ) AS names
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'`;

const COLUMNS = `
  WITH RECURSIVE bases AS (
    SELECT oid, oid AS base, typtypmod AS modifier FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT t.oid, b.base, CASE WHEN t.typtypmod <> -1 THEN t.typtypmod ELSE b.modifier END
    FROM pg_type t JOIN bases b ON b.oid = t.typbasetype WHERE t.typtype = 'd'
  )
  SELECT n.nspname AS schema, c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
    t.typname AS base, t.typcategory = 'S' AS "isText", a.attnotnull AS "notNull",
    CASE WHEN t.typname IN ('varchar', 'bpchar') AND greatest(a.atttypmod, b.modifier) > 4
      THEN greatest(a.atttypmod, b.modifier) - 4 END AS "maxLength",
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
      AND (a.attnum = ANY (i.indkey::int2[]) OR (0 = ANY (i.indkey::int2[]) AND EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = c.oid
          AND d.refobjsubid = a.attnum)))) AS "unique"
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN bases b ON b.oid = a.atttypid
  JOIN pg_type t ON t.oid = b.base
  WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY a.attnum`;

const FOREIGN_KEYS = `
  SELECT k.conname AS name,
    (SELECT json_agg(json_build_object('schema', n.nspname, 'name', c.relname)) FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind = 'r' AND (c.oid = k.conrelid OR c.oid IN (SELECT relid FROM pg_partition_tree(k.conrelid)))) AS children,
    (SELECT json_agg(json_build_object('schema', n.nspname, 'name', c.relname)) FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind = 'r' AND (c.oid = k.confrelid OR c.oid IN (SELECT relid FROM pg_partition_tree(k.confrelid)))) AS parents,
    (SELECT json_agg(json_build_object('child', ca.attname, 'parent', pa.attname,
         'operator', format('OPERATOR(%I.%s)', opn.nspname, o.oprname)) ORDER BY x.n)
       FROM unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY x(c, p, o, n)
       JOIN pg_attribute ca ON ca.attrelid = k.conrelid AND ca.attnum = x.c
       JOIN pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = x.p
       JOIN pg_operator o ON o.oid = x.o JOIN pg_namespace opn ON opn.oid = o.oprnamespace) AS pairs
  FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0
  ORDER BY k.conname, k.oid`;

interface Name {
  schema: string;
  name: string;
}
const sqlOf = ({ schema, name }: Name) => qualified(schema, name);

/** Reads the names and columns of the given tables. */
export async function readRelations(client: pg.Client, tables: readonly Table[]): Promise<Relation[]> {
  const names = await client.query<Name & { names: Name[] }>(NAMES);
  const byName = new Map(names.rows.map((row) => [sqlOf(row), row.names]));
  const columns = await client.query(COLUMNS);
  const byTable = Map.groupBy(columns.rows, (row) => qualified(row.schema, row.table));
  return tables.map((table) => ({
    table,
    names: byName.get(table.sql) ?? [table],
    columns: (byTable.get(table.sql) ?? []).map(
      ({ name, type, base, isText, notNull, maxLength, unique }): MaskedColumn => ({
        ...{ name, type, base, isText, notNull, unique },
        maxLength: maxLength ?? undefined,
      }),
    ),
  }));
}

/** Reads the foreign keys, each once for every table whose rows may refer. */
export async function readForeignKeys(client: pg.Client): Promise<ForeignKey[]> {
  const { rows } = await client.query<{ name: string; children: Name[]; parents: Name[]; pairs: ForeignKey["pairs"] }>(
    FOREIGN_KEYS,
  );
  return rows.flatMap(({ name, children, parents, pairs }) =>
    (children ?? []).map((child) => ({ name, child: sqlOf(child), parents: (parents ?? []).map(sqlOf), pairs })),
  );
}
