/**
 * The database's door while a migration runs: only its owner and superusers get in. What the services wrote meanwhile would
 * be lost if the run failed, and their locks could hold it up.
 */
import type pg from "pg";
import { databaseProperties } from "./database-properties.ts";
import { ident, literal } from "./postgres.ts";
import { endSessions, inTransaction } from "./sessions.ts";
import { isOwnTable, STACK_SCHEMA } from "./stack-schema.ts";

/** Key of the advisory lock that a run holds on the server: the letters "sectormi" as a 64-bit number. */
export const LOCK_KEY = "8315161638746615145";

/**
 * Where it is noted how a door is opened again: in the server's own database, which nobody but superusers writes. The statements
 * are run by a superuser; in a comment of the database its owner could write some of his own.
 */
const NOTES = `${STACK_SCHEMA}.connection_locks`;
const MAKE_NOTES = [
  `CREATE SCHEMA IF NOT EXISTS ${STACK_SCHEMA}`,
  `REVOKE ALL ON SCHEMA ${STACK_SCHEMA} FROM PUBLIC`,
  `CREATE TABLE IF NOT EXISTS ${NOTES} (database name PRIMARY KEY, statements text[] NOT NULL)`,
];

/** What opens a door: the database's properties, and the end of the note. */
const opening = (database: string, properties: readonly string[]): string[] => [
  ...properties,
  `DELETE FROM ${NOTES} WHERE database = ${literal(database)}`,
];

/**
 * Shuts the door and sees everybody out. In one transaction it is noted how to open it again: a run that is killed leaves that
 * note.
 * @param client a superuser's session in the server's own database.
 * @returns the statements that open the door again.
 */
export async function blockConnections(client: pg.Client, database: string): Promise<string[]> {
  const properties = await databaseProperties(client, database);
  const { rows } = await client.query<{ grantee: string }>(
    `SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
     FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a
     WHERE datname = $1 AND a.grantee <> datdba`,
    [database],
  );
  const revokes = rows.map(({ grantee }) => `REVOKE CONNECT ON DATABASE ${ident(database)} FROM ${grantee}`);
  const statements = `ARRAY[${properties.map(literal).join(", ")}]::text[]`;
  await inTransaction(client, [
    ...MAKE_NOTES,
    ...revokes,
    `INSERT INTO ${NOTES} VALUES (${literal(database)}, ${statements})
     ON CONFLICT (database) DO UPDATE SET statements = excluded.statements`,
  ]);
  await endSessions(client, database);
  return opening(database, properties);
}

/** Opens the door again, with everything as it was before. */
export const unblockConnections = (client: pg.Client, statements: readonly string[]): Promise<void> =>
  inTransaction(client, statements);

/**
 * The statements that open a door which a killed run has left shut, or undefined where it is open.
 * @param client a superuser's session in the server's own database.
 */
export async function readLeftoverLock(client: pg.Client, database: string): Promise<string[] | undefined> {
  if (!(await isOwnTable(client, "connection_locks"))) return undefined;
  const { rows } = await client.query<{ statements: string[] }>(`SELECT statements FROM ${NOTES} WHERE database = $1`, [
    database,
  ]);
  return rows[0] && opening(database, rows[0].statements);
}
