/** One moment of the source, shared by every session that reads it. */
import type pg from "pg";
import { literal } from "../../lib/postgres.ts";
import { fromTable } from "./catalog.ts";
import { beginReading, prepareReading } from "./reading.ts";
import { openSource } from "./session.ts";
import type { Source, Table } from "./types.ts";

/** A snapshot that lives as long as the session that exported it (PostgreSQL manual, "Snapshot Synchronization Functions"). */
export interface Snapshot {
  id: string;
  /** The session that holds it; it may also read. */
  holder: pg.Client;
  /** Milliseconds that a question and its answer took. */
  roundTripMs: number;
}

/** What sessions are opened to. */
type Reached = Pick<Source, "address">;

/** A session that has done its first work; one that could not is closed. */
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

/** Takes the snapshot. Whoever gets it must end the holder's session. */
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
 * Opens one more session that sees exactly what the snapshot sees, and locks tables as its holder has. A TRUNCATE or ALTER
 * TABLE that waits for the holder's lock stands in line before all who ask later: a reader that came to the table only then
 * would wait for it, it for the holder and the holder for the reader, which no server can see is for ever.
 */
export function joinSnapshot(source: Reached, snapshot: Snapshot, tables: readonly Table[] = []): Promise<pg.Client> {
  return begin(source, async (reader) => {
    await beginReading(reader, REPEATABLE);
    await reader.query(
      `SET TRANSACTION SNAPSHOT ${literal(snapshot.id)};
       SET LOCAL lock_timeout = '${BEHIND_THE_HOLDER}'`,
    );
    await prepareReading(reader);
    if (tables.length > 0) await reader.query(lockSql(tables));
  });
}

/** Who has to wait for a lock that the holder has already, stands behind somebody who waits for the import. */
const BEHIND_THE_HOLDER = "5s";

/** The share of the server's lock table that the readers may fill: others need it, too. */
const LOCK_SHARE = 0.5;

/**
 * The tables that each of so many readers locks from the start: all, unless they would fill the server's lock table
 * (PostgreSQL manual, "max_locks_per_transaction"). Then a reader takes each lock when it comes to the table, and gives up
 * where it has to wait.
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
 * Holds the tables as they are until the snapshot's session ends, as pg_dump does for itself: TRUNCATE and rewriting ALTER
 * TABLEs do not respect older snapshots (PostgreSQL manual, "Caveats" of concurrency control). Readers and writers go on.
 * @throws {Error} that names the tables which were rewritten between the snapshot and the lock: their rows are gone from it.
 */
export async function lockTables(holder: pg.Client, tables: readonly Table[]): Promise<void> {
  if (tables.length === 0) return;
  await holder.query(lockSql(tables));
  // The row is as the snapshot sees it, the function tells the file of today.
  const { rows } = await holder.query<{ name: string }>(`
    SELECT oid::regclass::text AS name FROM pg_class
    WHERE relkind = 'r' AND relfilenode <> 0 AND relfilenode <> coalesce(pg_relation_filenode(oid), 0)
      AND oid IN (
        SELECT coalesce(p.relid, t.oid) FROM unnest(ARRAY[${tables.map((table) => `${literal(table.sql)}::regclass::oid`).join(", ")}]) t(oid)
        LEFT JOIN LATERAL pg_partition_tree(t.oid) p ON NOT p.relid = t.oid)`);
  if (rows.length === 0) return;
  throw new Error(
    `${rows.map(({ name }) => name).join(", ")} was emptied or rewritten on the source (TRUNCATE, ALTER TABLE, VACUUM FULL) in the ` +
      `moment in which the snapshot was taken. Nothing was changed here; run pulumi up again.`,
  );
}
