/** The middle of the import: rows, keys and indexes of all tables, each table proven as soon as it is in. */
import type pg from "pg";
import { ident, qualified } from "../../lib/postgres.ts";
import type { Entry } from "./dump-entries.ts";
import type { Progress } from "./progress.ts";
import { proveTable } from "./proof.ts";
import { copyTable, type RowsObserver, type Transfer } from "./rows.ts";
import { runTasks, type Task } from "./schedule.ts";
import { makeEntry } from "./schema.ts";
import type { Table, TableProof } from "./types.ts";

/** A worker's own connections: one end of the pipe and the other. */
export interface Ends {
  source: pg.Client;
  target: pg.Client;
}

/** Which table an index or a key belongs to: dumps name the one by its own name, the other by both. */
export interface Belonging {
  /** Schema and index, or schema and `table constraint`, as the dump's entries spell them, to the table's SQL name. */
  indexes: Map<string, string>;
  constraints: Map<string, string>;
}

const BELONGING = `
  SELECT n.nspname AS schema, t.relname AS table, i.relname AS index, c.conname AS constraint
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_class t ON t.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype IN ('p', 'u', 'x')
  WHERE t.relkind = 'r'`;

/** A schema and a name as one key. Any sign may stand in a name, so they are not simply strung together. */
export const entryKey = (schema: string, name: string): string => JSON.stringify([schema, name]);

/** Reads from the source's catalog which table each index serves. */
export async function readBelonging(client: pg.Client): Promise<Belonging> {
  const { rows } = await client.query(BELONGING);
  const belonging: Belonging = { indexes: new Map(), constraints: new Map() };
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

/**
 * Deals the entries out to their tables; what belongs to no single table, or must wait for others, is the rest, in the
 * dump's order.
 */
export function planTables(tables: Table[], entries: Entry[], { indexes, constraints }: Belonging) {
  const plans = new Map<string, TablePlan>(tables.map((table) => [table.sql, { table, keys: [], indexes: [] }]));
  const rest: Entry[] = [];
  for (const entry of entries) {
    const own = entryKey(entry.schema, entry.name);
    if (entry.type === "INDEX") plans.get(indexes.get(own) ?? "")?.indexes.push(entry) ?? rest.push(entry);
    else if (entry.type === "CONSTRAINT") plans.get(constraints.get(own) ?? "")?.keys.push(entry) ?? rest.push(entry);
    else rest.push(entry);
  }
  return { plans: [...plans.values()], rest };
}

/**
 * How long a byte of a table takes in one task or another, roughly: what takes longest starts first, or the last worker would
 * be left with it alone. Indexes that take rows apart (GIN above all) take longer than all else, a b-tree less than the proof.
 */
const ROWS_COST = 2;
const PROOF_COST = 2;
const indexCost = ({ sql }: Entry): number => (/ USING (gin|gist|spgist) /.test(sql) ? 4 : 1);

/** What the tasks of a load share. */
export interface LoadContext {
  owner: string;
  progress: Progress;
  /** Told of each table when its rows are in, before they are proven. A test may look, or spoil. */
  onLoaded?: (table: Table) => Promise<void>;
  /** Looks at a table's rows on their way. Asked when its turn comes. */
  observe?: (table: Table) => RowsObserver;
}

/**
 * Rows first, then keys (they lock the table, so nothing else of that table runs beside them), then indexes and the proof
 * side by side: both only read. Largest tables first, or the last worker would sit with the largest alone.
 */
export async function loadTables(plans: TablePlan[], ends: Ends[], context: LoadContext): Promise<TableProof[]> {
  const { owner, progress, onLoaded, observe } = context;
  const proofs = new Map<string, TableProof>();
  const sent = new Map<string, Transfer & { seconds: number }>();
  const asOwner = async (target: pg.Client, entry: Entry) => {
    await target.query(`SET ROLE ${ident(owner)}`);
    await makeEntry(target, entry);
    await target.query("RESET ROLE");
  };

  const tasks = plans.flatMap(({ table, keys, indexes }): Task<Ends>[] => {
    const loaded = `rows of ${table.sql}`;
    const keyed = `keys of ${table.sql}`;
    return [
      {
        name: loaded,
        after: [],
        cost: ROWS_COST * table.bytes,
        run: async ({ source, target }) => {
          const end = progress.begin(`rows ${table.schema}.${table.name}`);
          const transfer = await copyTable(
            table,
            source,
            target,
            (bytes) => progress.count(table, bytes),
            observe?.(table),
          );
          sent.set(table.sql, { ...transfer, seconds: end() });
          progress.loaded(transfer.rows);
        },
      },
      {
        name: keyed,
        after: [loaded],
        cost: PROOF_COST * table.bytes,
        run: async ({ target }) => {
          await onLoaded?.(table);
          const end = progress.begin(`keys ${table.schema}.${table.name}`);
          for (const key of keys) await asOwner(target, key);
          end();
        },
      },
      {
        name: `proof of ${table.sql}`,
        after: [keyed],
        cost: PROOF_COST * table.bytes,
        run: async ({ source, target }) => {
          const { seconds, ...transfer } = sent.get(table.sql) as Transfer & { seconds: number };
          const end = progress.begin(`proof ${table.schema}.${table.name}`);
          const proof = await proveTable(table, transfer, seconds, source, target);
          end();
          proofs.set(table.sql, proof);
        },
      },
      ...indexes.map((entry) => ({
        name: `index ${entry.schema}.${entry.name}`,
        after: [keyed],
        cost: indexCost(entry) * table.bytes,
        run: async ({ target }: Ends) => {
          const end = progress.begin(`index ${entry.schema}.${entry.name}`);
          await asOwner(target, entry);
          end();
        },
      })),
    ];
  });
  await runTasks(tasks, ends);
  return plans.map(({ table }) => {
    const proof = proofs.get(table.sql);
    if (proof === undefined) throw new Error(`${table.sql} was not proven; this is an error of this program`);
    return proof;
  });
}

/** Everything else in the dump's order: foreign keys, triggers, rules, policies, comments, materialised views. */
export async function makeRest(client: pg.Client, rest: Entry[], owner: string): Promise<void> {
  await client.query(`BEGIN; SET LOCAL ROLE ${ident(owner)}`);
  for (const entry of rest) await makeEntry(client, entry);
  await client.query("COMMIT");
}
