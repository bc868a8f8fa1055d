/** Prints the import's progress at a limited rate, and collects spans for the report's timeline. */
import { humanBytes } from "../../lib/human-bytes.ts";
import type { Span, Table } from "./types.ts";

/** Milliseconds between two progress lines. */
const PACE_MS = 2000;
const MIB = 1024 * 1024;

/** Progress of one import. */
export class Progress {
  readonly spans: Span[] = [];
  private readonly start = Date.now();
  private readonly say: (line: string) => void;
  private expected = 0;
  private done = 0;
  private rows = 0;
  private tables = 0;
  private tablesExpected = 0;
  private copyingSince = 0;
  private lastLine = 0;

  constructor(say: (line: string) => void) {
    this.say = say;
  }

  /** Announces a phase. */
  phase(name: string): void {
    this.say(`import: ${name}`);
  }

  /** Sets how much is to be copied. */
  expect(tables: readonly Table[]): void {
    this.tablesExpected = tables.length;
    this.expected = tables.reduce((sum, table) => sum + table.bytes, 0);
    this.copyingSince = Date.now();
    this.lastLine = Date.now();
  }

  /** Begins a span. The returned function ends the span and returns its duration in seconds. */
  begin(name: string): () => number {
    const from = Date.now() - this.start;
    return () => {
      const to = Date.now() - this.start;
      this.spans.push({ name, from, to });
      return (to - from) / 1000;
    };
  }

  /** Counts bytes of a table that were sent. */
  count(table: Table, bytes: number): void {
    this.done += bytes;
    const now = Date.now();
    if (now - this.lastLine < PACE_MS) return;
    this.lastLine = now;
    const seconds = (now - this.copyingSince) / 1000;
    const perSecond = this.done / seconds;
    // A table takes about as many bytes on the wire as on disk, and more if the disk compresses them.
    const left = Math.max(this.expected - this.done, 0);
    this.say(
      `import: ${this.tables} of ${this.tablesExpected} tables, ${this.rows.toLocaleString("en")} rows, ${humanBytes(this.done)} ` +
        `at ${(perSecond / MIB).toFixed(1)} MB/s, about ${Math.ceil(left / perSecond)} s left; now ${table.schema}.${table.name}`,
    );
  }

  /** Counts a table whose rows are loaded. */
  loaded(rows: number): void {
    this.tables += 1;
    this.rows += rows;
  }

  /** Seconds since the import began. */
  get seconds(): number {
    return (Date.now() - this.start) / 1000;
  }
}
