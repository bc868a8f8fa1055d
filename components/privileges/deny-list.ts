/** The deny list that a database of the stack has in force. */
import type pg from "pg";

/**
 * Reads the tables that readonly must not read, as the setting names them: with * for any characters.
 * @param client a superuser's session in the database.
 */
export async function readDenyList(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ pattern: string }>("SELECT pattern FROM sectorwars_stack.readonly_denied");
  // Kept as LIKE patterns.
  return rows.map(({ pattern }) => pattern.replaceAll(/\\(.)|%/g, (_, escaped?: string) => escaped ?? "*"));
}
