/** Advisory locks that several parts of the project use. */
import type pg from "pg";

/**
 * The key of the lock that is held in the database `postgres` while the owner has the temporary grant of
 * `session_replication_role`: the letters "sectorwl" as a 64-bit number.
 */
export const TEMPORARY_GRANT_KEY = "8315161638746617708";

/** The application name of the session that blocks snapshots and migrations during a refresh. */
export const REFRESHING = "sectorwars-refresh";

/** Returns whether another session runs a refresh on the server, for error messages about a lock that is taken. */
export async function isRefreshing(client: pg.Client): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = $1 AND a.pid <> pg_catalog.pg_backend_pid()`,
    [REFRESHING],
  );
  return rowCount !== 0;
}
