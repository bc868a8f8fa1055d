/** The schema in which a stack stores data about itself, in its databases and in the server's own. */
import type pg from "pg";

/** The stack's own schema. It is not part of the imported data. */
export const STACK_SCHEMA = "sectorwars_stack";

/**
 * Returns whether a table of the stack's own schema exists. A table that does not belong to a superuser is not the stack's: its owner may
 * have attached code to it.
 */
export async function isOwnTable(client: pg.Client, name: string): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_catalog.pg_roles r ON r.oid = c.relowner JOIN pg_catalog.pg_roles s ON s.oid = n.nspowner
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r' AND r.rolsuper AND s.rolsuper`,
    [STACK_SCHEMA, name],
  );
  return rowCount === 1;
}
