/**
 * Functions that find names by the search path, which this program's sessions pin to PostgreSQL's own names. On the source they
 * work by the path that the database or the role gives; where an object cannot be made without, it is made with that one.
 */
import type pg from "pg";
import { ident, literal } from "../../lib/postgres.ts";

/** SQLSTATEs of a name that was not found, or not as one thing (PostgreSQL manual, appendix A, class 42 and 3F). */
const NOT_FOUND = new Set(["42883", "42P01", "42704", "42703", "42725", "3F000"]);

/** Whether another search path may help. */
export const isAboutNames = (error: unknown): boolean => NOT_FOUND.has((error as { code?: string }).code ?? "");

/**
 * Reads the schemas in which an application's sessions look for names on the source, as the database and the role have it. PostgreSQL's
 * own come first in any case, so that none of them can be hidden.
 * @param client a session on the source, in a transaction.
 */
export async function readSearchPath(client: pg.Client): Promise<string[]> {
  const setPath = (path: string) => client.query("SELECT pg_catalog.set_config('search_path', $1, true)", [path]);
  const { rows } = await client.query<{ given: string; pinned: string }>(
    "SELECT reset_val AS given, setting AS pinned FROM pg_catalog.pg_settings WHERE name = 'search_path'",
  );
  const [path = { given: "", pinned: "pg_catalog, pg_temp" }] = rows;
  await setPath(path.given);
  const found = await client.query<{ schemas: string[] }>(
    "SELECT pg_catalog.current_schemas(false)::pg_catalog.text[] AS schemas",
  );
  await setPath(path.pinned);
  return (found.rows[0]?.schemas ?? []).filter((name) => name !== "pg_catalog");
}

/** The source's path and an object's own schema, in which functions that belong to it are most often found. */
export const pathFor = (searchPath: readonly string[], schema: string): string[] => [
  ...new Set([...searchPath, ...(schema === "-" || schema === "" ? [] : [schema])]),
];

/** A path as SQL. */
export const pathSql = (path: readonly string[]): string => path.map(ident).join(", ");

/**
 * Runs work with a search path, in an owner's session: code of the source must find nothing of its own in another. The work must
 * leave the session in a state in which it takes statements.
 */
export async function withPath<T>(client: pg.Client, path: readonly string[], work: () => Promise<T>): Promise<T> {
  const { rows } = await client.query<{ before: string }>("SELECT pg_catalog.current_setting('search_path') AS before");
  await client.query(`SELECT pg_catalog.set_config('search_path', ${literal(pathSql(path))}, false)`);
  try {
    return await work();
  } finally {
    const before = literal(rows[0]?.before ?? "pg_catalog, pg_temp");
    await client.query(`SELECT pg_catalog.set_config('search_path', ${before}, false)`);
  }
}

/** The function that was running, by what PostgreSQL says about where it failed. */
export function functionOf(where: string | undefined): string | undefined {
  const [, plain, sql] = /PL\/\w+ function (.+?\)) line|SQL function "(.+?)"/.exec(where ?? "") ?? [];
  return plain ?? (sql && ident(sql));
}

/** The remedy for a function that finds names by the search path. */
export const pinFunction = (where: string | undefined, path: readonly string[]): string =>
  `ALTER FUNCTION ${functionOf(where) ?? "..."} SET search_path = ${pathSql(path)}`;
