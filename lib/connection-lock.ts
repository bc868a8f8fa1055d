/**
 * The connection lock: while migrations run, only the database's owner and superusers can connect. Rows that services write during a
 * run would be lost if it failed, and their locks could block it.
 */
import type pg from "pg";
import { databaseProperties } from "./database-properties.ts";
import { ident, literal } from "./postgres.ts";
import { endSessions, inTransaction } from "./sessions.ts";
import { isOwnTable, STACK_SCHEMA } from "./stack-schema.ts";

/** The key of the advisory lock that a run holds on the server: the letters "sectormi" as a 64-bit number. */
export const LOCK_KEY = "8315161638746615145";

/**
 * The table with the statements that release a connection lock. It is in the server's own database, which only superusers can write to:
 * a superuser runs the statements, and the owner of a database could change its comment.
 */
const LOCKS_TABLE = `${STACK_SCHEMA}.connection_locks`;
const CREATE_LOCKS_TABLE = [
  `CREATE SCHEMA IF NOT EXISTS ${STACK_SCHEMA}`,
  `REVOKE ALL ON SCHEMA ${STACK_SCHEMA} FROM PUBLIC`,
  `CREATE TABLE IF NOT EXISTS ${LOCKS_TABLE} (database name PRIMARY KEY, statements text[] NOT NULL)`,
];

/** Returns the statements that release a lock: they restore the database's properties, and delete the lock's row. */
const releaseStatements = (database: string, properties: readonly string[]): string[] => [
  ...properties,
  `DELETE FROM ${LOCKS_TABLE} WHERE database = ${literal(database)}`,
];

/**
 * Takes the connection lock and ends all other sessions in the database. Stores the statements that release it in the same transaction,
 * so that they remain if the run is killed.
 * @param client a superuser's session in the server's own database.
 * @returns the statements that release the lock.
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
    ...CREATE_LOCKS_TABLE,
    ...revokes,
    `INSERT INTO ${LOCKS_TABLE} VALUES (${literal(database)}, ${statements})
     ON CONFLICT (database) DO UPDATE SET statements = excluded.statements`,
  ]);
  await endSessions(client, database);
  return releaseStatements(database, properties);
}

/** Releases the connection lock, and restores the database's properties. */
export const unblockConnections = (client: pg.Client, statements: readonly string[]): Promise<void> =>
  inTransaction(client, statements);

/**
 * Returns the statements that release a connection lock that a killed run left, or undefined if there is no lock.
 * @param client a superuser's session in the server's own database.
 */
export async function readLeftoverLock(client: pg.Client, database: string): Promise<string[] | undefined> {
  if (!(await isOwnTable(client, "connection_locks"))) return undefined;
  const { rows } = await client.query<{ statements: string[] }>(
    `SELECT statements FROM ${LOCKS_TABLE} WHERE database = $1`,
    [database],
  );
  return rows[0] && releaseStatements(database, rows[0].statements);
}
