/** An exported snapshot of the source, shared by every session that reads it. */
import type pg from "pg";
import { literal } from "../../../lib/postgres.ts";
import { fromTable } from "../schema/catalog.ts";
import { beginReading, prepareReading } from "../session/reading.ts";
import { openSource } from "../session/session.ts";
import type { Source, Table } from "../types.ts";

/** An exported snapshot. It ends with the transaction that exported it (PostgreSQL manual, "Snapshot Synchronization Functions"). */
export interface Snapshot {
  id: string;
  /** The session that exported it; it may also read. */
  holder: pg.Client;
  /** Milliseconds of one round trip to the source. */
  roundTripMs: number;
}

/** The part of a source that opening a session needs. */
type Reached = Pick<Source, "address">;

/** Opens a session and runs its first statements; closes the session if they fail. */
async function begin(source: Reached, work: (client: pg.Client) => Promise<unknown>): Promise<pg.Client> {
  const client = await openSource(source.address);
  try {
    await work(client);
    return client;
  } catch (error) {
    await client.end().catch(() => {});
    throw error;
  }
}

const REPEATABLE = "ISOLATION LEVEL REPEATABLE READ";

/** Exports a snapshot. The caller must end the holder's session. */
export async function exportSnapshot(source: Reached): Promise<Snapshot> {
  let id = "";
  let roundTripMs = 0;
  const holder = await begin(source, async (client) => {
    const asked = performance.now();
    await beginReading(client, REPEATABLE);
    roundTripMs = performance.now() - asked;
    const { rows } = await client.query<{ id: string }>("SELECT pg_export_snapshot() AS id");
    id = rows[0]?.id ?? "";
    await prepareReading(client);
  });
  return { id, holder, roundTripMs };
}

/**
 * Opens another session in the snapshot, and locks the tables that its holder has locked. A TRUNCATE or ALTER TABLE that waits for
 * the holder's lock blocks all later requests. A reader that locked the table only then would wait for it, it for the holder, and
 * the holder for the reader: a deadlock that the server cannot detect.
 */
export function joinSnapshot(source: Reached, snapshot: Snapshot, tables: readonly Table[] = []): Promise<pg.Client> {
  return begin(source, async (reader) => {
    await beginReading(reader, REPEATABLE);
    await reader.query(
      `SET TRANSACTION SNAPSHOT ${literal(snapshot.id)};
       SET LOCAL lock_timeout = '${READER_LOCK_TIMEOUT}'`,
    );
    await prepareReading(reader);
    if (tables.length > 0) await reader.query(lockSql(tables));
  });
}

/** A reader that must wait for a lock that the holder has is queued behind a session that waits for the import. */
const READER_LOCK_TIMEOUT = "5s";

/** Share of the server's lock table that the readers may fill, so that other sessions have room. */
const LOCK_SHARE = 0.5;

/**
 * Returns the tables that each reader locks from the start: all, unless they would fill the server's lock table (PostgreSQL manual,
 * "max_locks_per_transaction"). In that case a reader locks each table when it reads it, and fails after
 * {@link READER_LOCK_TIMEOUT}.
 */
export async function tablesToLock(holder: pg.Client, tables: readonly Table[], readers: number) {
  const { rows } = await holder.query<{ room: number }>(`
    SELECT current_setting('max_locks_per_transaction')::int
      * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) AS room`);
  return tables.length * readers <= (rows[0]?.room ?? 0) * LOCK_SHARE ? tables : [];
}

const lockSql = (tables: readonly Table[]): string =>
  `LOCK TABLE ${tables.map(fromTable).join(", ")} IN ACCESS SHARE MODE`;

/**
 * Locks the tables against TRUNCATE and ALTER TABLE until the snapshot's session ends, as pg_dump does. These do not respect older
 * snapshots (PostgreSQL manual, "Caveats" of concurrency control). Readers and writers are not blocked.
 * @throws {Error} that names the tables that were rewritten between the snapshot and the lock: the snapshot no longer has their rows.
 */
export async function lockTables(holder: pg.Client, tables: readonly Table[]): Promise<void> {
  if (tables.length === 0) return;
  await holder.query(lockSql(tables));
  // The row shows the snapshot's file, the function today's.
  const { rows } = await holder.query<{ name: string }>(`
    SELECT oid::regclass::text AS name FROM pg_class
    WHERE relkind = 'r' AND relfilenode <> 0 AND relfilenode <> coalesce(pg_relation_filenode(oid), 0)
      AND oid IN (
        SELECT coalesce(p.relid, t.oid) FROM unnest(ARRAY[${tables.map((table) => `${literal(table.sql)}::regclass::oid`).join(", ")}]) t(oid)
        LEFT JOIN LATERAL pg_partition_tree(t.oid) p ON NOT p.relid = t.oid)`);
  if (rows.length === 0) return;
  throw new Error(
    `${rows.map(({ name }) => name).join(", ")} was emptied or rewritten on the source (TRUNCATE, ALTER TABLE, VACUUM FULL) while ` +
      `the snapshot was taken. Nothing was changed here; run pulumi up again.`,
  );
}
