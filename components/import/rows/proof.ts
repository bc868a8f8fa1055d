/** Proves that a table on the target equals the source's, or finds the rows that differ. */
import type pg from "pg";
import { ident } from "../../../lib/postgres.ts";
import { columnList, fromTable } from "../schema/catalog.ts";
import { readRows } from "../session/reading.ts";
import type { Column, Table, TableProof } from "../types.ts";
import { type DigestProgram, serverAgrees, WORTH_A_PROGRAM_BYTES } from "./digest.ts";
import { readBack, rowsOnSource, type Transfer } from "./rows.ts";

/** Groups of rows that are compared before single rows: few enough to send, and enough to narrow down the search. */
const BUCKETS = 1024;
/** Most groups whose rows are compared one by one. */
const BUCKETS_EXAMINED = 50;
/** Approximate number of rows that are compared one by one. A hash and a key of each cross the wire, for which some hosts charge. */
const ROWS_EXAMINED = 20_000;
/** Most keys in a message. */
const KEYS_NAMED = 10;
/** The second of two independent 64-bit hashes. */
const OTHER_SEED = 20_231;

/** A fingerprint of a set of rows, independent of their order. */
export interface SetFingerprint {
  rows: number;
  /** Two sums of 64-bit hashes: 128 bits that change with any value, and with any duplicated or lost row. */
  sums: string;
}

/** An item of FROM. */
type Rows = string;

/** Returns a table's rows on the target. For a selection, only the columns that were sent are compared: generated ones may differ. */
const rowsOnTarget = (table: Table): Rows =>
  table.selected === undefined
    ? fromTable(table)
    : `(SELECT ${columnList(table).slice(2, -1)} FROM ${fromTable(table)})`;

/**
 * Returns SQL for a row's text: the output of its columns' output functions, in which NULL differs from an empty text. It covers all
 * columns, or the given ones in that order, because tables are compared by column names, whose order may differ between source and
 * target. (`t` alone would mean a column of that name, if there is one.) Never `::text`: a table's owner may define a cast of its rows to
 * text, which would run with this session's privileges and could make all rows look equal. A cast from record cannot be defined
 * (PostgreSQL manual, CREATE CAST: no pseudo-types), and output functions are written in C.
 */
const rowText = (columns?: readonly Comparable[]) => {
  if (columns === undefined) return textOf("t.*");
  const whole = textOf(`ROW(${columns.map(({ name }) => `t.${ident(name)}`).join(", ")})`);
  const sizes = columns.flatMap((column) => sizeOf(column) ?? []);
  if (sizes.length === 0) return whole;
  const digests = textOf(`ROW(${columns.map(digestOf).join(", ")})`);
  return `CASE WHEN ${sizes.join(" OPERATOR(pg_catalog.+) ")} OPERATOR(pg_catalog.>) ${ROW_TEXT_BYTES}::bigint THEN ${digests} ELSE ${whole} END`;
};

/** The part of a column's description that comparing it needs. */
export type Comparable = Pick<Column, "name" | "large">;

const textOf = (record: string) => `pg_catalog.textin(pg_catalog.record_out(${record}))`;

/**
 * Bytes of values up to which a row is compared as one text. A text must stay below 1 GB, output may double a value's size (bytea as
 * hexadecimal digits, quotes), and a record doubles the quotes again. Larger rows are compared by their columns' hashes.
 */
const ROW_TEXT_BYTES = 128 * 1024 * 1024;

/** Returns SQL for the bytes of a column's value, which the server knows without reading it; for some types, its size on disk. */
function sizeOf({ name, large }: Comparable): string | undefined {
  if (!large) return undefined;
  const size = large === "stored" ? "pg_column_size" : "octet_length";
  return `coalesce(pg_catalog.${size}(t.${ident(name)}), 0)::bigint`;
}

/** Returns SQL for a short digest of a column's value. (concat uses the type's output function and no cast.) */
function digestOf({ name, large }: Comparable): string {
  const column = `t.${ident(name)}`;
  const hash = (seed: number) => `pg_catalog.hashtextextended(pg_catalog.concat(${column}), ${seed})`;
  const digest =
    large === "bytes" ? `pg_catalog.sha256(${column})` : `pg_catalog.concat(${hash(0)}, ' ', ${hash(OTHER_SEED)})`;
  return `CASE WHEN ${column} IS DISTINCT FROM NULL THEN ${digest} END`;
}

/** Returns the query of {@link setFingerprint}. OFFSET 0 makes the server compute the text once for both hashes. */
export const setFingerprintSql = (rows: Rows, columns?: readonly Comparable[]): string => `
  SELECT pg_catalog.count(*)::float8 AS rows,
    pg_catalog.concat(coalesce(pg_catalog.sum(pg_catalog.hashtextextended(r, 0)), 0), ' ',
      coalesce(pg_catalog.sum(pg_catalog.hashtextextended(r, ${OTHER_SEED})), 0)) AS sums
  FROM (SELECT ${rowText(columns)} AS r FROM ${rows} t OFFSET 0) x`;

/**
 * Computes the fingerprint of a set of rows. It is a sum and not an exclusive or, because two equal rows would cancel each other out.
 * The server computes it, so that only two numbers cross the wire; all versions of PostgreSQL return the same.
 */
export async function setFingerprint(
  rows: Rows,
  client: pg.Client,
  columns?: readonly Comparable[],
): Promise<SetFingerprint> {
  const [found] = await readRows<SetFingerprint>(client, setFingerprintSql(rows, columns));
  return found ?? { rows: 0, sums: "" };
}

/** Returns a fingerprint as one string. Equal strings mean equal sets of rows. */
export const describeSet = ({ rows, sums }: SetFingerprint): string => `${rows} rows, ${sums}`;

/**
 * Proves one table. The target's rows, read back, must be byte for byte what the source sent. Another order of the rows is not an error,
 * so before reporting a difference, it compares the rows as a set.
 * @param connections sessions on the source and, as the owner and as the superuser, on the target.
 * @param digestProgram program that computes digests on the server; without one, all rows are read back.
 */
export async function proveTable(
  table: Table,
  sent: Transfer,
  seconds: number,
  { source, target, superuser }: Record<"source" | "target" | "superuser", pg.Client>,
  digestProgram?: DigestProgram,
): Promise<TableProof> {
  // COPY ... TO PROGRAM does not accept a partitioned table, and the order of its rows would differ anyway.
  const isWorthIt = sent.bytes >= WORTH_A_PROGRAM_BYTES && !table.throughRoot;
  const agreed =
    isWorthIt && digestProgram !== undefined && (await serverAgrees(table, sent, superuser, digestProgram));
  const back = agreed ? sent : await readBack(table, target);
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
  // Generated columns are not sent, so the digest does not cover them; the fingerprint does.
  const isComputed = table.selected === undefined && table.columns.some((column) => column.generated);
  if (back.sha256 === sent.sha256 && back.rows === sent.rows && !isComputed) return proof;

  const compared = comparedColumns(table);
  const theirs = await setFingerprint(rowsOnSource(table), source, compared);
  const ours = await setFingerprint(rowsOnTarget(table), target, compared);
  if (describeSet(theirs) === describeSet(ours)) {
    if (back.sha256 === sent.sha256) return proof;
    return { ...proof, source: theirs.sums, target: ours.sums, verdict: table.selected?.verdict ?? "equal as a set" };
  }
  const differences = await findDifferences(table, theirs.rows, source, target);
  return { ...proof, source: theirs.sums, target: ours.sums, verdict: "different", differences };
}

/** Returns the columns to compare; for a selection, those that were sent. */
const comparedColumns = ({ columns, selected }: Table): Column[] =>
  columns.filter(({ generated }) => !generated || selected === undefined);

/**
 * Finds rows that differ, and returns their keys and columns or, for a table without a key, their number. Only hashes cross the wire,
 * first those of groups of rows.
 * @param rows approximate number of rows.
 * @param columns the columns to compare.
 */
export async function findDifferences(
  table: Table,
  rows: number,
  source: pg.Client,
  target: pg.Client,
  columns: readonly Comparable[] = comparedColumns(table),
): Promise<string[]> {
  const names = columns.map(({ name }) => name);
  const hasKey = table.key.length > 0 && table.key.every((name) => names.includes(name));
  const row = rowText(columns);
  const key = hasKey ? rowText(table.key.map((name) => ({ name }))) : row;
  const pair: ComparedPair = [
    { client: source, rows: rowsOnSource(table) },
    { client: target, rows: rowsOnTarget(table) },
  ];
  const hashed = (from: Rows) =>
    `SELECT ${key} AS k, pg_catalog.hashtextextended(${row}, 0) AS h FROM ${from} t OFFSET 0`;
  const bucket = `(pg_catalog.hashtextextended(k, 0) OPERATOR(pg_catalog.&) ${BUCKETS - 1}::bigint)::int`;
  const bucketsOf = (from: Rows) => `
    SELECT ${bucket} AS bucket, pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(h)) AS sums FROM (${hashed(from)}) x GROUP BY 1`;
  const [theirs, ours] = await both(pair, ({ client, rows }) => asMap(client, bucketsOf(rows), "bucket", "sums"));
  const differingBuckets = differing(theirs, ours);
  const suspects = differingBuckets.slice(0, bucketsToExamine(rows));
  // If nearly all rows differ, it is enough to name some; their number is then a lower bound.
  const atLeast = differingBuckets.length > suspects.length ? "at least " : "";

  const rowsOf = (from: Rows) => `
    SELECT k, pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(h)) AS sums FROM (${hashed(from)}) x WHERE ${bucket} OPERATOR(pg_catalog.=) ANY ($1::text[]::int[]) GROUP BY 1`;
  const [theirRows, ourRows] = await both(pair, (one) => asMap(one.client, rowsOf(one.rows), "k", "sums", suspects));
  const keys = differing(theirRows, ourRows);
  if (!hasKey) return [`${atLeast}${keys.length} rows; the table has no key to name them by`];
  const named = keys.slice(0, KEYS_NAMED);
  const [theirColumns, ourColumns] = await both(pair, (one) => hashColumns(one, key, named, columns));
  const lines = named.map((k) => {
    const where = whereOnly(k, theirRows, ourRows) || whichColumns(names, theirColumns.get(k), ourColumns.get(k));
    return `(${table.key.join(", ")}) = ${k}${where}`;
  });
  return keys.length > KEYS_NAMED ? [...lines, `and ${atLeast}${keys.length - KEYS_NAMED} more`] : lines;
}

/** Returns how many groups hold about {@link ROWS_EXAMINED} rows, at least one. */
const bucketsToExamine = (rows: number): number =>
  Math.min(BUCKETS_EXAMINED, Math.max(1, Math.floor((ROWS_EXAMINED * BUCKETS) / rows)));

/** Rows to compare, with the session that reads them. */
interface ComparedRows {
  client: pg.Client;
  rows: Rows;
}

type ComparedPair = [source: ComparedRows, target: ComparedRows];

const both = <T>([source, target]: ComparedPair, ask: (one: ComparedRows) => Promise<T>): Promise<[T, T]> =>
  Promise.all([ask(source), ask(target)]);

/** Returns a hash of each column of some rows, by the rows' keys. */
async function hashColumns(
  { client, rows }: ComparedRows,
  key: string,
  keys: string[],
  columns: readonly Comparable[],
) {
  const hashes = columns.map((column) => `pg_catalog.hashtextextended(${rowText([column])}, 0)`);
  const found = await readRows<{ k: string; hashes: string[] }>(
    client,
    `SELECT ${key} AS k, ARRAY[${hashes.join(", ")}]::text[] AS hashes FROM ${rows} t WHERE ${key} OPERATOR(pg_catalog.=) ANY ($1)`,
    keys,
  );
  return new Map(found.map(({ k, hashes }) => [k, hashes]));
}

function whichColumns(
  columns: readonly string[],
  theirs: readonly string[] = [],
  ours: readonly string[] = [],
): string {
  const found = columns.filter((_, index) => theirs[index] !== ours[index]);
  return found.length === 0 ? "" : `: ${found.join(", ")}`;
}

function whereOnly(key: string, theirs: Map<string, string>, ours: Map<string, string>): string {
  if (!ours.has(key)) return ", missing on the target";
  if (!theirs.has(key)) return ", not on the source";
  return "";
}

async function asMap(client: pg.Client, sql: string, key: string, value: string, keys?: string[]) {
  const rows = await readRows(client, sql, keys);
  return new Map<string, string>(rows.map((row) => [String(row[key]), String(row[value])]));
}

/** Returns the keys whose values differ or that only one of the two maps has, sorted. */
export function differing(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): string[] {
  const keys = new Set([...a.keys(), ...b.keys()]);
  return [...keys].filter((key) => a.get(key) !== b.get(key)).sort();
}
