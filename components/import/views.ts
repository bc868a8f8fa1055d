/** Materialised views: their definitions came with the schema, their rows are computed anew. */
import type pg from "pg";
import { qualified } from "../../lib/postgres.ts";
import { isUsers } from "./catalog.ts";
import type { Entry } from "./dump-entries.ts";
import type { Attempts } from "./failures.ts";
import { entryKey } from "./load.ts";
import { describeSet, setFingerprint } from "./proof.ts";
import { type ImportRecord, rowsOf } from "./record.ts";
import type { Table } from "./types.ts";

const POPULATED = `
  SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'm' AND c.relispopulated AND ${isUsers("n.nspname")}
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`;

/** A materialised view. */
type View = Pick<Table, "schema" | "name" | "sql">;

/** The materialised views of a database that have been computed. */
export async function readFilledViews(client: pg.Client): Promise<View[]> {
  const { rows } = await client.query<{ schema: string; name: string }>(POPULATED);
  return rows.map(({ schema, name }) => ({ schema, name, sql: qualified(schema, name) }));
}

/** The views that are filled on the source, in the dump's order: each behind those that it reads. */
async function filledInOrder(entries: readonly Entry[], source: pg.Client): Promise<View[]> {
  const filled = new Map((await readFilledViews(source)).map((view) => [entryKey(view.schema, view.name), view]));
  return entries.flatMap(({ type, schema, name }) => {
    const view = type === "MATERIALIZED VIEW" ? filled.get(entryKey(schema, name)) : undefined;
    return view ?? [];
  });
}

/** The same views by their names in SQL. */
export const populatedViews = async (entries: readonly Entry[], source: pg.Client): Promise<string[]> =>
  (await filledInOrder(entries, source)).map(({ sql }) => sql);

/**
 * Fills those views that are filled on the source. Their rows are compared, too; but a query may give other rows on another day,
 * so a difference is a remark and no failure.
 * @param sessions on the target: the owner's, in which the views' queries run, and the superuser's, which reads what came of them.
 * @param options `isWhole`: whether the tables are the source's; a view of selected rows has no counterpart there.
 * @throws {Error} that lists every view that cannot be computed.
 */
export async function refreshViews(
  entries: readonly Entry[],
  source: pg.Client,
  { owner, superuser }: { owner: pg.Client; superuser: pg.Client },
  { isWhole, attempts }: { isWhole: boolean; attempts: Attempts },
) {
  const remarks: string[] = [];
  const record: ImportRecord = new Map();
  for (const view of await filledInOrder(entries, source)) {
    const { sql } = view;
    const name = `${view.schema}.${view.name}`;
    // As on the source, where the owner's own policies hold for it as soon as a table forces row security.
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
      record.set(rowsOf(view), { target: describeSet(ours), selected: "computed from selected rows" });
      remarks.push(`the materialised view ${name} was computed anew, from the rows that were selected`);
      continue;
    }
    const [theirs, ours] = await Promise.all([
      setFingerprint(`ONLY ${sql}`, source),
      setFingerprint(`ONLY ${sql}`, superuser),
    ]);
    record.set(rowsOf(view), { source: describeSet(theirs), target: describeSet(ours) });
    const same = describeSet(theirs) === describeSet(ours);
    remarks.push(
      same
        ? `the materialised view ${name} was computed anew: the same ${ours.rows} rows`
        : `the materialised view ${name} was computed anew and holds other rows than on the source (${ours.rows}, there ` +
            `${theirs.rows}): its query depends on more than the tables, or it was not up to date there`,
    );
  }
  attempts.check(
    "Materialised views cannot be computed on the target, so the copy was thrown away; the target is as it was",
  );
  return { remarks, record };
}
