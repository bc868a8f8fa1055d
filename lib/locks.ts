/** Advisory locks that more than one part of the project must know. */
import type pg from "pg";

/**
 * Key of the lock that is held, in the database `postgres`, for as long as the owner has the temporary grant of
 * `session_replication_role`: the letters "sectorwl" as a 64-bit number.
 */
export const TEMPORARY_GRANT_KEY = "8315161638746617708";

/** What the session calls itself that holds off snapshots and migrations while a refresh runs. */
export const REFRESHING = "sectorwars-refresh";

/** Whether another session's refresh runs on the server, for the words of whoever finds a lock taken. */
export async function isRefreshing(client: pg.Client): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = $1 AND a.pid <> pg_catalog.pg_backend_pid()`,
    [REFRESHING],
  );
  return rowCount !== 0;
}
