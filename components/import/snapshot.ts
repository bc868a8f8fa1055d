/** One moment of the source, shared by every session that reads it. */
import type pg from "pg";
import { literal } from "../../lib/postgres.ts";
import { openSource } from "./session.ts";
import type { Source, Table } from "./types.ts";

/** A snapshot that lives as long as the session that exported it (PostgreSQL manual, "Snapshot Synchronization Functions"). */
export interface Snapshot {
  id: string;
  /** The session that holds it; it may also read. */
  holder: pg.Client;
}

/** Takes the snapshot. Whoever gets it must end the holder's session. */
export async function exportSnapshot(source: Source): Promise<Snapshot> {
  const holder = await openSource(source.address);
  await holder.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  const { rows } = await holder.query<{ id: string }>("SELECT pg_export_snapshot() AS id");
  return { id: rows[0]?.id ?? "", holder };
}

/** Opens one more session that sees exactly what the snapshot sees. */
export async function joinSnapshot(source: Source, snapshot: Snapshot): Promise<pg.Client> {
  const reader = await openSource(source.address);
  await reader.query(
    `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ${literal(snapshot.id)}`,
  );
  return reader;
}

/** How long somebody else's lock on a table may last. */
const LOCK_PATIENCE = "60s";

/**
 * Holds the tables as they are until the snapshot's session ends, as pg_dump does for itself: TRUNCATE and rewriting ALTER
 * TABLEs do not respect older snapshots (PostgreSQL manual, "Caveats" of concurrency control). Readers and writers go on.
 * @throws {Error} that names the tables which were rewritten between the snapshot and the lock: their rows are gone from it.
 */
export async function lockTables(holder: pg.Client, tables: readonly Table[]): Promise<void> {
  if (tables.length === 0) return;
  await holder.query(`SET LOCAL lock_timeout = '${LOCK_PATIENCE}'`);
  await holder.query(`LOCK TABLE ${tables.map((table) => `ONLY ${table.sql}`).join(", ")} IN ACCESS SHARE MODE`);
  // The row is as the snapshot sees it, the function tells the file of today.
  const { rows } = await holder.query<{ name: string }>(`
    SELECT oid::regclass::text AS name FROM pg_class
    WHERE relkind = 'r' AND relfilenode <> 0 AND relfilenode <> coalesce(pg_relation_filenode(oid), 0)
      AND oid = ANY (ARRAY[${tables.map((table) => `${literal(table.sql)}::regclass::oid`).join(", ")}])`);
  if (rows.length === 0) return;
  throw new Error(
    `${rows.map(({ name }) => name).join(", ")} was emptied or rewritten on the source (TRUNCATE, ALTER TABLE, VACUUM FULL) in the ` +
      `moment in which the snapshot was taken. Nothing was changed here; run pulumi up again.`,
  );
}
