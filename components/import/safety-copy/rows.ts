/** Compares a restored table's rows with those of a safety copy regardless of their order, from COPY data alone. */
import { createHash, type Hash } from "node:crypto";
import type pg from "pg";
import { to as copyTo } from "pg-copy-streams";
import { type Readable, readBackSql } from "../rows/rows.ts";
import { type CopiedTable, readSealed } from "./files.ts";

/** A set of rows: their number, and the sum of their SHA-256 modulo 2^256 as 64 hexadecimal digits. Equal rows count each time. */
export interface RowSet {
  rows: number;
  sum: string;
}

const MODULUS = 1n << 256n;
/** `PGCOPY\n\377\r\n\0`, the flags, and the length of the header extension (PostgreSQL manual, COPY: Binary Format). */
const HEADER_BYTES = 19;
const HEADER_LENGTH_AT = 15;
const END_OF_ROWS = -1;
const NULL_LENGTH = -1;
const NEW_LINE = 0x0a;

/**
 * Splits COPY data into rows without keeping them. A row's digest is that of its bytes: in the binary format, each value has its length
 * before it; in the text format, a row ends with an unescaped line feed. Compared data must have the same columns and format.
 */
export class RowSetDigest {
  private readonly binary: boolean;
  private row: Hash | undefined;
  private rows = 0;
  private sum = 0n;
  /** The first bytes of a number, which the next chunk completes. */
  private rest: Buffer = Buffer.alloc(0);
  private state: "header" | "rows" | "ended";
  private valuesLeft = 0;
  private bytesLeft = 0;

  constructor(format: CopiedTable["format"]) {
    this.binary = format === "binary";
    this.state = this.binary ? "header" : "rows";
  }

  /** Adds the next bytes. They are not kept, so their memory may be reused. */
  update(chunk: Buffer): void {
    const data = this.rest.length > 0 ? Buffer.concat([this.rest, chunk]) : chunk;
    const used = this.binary ? this.takeBinary(data) : this.takeText(data);
    this.rest = Buffer.from(data.subarray(used));
  }

  /** @throws {Error} if the data ends within a row. */
  digest(): RowSet {
    const whole = this.rest.length === 0 && this.row === undefined && (!this.binary || this.state === "ended");
    if (!whole) throw new Error("COPY's data ends in the middle of a row");
    return { rows: this.rows, sum: this.sum.toString(16).padStart(64, "0") };
  }

  private takeText(data: Buffer): number {
    let from = 0;
    for (let at = data.indexOf(NEW_LINE); at !== -1; at = data.indexOf(NEW_LINE, from)) {
      this.addBytes(data.subarray(from, at + 1));
      this.endRow();
      from = at + 1;
    }
    if (from < data.length) this.addBytes(data.subarray(from));
    return data.length;
  }

  private takeBinary(data: Buffer): number {
    let at = this.state === "header" ? this.takeHeader(data) : 0;
    /** Start of the current row's bytes that are not in its digest yet. */
    let from = at;
    while (this.state === "rows" && at < data.length) {
      if (this.bytesLeft > 0) {
        const step = Math.min(this.bytesLeft, data.length - at);
        this.bytesLeft -= step;
        at += step;
      } else if (this.valuesLeft > 0) {
        if (data.length - at < 4) break;
        this.bytesLeft = Math.max(data.readInt32BE(at), NULL_LENGTH + 1);
        this.valuesLeft -= 1;
        at += 4;
      } else {
        if (data.length - at < 2) break;
        this.valuesLeft = data.readInt16BE(at);
        at += 2;
        if (this.valuesLeft === END_OF_ROWS) {
          this.state = "ended";
          return at;
        }
      }
      if (this.valuesLeft === 0 && this.bytesLeft === 0) {
        this.addBytes(data.subarray(from, at));
        this.endRow();
        from = at;
      }
    }
    if (at > from) this.addBytes(data.subarray(from, at));
    return at;
  }

  /** Returns where the rows begin; 0 if the header is incomplete. */
  private takeHeader(data: Buffer): number {
    if (data.length < HEADER_BYTES) return 0;
    const length = HEADER_BYTES + data.readInt32BE(HEADER_LENGTH_AT);
    if (data.length < length) return 0;
    this.state = "rows";
    return length;
  }

  private addBytes(bytes: Buffer): void {
    this.row ??= createHash("sha256");
    this.row.update(bytes);
  }

  private endRow(): void {
    const digest = this.row?.digest("hex") ?? "0";
    this.sum = (this.sum + BigInt(`0x${digest}`)) % MODULUS;
    this.rows += 1;
    this.row = undefined;
  }
}

/** Reads the rows of a table from a server. */
async function setInTable(table: Readable, client: pg.Client): Promise<RowSet> {
  const set = new RowSetDigest(table.format);
  for await (const chunk of client.query(copyTo(readBackSql(table)))) set.update(chunk);
  return set.digest();
}

/**
 * Returns whether a table holds the rows that the source sent. They are read from the copy's file, so this works for copies of any
 * version; the same pass checks the file's digest.
 * @param path the copy's file of the table.
 * @param readable the part of the table's description that reading it needs.
 * @throws {Error} that names the file, if it cannot be read.
 */
export async function holdsSameRows(
  { sha256, format }: Pick<CopiedTable, "sha256" | "format">,
  readable: Readable,
  { client, path, secret }: { client: pg.Client; path: string; secret: string },
): Promise<boolean> {
  const sent = new RowSetDigest(format);
  const hash = createHash("sha256");
  await readSealed(path, secret, async (chunks) => {
    for await (const chunk of chunks) {
      hash.update(chunk);
      sent.update(chunk);
    }
  });
  if (hash.digest("hex") !== sha256) return false;
  const [theirs, ours] = [sent.digest(), await setInTable(readable, client)];
  return theirs.rows === ours.rows && theirs.sum === ours.sum;
}
