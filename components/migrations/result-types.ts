/** Detects migrations that change the result types of existing queries. */
import { type Address, withConnection } from "../../lib/postgres.ts";

/** Relations and functions by their identity, each with a digest of its columns or its result. */
export type ResultTypes = ReadonlyMap<string, string>;

const RESULT_TYPES = `
  SELECT 'relation ' || c.oid AS id, pg_catalog.md5(pg_catalog.string_agg(
      pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attnum)) AS types
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped
      AND c.relnamespace::pg_catalog.regnamespace::text !~ '^(pg_|information_schema$)'
    GROUP BY c.oid
  UNION ALL
  SELECT 'function ' || p.oid, pg_catalog.concat_ws(' ', p.prorettype, p.proallargtypes::text, p.proargnames::text)
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace::pg_catalog.regnamespace::text !~ '^(pg_|information_schema$)'`;

/** Reads the columns of all relations, and the results of all functions. */
export const readResultTypes = (address: Address): Promise<ResultTypes> =>
  withConnection(address, async (client) => {
    const { rows } = await client.query<{ id: string; types: string }>(RESULT_TYPES);
    return new Map(rows.map(({ id, types }) => [id, types]));
  });

/**
 * Returns whether queries that were prepared before may have other result types after: an existing relation or function was changed or
 * dropped. New ones do not count, because no statement refers to them yet. Pure.
 */
export const changesResults = (before: ResultTypes, after: ResultTypes): boolean =>
  [...before].some(([id, types]) => after.get(id) !== types);
