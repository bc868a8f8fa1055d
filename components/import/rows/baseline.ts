/**
 * The baseline: fingerprints and digests of rows, definitions and sequences of source and target, which the import stores in the
 * database that it made. A later comparison reads from it whether the source or the target has changed since.
 */
import type pg from "pg";
import { ident } from "../../../lib/postgres.ts";
import { runTasks } from "../../../lib/schedule.ts";
import { isOwnTable, STACK_SCHEMA } from "../../../lib/stack-schema.ts";
import { fromTable } from "../schema/catalog.ts";
import type { BaselineEntry, States } from "../schema/states.ts";
import { whilePrepared } from "../session/reading.ts";
import type { Table, TableProof } from "../types.ts";
import { describeSet, setFingerprint } from "./proof.ts";
import { readBack } from "./rows.ts";

/** Returns a name quoted only if it must be: readable, and still unique. */
const readable = (name: string) => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : ident(name));

/** Returns the key of a relation's rows among states. */
export const rowsOf = ({ schema, name }: Pick<Table, "schema" | "name">): string =>
  `rows of ${readable(schema)}.${readable(name)}`;

/** Returns the key of a sequence's position among states. */
export const positionOf = (sequence: string): string => `position of sequence ${sequence}`;

/** The states on source and target at the import, by object. */
export type Baseline = Map<string, BaselineEntry>;

/** Combines the states of source and target. */
export function baselineOfStates(source: States, target: States): Baseline {
  const objects = new Set([...source.keys(), ...target.keys()]);
  return new Map([...objects].map((object) => [object, { source: source.get(object), target: target.get(object) }]));
}

/** Bytes on disk, of all tables together, that are read once more for a fingerprint. That takes about 1 s. */
const FINGERPRINTED_BYTES = 128 * 1024 * 1024;

/** Returns the smallest tables, up to the budget in bytes. */
export function tablesToFingerprint(tables: readonly Table[], budget = FINGERPRINTED_BYTES): Set<Table> {
  let left = budget;
  return new Set(
    [...tables]
      .sort((a, b) => a.bytes - b.bytes)
      .filter(({ bytes }) => {
        left -= bytes;
        return left >= 0;
      }),
  );
}

const columnNames = ({ columns }: Table) => columns.map(({ name }) => name);

/** Returns the entry for rows that were read on the target. A table that was copied whole was proven equal to the source. */
function entryOfRows(table: Table, state: string): BaselineEntry {
  const columns = columnNames(table);
  return table.selected
    ? { target: state, columns, selected: table.selected.verdict }
    : { source: state, target: state, columns };
}

/**
 * Returns entries for the rows of tables that were proven equal, so one local read serves source and target and costs no traffic.
 * Small tables get a fingerprint. Large ones get the digest from the proof, which shows whether the table is unchanged.
 * @param clients sessions on the target; each works on one table at a time.
 */
export async function baselineOfRows(
  tables: readonly Table[],
  proofs: readonly TableProof[],
  clients: readonly pg.Client[],
): Promise<Baseline> {
  const baseline: Baseline = new Map();
  const small = tablesToFingerprint(tables);
  const streams = new Map(proofs.map(({ table, target }) => [table, target]));
  for (const table of tables) {
    const stream = streams.get(`${table.schema}.${table.name}`);
    if (small.has(table) || stream === undefined) continue;
    const { selected } = table;
    baseline.set(rowsOf(table), {
      stream,
      columns: columnNames(table),
      ...(selected && { selected: selected.verdict }),
    });
  }
  const tasks = [...small].map((table) => ({
    name: table.sql,
    after: [],
    cost: table.bytes,
    run: async (client: pg.Client) => {
      baseline.set(
        rowsOf(table),
        entryOfRows(table, describeSet(await setFingerprint(fromTable(table), client, table.columns))),
      );
    },
  }));
  await whilePrepared(clients, () => runTasks(tasks, clients));
  return baseline;
}

/**
 * Adds the fingerprint to the entry of a large table, if the table still has the digest that it had at the import.
 * @param table as it is on the target now.
 */
export async function completeEntry(baseline: Baseline, table: Table, target: pg.Client): Promise<void> {
  const entry = baseline.get(rowsOf(table));
  if (entry?.stream === undefined || entry.target !== undefined) return;
  if (columnNames(table).join("\n") !== entry.columns?.join("\n")) return;
  if ((await readBack(table, target)).sha256 !== entry.stream) return;
  const state = describeSet(await setFingerprint(fromTable(table), target, table.columns));
  baseline.set(rowsOf(table), { ...entry, target: state, ...(entry.selected === undefined && { source: state }) });
}

/** Writes the baseline into the staging database. */
export async function writeBaseline(client: pg.Client, baseline: Baseline): Promise<void> {
  await client.query(`
    CREATE TABLE ${STACK_SCHEMA}.import_record (
      object text PRIMARY KEY, source text, target text, columns text[], selected text, stream text,
      reworded boolean
    );
    COMMENT ON TABLE ${STACK_SCHEMA}.import_record IS 'Rows, definitions and sequences as the import left them, for ./db verify.'`);
  const rows = [...baseline].map(([object, entry]) => ({ object, ...entry }));
  await client.query(
    `INSERT INTO ${STACK_SCHEMA}.import_record
     SELECT object, source, target, columns, selected, stream, reworded
     FROM jsonb_to_recordset($1) AS r(object text, source text, target text, columns text[], selected text, stream text, reworded boolean)`,
    [JSON.stringify(rows)],
  );
}

/** Reads the baseline; undefined if an older version of this program made the import without one. */
export async function readBaseline(client: pg.Client): Promise<Baseline | undefined> {
  if (!(await isOwnTable(client, "import_record"))) return undefined;
  const found = await client.query<{ object: string; entry: BaselineEntry }>(
    `SELECT object, jsonb_strip_nulls(to_jsonb(r) - 'object') AS entry FROM ${STACK_SCHEMA}.import_record r`,
  );
  return new Map(found.rows.map(({ object, entry }) => [object, entry]));
}
