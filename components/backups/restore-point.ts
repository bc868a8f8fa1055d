/** A moment to come back to, made before something that changes much: a migration, an import over data. */
import type pg from "pg";
import { takesBackups } from "./console.ts";
import { archiveEverything } from "./restore.ts";

/** A moment, and the way back to it. */
export interface RestorePoint {
  /** ISO 8601, to the millisecond; all that was committed before it is in it, and nothing that comes after the call. */
  at: string;
  /** What a person types to have the database of that moment back. */
  command: string;
}

/**
 * Makes sure that this moment can be restored: everything written so far is in the repository when it returns.
 * @param client a session of the superuser on the stack's server.
 * @returns undefined where the stack takes no backups.
 * @throws {Error} when the write-ahead log does not reach the repository in time: then nothing should be risked.
 */
export async function makeRestorePoint(stack: string, client: pg.Client): Promise<RestorePoint | undefined> {
  if (!(await takesBackups(stack))) return undefined;
  // Rounded up, and waited for: what is committed from here on has a later time than the one that is told.
  const { rows } = await client.query<{ at: Date }>(
    "SELECT date_trunc('milliseconds', clock_timestamp()) + interval '2 ms' AS at, pg_sleep(0.01)",
  );
  await archiveEverything(client);
  const at = rows[0]?.at.toISOString() ?? "";
  return { at, command: `npm run restore -- --to ${at} --stack ${stack}` };
}
