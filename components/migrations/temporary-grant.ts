/**
 * The right to `SET session_replication_role`, lent to the owner while the migrations run (PostgreSQL 15, GRANT ON PARAMETER).
 * The server itself takes it back as soon as the session that asked for it is gone, whatever ended it.
 */
import type pg from "pg";
import { TEMPORARY_GRANT_KEY } from "../../lib/locks.ts";
import { type Address, connect, drop, ident } from "../../lib/postgres.ts";

const revoke = (owner: string) => `REVOKE SET ON PARAMETER session_replication_role FROM ${ident(owner)}`;

/** Takes back what a run has left that ended together with its server. */
export const revokeTemporaryGrant = (client: pg.Client, owner: string): Promise<unknown> => client.query(revoke(owner));

/**
 * Lends the right for as long as a session lives. A second session waits on the server for a lock of the first, with the
 * REVOKE behind it: should this process be killed, the lock is free, and a statement that waits does not ask whether
 * anybody still listens.
 * @param keeper the session.
 * @returns what takes the right back.
 */
export async function grantTemporarily(
  keeper: pg.Client,
  address: Address,
  owner: string,
): Promise<() => Promise<void>> {
  await keeper.query(`SELECT pg_advisory_lock(${TEMPORARY_GRANT_KEY})`);
  const watcher = await connect(address, {
    applicationName: "sectorwars-migrations right",
    setup: "SET client_connection_check_interval = 0; SET statement_timeout = 0; SET lock_timeout = 0",
  });
  // One message, and so one transaction: the next loan waits until the REVOKE is in force.
  const taken = watcher.query(`SELECT pg_advisory_xact_lock(${TEMPORARY_GRANT_KEY}); ${revoke(owner)}`);
  taken.catch(() => {});
  try {
    await keeper.query(`GRANT SET ON PARAMETER session_replication_role TO ${ident(owner)}`);
  } catch (error) {
    drop(watcher);
    throw error;
  }
  let back: Promise<void> | undefined;
  return () => {
    back ??= (async () => {
      await keeper.query(`SELECT pg_advisory_unlock(${TEMPORARY_GRANT_KEY})`);
      try {
        await taken;
      } finally {
        drop(watcher);
      }
    })();
    return back;
  };
}
