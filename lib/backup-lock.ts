/** Copies of databases, and the base backups that run beside them. */
import type pg from "pg";
import { imageLimit } from "./image-limits.ts";

/**
 * The advisory lock that pgBackRest holds in the database `postgres` while it makes a backup (PG_BACKUP_ADVISORY_LOCK in its
 * db/db.c). The container that takes the backups waits for it (images/database/backup/take-backup.sh).
 */
const BACKUP_LOCK = imageLimit("BACKUP_LOCK");

/**
 * Makes a copy of a database by its files, which is the fastest way; while a base backup runs, through the write-ahead log instead: a
 * recovery repeats a copy of files with the template as the backup has caught it, changed or dropped since (PostgreSQL manual,
 * Continuous Archiving, "Caveats"). No backup begins before the copy is made.
 * @param client a session in the database `postgres`.
 * @param copy makes the copy, with the strategy that it is given.
 */
export async function besideBackups<T>(
  client: pg.Client,
  copy: (strategy: "file_copy" | "wal_log") => Promise<T>,
): Promise<T> {
  const { rows } = await client.query(`SELECT pg_try_advisory_lock(${BACKUP_LOCK}) AS mine`);
  if (!rows[0].mine) return copy("wal_log");
  try {
    return await copy("file_copy");
  } finally {
    await client.query(`SELECT pg_advisory_unlock(${BACKUP_LOCK})`).catch(() => {});
  }
}
