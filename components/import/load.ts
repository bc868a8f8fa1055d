/** The middle of the import: rows, keys and indexes of all tables, each table proven as soon as it is in. */
import type pg from "pg";
import { qualified } from "../../lib/postgres.ts";
import type { DigestProgram } from "./digest.ts";
import type { Entry } from "./dump-entries.ts";
import type { Progress } from "./progress.ts";
import { proveTable } from "./proof.ts";
import { copyTable, fillTable, type RowsObserver, readSmallTables, type Transfer } from "./rows.ts";
import { runTasks, type Task } from "./schedule.ts";
import { makeEntry } from "./schema.ts";
import type { Table, TableProof } from "./types.ts";

/** A worker's own connections: one end of the pipe and the other. */
export interface Ends {
  source: pg.Client;
  /** Logged in as the owner: rows are loaded, and keys, indexes and statistics are made in it. */
  target: pg.Client;
  /** The superuser's, in which nothing of the source's code runs: it has the server read tables out. */
  superuser: pg.Client;
}

/** Which table an index or a key belongs to: dumps name the one by its own name, the other by both. */
export interface Belonging {
  /** Schema and index, or schema and `table constraint`, as the dump's entries spell them, to the table's SQL name. */
  indexes: Map<string, string>;
  constraints: Map<string, string>;
  /** A foreign key's two tables, by schema and `table constraint`. */
  references: Map<string, [string, string]>;
}

const BELONGING = `
  SELECT n.nspname AS schema, t.relname AS table, i.relname AS index, c.conname AS constraint
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype IN ('p', 'u', 'x')
  WHERE t.relkind = 'r'`;

/** Foreign keys between ordinary tables; what partitioned tables and their partitions refer to is several tables' business. */
const REFERENCES = `
  SELECT n.nspname AS schema, t.relname AS table, c.conname AS constraint, fn.nspname AS other_schema, f.relname AS other
  FROM pg_constraint c
  JOIN pg_class t ON t.oid = c.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_class f ON f.oid = c.confrelid
  JOIN pg_namespace fn ON fn.oid = f.relnamespace
  WHERE c.contype = 'f' AND t.relkind = 'r' AND f.relkind = 'r' AND NOT t.relispartition AND NOT f.relispartition`;

/**
 * A schema and a name as one key. Any sign may stand in a name, so they are not simply strung together. The headers of a dump
 * have a space in place of the end of a line.
 */
export const entryKey = (schema: string, name: string): string =>
  JSON.stringify([schema, name].map((text) => text.replaceAll(/[\n\r]/g, " ")));

/** Reads from the source's catalog which table each index serves. */
export async function readBelonging(client: pg.Client): Promise<Belonging> {
  const { rows } = await client.query(BELONGING);
  const references = await client.query(REFERENCES);
  const belonging: Belonging = {
    indexes: new Map(),
    constraints: new Map(),
    references: new Map(
      references.rows.map((row) => [
        entryKey(row.schema, `${row.table} ${row.constraint}`),
        [qualified(row.schema, row.table), qualified(row.other_schema, row.other)],
      ]),
    ),
  };
  for (const row of rows) {
    const table = qualified(row.schema, row.table);
    if (row.constraint === null) belonging.indexes.set(entryKey(row.schema, row.index), table);
    else belonging.constraints.set(entryKey(row.schema, `${row.table} ${row.constraint}`), table);
  }
  return belonging;
}

/** What one table needs behind its rows. */
interface TablePlan {
  table: Table;
  keys: Entry[];
  indexes: Entry[];
}

/** A foreign key, and the tables that must be whole before it can be checked. */
interface ForeignKey {
  entry: Entry;
  tables: [string, string];
}

/** All that is made beside the rows. */
export type LoadPlan = Pick<ReturnType<typeof planTables>, "plans" | "foreignKeys">;

/**
 * Deals the entries out to their tables, and foreign keys to the pairs that they join; what else is there is the rest, in the
 * dump's order.
 */
export function planTables(tables: Table[], entries: Entry[], { indexes, constraints, references }: Belonging) {
  const plans = new Map<string, TablePlan>(tables.map((table) => [table.sql, { table, keys: [], indexes: [] }]));
  const foreignKeys: ForeignKey[] = [];
  const rest: Entry[] = [];
  for (const entry of entries) {
    const own = entryKey(entry.schema, entry.name);
    if (entry.type === "INDEX") plans.get(indexes.get(own) ?? "")?.indexes.push(entry) ?? rest.push(entry);
    else if (entry.type === "CONSTRAINT") plans.get(constraints.get(own) ?? "")?.keys.push(entry) ?? rest.push(entry);
    else if (entry.type === "FK CONSTRAINT") {
      const both = references.get(own);
      if (both?.every((table) => plans.has(table))) foreignKeys.push({ entry, tables: both });
      else rest.push(entry);
    } else rest.push(entry);
  }
  return { plans: [...plans.values()], foreignKeys, rest };
}

/**
 * How long a byte of a table takes in one task or another, roughly. Indexes that take rows apart (GIN above all) take longer
 * than all else, a b-tree less than the proof.
 */
const ROWS_COST = 2;
const PROOF_COST = 2;
const KEYS_COST = 1;
const indexCost = ({ sql }: Entry): number => (/ USING (gin|gist|spgist) /.test(sql) ? 8 : 1);

/** Tables up to this size are read many at a time, bytes on the source's disk. */
const SMALL_TABLE_BYTES = 256 * 1024;
/** Small tables in one round trip. Their rows are in memory for a moment. */
const BATCH_TABLES = 24;

/** The plans in the groups whose rows are read together: large tables alone, small ones by the batch. */
export function batchesOf(plans: readonly TablePlan[]): TablePlan[][] {
  const large = plans.filter(({ table }) => table.bytes > SMALL_TABLE_BYTES).map((plan) => [plan]);
  const small = plans.filter(({ table }) => table.bytes <= SMALL_TABLE_BYTES);
  const count = Math.ceil(small.length / BATCH_TABLES);
  return [...large, ...Array.from({ length: count }, (_, n) => small.slice(n * BATCH_TABLES, (n + 1) * BATCH_TABLES))];
}

/** What the tasks of a load share. */
export interface LoadContext {
  progress: Progress;
  /** Told of each table when its rows are in, before they are proven. A test may look, or spoil. */
  onLoaded?: (table: Table) => Promise<void>;
  /** Looks at a table's rows on their way. Asked when its turn comes. */
  observe?: (table: Table) => RowsObserver;
  /** Computes digests on the target's server; without one, the proof reads all rows back. */
  digestProgram?: DigestProgram;
}

/**
 * Rows first, then keys (they lock the table, so nothing else of that table runs beside them), then indexes and the proof
 * side by side: both only read. Statistics and foreign keys come when their tables are whole, while others are still worked on.
 */
export async function loadTables(load: LoadPlan, ends: Ends[], context: LoadContext): Promise<TableProof[]> {
  const proofs = new Map<string, TableProof>();
  const tasks = [
    ...batchesOf(load.plans).flatMap((batch) => tableTasks(batch, context, proofs)),
    ...load.foreignKeys.map((key) => foreignKeyTask(key, load.plans, proofs)),
  ];
  await runTasks(tasks, ends);
  return load.plans.map(({ table }) => {
    const proof = proofs.get(table.sql);
    if (proof === undefined) throw new Error(`${table.sql} was not proven; this is an error of this program`);
    return proof;
  });
}

async function makeEntries(target: pg.Client, entries: readonly Entry[]): Promise<void> {
  for (const entry of entries) await makeEntry(target, entry);
}

const nameOf = ({ schema, name }: Table) => `${schema}.${name}`;
const proofTask = ({ sql }: Table) => `proof of ${sql}`;
const indexTask = ({ schema, name }: Entry) => `index ${schema}.${name}`;
/** Names of the tasks behind which a table is whole. */
const wholeness = ({ table, indexes }: TablePlan) => [`keys of ${table.sql}`, ...indexes.map(indexTask)];

function tableTasks(
  batch: readonly TablePlan[],
  { progress, onLoaded, observe, digestProgram }: LoadContext,
  proofs: Map<string, TableProof>,
): Task<Ends>[] {
  const sent = new Map<string, Transfer & { seconds: number }>();
  const loaded = `rows of ${batch.map(({ table }) => table.sql).join(", ")}`;
  const spanned = async (name: string, work: () => Promise<void>) => {
    const end = progress.begin(name);
    await work();
    end();
  };
  const readRows = async ({ source, target }: Ends) => {
    const tables = batch.map(({ table }) => table);
    const inMemory = tables.length > 1 ? await readSmallTables(tables, source) : [];
    for (const [index, table] of tables.entries()) {
      const count = (bytes: number) => progress.count(table, bytes);
      const read = inMemory[index];
      const end = progress.begin(`rows ${nameOf(table)}`);
      const transfer = read
        ? await fillTable(table, read, target, count, observe?.(table))
        : await copyTable(table, source, target, count, observe?.(table));
      sent.set(table.sql, { ...transfer, seconds: end() });
      progress.loaded(transfer.rows);
    }
  };

  return [
    {
      name: loaded,
      after: [],
      cost: batch.reduce((sum, { table }) => sum + ROWS_COST * table.bytes, 0),
      run: readRows,
    },
    ...batch.flatMap((plan): Task<Ends>[] => {
      const { table, keys, indexes } = plan;
      const keyed = `keys of ${table.sql}`;
      return [
        {
          name: keyed,
          after: [loaded],
          cost: keys.length * KEYS_COST * table.bytes,
          run: async ({ target }) => {
            await onLoaded?.(table);
            await spanned(`keys ${nameOf(table)}`, () => makeEntries(target, keys));
          },
        },
        {
          name: proofTask(table),
          after: [keyed],
          cost: PROOF_COST * table.bytes,
          run: async (ends) => {
            const { seconds, ...transfer } = sent.get(table.sql) as Transfer & { seconds: number };
            await spanned(`proof ${nameOf(table)}`, async () => {
              proofs.set(table.sql, await proveTable(table, transfer, seconds, ends, digestProgram));
            });
          },
        },
        ...indexes.map((entry) => ({
          name: indexTask(entry),
          after: [keyed],
          cost: indexCost(entry) * table.bytes,
          run: async ({ target }: Ends) => {
            await spanned(indexTask(entry), () => makeEntry(target, entry));
          },
        })),
        {
          name: `statistics of ${table.sql}`,
          after: wholeness(plan),
          cost: 0,
          run: async ({ target }) => void (await target.query(`ANALYZE ${table.sql}`)),
        },
      ];
    }),
  ];
}

/** Foreign keys lock both tables, one after the other: side by side, two of them could wait for each other. */
function foreignKeyTask(
  { entry, tables }: ForeignKey,
  plans: readonly TablePlan[],
  proofs: ReadonlyMap<string, TableProof>,
): Task<Ends> {
  const both = plans.filter(({ table }) => tables.includes(table.sql));
  return {
    name: `foreign key ${entry.schema}.${entry.name}`,
    after: both.flatMap((plan) => [...wholeness(plan), proofTask(plan.table)]),
    cost: Math.max(...both.map(({ table }) => table.bytes)),
    lane: "foreign keys",
    run: async ({ target }) => {
      // Rows that are not the source's may break the key; what is wrong with them says more than that it is broken.
      if (both.some(({ table }) => proofs.get(table.sql)?.verdict === "different")) return;
      await makeEntry(target, entry);
    },
  };
}

/**
 * Statistics of what has no rows of its own to copy, and so no task: partitioned tables, materialised views; and of tables whose
 * extended statistics were made after their rows were counted.
 * @param client logged in as the owner: expressions in statistics run.
 */
export async function analyzeOthers(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ schema: string; name: string }>(`
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (c.relkind IN ('p', 'm') OR EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)) AND n.nspname NOT IN ('pg_catalog', 'information_schema')`);
  if (rows.length > 0) await client.query(`ANALYZE ${rows.map((row) => qualified(row.schema, row.name)).join(", ")}`);
}

/** Everything else in the dump's order: triggers, rules, policies, comments, foreign keys of partitioned tables. */
export async function makeRest(client: pg.Client, rest: Entry[]): Promise<void> {
  await client.query("BEGIN");
  for (const entry of rest) await makeEntry(client, entry);
  await client.query("COMMIT");
}
