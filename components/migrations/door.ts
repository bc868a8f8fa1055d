/**
 * The database's door while a migration runs: only its owner and superusers get in. What the services wrote meanwhile would
 * be lost if the run failed, and their locks could hold it up.
 */
import type pg from "pg";
import { commentOf, databaseProperties } from "../../lib/database-properties.ts";
import { ident, literal } from "../../lib/postgres.ts";
import { endSessions, inTransaction, MADE_BY } from "./restore-point.ts";

/** Key of the advisory lock that a run holds on the server: the letters "sectormi" as a 64-bit number. */
export const LOCK_KEY = "8315161638746615145";

/**
 * Shuts the door and sees everybody out. In one transaction it is noted, as the database's comment, how to open it again:
 * a run that is killed leaves that note.
 * @returns the database's properties with the door open.
 */
export async function shutDoor(client: pg.Client, database: string): Promise<string[]> {
  const properties = await databaseProperties(client, database);
  const { rows } = await client.query<{ grantee: string }>(
    `SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
     FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a
     WHERE datname = $1 AND a.grantee <> datdba`,
    [database],
  );
  const revokes = rows.map(({ grantee }) => `REVOKE CONNECT ON DATABASE ${ident(database)} FROM ${grantee}`);
  const note = JSON.stringify({ madeBy: MADE_BY, open: properties });
  await inTransaction(client, [...revokes, `COMMENT ON DATABASE ${ident(database)} IS ${literal(note)}`]);
  await endSessions(client, database);
  return properties;
}

/** Opens the door again, with everything as it was before. */
export const openDoor = (client: pg.Client, properties: readonly string[]): Promise<void> =>
  inTransaction(client, properties);

/** How to open a door that a killed run has left shut, or undefined where it is open. */
export async function leftShut(client: pg.Client, database: string): Promise<string[] | undefined> {
  const text = await commentOf(client, database);
  if (!text?.includes(MADE_BY)) return undefined;
  return (JSON.parse(text) as { open?: string[] }).open;
}
