/**
 * Functions that depend on the search path, which this program's sessions pin to PostgreSQL's own schemas. On the source, such
 * functions use the path of the database or role. If an object cannot be created without it, the import creates it with that path.
 */
import type pg from "pg";
import { ident, literal } from "../../../lib/postgres.ts";

/** SQLSTATEs of a missing or ambiguous name (PostgreSQL manual, appendix A, classes 42 and 3F). */
const NOT_FOUND = new Set(["42883", "42P01", "42704", "42703", "42725", "3F000"]);

/** Returns whether another search path may help. */
export const isAboutNames = (error: unknown): boolean => NOT_FOUND.has((error as { code?: string }).code ?? "");

/**
 * Reads the search path of an application's sessions on the source, as the database and the role set it. pg_catalog is removed, because
 * the import always puts it first, so that no object can hide PostgreSQL's own.
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

/** Returns the source's path plus an object's own schema, which usually has the functions that the object needs. */
export const pathFor = (searchPath: readonly string[], schema: string): string[] => [
  ...new Set([...searchPath, ...(schema === "-" || schema === "" ? [] : [schema])]),
];

/** Returns a path as SQL. */
export const pathSql = (path: readonly string[]): string => path.map(ident).join(", ");

/**
 * Runs work with a search path. Use it only in an owner's session, because code of the source may run. The work must leave the session
 * able to run statements.
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

/** Returns the function that failed, parsed from PostgreSQL's CONTEXT. */
export function functionOf(where: string | undefined): string | undefined {
  const [, plain, sql] = /PL\/\w+ function (.+?\)) line|SQL function "(.+?)"/.exec(where ?? "") ?? [];
  return plain ?? (sql && ident(sql));
}

/** Returns the remedy for a function that depends on the search path. */
export const pinFunction = (where: string | undefined, path: readonly string[]): string =>
  `ALTER FUNCTION ${functionOf(where) ?? "..."} SET search_path = ${pathSql(path)}`;
