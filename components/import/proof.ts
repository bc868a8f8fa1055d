/** Whether a table on the target is the one on the source, and if not, which rows are not. */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import { columnList, fromTable } from "./catalog.ts";
import { type DigestProgram, serverAgrees, WORTH_A_PROGRAM_BYTES } from "./digest.ts";
import { readRows } from "./reading.ts";
import { readBack, rowsOnSource, type Transfer } from "./rows.ts";
import type { Column, Table, TableProof } from "./types.ts";

/** Groups of rows that are compared before single rows are: few enough to send, many enough to narrow down. */
const BUCKETS = 1024;
/** Groups whose rows are looked at one by one. */
const BUCKETS_EXAMINED = 50;
/** Rows that are looked at one by one, about: a hash and a key of each cross the wire, which some hosts count. */
const ROWS_EXAMINED = 20_000;
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

/** A table's rows on the target. Of a selection only what was sent is compared: columns computed from it may differ by right. */
const rowsOnTarget = (table: Table): Rows =>
  table.selected === undefined
    ? fromTable(table)
    : `(SELECT ${columnList(table).slice(2, -1)} FROM ${fromTable(table)})`;

/**
 * A row as text: what its columns' output functions write, with NULL told from an empty text. All of its columns, or those
 * that are given, in that order: tables are compared by their columns' names, which need not stand in one order on both sides.
 * (`t` alone would be a column of that name, where there is one.) Never `::text`: the owner of a
 * table may give its rows a cast to text of his own, which would run here, with this session's rights, and could say that all
 * rows are equal. No cast leads to a record (PostgreSQL manual, CREATE CAST: no pseudo-types), and output functions are C.
 */
const rowText = (columns?: readonly Comparable[]) => {
  if (columns === undefined) return textOf("t.*");
  const whole = textOf(`ROW(${columns.map(({ name }) => `t.${ident(name)}`).join(", ")})`);
  const sizes = columns.flatMap((column) => sizeOf(column) ?? []);
  if (sizes.length === 0) return whole;
  const digests = textOf(`ROW(${columns.map(digestOf).join(", ")})`);
  return `CASE WHEN ${sizes.join(" OPERATOR(pg_catalog.+) ")} OPERATOR(pg_catalog.>) ${ROW_TEXT_BYTES}::bigint THEN ${digests} ELSE ${whole} END`;
};

/** As much of a column's description as comparing it takes. */
export type Comparable = Pick<Column, "name" | "large">;

const textOf = (record: string) => `pg_catalog.textin(pg_catalog.record_out(${record}))`;

/**
 * Bytes of values up to which a row is written as one text. A text must stay below 1 GB, writing may double a value (bytea as
 * hexadecimal digits, quotes), and a record doubles the quotes once more. The rows of more are told by their columns' hashes.
 */
const ROW_TEXT_BYTES = 128 * 1024 * 1024;

/** Bytes of a column's value, which the server knows without reading it; of some types only those that it takes on the disk. */
function sizeOf({ name, large }: Comparable): string | undefined {
  if (!large) return undefined;
  const size = large === "stored" ? "pg_column_size" : "octet_length";
  return `coalesce(pg_catalog.${size}(t.${ident(name)}), 0)::bigint`;
}

/** A column's value in a few bytes. (format and concat write a value by its type's output function, without any cast.) */
function digestOf({ name, large }: Comparable): string {
  const column = `t.${ident(name)}`;
  const hash = (seed: number) => `pg_catalog.hashtextextended(pg_catalog.concat(${column}), ${seed})`;
  const digest =
    large === "bytes" ? `pg_catalog.sha256(${column})` : `pg_catalog.concat(${hash(0)}, ' ', ${hash(OTHER_SEED)})`;
  return `CASE WHEN ${column} IS DISTINCT FROM NULL THEN ${digest} END`;
}

/** The query behind {@link setFingerprint}. The text is written once, for both hashes: OFFSET 0 sees to that. */
export const setFingerprintSql = (rows: Rows, columns?: readonly Comparable[]): string => `
  SELECT pg_catalog.count(*)::float8 AS rows,
    pg_catalog.concat(coalesce(pg_catalog.sum(pg_catalog.hashtextextended(r, 0)), 0), ' ',
      coalesce(pg_catalog.sum(pg_catalog.hashtextextended(r, ${OTHER_SEED})), 0)) AS sums
  FROM (SELECT ${rowText(columns)} AS r FROM ${rows} t OFFSET 0) x`;

/**
 * Fingerprint of rows as a set. A sum, not an exclusive or, which two equal rows would leave unchanged. The server computes
 * it, so that two numbers cross the wire and no rows; all versions of PostgreSQL compute the same.
 */
export async function setFingerprint(
  rows: Rows,
  client: pg.Client,
  columns?: readonly Comparable[],
): Promise<SetFingerprint> {
  const [found] = await readRows<SetFingerprint>(client, setFingerprintSql(rows, columns));
  return found ?? { rows: 0, sums: "" };
}

/** A fingerprint in one word. Equal words are equal sets of rows. */
export const describeSet = ({ rows, sums }: SetFingerprint): string => `${rows} rows, ${sums}`;

/**
 * Proves one table. The target's rows, read back in the order in which they were written, must be byte for byte what the
 * source sent. Another order would be no error, so before one is reported the rows are compared as a set.
 * @param ends sessions on the source and, as the owner and as the superuser, on the target.
 * @param digestProgram computes digests on the server; without one, all rows are read back.
 */
export async function proveTable(
  table: Table,
  sent: Transfer,
  seconds: number,
  { source, target, superuser }: Record<"source" | "target" | "superuser", pg.Client>,
  digestProgram?: DigestProgram,
): Promise<TableProof> {
  // COPY ... TO PROGRAM reads no partitioned table; the order would be another one anyway.
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
  // What the server computes does not travel; it is compared where it stands.
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

/** The columns of a table that are compared: of a selection those that were sent. */
const comparedColumns = ({ columns, selected }: Table): Column[] =>
  columns.filter(({ generated }) => !generated || selected === undefined);

/**
 * Names rows that differ: by their keys and the columns that do, or, where a table has no key, by their number. Only hashes
 * cross the wire, those of groups of rows first.
 * @param rows about how many rows there are.
 * @param columns the columns that are compared.
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
  const ends: Ends = [
    { client: source, rows: rowsOnSource(table) },
    { client: target, rows: rowsOnTarget(table) },
  ];
  const hashed = (from: Rows) =>
    `SELECT ${key} AS k, pg_catalog.hashtextextended(${row}, 0) AS h FROM ${from} t OFFSET 0`;
  const bucket = `(pg_catalog.hashtextextended(k, 0) OPERATOR(pg_catalog.&) ${BUCKETS - 1}::bigint)::int`;
  const bucketsOf = (from: Rows) => `
    SELECT ${bucket} AS bucket, pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(h)) AS sums FROM (${hashed(from)}) x GROUP BY 1`;
  const [theirs, ours] = await both(ends, (end) => asMap(end.client, bucketsOf(end.rows), "bucket", "sums"));
  const differingBuckets = differing(theirs, ours);
  const suspects = differingBuckets.slice(0, bucketsToExamine(rows));
  // Where nearly all differs, naming some is enough; the number is then a lower bound.
  const atLeast = differingBuckets.length > suspects.length ? "at least " : "";

  const rowsOf = (from: Rows) => `
    SELECT k, pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(h)) AS sums FROM (${hashed(from)}) x WHERE ${bucket} OPERATOR(pg_catalog.=) ANY ($1::text[]::int[]) GROUP BY 1`;
  const [theirRows, ourRows] = await both(ends, (end) => asMap(end.client, rowsOf(end.rows), "k", "sums", suspects));
  const keys = differing(theirRows, ourRows);
  if (!hasKey) return [`${atLeast}${keys.length} rows; the table has no key to name them by`];
  const named = keys.slice(0, KEYS_NAMED);
  const [theirColumns, ourColumns] = await both(ends, (end) => hashColumns(end, key, named, columns));
  const lines = named.map((k) => {
    const where = whereOnly(k, theirRows, ourRows) || whichColumns(names, theirColumns.get(k), ourColumns.get(k));
    return `(${table.key.join(", ")}) = ${k}${where}`;
  });
  return keys.length > KEYS_NAMED ? [...lines, `and ${atLeast}${keys.length - KEYS_NAMED} more`] : lines;
}

/** As many groups as hold about {@link ROWS_EXAMINED} rows, at least one. */
const bucketsToExamine = (rows: number): number =>
  Math.min(BUCKETS_EXAMINED, Math.max(1, Math.floor((ROWS_EXAMINED * BUCKETS) / rows)));

/** A side of the comparison: its session, and the rows that are compared. */
interface End {
  client: pg.Client;
  rows: Rows;
}

type Ends = [source: End, target: End];

const both = <T>([source, target]: Ends, ask: (end: End) => Promise<T>): Promise<[T, T]> =>
  Promise.all([ask(source), ask(target)]);

/** A hash of each column of some rows, by the rows' keys. */
async function hashColumns({ client, rows }: End, key: string, keys: string[], columns: readonly Comparable[]) {
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

/** The keys whose values differ, or that only one of the two has, in order. */
export function differing(a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): string[] {
  const keys = new Set([...a.keys(), ...b.keys()]);
  return [...keys].filter((key) => a.get(key) !== b.get(key)).sort();
}
