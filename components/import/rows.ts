/** The rows of one table, from the source straight into the target, hashed on the way. */
import { createHash, type Hash } from "node:crypto";
import stream, { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom, to as copyTo } from "pg-copy-streams";
import { columnList, fromTable } from "./catalog.ts";
import type { Table } from "./types.ts";

/** Bytes that wait between two ends of a pipe. Larger ones only cost memory. */
const BUFFER_BYTES = 256 * 1024;

/** As much of a table's description as reading it takes. */
export type Readable = Pick<Table, "sql" | "columns" | "format" | "throughRoot">;

/** What went over the wire for one table. */
export interface Transfer {
  rows: number;
  bytes: number;
  /** SHA-256 of COPY's data, from its first to its last byte. */
  sha256: string;
}

/**
 * Sees a table's COPY data while it crosses the wire. The wire waits for whoever looks, so that what is seen need not be kept.
 */
export interface RowsObserver {
  /** Takes the next bytes, which belong to it from now on. The wire stands still until a promise that it returns is kept. */
  chunk(bytes: Buffer): Promise<void> | undefined;
  /** Told once, when all bytes have passed and the target has taken them. A rejection is the table's failure. */
  end(transfer: Transfer): Promise<void>;
  /** Told in place of {@link end} where the rows did not go in, and are sent again or not at all. */
  abandon?(): Promise<void>;
}

/** The rows of a table that come along, as they stand behind FROM on the source: all of them, or what a selection leaves. */
export const rowsOnSource = (table: Table): string =>
  table.selected === undefined ? fromTable(table) : `(${table.selected.query})`;

/** Reads a table's rows from the source, in the format that means the same on both servers. */
export const copyOutSql = (table: Table): string =>
  table.selected === undefined
    ? readBackSql(table)
    : `COPY (${table.selected.query}) TO STDOUT (FORMAT ${table.format})`;

/** Reads a table's rows from the target: whatever is in it, whether the source sent all of its own or a selection. */
export const readBackSql = (table: Readable): string => {
  // COPY reads no partitioned table by its name.
  const what = table.throughRoot
    ? `(SELECT${columnList(table).replace(/^ \((.*)\)$/s, " $1")} FROM ${table.sql})`
    : `${table.sql}${columnList(table)}`;
  return `COPY ${what} TO STDOUT (FORMAT ${table.format})`;
};

/** Fills a table that was emptied in the same transaction. A partitioned one cannot be frozen. */
export const copyInSql = (table: Table): string =>
  `COPY ${table.sql}${columnList(table)} FROM STDIN (FORMAT ${table.format}${table.throughRoot ? "" : ", FREEZE"})`;

/** Passes everything on, and tells a hash, a counter and whoever looks about it. */
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

/** A table's rows on their way from the source. */
export interface SentRows extends stream.Readable {
  /** Known when all have been sent. */
  rowCount: number;
}

/**
 * Copies one table.
 * @param onBytes is told of every chunk.
 * @param observer sees the bytes themselves.
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
 * Fills a table. It is emptied in the same transaction: FREEZE, which spares the rows a second writing later, demands it, and a
 * table that was left half full by anything can do no harm.
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
  // Without waiting in between: the session takes one after the other, and whoever fails first ends the pipe.
  const emptied = target.query(`BEGIN; TRUNCATE ${fromTable(table)}`);
  const into = target.query(copyFrom(copyInSql(table), { highWaterMark: BUFFER_BYTES }));
  await Promise.all([emptied, pipeline(sent, tap(hash, count, observer), into)]);
  await target.query("COMMIT");
  if (sent.rowCount !== into.rowCount) {
    throw new Error(`${table.sql}: the source sent ${sent.rowCount} rows, the target took ${into.rowCount}`);
  }
  const transfer = { rows: into.rowCount ?? 0, bytes, sha256: hash.digest("hex") };
  await observer?.end(transfer);
  return transfer;
}

/**
 * Reads several small tables whole, in one round trip: from a source that is far away, each costs more time than its rows.
 * @returns for each of them what gives its rows, as often as it is called.
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

/** A query of several COPY ... TO STDOUT at once. Each of its members named handle... is called by pg. */
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

  /** The driver uses the chunk's memory again. */
  handleCopyData({ chunk }: { chunk: Buffer }): void {
    this.data.push(Buffer.from(chunk));
  }

  handleCommandComplete({ text }: { text: string }): void {
    // As few pieces as there are tables: the pipe's work is by the piece.
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

/** Reads one table back, in the columns and the format in which it was sent. */
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
