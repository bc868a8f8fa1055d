/**
 * The migration backup: a copy of the database on the same server, made before migrations run. PostgreSQL copies the files; two
 * renames restore the copy. The failed run does that, or the next run if the first was killed. With backups enabled, the same time
 * can also be restored from them (components/backups/confirm-target.ts).
 *
 * The superuser owns the copies. An owner can drop a database from any other database, and the migrations run as the owner of the
 * original.
 */

import type pg from "pg";
import { besideBackups } from "../../lib/backup-lock.ts";
import { commentOf } from "../../lib/database-properties.ts";
import { ident, literal } from "../../lib/postgres.ts";
import { endSessions, inTransaction } from "../../lib/sessions.ts";

/** Facts about a migration backup, stored as JSON in the comment of its database. */
export interface MigrationBackup {
  /** The Alembic revision in it; null before the first. */
  from: string | null;
  /** The revision that the run has to reach. */
  to: string | null;
  /** The time of the backup, ISO 8601. */
  at: string;
  /** Whether the run has not ended yet. If this is still true when the next run begins, the run was killed. */
  running: boolean;
}

/** Marks the databases that the migrations create, in their comments, so that no other database of such a name is dropped. */
export const MADE_BY = "sectorwars-database migrations";
/** Milliseconds during which sessions that reconnect are ended again. */
const ENDING_MS = 10_000;
const WAL_LOG_LIMIT_BYTES = 256 * 1024 ** 2;
const OBJECT_IN_USE = "55006";

/** Returns the name of the migration backup's database. */
export const backupName = (database: string): string => `${database}_before_migration`;
/** Returns the name of the previous run's migration backup while a run is in progress. It is renamed back if the run fails. */
const formerName = (database: string): string => `${database}_former_migration`;
/** Returns the name of a database after its migration was undone. */
export const undoneName = (database: string): string => `${database}_undone`;

const rename = (from: string, to: string) => `ALTER DATABASE ${ident(from)} RENAME TO ${ident(to)}`;

/**
 * Returns whether a database of that name exists that a former run created.
 * @throws {Error} if it exists and the migrations did not create it.
 */
async function isOwn(client: pg.Client, database: string): Promise<boolean> {
  const comment = await commentOf(client, database);
  if (comment === undefined || comment?.includes(MADE_BY)) return comment !== undefined;
  throw new Error(
    `The database ${database} was not created by the migrations, which need its name. Rename it: ALTER DATABASE ... RENAME TO ...`,
  );
}

/** Drops a database that a former run created. @throws {Error} if the migrations did not create it. */
async function dropOwn(client: pg.Client, database: string): Promise<void> {
  if (await isOwn(client, database)) await client.query(`DROP DATABASE ${ident(database)} WITH (FORCE)`);
}

const comment = (database: string, backup: MigrationBackup) =>
  `COMMENT ON DATABASE ${ident(database)} IS ${literal(JSON.stringify({ madeBy: MADE_BY, ...backup }))}`;

/** Returns the migration backup of a database, or undefined if it does not exist. */
export async function readMigrationBackup(client: pg.Client, database: string): Promise<MigrationBackup | undefined> {
  const text = await commentOf(client, backupName(database));
  return text?.includes(MADE_BY) ? (JSON.parse(text) as MigrationBackup) : undefined;
}

/** Runs a statement that needs a database without sessions. Ends sessions until it succeeds. */
async function withoutSessions(client: pg.Client, database: string, statement: string): Promise<void> {
  const deadline = Date.now() + ENDING_MS;
  for (;;) {
    await endSessions(client, database);
    try {
      await client.query(statement);
      return;
    } catch (error) {
      await client.query("ROLLBACK");
      if ((error as { code?: string }).code !== OBJECT_IN_USE) throw error;
      if (Date.now() < deadline) continue;
      const { rows } = await client.query<{ who: string }>(
        "SELECT DISTINCT usename || ' (' || application_name || ')' AS who FROM pg_stat_activity WHERE datname = $1",
        [database],
      );
      throw new Error(
        `${database} cannot be copied while a session is connected to it, and ${rows.map(({ who }) => who).join(", ") || "a client"} ` +
          `keeps reconnecting. Stop that client, then run pulumi up again.`,
      );
    }
  }
}

/** Copies the database. The migration backup of the previous run is renamed, and dropped once this run has succeeded. */
export async function createMigrationBackup(
  client: pg.Client,
  database: string,
  backup: MigrationBackup,
): Promise<void> {
  const partial = `${backupName(database)}_`;
  // A run that was killed here leaves a copy without the mark. Its name belongs to the migrations alone.
  await client.query(`DROP DATABASE IF EXISTS ${ident(partial)} WITH (FORCE)`);
  const { rows } = await client.query<{ size: number }>(
    "SELECT pg_database_size(oid)::float8 AS size FROM pg_database WHERE datname = $1",
    [database],
  );
  const [found] = rows;
  if (found === undefined) throw new Error(`The database ${database} does not exist`);
  const copy = (strategy: string) =>
    withoutSessions(
      client,
      database,
      `CREATE DATABASE ${ident(partial)} TEMPLATE ${ident(database)} STRATEGY ${strategy}`,
    );
  // WAL_LOG is faster for a small database, but writes a large one to the WAL completely (PostgreSQL manual, CREATE DATABASE).
  await (found.size < WAL_LOG_LIMIT_BYTES ? copy("wal_log") : besideBackups(client, copy));
  await client.query(comment(partial, backup));
  await client.query(`REVOKE ALL ON DATABASE ${ident(partial)} FROM PUBLIC`);
  // An existing one was left by a run that was killed after it had succeeded.
  await dropOwn(client, formerName(database));
  const hasFormer = await isOwn(client, backupName(database));
  if (hasFormer) await endSessions(client, backupName(database));
  await inTransaction(client, [
    ...(hasFormer ? [rename(backupName(database), formerName(database))] : []),
    rename(partial, backupName(database)),
  ]);
}

/** Records that the run of a migration backup has succeeded, and drops the backup of the previous run. */
export async function completeMigrationBackup(
  client: pg.Client,
  database: string,
  backup: MigrationBackup,
): Promise<void> {
  await client.query(comment(backupName(database), { ...backup, running: false }));
  await dropOwn(client, formerName(database));
}

/**
 * Replaces the database by its migration backup. If this reverts a failed run, the migration backup of the previous run becomes the
 * current one again.
 * @param properties statements that restore the owner and the other properties of the database, and release its connection lock.
 * @param keep whether to keep the replaced database, as {@link undoneName}.
 */
export async function restoreMigrationBackup(
  client: pg.Client,
  database: string,
  { backup, properties, keep }: { backup: MigrationBackup; properties: readonly string[]; keep: boolean },
): Promise<void> {
  await dropOwn(client, undoneName(database));
  const restoresFormer = backup.running && (await isOwn(client, formerName(database)));
  for (const name of [backupName(database), formerName(database)]) await endSessions(client, name);
  await withoutSessions(
    client,
    database,
    `BEGIN;
     ${rename(database, undoneName(database))};
     ${comment(undoneName(database), { ...backup, running: false })};
     ALTER DATABASE ${ident(undoneName(database))} OWNER TO CURRENT_USER;
     ${rename(backupName(database), database)};
     ${restoresFormer ? `${rename(formerName(database), backupName(database))};` : ""}
     ${properties.map((statement) => `${statement};`).join("\n")}
     COMMIT`,
  );
  if (!keep) await dropOwn(client, undoneName(database));
}

/** Drops the migration backups and the database of an undone run. Returns their names. */
export async function dropMigrationBackups(client: pg.Client, database: string): Promise<string[]> {
  const gone: string[] = [];
  for (const name of [backupName(database), formerName(database), undoneName(database)]) {
    if (!(await commentOf(client, name))?.includes(MADE_BY)) continue;
    await dropOwn(client, name);
    gone.push(name);
  }
  return gone;
}
