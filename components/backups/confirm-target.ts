/** Confirms a recovery target before a large change, such as a migration or an import that replaces data. */
import type pg from "pg";
import { containerState, type DockerOptions, docker } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { refuseUnreachable } from "./recovery-target.ts";
import { parseReport } from "./report.ts";
import { archiveEverything } from "./restore.ts";

/** A recovery target that the backups can reach. */
export interface ConfirmedTarget {
  /** ISO 8601, to the millisecond. It includes everything that was committed before the call, and nothing after it. */
  at: string;
  /** The command that restores to it. */
  command: string;
}

/**
 * Makes the present time a recovery target: when this function returns, everything written so far is in the repository.
 * @param client a superuser's session on the stack's server.
 * @returns undefined if the stack takes no backups.
 * @throws {Error} if the WAL is not archived in time, no backup leads to the target, or WAL was dropped.
 */
export async function confirmRecoveryTarget(
  stack: string,
  client: pg.Client,
  engine: DockerOptions = {},
): Promise<ConfirmedTarget | undefined> {
  const { backups } = namesFor(stack);
  if ((await containerState(backups, engine)) === undefined) return undefined;
  await assertArchiving(client);
  // Rounded up, then waited for, so that every later commit has a later time than the one returned.
  const { rows } = await client.query<{ at: Date }>(
    "SELECT date_trunc('milliseconds', clock_timestamp()) + interval '2 ms' AS at, pg_sleep(0.01)",
  );
  await archiveEverything(client);
  const at = rows[0]?.at.toISOString() ?? "";
  const report = parseReport(await docker(["exec", backups, "sectorwars-backup", "report"], engine));
  refuseUnreachable(Math.floor(Date.parse(at) / 1000), report);
  return { at, command: `./db restore --to ${at} --stack ${stack}` };
}

/** @throws {Error} if archiving is off or fails, so that the caller does not wait for WAL that will not be archived. */
async function assertArchiving(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ broken: boolean }>(
    `SELECT current_setting('archive_mode') = 'off' OR coalesce(last_failed_time > last_archived_time, failed_count > 0) AS broken
     FROM pg_stat_archiver`,
  );
  if (rows[0]?.broken) throw new Error("the server does not archive its changes at present; ./db status shows why");
}

/**
 * Confirms a recovery target for a caller that can undo its change in another way too. Prints the command that restores to it, or
 * why the backups cannot, and does not fail.
 */
export async function announceRecoveryTarget(
  stack: string,
  client: pg.Client,
  say: (line: string) => void,
  host?: string | undefined,
): Promise<void> {
  const engine = host === undefined ? {} : { host };
  const now = "all databases of the server as they are now";
  await confirmRecoveryTarget(stack, client, engine).then(
    (target) => target && say(`to restore ${now} from the backups: ${target.command}`),
    (error: Error) => say(`the backups cannot restore ${now}: ${error.message}`),
  );
}
