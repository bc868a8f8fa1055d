/**
 * A copy of the database beside it, on the same server: made in a moment (PostgreSQL copies its files), put back by two
 * renames, by whoever finds that a run failed. Where backups are, the moment can be had back from them as well
 * (components/backups/restore-point.ts).
 *
 * The copies belong to the superuser. The owner of a database can drop it from any other database, and the migration that a copy
 * is made for runs as the owner.
 */

import type pg from "pg";
import { besideBackups } from "../../lib/backup-lock.ts";
import { commentOf } from "../../lib/database-properties.ts";
import { ident, literal } from "../../lib/postgres.ts";
import { endSessions, inTransaction } from "../../lib/sessions.ts";

/** What a restore point remembers, kept as its comment in the server. */
export interface RestorePoint {
  /** Alembic's revision in it; null before the first. */
  from: string | null;
  /** The revision that the run was to reach. */
  to: string | null;
  /** When it was made, ISO 8601. */
  at: string;
  /** Whether the run has not ended yet. One that is still so when the next begins was killed. */
  running: boolean;
}

/** Written on what the migrations make or change for a while, so that nothing else of such a name is touched. */
export const MADE_BY = "sectorwars-database migrations";
/** Sessions that reconnect by themselves are ended again, for this long, milliseconds. */
const ENDING_MS = 10_000;
const LITTLE_BYTES = 256 * 1024 ** 2;
const OBJECT_IN_USE = "55006";

/** The restore point's database. */
export const pointName = (database: string): string => `${database}_before_migration`;
/** Where the restore point of the last run waits while another one is under way: should that fail, it is the last one again. */
const formerName = (database: string): string => `${database}_former_migration`;
/** Where a database goes whose migration is undone. */
export const undoneName = (database: string): string => `${database}_undone`;

const rename = (from: string, to: string) => `ALTER DATABASE ${ident(from)} RENAME TO ${ident(to)}`;

/**
 * Whether there is a database of that name, which a former run made.
 * @throws {Error} for one that somebody else made.
 */
async function isOwn(client: pg.Client, database: string): Promise<boolean> {
  const comment = await commentOf(client, database);
  if (comment === undefined || comment?.includes(MADE_BY)) return comment !== undefined;
  throw new Error(
    `There is a database ${database}, which no migration made; its name is needed. Rename it: ALTER DATABASE ... RENAME TO ...`,
  );
}

/** Drops a database that a former run made. One of that name that somebody else made is refused. */
async function dropOwn(client: pg.Client, database: string): Promise<void> {
  if (await isOwn(client, database)) await client.query(`DROP DATABASE ${ident(database)} WITH (FORCE)`);
}

const comment = (database: string, point: RestorePoint) =>
  `COMMENT ON DATABASE ${ident(database)} IS ${literal(JSON.stringify({ madeBy: MADE_BY, ...point }))}`;

/** The restore point of a database, if there is one. */
export async function readRestorePoint(client: pg.Client, database: string): Promise<RestorePoint | undefined> {
  const text = await commentOf(client, pointName(database));
  return text?.includes(MADE_BY) ? (JSON.parse(text) as RestorePoint) : undefined;
}

/** Runs a statement that nobody may be connected for, ending sessions until it succeeds. */
async function undisturbed(client: pg.Client, database: string, statement: string): Promise<void> {
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
        `${database} cannot be copied while somebody is connected, and ${rows.map(({ who }) => who).join(", ") || "somebody"} ` +
          `connects again and again. Close it, then run pulumi up again.`,
      );
    }
  }
}

/** Copies the database. The restore point of the run before is put aside, and goes when this run has ended well. */
export async function makeRestorePoint(client: pg.Client, database: string, point: RestorePoint): Promise<void> {
  const partial = `${pointName(database)}_`;
  // Killed before it got its mark, it has none; nobody else gives a name like that.
  await client.query(`DROP DATABASE IF EXISTS ${ident(partial)} WITH (FORCE)`);
  const { rows } = await client.query<{ size: number }>(
    "SELECT pg_database_size(oid)::float8 AS size FROM pg_database WHERE datname = $1",
    [database],
  );
  const [found] = rows;
  if (found === undefined) throw new Error(`There is no database ${database}`);
  const copy = (strategy: string) =>
    undisturbed(client, database, `CREATE DATABASE ${ident(partial)} TEMPLATE ${ident(database)} STRATEGY ${strategy}`);
  // Through the write-ahead log is faster for little, but a copy of gigabytes would fill it (PostgreSQL manual, CREATE DATABASE).
  await (found.size < LITTLE_BYTES ? copy("wal_log") : besideBackups(client, copy));
  await client.query(comment(partial, point));
  await client.query(`REVOKE ALL ON DATABASE ${ident(partial)} FROM PUBLIC`);
  // One that is there was left by a run that was killed after it had ended well.
  await dropOwn(client, formerName(database));
  const hasFormer = await isOwn(client, pointName(database));
  if (hasFormer) await endSessions(client, pointName(database));
  await inTransaction(client, [
    ...(hasFormer ? [rename(pointName(database), formerName(database))] : []),
    rename(partial, pointName(database)),
  ]);
}

/** Notes that the run which the restore point was made for has ended well: it is the only one now. */
export async function settleRestorePoint(client: pg.Client, database: string, point: RestorePoint): Promise<void> {
  await client.query(comment(pointName(database), { ...point, running: false }));
  await dropOwn(client, formerName(database));
}

/**
 * Puts the restore point in the database's place. Where that takes back a run that did not end well, the restore point of the
 * run before it is the last one again.
 * @param properties statements that give the database its owner and what else belongs to it beside its content, and open its door.
 * @param keep whether the database as it is now stays, under {@link undoneName}.
 */
export async function putBack(
  client: pg.Client,
  database: string,
  { point, properties, keep }: { point: RestorePoint; properties: readonly string[]; keep: boolean },
): Promise<void> {
  await dropOwn(client, undoneName(database));
  const isFormerBack = point.running && (await isOwn(client, formerName(database)));
  for (const name of [pointName(database), formerName(database)]) await endSessions(client, name);
  await undisturbed(
    client,
    database,
    `BEGIN;
     ${rename(database, undoneName(database))};
     ${comment(undoneName(database), { ...point, running: false })};
     ALTER DATABASE ${ident(undoneName(database))} OWNER TO CURRENT_USER;
     ${rename(pointName(database), database)};
     ${isFormerBack ? `${rename(formerName(database), pointName(database))};` : ""}
     ${properties.map((statement) => `${statement};`).join("\n")}
     COMMIT`,
  );
  if (!keep) await dropOwn(client, undoneName(database));
}

/** Drops the restore point, and what an undone migration has left. Returns their names. */
export async function forgetRestorePoints(client: pg.Client, database: string): Promise<string[]> {
  const gone: string[] = [];
  for (const name of [pointName(database), formerName(database), undoneName(database)]) {
    if (!(await commentOf(client, name))?.includes(MADE_BY)) continue;
    await dropOwn(client, name);
    gone.push(name);
  }
  return gone;
}
