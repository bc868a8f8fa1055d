import { Readable } from "node:stream";
import type pg from "pg";

/** A row as pg gives it. */
export type Row = Record<string, unknown>;

/**
 * Returns a fake connection that needs no server: it answers each statement with rows, and a COPY with data.
 * @param answer rows for a statement's text and values.
 * @param copy data for COPY ... TO STDOUT, with the number of its rows.
 */
export function fakeClient(
  answer: (sql: string, values: unknown[]) => Row[],
  copy: { data: string; rows: number } = { data: "", rows: 0 },
): pg.Client {
  const query = (statement: unknown, values: unknown[] = []) => {
    if (typeof statement === "string") return Promise.resolve({ rows: answer(statement, values) });
    return Object.assign(Readable.from(copy.data === "" ? [] : [Buffer.from(copy.data)]), { rowCount: copy.rows });
  };
  // No transaction is open.
  return { query, getTransactionStatus: () => "I" } as unknown as pg.Client;
}
