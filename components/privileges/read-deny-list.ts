/** The deny list in force in a database. */
import type pg from "pg";

/**
 * Returns the tables that readonly must not read, in the notation of the setting, with * for any characters.
 * @param client a superuser's session in the database.
 */
export async function readDenyList(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ pattern: string }>("SELECT pattern FROM sectorwars_stack.readonly_denied");
  // The database stores them as LIKE patterns.
  return rows.map(({ pattern }) => pattern.replaceAll(/\\(.)|%/g, (_, escaped?: string) => escaped ?? "*"));
}
