/** Materialized views: their definitions are copied with the schema, and the target computes their rows. */
import type pg from "pg";
import { qualified } from "../../../lib/postgres.ts";
import { isUsers } from "../schema/catalog.ts";
import type { Entry } from "../schema/dump-entries.ts";
import { entryKey } from "../schema/dump-entries.ts";
import type { Attempts } from "../schema/failures.ts";
import type { Table } from "../types.ts";
import { type Baseline, rowsOf } from "./baseline.ts";
import { describeSet, setFingerprint } from "./proof.ts";

const POPULATED = `
  SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'm' AND c.relispopulated AND ${isUsers("n.nspname")}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`;

/** A materialized view. */
type View = Pick<Table, "schema" | "name" | "sql">;

/** Returns the filled materialized views of a database. */
export async function readFilledViews(client: pg.Client): Promise<View[]> {
  const { rows } = await client.query<{ schema: string; name: string }>(POPULATED);
  return rows.map(({ schema, name }) => ({ schema, name, sql: qualified(schema, name) }));
}

/** Returns the views that are filled on the source, in the dump's order: each after those that it reads. */
async function filledInOrder(entries: readonly Entry[], source: pg.Client): Promise<View[]> {
  const filled = new Map((await readFilledViews(source)).map((view) => [entryKey(view.schema, view.name), view]));
  return entries.flatMap(({ type, schema, name }) => {
    const view = type === "MATERIALIZED VIEW" ? filled.get(entryKey(schema, name)) : undefined;
    return view ?? [];
  });
}

/** Returns the SQL names of the filled views, in the dump's order. */
export const populatedViews = async (entries: readonly Entry[], source: pg.Client): Promise<string[]> =>
  (await filledInOrder(entries, source)).map(({ sql }) => sql);

/**
 * Fills the views that are filled on the source, and compares their rows. A difference is a remark and not a failure, because a query may
 * return other rows at another time.
 * @param sessions on the target: the owner's, which runs the views' queries, and the superuser's, which reads the results.
 * @param options `isWhole`: whether all rows were copied; a view of selected rows has no counterpart on the source.
 * @throws {Error} that lists every view that cannot be computed.
 */
export async function refreshViews(
  entries: readonly Entry[],
  source: pg.Client,
  { owner, superuser }: { owner: pg.Client; superuser: pg.Client },
  { isWhole, attempts }: { isWhole: boolean; attempts: Attempts },
) {
  const remarks: string[] = [];
  const baseline: Baseline = new Map();
  for (const view of await filledInOrder(entries, source)) {
    const { sql } = view;
    const name = `${view.schema}.${view.name}`;
    // As on the source, where policies apply to the owner if a table forces row-level security.
    const refresh = async () =>
      void (await owner.query(`BEGIN; SET LOCAL row_security = on; REFRESH MATERIALIZED VIEW ${sql}; COMMIT`));
    const rollBack = async () => void (await owner.query("ROLLBACK"));
    try {
      const what = { object: `materialized view ${name}`, schema: view.schema };
      await attempts.withPath(owner, what, refresh, rollBack);
    } catch (error) {
      attempts.note(`materialized view ${name}`, view.schema, error);
      continue;
    }
    if (!isWhole) {
      const ours = await setFingerprint(`ONLY ${sql}`, superuser);
      baseline.set(rowsOf(view), { target: describeSet(ours), selected: "computed from selected rows" });
      remarks.push(`the materialized view ${name} was computed again, from the selected rows`);
      continue;
    }
    const [theirs, ours] = await Promise.all([
      setFingerprint(`ONLY ${sql}`, source),
      setFingerprint(`ONLY ${sql}`, superuser),
    ]);
    baseline.set(rowsOf(view), { source: describeSet(theirs), target: describeSet(ours) });
    const same = describeSet(theirs) === describeSet(ours);
    remarks.push(
      same
        ? `the materialized view ${name} was computed again and has the same ${ours.rows} rows`
        : `the materialized view ${name} was computed again and has other rows than on the source (${ours.rows}, and ` +
            `${theirs.rows} on the source): its query depends on more than the tables, or it was out of date on the source`,
    );
  }
  attempts.check(
    "Materialized views cannot be computed on the target, so the copy was dropped; the target is as it was",
  );
  return { remarks, baseline };
}
