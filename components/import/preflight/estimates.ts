/** How many bytes an import moves, and how long it takes. Rough, and said to be. */
import type pg from "pg";
import { humanBytes } from "../../../lib/human-bytes.ts";
import { fromTable } from "../catalog.ts";
import { readRows } from "../reading.ts";
import type { Catalog, Table } from "../types.ts";
import { type Finding, finding } from "./findings.ts";

const MIB = 1024 * 1024;
/**
 * What an import as a whole makes of the source's size with its indexes, bytes a second: 0.8 GiB in 18.5 s on two CPUs
 * (bench/RESULTS.md).
 */
const WHOLE_RATE = 44 * MIB;
/** Seconds for the connection, schema, comparison and swap, whatever the size. */
const FIXED_SECONDS = 4;
/** About so many bytes of the largest table are read to see how fast the way is. */
const SAMPLE_BYTES = 4 * MIB;

/** What reading a little of the source told. */
export interface Sample {
  /** Bytes over the wire for each byte on the source's disk. */
  ratio: number;
  /** Bytes a second over the wire, a single connection. */
  rate: number;
}

/**
 * Reads some pages of the largest table, as text.
 * @returns nothing where the largest is too small to tell anything.
 */
export async function takeSample(client: pg.Client, tables: readonly Table[]): Promise<Sample | undefined> {
  const [largest] = [...tables].sort((a, b) => b.bytes - a.bytes);
  if (largest === undefined || largest.bytes < SAMPLE_BYTES) return undefined;
  const percent = (100 * SAMPLE_BYTES) / largest.bytes;
  const begun = performance.now();
  // Never `::text`, which may be a cast of the table's owner (proof.ts).
  const rows = await readRows<{ r: string }>(
    client,
    `SELECT pg_catalog.textin(pg_catalog.record_out(t.*)) AS r FROM ${fromTable(largest)} t TABLESAMPLE SYSTEM (${percent})`,
  );
  const seconds = (performance.now() - begun) / 1000;
  const bytes = rows.reduce((sum, { r }) => sum + Buffer.byteLength(r), 0);
  return bytes < MIB / 4 ? undefined : { ratio: bytes / SAMPLE_BYTES, rate: bytes / seconds };
}

/** Seconds as people say them. */
export function humanSeconds(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** Size, bytes over the wire, and time; each with where the figure comes from. */
export function estimate(
  catalog: Catalog | undefined,
  databaseBytes: number,
  jobs: number,
  sample: Sample | undefined,
): Finding[] {
  const size = finding("source-size", "the source", `${humanBytes(databaseBytes)} on its disk, indexes included`);
  if (catalog === undefined) return [size];
  const held = catalog.tables.reduce((sum, { bytes }) => sum + bytes, 0);
  const wire = held * (sample?.ratio ?? 1);
  const reading = sample ? wire / (sample.rate * jobs) : 0;
  const seconds = FIXED_SECONDS + Math.max(databaseBytes / WHOLE_RATE, reading);
  return [
    size,
    finding(
      "wire-estimate",
      `${catalog.tables.length} tables`,
      `about ${humanBytes(wire)} over the wire, each byte once (${sample ? "by a sample of the largest" : "by their size on disk"})`,
    ),
    finding(
      "time-estimate",
      "the import",
      `about ${humanSeconds(seconds)} (${
        sample ? `the way carries ${humanBytes(sample.rate)} a second and connection, ` : ""
      }${humanBytes(WHOLE_RATE)} a second were measured on two CPUs, proof included)`,
    ),
  ];
}
