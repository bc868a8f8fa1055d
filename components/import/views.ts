/** Materialised views: their definitions came with the schema, their rows are computed anew. */
import type pg from "pg";
import { ident, qualified } from "../../lib/postgres.ts";
import type { Entry } from "./dump-entries.ts";
import { entryKey } from "./load.ts";
import { setFingerprint } from "./proof.ts";

const POPULATED = `
  SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'm' AND c.relispopulated`;

/** The views that are filled on the source, by their names in SQL, in the dump's order: each behind those that it reads. */
export async function populatedViews(entries: readonly Entry[], source: pg.Client): Promise<string[]> {
  const { rows } = await source.query<{ schema: string; name: string }>(POPULATED);
  const populated = new Set(rows.map(({ schema, name }) => entryKey(schema, name)));
  return entries
    .filter(({ type, schema, name }) => type === "MATERIALIZED VIEW" && populated.has(entryKey(schema, name)))
    .map(({ schema, name }) => qualified(schema, name));
}

/**
 * Fills those views that are filled on the source. Their rows are compared, too; but a query may give other rows on another day,
 * so a difference is a remark and no failure.
 * @param isWhole whether the tables are the source's; a view of selected rows has no counterpart there.
 */
export async function refreshViews(
  entries: readonly Entry[],
  source: pg.Client,
  target: pg.Client,
  owner: string,
  isWhole: boolean,
) {
  const remarks: string[] = [];
  for (const sql of await populatedViews(entries, source)) {
    const name = sql.replaceAll('"', "");
    await target.query(`SET ROLE ${ident(owner)}; REFRESH MATERIALIZED VIEW ${sql}; RESET ROLE`);
    if (!isWhole) {
      remarks.push(`the materialised view ${name} was computed anew, from the rows that were selected`);
      continue;
    }
    const [theirs, ours] = await Promise.all([
      setFingerprint(`ONLY ${sql}`, source),
      setFingerprint(`ONLY ${sql}`, target),
    ]);
    const same = theirs.rows === ours.rows && theirs.sums === ours.sums;
    remarks.push(
      same
        ? `the materialised view ${name} was computed anew: the same ${ours.rows} rows`
        : `the materialised view ${name} was computed anew and holds other rows than on the source (${ours.rows}, there ` +
            `${theirs.rows}): its query depends on more than the tables, or it was not up to date there`,
    );
  }
  return remarks;
}
