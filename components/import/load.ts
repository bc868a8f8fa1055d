/** The middle of the import: rows, keys and indexes of all tables, each table proven as soon as it is in. */
import type pg from "pg";
import { qualified } from "../../lib/postgres.ts";
import type { DigestProgram } from "./digest.ts";
import type { Entry } from "./dump-entries.ts";
import type { Attempts } from "./failures.ts";
import type { Progress } from "./progress.ts";
import { proveTable } from "./proof.ts";
import { copyTable, fillTable, type RowsObserver, readSmallTables, type SentRows, type Transfer } from "./rows.ts";
import { runTasks, type Task } from "./schedule.ts";
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

const NAME = String.raw`(?:[\w$\u0080-\uffff]+|"(?:[^"]|"")+")`;
const MARKS = new RegExp(
  String.raw`(?:\n+ALTER TABLE (?:ONLY )?${NAME}\.${NAME} (?:CLUSTER ON|REPLICA IDENTITY USING INDEX) ${NAME};)+$`,
);

/**
 * Takes an index apart from what pg_dump writes with it: that the table is clustered on it, or is known by it in replication. Both lock the
 * table against everything, so two indexes that are built side by side would wait for each other.
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
 * Deals the entries out to their tables, and foreign keys to the pairs that they join; what else is there is the rest, in the
 * dump's order.
 */
export function planTables(tables: Table[], entries: Entry[], { indexes, constraints, references }: Belonging) {
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
  /** Takes note of objects that fail, and knows the source's search path. */
  attempts: Attempts;
  /** Opens another session that sees the snapshot, in place of one in the middle of a table that the target refused. */
  reopen: () => Promise<pg.Client>;
  /** Computes digests on the target's server; without one, the proof reads all rows back. */
  digestProgram?: DigestProgram;
}

/** What the tasks of one load tell each other. */
interface Outcome {
  proofs: Map<string, TableProof>;
  /** Tables whose rows the target refused. */
  refused: Set<string>;
  /** Tables whose rows or keys it refused: what builds on them would only fail, too. */
  broken: Set<string>;
  /** Foreign keys that have been made, or tried. */
  tied: Set<ForeignKey>;
}

/**
 * Rows first, then keys (they lock the table, so nothing else of that table runs beside them), then indexes and the proof
 * side by side: both only read. Statistics and foreign keys come when their tables are whole, while others are still worked on.
 */
export async function loadTables(load: LoadPlan, ends: Ends[], context: LoadContext): Promise<TableProof[]> {
  const outcome: Outcome = { proofs: new Map(), refused: new Set(), broken: new Set(), tied: new Set() };
  const { attempts } = context;
  // A condition may look into other tables: tables that were refused are tried again when the others are in.
  for (let plans = load.plans; plans.length > 0; ) {
    outcome.refused.clear();
    outcome.broken.clear();
    const foreignKeys = load.foreignKeys.filter((key) => !outcome.tied.has(key));
    const tasks = [
      ...batchesOf(plans).flatMap((batch) => tableTasks(batch, context, outcome)),
      ...foreignKeys.map((key) => foreignKeyTask(key, plans, outcome, attempts)),
    ];
    await runTasks(tasks, ends);
    const refused = plans.filter(({ table }) => outcome.refused.has(table.sql));
    if (refused.length === plans.length) break;
    attempts.forget(new Set(refused.map(({ table }) => rowsObject(table))));
    plans = refused;
  }
  if (attempts.failures.length > 0) {
    for (const { table, verdict, differences } of outcome.proofs.values()) {
      if (verdict !== "different") continue;
      const message = `the copy differs from the source: ${differences?.join("; ")}`;
      attempts.failures.push({ object: `table ${table}`, message, remedy: "Run pulumi up again" });
    }
  }
  attempts.check("Not everything could be loaded, so the copy was thrown away; the target is as it was");
  return load.plans.map(({ table }) => {
    const proof = outcome.proofs.get(table.sql);
    if (proof === undefined) throw new Error(`${table.sql} was not proven; this is an error of this program`);
    return proof;
  });
}

/**
 * Copies a table's rows into the target; once more with the source's search path, should a function that runs on the way find a name
 * by it.
 * @param memory gives the rows where they were read already.
 * @returns nothing for a table that the target refused, which is noted.
 */
async function loadRows(
  table: Table,
  ends: Ends,
  memory: (() => SentRows) | undefined,
  { progress, observe, attempts, reopen }: LoadContext,
): Promise<Transfer | undefined> {
  const what = { object: rowsObject(table), schema: table.schema };
  const count = (bytes: number) => progress.count(table, bytes);
  let observer: RowsObserver | undefined;
  const send = () => {
    observer = observe?.(table);
    return memory
      ? fillTable(table, memory(), ends.target, count, observer)
      : copyTable(table, ends.source, ends.target, count, observer);
  };
  const recover = async () => {
    await ends.target.query("ROLLBACK");
    await observer?.abandon?.();
    if (memory) return;
    // It is still sending, and cannot be asked to stop without losing its snapshot.
    const lost = ends.source;
    ends.source = await reopen();
    void lost.end().catch(() => {});
  };
  try {
    return await attempts.withPath(ends.target, what, send, recover);
  } catch (error) {
    attempts.note(what.object, what.schema, error);
    return undefined;
  }
}

const nameOf = ({ schema, name }: Table) => `${schema}.${name}`;
const rowsObject = (table: Table) => `rows of ${nameOf(table)}`;
const proofTask = ({ sql }: Table) => `proof of ${sql}`;
const indexTask = ({ schema, name }: Entry) => `index ${schema}.${name}`;
/** Names of the tasks behind which a table is whole. */
const wholeness = ({ table, indexes }: TablePlan) => [`keys of ${table.sql}`, ...indexes.map(indexTask)];

function tableTasks(
  batch: readonly TablePlan[],
  context: LoadContext,
  { proofs, refused, broken }: Outcome,
): Task<Ends>[] {
  const { progress, onLoaded, attempts, digestProgram } = context;
  const sent = new Map<string, Transfer & { seconds: number }>();
  const loaded = `rows of ${batch.map(({ table }) => table.sql).join(", ")}`;
  const spanned = async (name: string, work: () => Promise<void>) => {
    const end = progress.begin(name);
    await work();
    end();
  };
  const readRows = async (ends: Ends) => {
    const tables = batch.map(({ table }) => table);
    const inMemory = tables.length > 1 ? await readSmallTables(tables, ends.source) : [];
    for (const [index, table] of tables.entries()) {
      const end = progress.begin(`rows ${nameOf(table)}`);
      const transfer = await loadRows(table, ends, inMemory[index], context);
      const seconds = end();
      if (transfer === undefined) {
        refused.add(table.sql);
        broken.add(table.sql);
        continue;
      }
      sent.set(table.sql, { ...transfer, seconds });
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
            if (broken.has(table.sql)) return;
            await onLoaded?.(table);
            await spanned(`keys ${nameOf(table)}`, async () => {
              for (const entry of keys) if (!(await attempts.makeAlone(target, entry))) broken.add(table.sql);
            });
          },
        },
        {
          name: proofTask(table),
          after: [keyed],
          cost: PROOF_COST * table.bytes,
          run: async (ends) => {
            const transferred = sent.get(table.sql);
            if (transferred === undefined) return;
            const { seconds, ...transfer } = transferred;
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
            if (!sent.has(table.sql)) return;
            await spanned(indexTask(entry), async () => void (await attempts.makeAlone(target, entry)));
          },
        })),
        {
          name: `statistics of ${table.sql}`,
          after: wholeness(plan),
          cost: 0,
          run: async ({ target }) => {
            if (sent.has(table.sql)) await analyze(target, [table], attempts);
          },
        },
      ];
    }),
  ];
}

/** Foreign keys lock both tables, one after the other: side by side, two of them could wait for each other. */
function foreignKeyTask(
  key: ForeignKey,
  plans: readonly TablePlan[],
  { proofs, broken, tied }: Outcome,
  attempts: Attempts,
): Task<Ends> {
  const { entry, tables } = key;
  const both = plans.filter(({ table }) => tables.includes(table.sql));
  return {
    name: `foreign key ${entry.schema}.${entry.name}`,
    after: both.flatMap((plan) => [...wholeness(plan), proofTask(plan.table)]),
    cost: Math.max(...both.map(({ table }) => table.bytes)),
    lane: "foreign keys",
    run: async ({ target }) => {
      // Rows that are not the source's may break the key; what is wrong with them says more than that it is broken.
      if (both.some(({ table }) => broken.has(table.sql))) return;
      tied.add(key);
      if (tables.some((table) => proofs.get(table)?.verdict === "different")) return;
      await attempts.makeAlone(target, entry);
    },
  };
}

/**
 * Statistics of what has no rows of its own to copy, and so no task: partitioned tables, materialised views; and of tables whose
 * extended statistics were made after their rows were counted.
 * @param client logged in as the owner: expressions in statistics run.
 */
export async function analyzeOthers(client: pg.Client, attempts: Attempts): Promise<void> {
  const { rows } = await client.query<{ schema: string; name: string }>(`
    SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (c.relkind IN ('p', 'm') OR EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)) AND n.nspname NOT IN ('pg_catalog', 'information_schema')`);
  const tables = rows.map(({ schema, name }) => ({ schema, name, sql: qualified(schema, name) }));
  await analyze(client, tables, attempts);
  attempts.check("Statistics cannot be computed, so the copy was thrown away; the target is as it was");
}

/** Computes statistics; those of an expression run its functions. */
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
 * Everything else in the dump's order: triggers, rules, policies, comments, foreign keys of partitioned tables.
 * @throws {Error} that lists every object that cannot be made.
 */
export async function makeRest(client: pg.Client, rest: Entry[], attempts: Attempts): Promise<void> {
  await client.query("BEGIN");
  for (const entry of rest) await attempts.makeWithin(client, entry);
  attempts.check("Not everything of the source can be made, so the copy was thrown away; the target is as it was");
  await client.query("COMMIT");
}
