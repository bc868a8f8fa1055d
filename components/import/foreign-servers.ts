/** Definitions of servers that foreign tables stand on. */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";

/** Wrappers that extensions have made: their handlers and validators are PostgreSQL's or the image's own code. */
const WRAPPERS = `
  SELECT w.fdwname AS name FROM pg_catalog.pg_foreign_data_wrapper w
  WHERE EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass AND d.objid = w.oid AND d.deptype = 'e')`;

/**
 * Makes a server's definition in the owner's session, which needs USAGE of its wrapper for that one statement. Afterwards the owner
 * cannot make others. Nobody logs in by it: user mappings are not copied (dump-entries.ts), and postgres_fdw lets nobody but
 * superusers go without a password.
 * @param superuser a session in the same database.
 */
export async function withWrappers<T>(superuser: pg.Client, owner: string, work: () => Promise<T>): Promise<T> {
  const { rows } = await superuser.query<{ name: string }>(WRAPPERS);
  const each = (verb: "GRANT" | "REVOKE", to: "TO" | "FROM") =>
    rows.map(({ name }) => `${verb} USAGE ON FOREIGN DATA WRAPPER ${ident(name)} ${to} ${ident(owner)}`).join("; ");
  await superuser.query(each("GRANT", "TO"));
  try {
    return await work();
  } finally {
    await superuser.query(each("REVOKE", "FROM"));
  }
}
