/** Whether a table on the target is the one on the source, and if not, which rows are not. */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import { columnList } from "./catalog.ts";
import { readBack, rowsOnSource, type Transfer } from "./rows.ts";
import type { Table, TableProof } from "./types.ts";

/** Groups of rows that are compared before single rows are: few enough to send, many enough to narrow down. */
const BUCKETS = 1024;
/** Groups whose rows are looked at one by one. */
const BUCKETS_EXAMINED = 50;
/** Keys named in a message. More than these help nobody. */
const KEYS_NAMED = 10;
/** The second of two independent 64-bit hashes. */
const OTHER_SEED = 20_231;

/** A fingerprint of a set of rows, whatever their order. */
export interface SetFingerprint {
  rows: number;
  /** Two sums of 64-bit hashes: 128 bits that change with any value, and with any row that is doubled or lost. */
  sums: string;
}

/** Anything with rows, as it stands behind FROM. */
type Rows = string;

/** The row as text; written once, it feeds both hashes. OFFSET 0 keeps the planner from writing it twice. */
const rowsAsText = (rows: Rows) => `SELECT t::text AS r FROM ${rows} t OFFSET 0`;

/** A table's rows on the target. Of a selection only what was sent is compared: columns computed from it may differ by right. */
const rowsOnTarget = (table: Table): Rows =>
  table.selected === undefined
    ? `ONLY ${table.sql}`
    : `(SELECT ${columnList(table).slice(2, -1)} FROM ONLY ${table.sql})`;

/** The query behind {@link setFingerprint}. */
export const setFingerprintSql = (rows: Rows): string => `
  SELECT count(*)::float8 AS rows,
    coalesce(sum(hashtextextended(r, 0)::numeric), 0) || ' ' ||
    coalesce(sum(hashtextextended(r, ${OTHER_SEED})::numeric), 0) AS sums
  FROM (${rowsAsText(rows)}) x`;

/** Fingerprint of rows as a set. A sum, not an exclusive or, which two equal rows would leave unchanged. */
export async function setFingerprint(rows: Rows, client: pg.Client): Promise<SetFingerprint> {
  const result = await client.query<SetFingerprint>(setFingerprintSql(rows));
  return result.rows[0] ?? { rows: 0, sums: "" };
}

/**
 * Proves one table. The target's rows, read back in the order in which they were written, must be byte for byte what the
 * source sent. Another order would be no error, so before one is reported the rows are compared as a set.
 */
export async function proveTable(
  table: Table,
  sent: Transfer,
  seconds: number,
  source: pg.Client,
  target: pg.Client,
): Promise<TableProof> {
  const back = await readBack(table, target);
  const proof: TableProof = {
    table: `${table.schema}.${table.name}`,
    rows: sent.rows,
    bytes: sent.bytes,
    seconds,
    format: table.format,
    source: sent.sha256,
    target: back.sha256,
    verdict: table.selected?.verdict ?? "equal",
    ...(table.selected && { selected: table.selected.what }),
  };
  // What the server computes does not travel; it is compared where it stands.
  const isComputed = table.selected === undefined && table.columns.some((column) => column.generated);
  if (back.sha256 === sent.sha256 && back.rows === sent.rows && !isComputed) return proof;

  const theirs = await setFingerprint(rowsOnSource(table), source);
  const ours = await setFingerprint(rowsOnTarget(table), target);
  if (theirs.rows === ours.rows && theirs.sums === ours.sums) {
    if (back.sha256 === sent.sha256) return proof;
    return { ...proof, source: theirs.sums, target: ours.sums, verdict: table.selected?.verdict ?? "equal as a set" };
  }
  const differences = await findDifferences(table, source, target);
  return { ...proof, source: theirs.sums, target: ours.sums, verdict: "different", differences };
}

const keyText = (table: Table) => `(ROW(${table.key.map((name) => `t.${ident(name)}`).join(", ")}))::text`;

/** Names rows that differ: by their keys, or, where a table has no key, by their number on each side. */
async function findDifferences(table: Table, source: pg.Client, target: pg.Client): Promise<string[]> {
  const isSent = (name: string) => table.columns.some((column) => column.name === name && !column.generated);
  const hasKey = table.key.length > 0 && (table.selected === undefined || table.key.every(isSent));
  const key = hasKey ? keyText(table) : "t::text";
  const bucketsOf = (from: Rows) => `
    SELECT (hashtextextended(k, 0) & ${BUCKETS - 1})::int AS bucket, count(*) || ' ' || sum(h::numeric) AS sums
    FROM (SELECT ${key} AS k, hashtextextended(t::text, 0) AS h FROM ${from} t OFFSET 0) x GROUP BY 1`;
  const theirs = await asMap(source, bucketsOf(rowsOnSource(table)), "bucket", "sums");
  const ours = await asMap(target, bucketsOf(rowsOnTarget(table)), "bucket", "sums");
  const differingBuckets = differing(theirs, ours);
  const suspects = differingBuckets.slice(0, BUCKETS_EXAMINED).map(Number);
  // Where nearly all differs, naming some is enough; the number is then a lower bound.
  const atLeast = differingBuckets.length > suspects.length ? "at least " : "";

  const rowsOf = (from: Rows) => `
    SELECT k, count(*) || ' ' || sum(h::numeric) AS sums
    FROM (SELECT ${key} AS k, hashtextextended(t::text, 0) AS h FROM ${from} t OFFSET 0) x
    WHERE (hashtextextended(k, 0) & ${BUCKETS - 1})::int = ANY ($1) GROUP BY 1`;
  const theirRows = await asMap(source, rowsOf(rowsOnSource(table)), "k", "sums", [suspects]);
  const ourRows = await asMap(target, rowsOf(rowsOnTarget(table)), "k", "sums", [suspects]);
  const keys = differing(theirRows, ourRows);
  if (!hasKey) return [`${atLeast}${keys.length} rows; the table has no key to name them by`];
  const named = keys
    .slice(0, KEYS_NAMED)
    .map((k) => `(${table.key.join(", ")}) = ${k}${whereOnly(k, theirRows, ourRows)}`);
  return keys.length > KEYS_NAMED ? [...named, `and ${atLeast}${keys.length - KEYS_NAMED} more`] : named;
}

function whereOnly(key: string, theirs: Map<string, string>, ours: Map<string, string>): string {
  if (!ours.has(key)) return ", missing on the target";
  if (!theirs.has(key)) return ", not on the source";
  return "";
}

async function asMap(client: pg.Client, sql: string, key: string, value: string, values: unknown[] = []) {
  const { rows } = await client.query(sql, values);
  return new Map<string, string>(rows.map((row) => [String(row[key]), String(row[value])]));
}

/** The keys whose values differ, or that only one of the two has, in order. */
export function differing(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): string[] {
  const keys = new Set([...a.keys(), ...b.keys()]);
  return [...keys].filter((key) => a.get(key) !== b.get(key)).sort();
}
