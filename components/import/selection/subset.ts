/**
 * Finds the rows of a subset. A row is in the subset
 *   - if its table is a root and the row satisfies the root's condition,
 *   - if a row in the subset refers to it, or
 *   - if its table is not a root but refers to roots, directly or through other tables, and every row that it refers to is in the subset.
 * Tables without a path to a root are copied whole. There is one smallest solution, even if tables refer to each other in cycles, and
 * no foreign key leads out of it.
 *
 * Nothing can be written on the source, so the set is kept here as row addresses (ctid), which are stable while the snapshot and the
 * lock on the table last. The server runs the joins: it compares values with the foreign key's own operators, and no value crosses the
 * wire.
 */
import type pg from "pg";
import { ident } from "../../../lib/postgres.ts";
import type { SubsetRoot, Table } from "../types.ts";
import type { ForeignKey } from "./relations.ts";

/** Row addresses sent with one statement. */
const BATCH = 20_000;
/** Resolution of a percentage: parts of a million. */
const PARTS = 1_000_000;

/** A row's address as one number: its block, and its 16-bit offset in the block. */
const OFFSETS = 65_536;
const parseAddress = (ctid: string): number => {
  const comma = ctid.indexOf(",");
  return Number(ctid.slice(1, comma)) * OFFSETS + Number(ctid.slice(comma + 1, -1));
};
const writeAddress = (row: number): string => `(${Math.floor(row / OFFSETS)},${row % OFFSETS})`;
/** Returns addresses as a literal of type tid[], in physical order. */
export const addressArray = (rows: Iterable<number>): string =>
  `{${[...rows]
    .sort((a, b) => a - b)
    .map((row) => `"${writeAddress(row)}"`)
    .join(",")}}`;

/** Returns the condition for a root's initial rows. A percentage selects by a hash of the key, so later imports select the same rows. */
export function rootCondition(root: SubsetRoot, table: Table): string {
  // The line break ends a comment at the end of the condition.
  if (root.where !== undefined) return `(${root.where}\n)`;
  const identity = table.key.length > 0 ? `ROW(${table.key.map((name) => `t.${ident(name)}`).join(", ")})` : "t";
  return `abs(hashtextextended(${identity}::text, 0) % ${PARTS}) < ${Math.round(((root.percent ?? 100) / 100) * PARTS)}`;
}

/** Returns the tables that a subset reduces: roots, and all tables that refer to them, directly or through others. */
export function restrictedTables(roots: Iterable<string>, keys: readonly ForeignKey[]): Set<string> {
  const restricted = new Set(roots);
  for (let size = -1; size !== restricted.size; ) {
    size = restricted.size;
    for (const { child, parents } of keys) {
      if (!parents.some((parent) => restricted.has(parent))) continue;
      restricted.add(child);
      // A key to a partitioned table may refer to any of its partitions.
      for (const parent of parents) restricted.add(parent);
    }
  }
  return restricted;
}

const on = ({ pairs }: ForeignKey) =>
  pairs.map(({ child, parent, operator }) => `p.${ident(parent)} ${operator} c.${ident(child)}`).join(" AND ");
/** A condition: a row refers to another by this key. It does not if a column of the key is NULL. */
const refers = ({ pairs }: ForeignKey) =>
  `(${pairs.map(({ child }) => `c.${ident(child)} IS NOT NULL`).join(" AND ")})`;

/** Input of {@link findSubset}. */
export interface SubsetOrder {
  /** Conditions of the roots, by table. */
  roots: ReadonlyMap<string, { root: SubsetRoot; table: Table }>;
  keys: readonly ForeignKey[];
  /** Excluded tables. Rows that refer to them are a problem that selection.ts reports. */
  excluded: ReadonlySet<string>;
}

/**
 * Finds the rows of a subset. Reads only.
 * @returns the addresses of the rows of every reduced table.
 * @throws {Error} with the server's message for an invalid condition.
 */
export async function findSubset(client: pg.Client, order: SubsetOrder): Promise<Map<string, Set<number>>> {
  const search = new SubsetSearch(client, order);
  await search.addRoots();
  await search.addUnreferring();
  await search.followKeys();
  return search.kept;
}

/** The growing set of rows. Each row that enters it is pending until the keys from and to its table have been followed. */
class SubsetSearch {
  readonly kept: Map<string, Set<number>>;
  private readonly client: pg.Client;
  private readonly roots: SubsetOrder["roots"];
  /** Foreign keys between reduced tables. */
  private readonly keys: ForeignKey[];
  private readonly pending = new Map<string, number[]>();
  /** For rows that are not in the set yet: how many of their references are. */
  private readonly satisfied: Map<string, Map<number, number>>;

  constructor(client: pg.Client, { roots, keys, excluded }: SubsetOrder) {
    const restricted = restrictedTables(roots.keys(), keys);
    for (const table of excluded) restricted.delete(table);
    this.client = client;
    this.roots = roots;
    this.kept = new Map([...restricted].map((table) => [table, new Set<number>()]));
    this.satisfied = new Map([...restricted].map((table) => [table, new Map<number, number>()]));
    this.keys = keys.filter(
      ({ child, parents }) => restricted.has(child) && parents.some((parent) => restricted.has(parent)),
    );
  }

  /** Adds the rows that satisfy the roots' conditions. */
  async addRoots(): Promise<void> {
    for (const [name, { root, table }] of this.roots) {
      try {
        const rows = await this.ask(`SELECT t.ctid::text FROM ONLY ${name} t WHERE ${rootCondition(root, table)}`);
        this.add(name, addresses(rows));
      } catch (error) {
        throw new Error(`importSubset "${root.setting}": ${(error as Error).message}. Nothing was changed`, {
          cause: error,
        });
      }
    }
  }

  /** Adds the rows of reduced tables that refer to no other row, because their keys are NULL or lead to excluded tables only. */
  async addUnreferring(): Promise<void> {
    for (const name of this.kept.keys()) {
      if (this.roots.has(name)) continue;
      const own = this.keys.filter(({ child }) => child === name);
      const none = own.length === 0 ? "true" : `NOT (${own.map(refers).join(" OR ")})`;
      this.add(name, addresses(await this.ask(`SELECT c.ctid::text FROM ONLY ${name} c WHERE ${none}`)));
    }
  }

  /** Follows the keys of pending rows, a batch at a time, until no row is pending. */
  async followKeys(): Promise<void> {
    for (;;) {
      const [table, waiting] = [...this.pending].find(([, rows]) => rows.length > 0) ?? [];
      if (table === undefined || waiting === undefined) return;
      const batch = addressArray(waiting.splice(0, BATCH));
      for (const key of this.keys) {
        if (key.child === table) await this.addParents(table, key, batch);
        if (key.parents.includes(table) && !this.roots.has(key.child)) await this.addChildren(table, key, batch);
      }
    }
  }

  /** Adds the rows that a batch refers to. */
  private async addParents(table: string, key: ForeignKey, batch: string): Promise<void> {
    for (const parent of key.parents) {
      const rows = await this.ask(
        `SELECT DISTINCT p.ctid::text FROM ONLY ${table} c JOIN ONLY ${parent} p ON ${on(key)} WHERE c.ctid = ANY ($1::tid[])`,
        [batch],
      );
      this.add(parent, addresses(rows));
    }
  }

  /** Adds the rows that refer to a batch, once every row that they refer to is in the set. */
  private async addChildren(table: string, key: ForeignKey, batch: string): Promise<void> {
    const needed = this.keys.filter(({ child }) => child === key.child).map((other) => `${refers(other)}::int`);
    const rows = await this.ask(
      `SELECT c.ctid::text, ${needed.join(" + ")} FROM ONLY ${table} p JOIN ONLY ${key.child} c ON ${on(key)}
       WHERE p.ctid = ANY ($1::tid[])`,
      [batch],
    );
    const satisfied = this.satisfied.get(key.child);
    if (satisfied) this.add(key.child, nowComplete(rows, satisfied));
  }

  private add(table: string, rows: Iterable<number>): void {
    const set = this.kept.get(table);
    if (set === undefined) return;
    const more = this.pending.get(table) ?? [];
    for (const row of rows) {
      if (set.has(row)) continue;
      set.add(row);
      more.push(row);
    }
    this.pending.set(table, more);
  }

  private async ask(text: string, values: unknown[] = []): Promise<[string, number][]> {
    const query = { text, values, rowMode: "array", queryMode: "extended" } as pg.QueryArrayConfig;
    return (await this.client.query<[string, number]>(query)).rows as [string, number][];
  }
}

const addresses = (rows: readonly [string, number][]): number[] => rows.map(([ctid]) => parseAddress(ctid));

/** Counts one more reference of each row, and returns the rows whose references are now all in the set. */
function nowComplete(rows: readonly [string, number][], satisfied: Map<number, number>): number[] {
  const complete: number[] = [];
  for (const [ctid, needed] of rows) {
    const row = parseAddress(ctid);
    const count = (satisfied.get(row) ?? 0) + 1;
    if (count < needed) satisfied.set(row, count);
    else {
      satisfied.delete(row);
      complete.push(row);
    }
  }
  return complete;
}
