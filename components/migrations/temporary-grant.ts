/**
 * The temporary grant: the owner may `SET session_replication_role` while the migrations run (PostgreSQL 15, GRANT ON PARAMETER).
 * The server revokes it as soon as the session that granted it ends, for whatever reason.
 */
import type pg from "pg";
import { TEMPORARY_GRANT_KEY } from "../../lib/locks.ts";
import { type Address, connect, drop, ident } from "../../lib/postgres.ts";

const revoke = (owner: string) => `REVOKE SET ON PARAMETER session_replication_role FROM ${ident(owner)}`;

/** Revokes a grant that remained because the server stopped during a run. */
export const revokeTemporaryGrant = (client: pg.Client, owner: string): Promise<unknown> => client.query(revoke(owner));

/**
 * Grants the privilege until a session ends. A second session waits for an advisory lock of the first, with the REVOKE in the same
 * query: if this process is killed, the server releases the lock and runs the REVOKE, because a waiting query does not notice that
 * its client is gone.
 * @param lockSession the session.
 * @returns a function that revokes the grant.
 */
export async function grantTemporarily(
  lockSession: pg.Client,
  address: Address,
  owner: string,
): Promise<() => Promise<void>> {
  await lockSession.query(`SELECT pg_advisory_lock(${TEMPORARY_GRANT_KEY})`);
  const watcher = await connect(address, {
    applicationName: "sectorwars-migrations right",
    setup: "SET client_connection_check_interval = 0; SET statement_timeout = 0; SET lock_timeout = 0",
  });
  // One query message, so one transaction: the next grant waits until the REVOKE is committed.
  const taken = watcher.query(`SELECT pg_advisory_xact_lock(${TEMPORARY_GRANT_KEY}); ${revoke(owner)}`);
  taken.catch(() => {});
  try {
    await lockSession.query(`GRANT SET ON PARAMETER session_replication_role TO ${ident(owner)}`);
  } catch (error) {
    drop(watcher);
    throw error;
  }
  let back: Promise<void> | undefined;
  return () => {
    back ??= (async () => {
      await lockSession.query(`SELECT pg_advisory_unlock(${TEMPORARY_GRANT_KEY})`);
      try {
        await taken;
      } finally {
        drop(watcher);
      }
    })();
    return back;
  };
}
