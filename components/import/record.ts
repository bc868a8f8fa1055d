/**
 * What an import notes of both sides in the database that it made: rows, definitions and sequences, each in one word. A later
 * comparison tells from it on which side something has changed since.
 */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import { STACK_SCHEMA } from "./catalog.ts";
import { describeSet, setFingerprint } from "./proof.ts";
import { runTasks } from "./schedule.ts";
import type { Noted, States } from "./states.ts";
import type { Table } from "./types.ts";

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

/**
 * Fingerprints of tables that have been proven, so that one reading serves both sides: the local one, where it costs no
 * traffic.
 * @param clients as many sessions as may work at the same time.
 */
export async function noteRows(tables: readonly Table[], clients: readonly pg.Client[]): Promise<ImportRecord> {
  const record: ImportRecord = new Map();
  const tasks = tables.map((table) => ({
    name: table.sql,
    after: [],
    cost: table.bytes,
    run: async (client: pg.Client) => {
      const state = describeSet(await setFingerprint(`ONLY ${table.sql}`, client));
      const columns = table.columns.map(({ name }) => name);
      const { selected } = table;
      record.set(
        rowsOf(table),
        selected ? { target: state, columns, selected: selected.verdict } : { source: state, target: state, columns },
      );
    },
  }));
  await runTasks(tasks, clients);
  return record;
}

/** Writes the record into the database that the import has made. */
export async function writeRecord(client: pg.Client, record: ImportRecord): Promise<void> {
  await client.query(`
    CREATE TABLE ${STACK_SCHEMA}.import_record (
      object text PRIMARY KEY, source text, target text, columns text[], selected text
    );
    COMMENT ON TABLE ${STACK_SCHEMA}.import_record IS 'Rows, definitions and sequences as the import left them, for npm run verify.'`);
  const rows = [...record].map(([object, noted]) => ({ object, ...noted }));
  await client.query(
    `INSERT INTO ${STACK_SCHEMA}.import_record
     SELECT object, source, target, columns, selected
     FROM jsonb_to_recordset($1) AS r(object text, source text, target text, columns text[], selected text)`,
    [JSON.stringify(rows)],
  );
}

/** Reads the record; undefined where an import of an older version of this program made none. */
export async function readRecord(client: pg.Client): Promise<ImportRecord | undefined> {
  const { rows } = await client.query(`SELECT to_regclass('${STACK_SCHEMA}.import_record') IS NOT NULL AS there`);
  if (!rows[0].there) return undefined;
  const found = await client.query<{ object: string; noted: Noted }>(
    `SELECT object, jsonb_strip_nulls(to_jsonb(r) - 'object') AS noted FROM ${STACK_SCHEMA}.import_record r`,
  );
  return new Map(found.rows.map(({ object, noted }) => [object, noted]));
}
