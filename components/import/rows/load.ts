/** Loads rows, keys and indexes of all tables, and compares each table with the source as soon as it is loaded. */
import type pg from "pg";
import { qualified } from "../../../lib/postgres.ts";
import { runTasks, type Task } from "../../../lib/schedule.ts";
import type { Progress } from "../progress.ts";
import { type Entry, entryKey } from "../schema/dump-entries.ts";
import type { Attempts } from "../schema/failures.ts";
import type { Table, TableProof } from "../types.ts";
import type { DigestProgram } from "./digest.ts";
import { proveTable } from "./proof.ts";
import { copyTable, fillTable, type RowsObserver, readSmallTables, type SentRows, type Transfer } from "./rows.ts";

/** A worker's own connections. */
export interface WorkerConnections {
  source: pg.Client;
  /** Logged in as the owner; loads rows and creates keys, indexes and statistics. */
  target: pg.Client;
  /** Logged in as the superuser; reads tables back. No code of the source runs in it. */
  superuser: pg.Client;
}

/** The tables of indexes and keys. A dump names an index by its name alone, and a key by table and name. */
export interface TablesOfObjects {
  /** From entryKey(schema, index) to the table's SQL name. */
  indexes: Map<string, string>;
  /** From entryKey(schema, "table constraint") to the table's SQL name. */
  constraints: Map<string, string>;
  /** From entryKey(schema, "table constraint") of a foreign key to the SQL names of its two tables. */
  references: Map<string, [string, string]>;
}

const OF_TABLES = `
  SELECT n.nspname AS schema, t.relname AS table, i.relname AS index, c.conname AS constraint
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype IN ('p', 'u', 'x')
  WHERE t.relkind = 'r'`;

/** Foreign keys between ordinary tables. Those of partitioned tables depend on several tables and are created later. */
const REFERENCES = `
  SELECT n.nspname AS schema, t.relname AS table, c.conname AS constraint, fn.nspname AS other_schema, f.relname AS other
  FROM pg_constraint c
  JOIN pg_class t ON t.oid = c.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_class f ON f.oid = c.confrelid
  JOIN pg_namespace fn ON fn.oid = f.relnamespace
  WHERE c.contype = 'f' AND t.relkind = 'r' AND f.relkind = 'r' AND NOT t.relispartition AND NOT f.relispartition`;

/** Reads from the source's catalog which table each index and key belongs to. */
export async function readTablesOfObjects(client: pg.Client): Promise<TablesOfObjects> {
  const { rows } = await client.query(OF_TABLES);
  const references = await client.query(REFERENCES);
  const tablesOfObjects: TablesOfObjects = {
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
    if (row.constraint === null) tablesOfObjects.indexes.set(entryKey(row.schema, row.index), table);
    else tablesOfObjects.constraints.set(entryKey(row.schema, `${row.table} ${row.constraint}`), table);
  }
  return tablesOfObjects;
}

/** What is created on one table after its rows are loaded. */
interface TablePlan {
  table: Table;
  keys: Entry[];
  indexes: Entry[];
}

/** A foreign key, and the tables that must be complete before it can be checked. */
interface ForeignKey {
  entry: Entry;
  tables: [string, string];
}

/** The objects that are created while rows are loaded. */
export type LoadPlan = Pick<ReturnType<typeof planTables>, "plans" | "foreignKeys">;

const NAME = String.raw`(?:[\w$\u0080-\uffff]+|"(?:[^"]|"")+")`;
const MARKS = new RegExp(
  String.raw`(?:\n+ALTER TABLE (?:ONLY )?${NAME}\.${NAME} (?:CLUSTER ON|REPLICA IDENTITY USING INDEX) ${NAME};)+$`,
);

/**
 * Splits an index from the statements that pg_dump appends to it: CLUSTER ON and REPLICA IDENTITY. Both take a lock that conflicts with
 * CREATE INDEX, so they would delay indexes of the table that are built at the same time.
 */
function splitMarks(entry: Entry): { index: Entry; marks: Entry | undefined } {
  const marks = MARKS.exec(entry.sql);
  if (marks === null) return { index: entry, marks: undefined };
  return {
    index: { ...entry, sql: entry.sql.slice(0, marks.index) },
    marks: { ...entry, sql: marks[0].trim() },
  };
}

/**
 * Assigns indexes and keys to their tables, and foreign keys to both of theirs. Everything else is the rest, in the dump's order.
 */
export function planTables(tables: Table[], entries: Entry[], { indexes, constraints, references }: TablesOfObjects) {
  const plans = new Map<string, TablePlan>(tables.map((table) => [table.sql, { table, keys: [], indexes: [] }]));
  const foreignKeys: ForeignKey[] = [];
  const rest: Entry[] = [];
  for (const entry of entries) {
    const own = entryKey(entry.schema, entry.name);
    const plan = entry.type === "INDEX" ? plans.get(indexes.get(own) ?? "") : undefined;
    if (plan) {
      const { index, marks } = splitMarks(entry);
      plan.indexes.push(index);
      if (marks) rest.push(marks);
    } else if (entry.type === "INDEX") rest.push(entry);
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
 * Relative cost of one byte of a table in each kind of task. Indexes on parts of a value (GIN, for instance) take longest; a b-tree takes
 * less than the proof.
 */
const ROWS_COST = 2;
const PROOF_COST = 2;
const KEYS_COST = 1;
const indexCost = ({ sql }: Entry): number => (/ USING (gin|gist|spgist) /.test(sql) ? 8 : 1);

/** Tables of at most this size in bytes on the source's disk are read in batches. */
const SMALL_TABLE_BYTES = 256 * 1024;
/** Small tables read in one round trip. Their rows are in memory until they are loaded. */
const BATCH_TABLES = 24;

/** Groups the plans whose rows are read together: large tables alone, small ones in batches. */
export function batchesOf(plans: readonly TablePlan[]): TablePlan[][] {
  const large = plans.filter(({ table }) => table.bytes > SMALL_TABLE_BYTES).map((plan) => [plan]);
  const small = plans.filter(({ table }) => table.bytes <= SMALL_TABLE_BYTES);
  const count = Math.ceil(small.length / BATCH_TABLES);
  return [...large, ...Array.from({ length: count }, (_, n) => small.slice(n * BATCH_TABLES, (n + 1) * BATCH_TABLES))];
}

/** What the tasks of a load share. */
export interface LoadContext {
  progress: Progress;
  /** Called when a table's rows are loaded, before its keys are created. Tests read or damage the rows in it. */
  onLoaded?: (table: Table) => Promise<void>;
  /** Returns an observer of a table's rows; called when the table's turn comes. */
  observe?: (table: Table) => RowsObserver;
  /** Collects objects that fail, and has the source's search path. */
  attempts: Attempts;
  /** Opens a session in the exported snapshot, to replace a session that is still sending rows that the target rejected. */
  reopen: () => Promise<pg.Client>;
  /** Program that computes digests on the target's server; without one, the proof reads all rows back. */
  digestProgram?: DigestProgram;
}

/** Results that the tasks of one load share. */
interface Outcome {
  proofs: Map<string, TableProof>;
  /** Tables whose rows the target rejected. */
  rejected: Set<string>;
  /** Tables whose rows or keys the target rejected. The import does not create objects that depend on them. */
  broken: Set<string>;
  /** Foreign keys that were created or tried. */
  attempted: Set<ForeignKey>;
}

/**
 * Loads tables. For each one: its rows, then its keys (they lock the table, so no other task of the table runs at that time), then its
 * indexes and its proof, which only read. Statistics and foreign keys follow once their tables are complete, while other tables are loaded.
 */
export async function loadTables(
  load: LoadPlan,
  connections: WorkerConnections[],
  context: LoadContext,
): Promise<TableProof[]> {
  const outcome: Outcome = { proofs: new Map(), rejected: new Set(), broken: new Set(), attempted: new Set() };
  const { attempts } = context;
  // A CHECK constraint may read other tables, so rejected tables are tried again when the others are loaded.
  for (let plans = load.plans; plans.length > 0; ) {
    outcome.rejected.clear();
    outcome.broken.clear();
    const foreignKeys = load.foreignKeys.filter((key) => !outcome.attempted.has(key));
    const tasks = [
      ...batchesOf(plans).flatMap((batch) => tableTasks(batch, context, outcome)),
      ...foreignKeys.map((key) => foreignKeyTask(key, plans, outcome, attempts)),
    ];
    await runTasks(tasks, connections);
    const rejected = plans.filter(({ table }) => outcome.rejected.has(table.sql));
    if (rejected.length === plans.length) break;
    attempts.forget(new Set(rejected.map(({ table }) => rowsObject(table))));
    plans = rejected;
  }
  if (attempts.failures.length > 0) {
    for (const { table, verdict, differences } of outcome.proofs.values()) {
      if (verdict !== "different") continue;
      const message = `the copy differs from the source: ${differences?.join("; ")}`;
      attempts.failures.push({ object: `table ${table}`, message, remedy: "Run pulumi up again" });
    }
  }
  attempts.check("Not everything could be loaded, so the copy was dropped; the target is as it was");
  return load.plans.map(({ table }) => {
    const proof = outcome.proofs.get(table.sql);
    if (proof === undefined)
      throw new Error(`${table.sql} was not compared with the source; this is a bug in this program`);
    return proof;
  });
}

/**
 * Copies a table's rows into the target. If a function that the copy calls (in a constraint, for instance) does not find a name, copies
 * them again with the source's search path.
 * @param memory returns the rows, if they were read already.
 * @returns undefined for a table that the target rejected, which is added to the failures.
 */
async function loadRows(
  table: Table,
  connections: WorkerConnections,
  memory: (() => SentRows) | undefined,
  { progress, observe, attempts, reopen }: LoadContext,
): Promise<Transfer | undefined> {
  const what = { object: rowsObject(table), schema: table.schema };
  const count = (bytes: number) => progress.count(table, bytes);
  let observer: RowsObserver | undefined;
  const send = () => {
    observer = observe?.(table);
    return memory
      ? fillTable(table, memory(), connections.target, count, observer)
      : copyTable(table, connections.source, connections.target, count, observer);
  };
  const recover = async () => {
    await connections.target.query("ROLLBACK");
    await observer?.abandon?.();
    if (memory) return;
    // The reader is still sending. Cancelling its statement would abort the transaction and lose the snapshot.
    const lost = connections.source;
    connections.source = await reopen();
    void lost.end().catch(() => {});
  };
  try {
    return await attempts.withPath(connections.target, what, send, recover);
  } catch (error) {
    attempts.note(what.object, what.schema, error);
    return undefined;
  }
}

const nameOf = ({ schema, name }: Table) => `${schema}.${name}`;
const rowsObject = (table: Table) => `rows of ${nameOf(table)}`;
const keysName = ({ sql }: Table) => `keys of ${sql}`;
const proofName = ({ sql }: Table) => `proof of ${sql}`;
const indexName = ({ schema, name }: Entry) => `index ${schema}.${name}`;
/** Names of the tasks after which a table is complete. */
const completingTasks = ({ table, indexes }: TablePlan) => [keysName(table), ...indexes.map(indexName)];

/** What the tasks of one batch of tables share. */
interface BatchLoad extends Outcome {
  context: LoadContext;
  /** Name of the task that loads the rows of all tables of the batch. */
  loaded: string;
  /** What was sent of each table, with the seconds that it took. */
  sent: Map<string, Transfer & { seconds: number }>;
}

/** Runs a part of a task as a span of the report's timeline. */
async function inSpan(progress: Progress, name: string, work: () => Promise<unknown>): Promise<void> {
  const end = progress.begin(name);
  await work();
  end();
}

/** Returns the tasks for a batch: its rows, then each table's keys, proof, indexes and statistics. */
function tableTasks(plans: readonly TablePlan[], context: LoadContext, outcome: Outcome): Task<WorkerConnections>[] {
  const tables = plans.map(({ table }) => table);
  const loaded = `rows of ${tables.map(({ sql }) => sql).join(", ")}`;
  const batch: BatchLoad = { ...outcome, context, loaded, sent: new Map() };
  return [
    {
      name: loaded,
      after: [],
      cost: tables.reduce((sum, { bytes }) => sum + ROWS_COST * bytes, 0),
      run: (connections) => loadBatch(tables, connections, batch),
    },
    ...plans.flatMap((plan) => [
      keysTask(plan, batch),
      proofTask(plan, batch),
      ...plan.indexes.map((entry) => indexTask(entry, plan, batch)),
      statisticsTask(plan, batch),
    ]),
  ];
}

async function loadBatch(tables: readonly Table[], connections: WorkerConnections, batch: BatchLoad): Promise<void> {
  const { context, sent, rejected, broken } = batch;
  const inMemory = tables.length > 1 ? await readSmallTables(tables, connections.source) : [];
  for (const [index, table] of tables.entries()) {
    const end = context.progress.begin(`rows ${nameOf(table)}`);
    const transfer = await loadRows(table, connections, inMemory[index], context);
    const seconds = end();
    if (transfer === undefined) {
      rejected.add(table.sql);
      broken.add(table.sql);
      continue;
    }
    sent.set(table.sql, { ...transfer, seconds });
    context.progress.loaded(transfer.rows);
  }
}

function keysTask({ table, keys }: TablePlan, { context, loaded, broken }: BatchLoad): Task<WorkerConnections> {
  const { progress, onLoaded, attempts } = context;
  return {
    name: keysName(table),
    after: [loaded],
    cost: keys.length * KEYS_COST * table.bytes,
    run: async ({ target }) => {
      if (broken.has(table.sql)) return;
      await onLoaded?.(table);
      await inSpan(progress, `keys ${nameOf(table)}`, async () => {
        for (const entry of keys) if (!(await attempts.makeAlone(target, entry))) broken.add(table.sql);
      });
    },
  };
}

function proofTask({ table }: TablePlan, { context, sent, proofs }: BatchLoad): Task<WorkerConnections> {
  const { progress, digestProgram } = context;
  return {
    name: proofName(table),
    after: [keysName(table)],
    cost: PROOF_COST * table.bytes,
    run: async (connections) => {
      const transferred = sent.get(table.sql);
      if (transferred === undefined) return;
      const { seconds, ...transfer } = transferred;
      await inSpan(progress, `proof ${nameOf(table)}`, async () => {
        proofs.set(table.sql, await proveTable(table, transfer, seconds, connections, digestProgram));
      });
    },
  };
}

function indexTask(entry: Entry, { table }: TablePlan, { context, sent }: BatchLoad): Task<WorkerConnections> {
  const { progress, attempts } = context;
  return {
    name: indexName(entry),
    after: [keysName(table)],
    cost: indexCost(entry) * table.bytes,
    run: async ({ target }) => {
      if (sent.has(table.sql)) await inSpan(progress, indexName(entry), () => attempts.makeAlone(target, entry));
    },
  };
}

function statisticsTask(plan: TablePlan, { context, sent }: BatchLoad): Task<WorkerConnections> {
  const { table } = plan;
  return {
    name: `statistics of ${table.sql}`,
    after: completingTasks(plan),
    cost: 0,
    run: async ({ target }) => {
      if (sent.has(table.sql)) await analyze(target, [table], context.attempts);
    },
  };
}

/** Foreign keys lock their two tables one after the other. Two at the same time could deadlock, so they share a lane. */
function foreignKeyTask(
  key: ForeignKey,
  plans: readonly TablePlan[],
  { proofs, broken, attempted }: Outcome,
  attempts: Attempts,
): Task<WorkerConnections> {
  const { entry, tables } = key;
  const both = plans.filter(({ table }) => tables.includes(table.sql));
  return {
    name: `foreign key ${entry.schema}.${entry.name}`,
    after: both.flatMap((plan) => [...completingTasks(plan), proofName(plan.table)]),
    cost: Math.max(...both.map(({ table }) => table.bytes)),
    lane: "foreign keys",
    run: async ({ target }) => {
      // Wrong rows may violate the key; the report of the rows says more than the key's failure would.
      if (both.some(({ table }) => broken.has(table.sql))) return;
      attempted.add(key);
      if (tables.some((table) => proofs.get(table)?.verdict === "different")) return;
      await attempts.makeAlone(target, entry);
    },
  };
}

/**
 * Computes statistics of relations without a task of their own: partitioned tables, materialized views, and tables whose extended
 * statistics were created after their ANALYZE.
 * @param client logged in as the owner, because expressions in statistics run.
 */
export async function analyzeOthers(client: pg.Client, attempts: Attempts): Promise<void> {
  const { rows } = await client.query<{ schema: string; name: string }>(`
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (c.relkind IN ('p', 'm') OR EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)) AND n.nspname NOT IN ('pg_catalog', 'information_schema')`);
  const tables = rows.map(({ schema, name }) => ({ schema, name, sql: qualified(schema, name) }));
  await analyze(client, tables, attempts);
  attempts.check("Statistics cannot be computed, so the copy was dropped; the target is as it was");
}

/** Computes statistics. Statistics of an expression call its functions. */
async function analyze(
  client: pg.Client,
  tables: readonly Pick<Table, "schema" | "name" | "sql">[],
  attempts: Attempts,
): Promise<void> {
  for (const { schema, name, sql } of tables) {
    const object = `statistics of ${schema}.${name}`;
    const compute = async () => void (await client.query(`ANALYZE ${sql}`));
    await attempts.withPath(client, { object, schema }, compute).catch((error) => attempts.note(object, schema, error));
  }
}

/**
 * Creates everything else in the dump's order: triggers, rules, policies, comments, foreign keys of partitioned tables.
 * @throws {Error} that lists every object that cannot be created.
 */
export async function makeRest(client: pg.Client, rest: Entry[], attempts: Attempts): Promise<void> {
  await client.query("BEGIN");
  for (const entry of rest) await attempts.makeWithin(client, entry);
  attempts.check("Not every object of the source can be created, so the copy was dropped; the target is as it was");
  await client.query("COMMIT");
}
