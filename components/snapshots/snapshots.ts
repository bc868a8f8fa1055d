/**
 * Snapshots: named copies of the database in the same server. They are copied file by file (CREATE DATABASE ... STRATEGY file_copy),
 * which takes seconds per gigabyte, or through WAL while a backup is made. They are restored by renames in one transaction.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { besideBackups } from "../../lib/backup-lock.ts";
import { LOCK_KEY as MIGRATIONS_LOCK, readLeftoverLock } from "../../lib/connection-lock.ts";
import { commentOf, databaseProperties, settingStatements } from "../../lib/database-properties.ts";
import { docker } from "../../lib/docker.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import { isRefreshing } from "../../lib/locks.ts";
import { type Address, connect, ident, literal, maintenance, withConnection } from "../../lib/postgres.ts";
import { endSessions } from "../../lib/sessions.ts";
import { isOfImport } from "../import/schema/database-settings.ts";
import { resetStagingSettings } from "../import/session/session.ts";
import { clearDead, LOCK_KEY as IMPORT_LOCK, stagingName } from "../import/staging/swap.ts";
import { type Disconnect, whileHeld } from "../pooler/pooler-container.ts";

/** The snapshot of the state right after the import, which `./db reset` restores. */
export const IMPORTED = "imported";
/** The snapshot of the database before a snapshot was restored. */
export const BEFORE_RESTORE = "before_restore";
/** The snapshot of the database before a refresh. */
export const BEFORE_REFRESH = "before_refresh";
/** Snapshots that the program makes of a database it replaces. They do not count, and users cannot choose these names. */
const AUTOMATIC: readonly string[] = [BEFORE_RESTORE, BEFORE_REFRESH];
/** The maximum number of snapshots, not counting automatic ones. */
const MOST = 12;
/** Bytes that a copy leaves free for the server. */
const ROOM_LEFT = 1024 ** 3;
/** Milliseconds between two checks for connected sessions. */
const POLL_MS = 50;
const OBJECT_IN_USE = "55006";
/** Key of the advisory lock that a snapshot command holds: the letters "savepoin" as a 64-bit number. */
const LOCK_KEY = "8314054653158189422";
/** The connection limit that identifies a new copy before it has its comment. Connections to it are not allowed anyway. */
const UNMARKED_LIMIT = 20_232;

/** A snapshot. */
export interface Snapshot {
  name: string;
  /** When it was made, ISO 8601. */
  madeAt: string;
  bytes: number;
}

/** The database of the snapshots. */
export interface SnapshotPlace {
  /** The stack, whose pooler holds the queries during a change; undefined while a stack is created and has no clients. */
  stack?: string;
  /** The database, as the superuser. */
  address: Address;
  /** The server's container, which reports the free disk space. */
  container: string;
  dockerHost?: string | undefined;
}

const PREFIX = "save__";
const databaseOf = (name: string) => `${PREFIX}${name}`;
/** Returns the name of an unfinished copy. */
const unfinishedCopyOf = (database: string) => `${database}__restoring`;
/** Returns the name of a snapshot that has been replaced and is about to be dropped. */
const formerOf = (database: string) => `${database}__former`;
/** Returns the same for {@link IMPORTED}, which a refresh replaces too. */
const formerImportedOf = (database: string) => `${database}__former_imported`;

/**
 * Checks a snapshot's name.
 * @throws {Error} with the rule, for an invalid name.
 */
export function checkName(name: string): string {
  if (name === BEFORE_RESTORE || name === BEFORE_REFRESH) {
    const maker = name === BEFORE_RESTORE ? "a restore" : "a refresh";
    throw new Error(`The name ${name} is reserved for the snapshot that ${maker} makes. Choose another name`);
  }
  if (/^[a-z0-9][a-z0-9_-]{0,39}$/.test(name)) return name;
  throw new Error(
    `"${name}" is not a valid name for a snapshot: use at most 40 lowercase letters, digits, _ and -, starting with a letter or a digit`,
  );
}

/** Returns the comment that marks a snapshot's database, with its database and time. Existing snapshots have it, so its text stays. */
const markOf = (database: string, madeAt: Date) => `save point of ${database} at ${madeAt.toISOString()}`;
function readMark(comment: string | null): { of: string; madeAt: string } {
  const [, of = "", madeAt = ""] = /^save point of (\w+) at (\S+)$/.exec(comment ?? "") ?? [];
  return { of, madeAt };
}

/** Returns all snapshots of the database, oldest first. */
export async function listSnapshots(client: pg.Client, database: string): Promise<Snapshot[]> {
  const { rows } = await client.query<{ datname: string; comment: string; bytes: number }>(
    `SELECT datname, shobj_description(oid, 'pg_database') AS comment, pg_database_size(oid)::float8 AS bytes
     FROM pg_database WHERE starts_with(datname, $1)`,
    [PREFIX],
  );
  return rows
    .map(({ datname, comment, bytes }) => ({ ...readMark(comment), name: datname.slice(PREFIX.length), bytes }))
    .filter((found) => found.of === database)
    .map(({ name, madeAt, bytes }) => ({ name, madeAt, bytes }))
    .sort((a, b) => (a.madeAt < b.madeAt ? -1 : 1));
}

const nameTaken = (name: string) =>
  new Error(
    `The database ${name} already exists and is not a snapshot, but its name is needed. Rename it: ALTER DATABASE ... RENAME TO ...`,
  );

/** The locks of operations that replace or copy whole databases, each with the message for a lock that is taken. */
const LOCKS: ReadonlyArray<readonly [string, string]> = [
  [LOCK_KEY, "Another snapshot is being made or restored. The lock of a killed command is released within 10 seconds"],
  [MIGRATIONS_LOCK, "Migrations are running on this server"],
  [IMPORT_LOCK, "An import into this server is running"],
];

/**
 * Takes the locks of all operations that replace or copy whole databases. The session holds them until it ends.
 * @throws {Error} that names the running operation.
 */
export async function takeExclusiveLocks(client: pg.Client): Promise<void> {
  for (const [key, words] of LOCKS) {
    const { rows } = await client.query(`SELECT pg_try_advisory_lock(${key}) AS mine`);
    if (rows[0].mine) continue;
    const who = (await isRefreshing(client)) ? "A refresh is running on this server" : words;
    throw new Error(`${who}. Wait until it ends, then try again.`);
  }
}

/**
 * @param client a superuser's session in the server's own database.
 * @throws {Error} if a killed run of the migrations left the database, which must be put back first.
 */
export async function assertNotHalfMigrated(client: pg.Client, database: string): Promise<void> {
  if (await readLeftoverLock(client, database)) {
    throw new Error(
      "Migrations were killed before they ended. Run pulumi up first: it puts the database back as it was.",
    );
  }
}

/** Runs work in the server's own database while no other session copies, restores, migrates or imports. */
export async function withExclusiveLocks<T>(place: SnapshotPlace, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const { database } = place.address;
  return withConnection(
    maintenance(place.address),
    async (client) => {
      await takeExclusiveLocks(client);
      await assertNotHalfMigrated(client, database);
      await clear(client, database);
      // A killed refresh leaves a staging database, which takes as much space as the data.
      await clearDead(client);
      return work(client);
    },
    { patienceMs: 10_000 },
  );
}

/**
 * Removes the unfinished copies of killed runs.
 * @throws {Error} for a database of such a name that this program did not create.
 */
async function clear(client: pg.Client, database: string): Promise<void> {
  const { rows } = await client.query<{ name: string; comment: string | null; unmarked: boolean }>(
    `SELECT datname AS name, shobj_description(oid, 'pg_database') AS comment, NOT datallowconn AND datconnlimit = $2 AS unmarked
     FROM pg_database WHERE datname = ANY ($1)`,
    [[unfinishedCopyOf(database), formerOf(database), formerImportedOf(database)], UNMARKED_LIMIT],
  );
  for (const { name, comment, unmarked } of rows) {
    if (!unmarked && readMark(comment).of !== database) throw nameTaken(name);
    await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
  }
}

/**
 * Checks that the disk has room for a copy of a database.
 * @param share the part of the free space that the copy may take, 0 to 1.
 * @throws {Error} with the required and the free bytes.
 */
export async function checkRoom(place: SnapshotPlace, client: pg.Client, source: string, share: number): Promise<void> {
  const { rows } = await client.query("SELECT pg_database_size($1)::float8 AS bytes", [source]);
  const { bytes } = rows[0];
  const shown = await docker(["exec", place.container, "df", "-Pk", "/var/lib/postgresql/data"], {
    host: place.dockerHost,
  });
  const free = Number(shown.trim().split("\n").at(-1)?.trim().split(/\s+/)[3]) * 1024;
  if (free * share >= bytes && free >= bytes + ROOM_LEFT) return;
  throw new Error(
    `The copy needs ${humanBytes(bytes)}, but of ${humanBytes(free)} that are free, ` +
      `${humanBytes(Math.max(ROOM_LEFT, free * (1 - share)))} are reserved for the server. Delete a snapshot: ./db snapshot delete NAME`,
  );
}

/**
 * Runs a statement that needs a database without sessions. The statement's own lock makes new connections wait, and ends with its session,
 * so a kill never leaves connections blocked. PostgreSQL gives active sessions 5 seconds to end; meanwhile this function ends idle ones.
 * @param force ends active transactions too.
 * @throws {Error} that names the sessions that do not end.
 */
export async function withoutSessions(
  client: pg.Client,
  address: Address,
  force: boolean,
  work: () => Promise<unknown>,
): Promise<void> {
  let others: string[] = [];
  let isOver = false;
  const observer = await connect(maintenance(address));
  const endOthers = async () => {
    while (!isOver) {
      const { rows } = await observer.query<{ who: string; ended: boolean }>(
        `SELECT concat(usename, ' (' || nullif(application_name, '') || ')', ', ' || state) AS who,
           CASE WHEN $2 OR state = 'idle' THEN pg_terminate_backend(pid) ELSE false END AS ended
         FROM pg_stat_activity WHERE datname = $1 AND backend_type <> 'autovacuum worker'`,
        [address.database, force],
      );
      others = rows.filter(({ ended }) => !ended).map(({ who }) => who);
      await sleep(POLL_MS);
    }
  };
  const ending = endOthers();
  ending.catch(() => {});
  try {
    await work();
  } catch (error) {
    await client.query("ROLLBACK");
    if ((error as { code?: string }).code !== OBJECT_IN_USE) throw error;
    throw new Error(
      `The database ${address.database} is in use by ${others.join("; ") || "a session that has just ended"}. Wait until it is idle, or ` +
        `end the sessions: --force`,
    );
  } finally {
    isOver = true;
    await ending.finally(() => observer.end());
  }
}

/** Runs work while the database's queries wait in the pooler, if the stack has one. */
const holding = <T>(
  { stack, dockerHost, address }: SnapshotPlace,
  disconnect: Disconnect,
  work: () => Promise<T>,
): Promise<T> =>
  stack === undefined ? work() : whileHeld({ stack, dockerHost }, { databases: [address.database], disconnect }, work);

/**
 * Returns the statement for a copy that accepts no connections. Its connection limit marks it from the start. It belongs to the superuser,
 * because the owner of a database can drop it from any other database.
 */
function copySql({ from, to, strategy }: { from: string; to: string; strategy: string }): string {
  return (
    `CREATE DATABASE ${ident(to)} TEMPLATE ${ident(from)} STRATEGY ${strategy} ` +
    `ALLOW_CONNECTIONS false CONNECTION LIMIT ${UNMARKED_LIMIT}`
  );
}

/**
 * Copies the database while clients use it. If the run is killed before the copy is renamed, the next run removes the copy.
 * @param client holds every lock ({@link withExclusiveLocks}).
 * @param force ends transactions that do not end within 5 seconds.
 * @returns the copy's temporary name.
 * @throws {Error} that names the sessions that do not end.
 */
export async function copyDatabase(client: pg.Client, place: SnapshotPlace, force: boolean): Promise<string> {
  const { address } = place;
  const copy = { from: address.database, to: unfinishedCopyOf(address.database) };
  await besideBackups(client, async (strategy) => {
    const make = () => client.query(copySql({ ...copy, strategy }));
    await holding(place, "none", () => withoutSessions(client, address, force, make));
  });
  return copy.to;
}

/**
 * Copies a snapshot, or another database without sessions.
 * @returns the copy's temporary name, the same as that of {@link copyDatabase}.
 */
export async function copyUnused(client: pg.Client, database: string, from: string): Promise<string> {
  const copy = { from, to: unfinishedCopyOf(database) };
  await besideBackups(client, (strategy) => client.query(copySql({ ...copy, strategy })));
  return copy.to;
}

/** How a snapshot is made. */
export interface SaveOptions {
  /** Ends transactions that do not end within 5 seconds. */
  force?: boolean;
  /** The part of the free disk space that it may take, 0 to 1. */
  share?: number;
}

/**
 * Makes a snapshot. Meanwhile, new connections to the database wait.
 * @throws {Error} if the name is taken, there are too many snapshots, the disk is too full, or a session is active in the database.
 */
export async function saveSnapshot(place: SnapshotPlace, name: string, options: SaveOptions = {}): Promise<Snapshot> {
  checkName(name);
  const { database } = place.address;
  return withExclusiveLocks(place, async (client) => {
    const all = (await listSnapshots(client, database)).filter((known) => !AUTOMATIC.includes(known.name));
    if (all.some((known) => known.name === name)) {
      throw new Error(`The snapshot ${name} already exists. Delete it first: ./db snapshot delete ${name}`);
    }
    if (all.length >= MOST)
      throw new Error(`There are already ${MOST} snapshots, the maximum. Delete one: ./db snapshot delete NAME`);
    await checkRoom(place, client, database, options.share ?? 1);
    const copy = await copyDatabase(client, place, options.force ?? false);
    await client.query(`
      BEGIN;
      COMMENT ON DATABASE ${ident(copy)} IS ${literal(markOf(database, new Date()))};
      ALTER DATABASE ${ident(copy)} RENAME TO ${ident(databaseOf(name))};
      COMMIT`);
    return (await listSnapshots(client, database)).find((known) => known.name === name) as Snapshot;
  });
}

/**
 * Restores a snapshot. The replaced database becomes the snapshot `before_restore`, which replaces an earlier one.
 * @param force ends transactions that do not end within 5 seconds.
 * @throws {Error} if there is no such snapshot, the disk is too full, or a session is active in the database.
 */
export async function restoreSnapshot(place: SnapshotPlace, name: string, force = false): Promise<void> {
  const { database } = place.address;
  await withExclusiveLocks(place, async (client) => {
    await findSnapshot(client, database, name);
    await checkRoom(place, client, databaseOf(name), 1);
    // The copy, which takes long, comes first, so that new connections wait only for the renames.
    const next = await copyUnused(client, database, databaseOf(name));
    // An automatic snapshot is the former database itself and not a copy, so it still has the settings that its import set. These are
    // restored with the data.
    const isAutomatic = AUTOMATIC.includes(name);
    const properties = await databaseProperties(client, database, {
      wants: (setting) => !isAutomatic || !isOfImport(setting),
    });
    const ofImport = isAutomatic
      ? await settingStatements(client, databaseOf(name), { as: database, wants: isOfImport })
      : [];
    const to = { next, keepAs: BEFORE_RESTORE, properties: [...properties, ...ofImport] };
    await holding(place, "sessions", () => exchange(client, place.address, to, force));
  });
}

/** What replaces the database. */
interface Exchange {
  /** The database that gets the name. */
  next: string;
  /** The snapshot that the replaced database becomes. It replaces an earlier one. */
  keepAs: string;
  /** Statements that set the owner, grants and settings of the new database. */
  properties: readonly string[];
  /** Further statements in the same transaction. */
  more?: readonly string[];
}

/** Replaces the database in one transaction, so that there is always exactly one database of the name. */
async function exchange(
  client: pg.Client,
  address: Address,
  { next, keepAs, properties, more = [] }: Exchange,
  force: boolean,
): Promise<void> {
  const { database } = address;
  const [before, former] = [databaseOf(keepAs), formerOf(database)];
  const hasFormer = await isSnapshotOf(client, before, database);
  const statements = [
    ...(hasFormer ? [`ALTER DATABASE ${ident(before)} RENAME TO ${ident(former)}`] : []),
    `ALTER DATABASE ${ident(database)} RENAME TO ${ident(before)}`,
    `COMMENT ON DATABASE ${ident(before)} IS ${literal(markOf(database, new Date()))}`,
    // A template cannot be dropped.
    `ALTER DATABASE ${ident(before)} ALLOW_CONNECTIONS false IS_TEMPLATE false`,
    `ALTER DATABASE ${ident(before)} OWNER TO CURRENT_USER`,
    ...more,
    `ALTER DATABASE ${ident(next)} RENAME TO ${ident(database)}`,
    `ALTER DATABASE ${ident(database)} ALLOW_CONNECTIONS true`,
    ...properties,
  ];
  await withoutSessions(client, address, force, () => client.query(`BEGIN; ${statements.join("; ")}; COMMIT`));
  // If this fails, the next run drops it.
  if (hasFormer) await client.query(`DROP DATABASE ${ident(former)} WITH (FORCE)`).catch(() => {});
}

/**
 * Whether a database is a snapshot of another.
 * @throws {Error} if the database exists but is not a snapshot.
 */
async function isSnapshotOf(client: pg.Client, name: string, database: string): Promise<boolean> {
  const mark = await commentOf(client, name);
  if (mark !== undefined && readMark(mark).of !== database) throw nameTaken(name);
  return mark !== undefined;
}

/**
 * Prepares a refresh: blocks snapshots and migrations until the session ends. It releases the import's lock, which the import takes itself.
 * @param client a superuser's session in the server's own database.
 * @throws {Error} that names a running operation, or says that migrations were killed.
 */
export async function prepareRefresh(client: pg.Client, database: string): Promise<void> {
  await takeExclusiveLocks(client);
  await assertNotHalfMigrated(client, database);
  await clear(client, database);
  await client.query(`SELECT pg_advisory_unlock(${IMPORT_LOCK})`);
}

/**
 * Copies the staging database of a refresh. {@link swapRefreshed} makes the copy the snapshot {@link IMPORTED}.
 * @param staging the staging database, which has no sessions.
 * @returns the copy's name; undefined if it would take more than `share` of the free disk space.
 */
export async function copyImported(
  client: pg.Client,
  place: SnapshotPlace,
  { staging, share }: { staging: string; share: number },
): Promise<string | undefined> {
  const hasRoom = await checkRoom(place, client, staging, share).then(
    () => true,
    () => false,
  );
  return hasRoom ? copyUnused(client, place.address.database, staging) : undefined;
}

/**
 * Replaces the database with the staging database of a refresh, in one transaction. The replaced database becomes the snapshot
 * {@link BEFORE_REFRESH}. Active transactions have 5 seconds to end, then they are ended, so that a forgotten one does not make an import
 * of an hour fail.
 * @param client a superuser's session in the server's own database that holds the import's lock.
 * @param imported the copy by {@link copyImported}.
 */
export async function swapRefreshed(
  client: pg.Client,
  place: SnapshotPlace,
  imported: string | undefined,
): Promise<void> {
  const { address } = place;
  const { database } = address;
  const staging = stagingName(database);
  const [saved, former] = [databaseOf(IMPORTED), formerImportedOf(database)];
  const hasFormer = imported !== undefined && (await isSnapshotOf(client, saved, database));
  const more = [
    ...(hasFormer ? [`ALTER DATABASE ${ident(saved)} RENAME TO ${ident(former)}`] : []),
    ...(imported === undefined
      ? []
      : [
          `COMMENT ON DATABASE ${ident(imported)} IS ${literal(markOf(database, new Date()))}`,
          `ALTER DATABASE ${ident(imported)} RENAME TO ${ident(saved)}`,
        ]),
    ...resetStagingSettings(staging),
  ];
  // Settings that an import sets come from the new import. All others stay.
  const properties = await databaseProperties(client, database, { wants: (setting) => !isOfImport(setting) });
  const swap = async (force: boolean) => {
    await endSessions(client, staging);
    await exchange(client, address, { next: staging, keepAs: BEFORE_REFRESH, properties, more }, force);
  };
  await holding(place, "sessions", () => swap(false).catch(() => swap(true)));
  if (hasFormer) await client.query(`DROP DATABASE ${ident(former)} WITH (FORCE)`).catch(() => {});
}

/**
 * Finds a snapshot of the database.
 * @returns the name of its database.
 * @throws {Error} that lists the existing snapshots, if there is no such snapshot.
 */
export async function findSnapshot(client: pg.Client, database: string, name: string): Promise<string> {
  const all = await listSnapshots(client, database);
  if (all.some((known) => known.name === name)) return databaseOf(name);
  const names = all.map((known) => known.name).join(", ");
  throw new Error(
    `There is no snapshot ${name}. ${names ? `Existing snapshots: ${names}` : "Make one: ./db snapshot save NAME"}`,
  );
}

/** Deletes a snapshot. @throws {Error} if there is no snapshot with that name. */
export async function deleteSnapshot(place: SnapshotPlace, name: string): Promise<void> {
  await withExclusiveLocks(place, async (client) => {
    await findSnapshot(client, place.address.database, name);
    await client.query(`DROP DATABASE ${ident(databaseOf(name))} WITH (FORCE)`);
  });
}
