/**
 * What an import notes of both sides in the database that it made: rows, definitions and sequences, each in one word. A later
 * comparison tells from it on which side something has changed since.
 */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import { isOwnTable, STACK_SCHEMA } from "../../lib/stack-schema.ts";
import { fromTable } from "./catalog.ts";
import { describeSet, setFingerprint } from "./proof.ts";
import { whilePrepared } from "./reading.ts";
import { readBack } from "./rows.ts";
import { runTasks } from "./schedule.ts";
import type { Noted, States } from "./states.ts";
import type { Table, TableProof } from "./types.ts";

/** A name as people write it, and yet no two objects have the same: quoted only where it must be. */
const readable = (name: string) => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : ident(name));

/** How the rows of a relation are called among states. */
export const rowsOf = ({ schema, name }: Pick<Table, "schema" | "name">): string =>
  `rows of ${readable(schema)}.${readable(name)}`;

/** How a sequence's position is called among states. */
export const positionOf = (sequence: string): string => `position of sequence ${sequence}`;

/** The states of both sides at the import, by object. */
export type ImportRecord = Map<string, Noted>;

/** Puts two sides' states together. */
export function noteStates(source: States, target: States): ImportRecord {
  const objects = new Set([...source.keys(), ...target.keys()]);
  return new Map([...objects].map((object) => [object, { source: source.get(object), target: target.get(object) }]));
}

/** Bytes on disk of all tables together that are read once more to be noted: about a second's work. */
const FINGERPRINTED_BYTES = 128 * 1024 * 1024;

/** The smallest tables, as many as may be read once more. */
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

/** What is noted of rows that were read on the target. A table that came whole was proven to be the same on the source. */
function noteState(table: Table, state: string): Noted {
  const columns = columnNames(table);
  return table.selected
    ? { target: state, columns, selected: table.selected.verdict }
    : { source: state, target: state, columns };
}

/**
 * Notes tables that have been proven, so that one reading serves both sides: the local one, where it costs no traffic. Small tables
 * are noted by their fingerprint. Of large ones the proof's own reading must do: it tells whether the table is still as it was.
 * @param clients as many sessions as may work at the same time.
 */
export async function noteRows(
  tables: readonly Table[],
  proofs: readonly TableProof[],
  clients: readonly pg.Client[],
): Promise<ImportRecord> {
  const record: ImportRecord = new Map();
  const small = tablesToFingerprint(tables);
  const streams = new Map(proofs.map(({ table, target }) => [table, target]));
  for (const table of tables) {
    const stream = streams.get(`${table.schema}.${table.name}`);
    if (small.has(table) || stream === undefined) continue;
    const { selected } = table;
    record.set(rowsOf(table), { stream, columns: columnNames(table), ...(selected && { selected: selected.verdict }) });
  }
  const tasks = [...small].map((table) => ({
    name: table.sql,
    after: [],
    cost: table.bytes,
    run: async (client: pg.Client) => {
      record.set(
        rowsOf(table),
        noteState(table, describeSet(await setFingerprint(fromTable(table), client, table.columns))),
      );
    },
  }));
  await whilePrepared(clients, () => runTasks(tasks, clients));
  return record;
}

/**
 * Completes what was noted of a large table, by what it is now, where it still has the bytes that it had then.
 * @param table as it is on the target now.
 */
export async function completeNote(record: ImportRecord, table: Table, target: pg.Client): Promise<void> {
  const noted = record.get(rowsOf(table));
  if (noted?.stream === undefined || noted.target !== undefined) return;
  if (columnNames(table).join("\n") !== noted.columns?.join("\n")) return;
  if ((await readBack(table, target)).sha256 !== noted.stream) return;
  const state = describeSet(await setFingerprint(fromTable(table), target, table.columns));
  record.set(rowsOf(table), { ...noted, target: state, ...(noted.selected === undefined && { source: state }) });
}

/** Writes the record into the database that the import has made. */
export async function writeRecord(client: pg.Client, record: ImportRecord): Promise<void> {
  await client.query(`
    CREATE TABLE ${STACK_SCHEMA}.import_record (
      object text PRIMARY KEY, source text, target text, columns text[], selected text, stream text,
      reworded boolean
    );
    COMMENT ON TABLE ${STACK_SCHEMA}.import_record IS 'Rows, definitions and sequences as the import left them, for ./db verify.'`);
  const rows = [...record].map(([object, noted]) => ({ object, ...noted }));
  await client.query(
    `INSERT INTO ${STACK_SCHEMA}.import_record
     SELECT object, source, target, columns, selected, stream, reworded
     FROM jsonb_to_recordset($1) AS r(object text, source text, target text, columns text[], selected text, stream text, reworded boolean)`,
    [JSON.stringify(rows)],
  );
}

/** Reads the record; undefined where an import of an older version of this program made none. */
export async function readRecord(client: pg.Client): Promise<ImportRecord | undefined> {
  if (!(await isOwnTable(client, "import_record"))) return undefined;
  const found = await client.query<{ object: string; noted: Noted }>(
    `SELECT object, jsonb_strip_nulls(to_jsonb(r) - 'object') AS noted FROM ${STACK_SCHEMA}.import_record r`,
  );
  return new Map(found.rows.map(({ object, noted }) => [object, noted]));
}
