/** Copies the rows of one table from the source directly into the target, and computes their digest meanwhile. */
import { createHash, type Hash } from "node:crypto";
import stream, { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { columnList, fromTable } from "../schema/catalog.ts";
import type { Table } from "../types.ts";

/** Buffer size of a pipe in bytes. Larger buffers are not faster. */
const BUFFER_BYTES = 256 * 1024;

/** The part of a table's description that reading it needs. */
export type Readable = Pick<Table, "sql" | "columns" | "format" | "throughRoot">;

/** The data that was transferred for one table. */
export interface Transfer {
  rows: number;
  bytes: number;
  /** SHA-256 of COPY's data, from its first to its last byte. */
  sha256: string;
}

/**
 * Observes a table's COPY data while it is transferred. The transfer waits for the observer, so the observer need not buffer.
 */
export interface RowsObserver {
  /** Receives the next bytes and may keep them. The transfer waits for a returned promise. */
  chunk(bytes: Buffer): Promise<void> | undefined;
  /** Called once, after the target has committed all bytes. A rejection fails the table. */
  end(transfer: Transfer): Promise<void>;
  /** Called in place of {@link end} if the target rejected the rows. They may be sent again. */
  abandon?(): Promise<void>;
}

/** Returns the copied rows of a table for FROM on the source: all of them, or the selected ones. */
export const rowsOnSource = (table: Table): string =>
  table.selected === undefined ? fromTable(table) : `(${table.selected.query})`;

/** Returns the COPY that reads a table's rows from the source, in the table's format. */
export const copyOutSql = (table: Table): string =>
  table.selected === undefined
    ? readBackSql(table)
    : `COPY (${table.selected.query}) TO STDOUT (FORMAT ${table.format})`;

/** Returns the COPY that reads all of a table's rows from the target. */
export const readBackSql = (table: Readable): string => {
  // COPY TO does not accept the name of a partitioned table.
  const what = table.throughRoot
    ? `(SELECT${columnList(table).replace(/^ \((.*)\)$/s, " $1")} FROM ${table.sql})`
    : `${table.sql}${columnList(table)}`;
  return `COPY ${what} TO STDOUT (FORMAT ${table.format})`;
};

/** Returns the COPY that fills a table truncated in the same transaction. FREEZE is not possible for a partitioned table. */
export const copyInSql = (table: Table): string =>
  `COPY ${table.sql}${columnList(table)} FROM STDIN (FORMAT ${table.format}${table.throughRoot ? "" : ", FREEZE"})`;

/** Passes all data through to a hash, a counter and an observer. */
function tap(hash: Hash, count: (bytes: number) => void, observer: RowsObserver | undefined): Transform {
  return new Transform({
    highWaterMark: BUFFER_BYTES,
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      count(chunk.length);
      const seen = observer?.chunk(chunk);
      if (seen === undefined) done(null, chunk);
      else seen.then(() => done(null, chunk), done);
    },
  });
}

/** A stream of a table's rows from the source. */
export interface SentRows extends stream.Readable {
  /** Known when all rows have been sent. */
  rowCount: number;
}

/**
 * Copies one table.
 * @param onBytes called with the size of each chunk.
 * @param observer receives the bytes.
 */
export function copyTable(
  table: Table,
  source: pg.Client,
  target: pg.Client,
  onBytes: (bytes: number) => void,
  observer?: RowsObserver,
): Promise<Transfer> {
  const sent = source.query(copyTo(copyOutSql(table), { highWaterMark: BUFFER_BYTES }));
  return fillTable(table, sent, target, onBytes, observer);
}

/**
 * Fills a table. It is truncated in the same transaction, because FREEZE requires that (FREEZE saves rewriting the rows later), and so
 * that a partly filled table does no harm.
 */
export async function fillTable(
  table: Table,
  sent: SentRows,
  target: pg.Client,
  onBytes: (bytes: number) => void,
  observer?: RowsObserver,
): Promise<Transfer> {
  const hash = createHash("sha256");
  let bytes = 0;
  const count = (more: number) => {
    bytes += more;
    onBytes(more);
  };
  // Both are sent without waiting in between: the session queues them, and the first failure ends the pipe.
  const emptied = target.query(`BEGIN; TRUNCATE ${fromTable(table)}`);
  const into = target.query(copyFrom(copyInSql(table), { highWaterMark: BUFFER_BYTES }));
  await Promise.all([emptied, pipeline(sent, tap(hash, count, observer), into)]);
  await target.query("COMMIT");
  if (sent.rowCount !== into.rowCount) {
    throw new Error(`${table.sql}: the source sent ${sent.rowCount} rows, and the target accepted ${into.rowCount}`);
  }
  const transfer = { rows: into.rowCount ?? 0, bytes, sha256: hash.digest("hex") };
  await observer?.end(transfer);
  return transfer;
}

/**
 * Reads several small tables in one round trip, because on a distant source a round trip takes longer than the rows.
 * @returns for each table a function that returns its rows and can be called repeatedly.
 */
export async function readSmallTables(tables: readonly Table[], source: pg.Client): Promise<(() => SentRows)[]> {
  const query = new CopyOutMany(tables.map(copyOutSql));
  source.query(query as unknown as pg.Submittable);
  const read = await query.done;
  return read.map(
    ({ data, rowCount }) =>
      () =>
        Object.assign(stream.Readable.from(data), { rowCount }),
  );
}

/** A query of several COPY ... TO STDOUT. The driver pg calls the members named handle.... */
class CopyOutMany {
  private readonly statements: readonly string[];
  private readonly read: { data: Buffer[]; rowCount: number }[] = [];
  private data: Buffer[] = [];
  private readonly end = Promise.withResolvers<typeof this.read>();
  readonly done = this.end.promise;

  constructor(statements: readonly string[]) {
    this.statements = statements;
  }

  submit(connection: { query(text: string): void }): void {
    connection.query(this.statements.join(";"));
  }

  /** Copies the chunk, because the driver reuses its memory. */
  handleCopyData({ chunk }: { chunk: Buffer }): void {
    this.data.push(Buffer.from(chunk));
  }

  handleCommandComplete({ text }: { text: string }): void {
    // One buffer for each table, because the pipe's cost grows with the number of buffers.
    this.read.push({
      data: this.data.length > 0 ? [Buffer.concat(this.data)] : [],
      rowCount: Number(text.split(" ")[1]),
    });
    this.data = [];
  }

  handleError(error: Error): void {
    this.end.reject(error);
  }

  handleReadyForQuery(): void {
    this.end.resolve(this.read);
  }
}

/** Reads a table back in the columns and format in which it was sent. */
export async function readBack(table: Readable, target: pg.Client): Promise<Transfer> {
  const hash = createHash("sha256");
  let bytes = 0;
  const out = target.query(copyTo(readBackSql(table), { highWaterMark: BUFFER_BYTES }));
  for await (const chunk of out) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { rows: out.rowCount, bytes, sha256: hash.digest("hex") };
}
