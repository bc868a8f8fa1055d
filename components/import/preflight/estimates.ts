/** Rough estimates of how many bytes an import transfers, and how long it takes. */
import type pg from "pg";
import { humanBytes } from "../../../lib/human-bytes.ts";
import { fromTable } from "../schema/catalog.ts";
import { readRows } from "../session/reading.ts";
import type { Catalog, Table } from "../types.ts";
import { type Finding, finding } from "./findings.ts";

const MIB = 1024 * 1024;
/**
 * Bytes per second of a whole import, by the source's size with its indexes: 0.8 GiB in 18.5 s on two CPUs (bench/RESULTS.md).
 */
const WHOLE_RATE = 44 * MIB;
/** Seconds for connection, schema, comparison and swap, for any size. */
const FIXED_SECONDS = 4;
/** Bytes of the largest table that are read, approximately, to measure the connection's speed. */
const SAMPLE_BYTES = 4 * MIB;

/** Measurements from a sample of the source. */
export interface Sample {
  /** Bytes over the wire for each byte on the source's disk. */
  ratio: number;
  /** Bytes per second over one connection. */
  rate: number;
}

/**
 * Reads random pages of the largest table, as text.
 * @returns undefined if the largest table is too small for a measurement.
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

/** Formats seconds for people. */
export function humanSeconds(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** Returns the estimates of size, bytes over the wire and time, each with its basis. */
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
      `about ${humanBytes(wire)} over the wire, each byte once (${sample ? "from a sample of the largest table" : "from their size on disk"})`,
    ),
    finding(
      "time-estimate",
      "the import",
      `about ${humanSeconds(seconds)} (${
        sample ? `${humanBytes(sample.rate)} per second and connection measured, ` : ""
      }${humanBytes(WHOLE_RATE)} per second on two CPUs including the proof)`,
    ),
  ];
}
