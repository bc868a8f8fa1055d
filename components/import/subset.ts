/**
 * The rows of a subset. A row is in it
 *   - when its table is a root and the row fits the root's condition,
 *   - when a row that is in it refers to it, and
 *   - when its table is no root but refers to roots, directly or through others, and all that the row refers to is in it.
 * Tables that lead to no root come whole. This has one smallest solution, also where tables refer to each other in circles; no
 * foreign key leads out of it.
 *
 * Nothing can be written on the source, so the worker keeps the set, as row addresses (ctid), which stay what they are as long as
 * the snapshot and the lock on the table do. The joins are the server's: values are compared by the foreign key's own operators,
 * and none of them crosses the wire.
 */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import type { ForeignKey } from "./relations.ts";
import type { SubsetRoot } from "./selection-settings.ts";
import type { Table } from "./types.ts";

/** Row addresses sent with one statement. */
const BATCH = 20_000;
/** A percentage is drawn in parts of a million. */
const PARTS = 1_000_000;

/** A row's address: the number of its block, and its place in it, which fits 16 bits. */
const OFFSETS = 65_536;
const parseAddress = (ctid: string): number => {
  const comma = ctid.indexOf(",");
  return Number(ctid.slice(1, comma)) * OFFSETS + Number(ctid.slice(comma + 1, -1));
};
const writeAddress = (row: number): string => `(${Math.floor(row / OFFSETS)},${row % OFFSETS})`;
/** Addresses as a literal of type tid[], in the order in which the rows stand. */
export const addressArray = (rows: Iterable<number>): string =>
  `{${[...rows]
    .sort((a, b) => a - b)
    .map((row) => `"${writeAddress(row)}"`)
    .join(",")}}`;

/** Which rows of a root are taken at first. The draw of a percentage goes by the key, so it is the same another time. */
export function rootCondition(root: SubsetRoot, table: Table): string {
  // On a line of its own: a remark at the condition's end must not swallow what follows.
  if (root.where !== undefined) return `(${root.where}\n)`;
  const identity = table.key.length > 0 ? `ROW(${table.key.map((name) => `t.${ident(name)}`).join(", ")})` : "t";
  return `abs(hashtextextended(${identity}::text, 0) % ${PARTS}) < ${Math.round(((root.percent ?? 100) / 100) * PARTS)}`;
}

/** Tables that are made smaller: roots, and all that refer to them, directly or through others. */
export function restrictedTables(roots: Iterable<string>, keys: readonly ForeignKey[]): Set<string> {
  const restricted = new Set(roots);
  for (let size = -1; size !== restricted.size; ) {
    size = restricted.size;
    for (const { child, parents } of keys) {
      if (!parents.some((parent) => restricted.has(parent))) continue;
      restricted.add(child);
      // A key that leads into a partitioned table may lead into any part of it.
      for (const parent of parents) restricted.add(parent);
    }
  }
  return restricted;
}

const on = ({ pairs }: ForeignKey) =>
  pairs.map(({ child, parent, operator }) => `p.${ident(parent)} ${operator} c.${ident(child)}`).join(" AND ");
/** Whether a row refers to anything by this key: one part that is NULL, and it does not. */
const refers = ({ pairs }: ForeignKey) =>
  `(${pairs.map(({ child }) => `c.${ident(child)} IS NOT NULL`).join(" AND ")})`;

/** What the subset is made from. */
export interface SubsetOrder {
  /** Conditions of the roots, by table. */
  roots: ReadonlyMap<string, { root: SubsetRoot; table: Table }>;
  keys: readonly ForeignKey[];
  /** Tables none of whose rows come along; what refers to them is refused elsewhere. */
  excluded: ReadonlySet<string>;
}

/**
 * Finds the rows, by reading alone.
 * @returns for every table that is made smaller, the addresses of its rows.
 * @throws {Error} with the server's own words for a condition that is not understood.
 */
export async function findSubset(
  client: pg.Client,
  { roots, keys, excluded }: SubsetOrder,
): Promise<Map<string, Set<number>>> {
  const restricted = restrictedTables(roots.keys(), keys);
  for (const table of excluded) restricted.delete(table);
  const kept = new Map([...restricted].map((table) => [table, new Set<number>()]));
  const pending = new Map<string, number[]>();
  const leading = keys.filter(
    ({ child, parents }) => restricted.has(child) && parents.some((parent) => restricted.has(parent)),
  );
  /** Of rows that are not in the set yet: how many of their references are. */
  const satisfied = new Map<string, Map<number, number>>();

  const add = (table: string, rows: Iterable<number>) => {
    const set = kept.get(table);
    if (set === undefined) return;
    const more = pending.get(table) ?? [];
    for (const row of rows) {
      if (set.has(row)) continue;
      set.add(row);
      more.push(row);
    }
    pending.set(table, more);
  };
  const ask = async (text: string, values: unknown[] = []) => {
    const { rows } = await client.query<[string, number]>({
      text,
      values,
      rowMode: "array",
      queryMode: "extended",
    } as pg.QueryArrayConfig);
    return rows as [string, number][];
  };
  const addresses = (rows: [string, number][]) => rows.map(([ctid]) => parseAddress(ctid));

  for (const [name, { root, table }] of roots) {
    try {
      add(name, addresses(await ask(`SELECT t.ctid::text FROM ONLY ${name} t WHERE ${rootCondition(root, table)}`)));
    } catch (error) {
      throw new Error(`importSubset "${root.setting}": ${(error as Error).message}. Nothing was changed`, {
        cause: error,
      });
    }
  }
  for (const name of restricted) {
    if (roots.has(name)) continue;
    const own = leading.filter(({ child }) => child === name);
    const none = own.length === 0 ? "true" : `NOT (${own.map(refers).join(" OR ")})`;
    add(name, addresses(await ask(`SELECT c.ctid::text FROM ONLY ${name} c WHERE ${none}`)));
  }

  for (;;) {
    const [table, waiting] = [...pending].find(([, rows]) => rows.length > 0) ?? [];
    if (table === undefined || waiting === undefined) return kept;
    const batch = [addressArray(waiting.splice(0, BATCH))];
    for (const key of leading) {
      if (key.child === table) {
        for (const parent of key.parents) {
          const rows = await ask(
            `SELECT DISTINCT p.ctid::text FROM ONLY ${table} c JOIN ONLY ${parent} p ON ${on(key)} WHERE c.ctid = ANY ($1::tid[])`,
            batch,
          );
          add(parent, addresses(rows));
        }
      }
      if (key.parents.includes(table) && !roots.has(key.child)) {
        const needed = leading.filter(({ child }) => child === key.child).map((other) => `${refers(other)}::int`);
        const rows = await ask(
          `SELECT c.ctid::text, ${needed.join(" + ")} FROM ONLY ${table} p JOIN ONLY ${key.child} c ON ${on(key)}
           WHERE p.ctid = ANY ($1::tid[])`,
          batch,
        );
        add(
          key.child,
          nowComplete(
            rows,
            satisfied.get(key.child) ?? (satisfied.set(key.child, new Map()).get(key.child) as Map<number, number>),
          ),
        );
      }
    }
  }
}

/** Counts one more reference of each row; returns the rows of which none is missing any more. */
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
