/** One moment of the source, shared by every session that reads it. */
import type pg from "pg";
import { literal } from "../../lib/postgres.ts";
import { openSource } from "./session.ts";
import type { Source } from "./types.ts";

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
