/** A moment to come back to, made before something that changes much: a migration, an import over data. */
import type pg from "pg";
import { containerState, type DockerOptions, docker } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { parseReport } from "./report.ts";
import { archiveEverything } from "./restore.ts";
import { refuseUnreachable } from "./target.ts";

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
 * @throws {Error} when the write-ahead log does not reach the repository in time, no backup leads there, or WAL was given up.
 */
export async function makeRestorePoint(
  stack: string,
  client: pg.Client,
  engine: DockerOptions = {},
): Promise<RestorePoint | undefined> {
  const { backups } = namesFor(stack);
  if ((await containerState(backups, engine)) === undefined) return undefined;
  await refuseBroken(client);
  // Rounded up, and waited for: what is committed from here on has a later time than the one that is told.
  const { rows } = await client.query<{ at: Date }>(
    "SELECT date_trunc('milliseconds', clock_timestamp()) + interval '2 ms' AS at, pg_sleep(0.01)",
  );
  await archiveEverything(client);
  const at = rows[0]?.at.toISOString() ?? "";
  const report = parseReport(await docker(["exec", backups, "sectorwars-backup", "report"], engine));
  refuseUnreachable(Math.floor(Date.parse(at) / 1000), report);
  return { at, command: `./db restore --to ${at} --stack ${stack}` };
}

/** An archive that fails is known at once; waiting for it would only take longer. */
async function refuseBroken(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ broken: boolean }>(
    `SELECT current_setting('archive_mode') = 'off' OR coalesce(last_failed_time > last_archived_time, failed_count > 0) AS broken
     FROM pg_stat_archiver`,
  );
  if (rows[0]?.broken) throw new Error("changes are not archived at the moment; ./db status tells why");
}

/**
 * The same for whoever is about to change much and has something else to fall back on: says how to come back, or that it
 * cannot be done.
 */
export async function announceRestorePoint(
  stack: string,
  client: pg.Client,
  say: (line: string) => void,
  host?: string | undefined,
): Promise<void> {
  const engine = host === undefined ? {} : { host };
  const before = "all databases of the server as they are now";
  await makeRestorePoint(stack, client, engine).then(
    (point) => point && say(`to have ${before} back from the backups: ${point.command}`),
    (error: Error) => say(`the backups cannot give back ${before}: ${error.message}`),
  );
}
