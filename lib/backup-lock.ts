/** Coordinates copies of databases with base backups. */
import type pg from "pg";
import { imageLimit } from "./image-limits.ts";

/**
 * The advisory lock that pgBackRest holds in the database `postgres` during a backup (PG_BACKUP_ADVISORY_LOCK in its db/db.c). The
 * backup container waits for it (images/database/backup/take-backup.sh).
 */
const BACKUP_LOCK = imageLimit("BACKUP_LOCK");

/**
 * Copies a database with the strategy FILE_COPY, which is the fastest, or with WAL_LOG while a base backup runs: recovery would repeat a
 * FILE_COPY from the template in the state that the backup has captured, which may be later (PostgreSQL manual, Continuous Archiving,
 * "Caveats"). No backup starts before the copy is complete.
 * @param client a session in the database `postgres`.
 * @param copy copies the database with the given strategy.
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
