/**
 * Save points: copies of the database beside it, in the same server. Made file by file (CREATE DATABASE ... STRATEGY
 * file_copy), a gigabyte takes seconds; while a backup is made, through the log. Given back, by renames in one transaction.
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
import { isOfImport } from "../import/database-settings.ts";
import { endEasing } from "../import/session.ts";
import { asideName, clearDead, LOCK_KEY as IMPORT_LOCK } from "../import/swap.ts";

/** The state right after the import, which `./db reset` brings back. */
export const IMPORTED = "imported";
/** What the database held before a save point was restored. */
export const BEFORE_RESTORE = "before_restore";
/** What the database held before a refresh. */
export const BEFORE_REFRESH = "before_refresh";
/** Snapshots that the program itself makes of what it replaces; they do not count, and nobody gives these names. */
const KEPT: readonly string[] = [BEFORE_RESTORE, BEFORE_REFRESH];
/** Save points there may be beside that one; more than these nobody tells apart. */
const MOST = 12;
/** Room that is left for the server itself, bytes. */
const ROOM_LEFT = 1024 ** 3;
/** Milliseconds between two looks at who is still connected. */
const LOOK_MS = 50;
const OBJECT_IN_USE = "55006";
/** Key of the advisory lock of whoever makes or restores save points: the letters "savepoin" as a 64-bit number. */
const LOCK_KEY = "8314054653158189422";
/** A copy that was only just made has no comment yet: nobody may connect to it, and this is how many might. */
const NEWBORN_LIMIT = 20_232;

/** A save point. */
export interface Snapshot {
  name: string;
  /** When it was made, ISO 8601. */
  madeAt: string;
  bytes: number;
}

/** Where save points are made. */
export interface SnapshotPlace {
  /** The database, as its superuser. */
  address: Address;
  /** The server's container, for a look at its disk. */
  container: string;
  dockerHost?: string | undefined;
}

const PREFIX = "save__";
const databaseOf = (name: string) => `${PREFIX}${name}`;
/** A copy under way. */
const asideOf = (database: string) => `${database}__restoring`;
/** A snapshot that another one replaces, for the moment until it is dropped. */
const formerOf = (database: string) => `${database}__former`;
/** The same of {@link IMPORTED}, which a refresh replaces beside the other. */
const formerImportedOf = (database: string) => `${database}__former_imported`;

/**
 * Checks a save point's name.
 * @throws {Error} that says what it may be.
 */
export function checkName(name: string): string {
  if (name === BEFORE_RESTORE) throw new Error(`${BEFORE_RESTORE} is what a restore keeps; give another name`);
  if (name === BEFORE_REFRESH) throw new Error(`${BEFORE_REFRESH} is what a refresh keeps; give another name`);
  if (/^[a-z0-9][a-z0-9_-]{0,39}$/.test(name)) return name;
  throw new Error(`"${name}" cannot name a save point: use up to 40 small letters, digits, _ and -, no sign first`);
}

/** What is written on a save point's database: whose it is, and since when. Others' databases have no such comment. */
const noteOf = (database: string, madeAt: Date) => `save point of ${database} at ${madeAt.toISOString()}`;
function readNote(comment: string | null): { of: string; madeAt: string } {
  const [, of = "", madeAt = ""] = /^save point of (\w+) at (\S+)$/.exec(comment ?? "") ?? [];
  return { of, madeAt };
}

/** All save points of the database, oldest first. */
export async function listSnapshots(client: pg.Client, database: string): Promise<Snapshot[]> {
  const { rows } = await client.query<{ datname: string; comment: string; bytes: number }>(
    `SELECT datname, shobj_description(oid, 'pg_database') AS comment, pg_database_size(oid)::float8 AS bytes
     FROM pg_database WHERE starts_with(datname, $1)`,
    [PREFIX],
  );
  return rows
    .map(({ datname, comment, bytes }) => ({ ...readNote(comment), name: datname.slice(PREFIX.length), bytes }))
    .filter((found) => found.of === database)
    .map(({ name, madeAt, bytes }) => ({ name, madeAt, bytes }))
    .sort((a, b) => (a.madeAt < b.madeAt ? -1 : 1));
}

const strange = (name: string) =>
  new Error(`There is a database ${name}, whose name is needed. Rename it: ALTER DATABASE ... RENAME TO ...`);

/** Whoever else changes databases as a whole, and what to say then. */
const LOCKS: ReadonlyArray<readonly [string, string]> = [
  [LOCK_KEY, "Another save point is being made or restored. One that was killed ends within 10 seconds"],
  [MIGRATIONS_LOCK, "Migrations are running on this server"],
  [IMPORT_LOCK, "An import into this server is running"],
];

/**
 * Makes this session the only one that changes databases as a whole, until it ends.
 * @throws {Error} that says who does so at the moment.
 */
export async function holdAlone(client: pg.Client): Promise<void> {
  for (const [key, words] of LOCKS) {
    const { rows } = await client.query(`SELECT pg_try_advisory_lock(${key}) AS mine`);
    if (rows[0].mine) continue;
    const who = (await isRefreshing(client)) ? "A refresh is running on this server" : words;
    throw new Error(`${who}. Wait for the end, then try again.`);
  }
}

/**
 * Refuses a database that a killed run of the migrations has left: it is put back first.
 * @param client a superuser's session in the server's own database.
 */
export async function refuseHalfMigrated(client: pg.Client, database: string): Promise<void> {
  if (await readLeftoverLock(client, database)) {
    throw new Error("Migrations were killed half-way. Run pulumi up first: it puts the database back as it was.");
  }
}

/** Runs work on the server's own database, while nobody else makes, restores, migrates or imports. */
export async function alone<T>(place: SnapshotPlace, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const { database } = place.address;
  return withConnection(
    maintenance(place.address),
    async (client) => {
      await holdAlone(client);
      await refuseHalfMigrated(client, database);
      await clear(client, database);
      // A refresh that was killed has left as much as the data takes.
      await clearDead(client);
      return work(client);
    },
    { patienceMs: 10_000 },
  );
}

/**
 * Removes what a run that was killed has left: a copy that never became anything.
 * @throws {Error} for a database of such a name that somebody else made.
 */
async function clear(client: pg.Client, database: string): Promise<void> {
  const { rows } = await client.query<{ name: string; comment: string | null; newborn: boolean }>(
    `SELECT datname AS name, shobj_description(oid, 'pg_database') AS comment, NOT datallowconn AND datconnlimit = $2 AS newborn
     FROM pg_database WHERE datname = ANY ($1)`,
    [[asideOf(database), formerOf(database), formerImportedOf(database)], NEWBORN_LIMIT],
  );
  for (const { name, comment, newborn } of rows) {
    if (!newborn && readNote(comment).of !== database) throw strange(name);
    await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
  }
}

/**
 * Makes sure that there is room for a copy of a database.
 * @param share the part of the free room that it may take, 0 to 1.
 * @throws {Error} that says how much there is.
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
    `There is no room for another copy: it takes ${humanBytes(bytes)}, and ${humanBytes(free)} are free, of which ` +
      `${humanBytes(Math.max(ROOM_LEFT, free * (1 - share)))} stay for the server. Delete a save point: ./db snapshot delete NAME`,
  );
}

/**
 * Runs a statement for which nobody may be connected to the database. The statement's own lock keeps newcomers waiting, and
 * goes with its session: nothing stays shut, wherever this is killed. PostgreSQL gives those who work 5 seconds to end;
 * meanwhile idle connections are ended here, with PostgreSQL's own words for it.
 * @param force ends transactions, too.
 * @throws {Error} that names who works in the database and does not end.
 */
export async function undisturbed(
  client: pg.Client,
  address: Address,
  force: boolean,
  work: () => Promise<unknown>,
): Promise<void> {
  let others: string[] = [];
  let isOver = false;
  const usher = await connect(maintenance(address));
  const endOthers = async () => {
    while (!isOver) {
      const { rows } = await usher.query<{ who: string; ended: boolean }>(
        `SELECT concat(usename, ' (' || nullif(application_name, '') || ')', ', ' || state) AS who,
           CASE WHEN $2 OR state = 'idle' THEN pg_terminate_backend(pid) ELSE false END AS ended
         FROM pg_stat_activity WHERE datname = $1 AND backend_type <> 'autovacuum worker'`,
        [address.database, force],
      );
      others = rows.filter(({ ended }) => !ended).map(({ who }) => who);
      await sleep(LOOK_MS);
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
      `Somebody works in the database: ${others.join("; ") || "it was just now"}. Wait for the end, or end it by force: --force`,
    );
  } finally {
    isOver = true;
    await ending.finally(() => usher.end());
  }
}

/**
 * A copy that nobody gets into. It has its mark before it is there. It belongs to the superuser: the owner of a database can drop it
 * from any other database.
 */
function copySql({ from, to, strategy }: { from: string; to: string; strategy: string }): string {
  return (
    `CREATE DATABASE ${ident(to)} TEMPLATE ${ident(from)} STRATEGY ${strategy} ` +
    `ALLOW_CONNECTIONS false CONNECTION LIMIT ${NEWBORN_LIMIT}`
  );
}

/**
 * Copies the database itself, which others use. What is killed before the copy has a name of its own is cleared by the next run.
 * @param client holds every lock ({@link alone}).
 * @param force ends transactions that do not end by themselves.
 * @returns the copy's name for now.
 * @throws {Error} that names who works in the database and does not end.
 */
export async function copyDatabase(client: pg.Client, address: Address, force: boolean): Promise<string> {
  const way = { from: address.database, to: asideOf(address.database) };
  await besideBackups(client, async (strategy) => {
    await undisturbed(client, address, force, () => client.query(copySql({ ...way, strategy })));
  });
  return way.to;
}

/**
 * Copies a snapshot, or another database that nobody is connected to.
 * @returns the copy's name for now, as of {@link copyDatabase}.
 */
export async function copyUnused(client: pg.Client, database: string, from: string): Promise<string> {
  const way = { from, to: asideOf(database) };
  await besideBackups(client, (strategy) => client.query(copySql({ ...way, strategy })));
  return way.to;
}

/** How a save point is made. */
export interface SaveOptions {
  /** Ends transactions that do not end by themselves. */
  force?: boolean;
  /** The part of the free room that it may take, 0 to 1. */
  share?: number;
}

/**
 * Makes a save point. Whoever connects meanwhile waits.
 * @throws {Error} when the name is taken, there are too many, the disk has no room, or somebody works in the database.
 */
export async function saveSnapshot(place: SnapshotPlace, name: string, options: SaveOptions = {}): Promise<Snapshot> {
  checkName(name);
  const { address } = place;
  const { database } = address;
  return alone(place, async (client) => {
    const all = (await listSnapshots(client, database)).filter((known) => !KEPT.includes(known.name));
    if (all.some((known) => known.name === name)) {
      throw new Error(`There is a save point ${name} already. Delete it first: ./db snapshot delete ${name}`);
    }
    if (all.length >= MOST)
      throw new Error(`There are ${MOST} save points already. Delete one: ./db snapshot delete NAME`);
    await checkRoom(place, client, database, options.share ?? 1);
    const aside = await copyDatabase(client, address, options.force ?? false);
    await client.query(`
      BEGIN;
      COMMENT ON DATABASE ${ident(aside)} IS ${literal(noteOf(database, new Date()))};
      ALTER DATABASE ${ident(aside)} RENAME TO ${ident(databaseOf(name))};
      COMMIT`);
    return (await listSnapshots(client, database)).find((known) => known.name === name) as Snapshot;
  });
}

/**
 * Brings a save point back. What the database held is kept as the save point `before_restore`, in the place of a former one.
 * @param force ends transactions that do not end by themselves.
 * @throws {Error} when there is no such save point, no room, or somebody works in the database.
 */
export async function restoreSnapshot(place: SnapshotPlace, name: string, force = false): Promise<void> {
  const { database } = place.address;
  await alone(place, async (client) => {
    await findSnapshot(client, database, name);
    await checkRoom(place, client, databaseOf(name), 1);
    // The long part comes first: newcomers wait for the renames only.
    const next = await copyUnused(client, database, databaseOf(name));
    // What an import gave goes back with its data, which such a snapshot still has: it is no copy.
    const isKept = KEPT.includes(name);
    const properties = await databaseProperties(client, database, {
      wants: (setting) => !isKept || !isOfImport(setting),
    });
    const ofImport = isKept
      ? await settingStatements(client, databaseOf(name), { as: database, wants: isOfImport })
      : [];
    await exchange(
      client,
      place.address,
      { next, keepAs: BEFORE_RESTORE, properties: [...properties, ...ofImport] },
      force,
    );
  });
}

/** What takes the database's place. */
interface Exchange {
  /** The database that gets the name. */
  next: string;
  /** The snapshot that the former one becomes, in the place of an older one. */
  keepAs: string;
  /** Statements that give the new one its owner, grants and settings. */
  properties: readonly string[];
  /** Further statements that have an effect together with the exchange. */
  more?: readonly string[];
}

/** At every moment there is one database of the name, the old one or the new. */
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
    `COMMENT ON DATABASE ${ident(before)} IS ${literal(noteOf(database, new Date()))}`,
    // One that is a template cannot be dropped.
    `ALTER DATABASE ${ident(before)} ALLOW_CONNECTIONS false IS_TEMPLATE false`,
    `ALTER DATABASE ${ident(before)} OWNER TO CURRENT_USER`,
    ...more,
    `ALTER DATABASE ${ident(next)} RENAME TO ${ident(database)}`,
    `ALTER DATABASE ${ident(database)} ALLOW_CONNECTIONS true`,
    ...properties,
  ];
  await undisturbed(client, address, force, () => client.query(`BEGIN; ${statements.join("; ")}; COMMIT`));
  // Should this fail, the next run does it.
  if (hasFormer) await client.query(`DROP DATABASE ${ident(former)} WITH (FORCE)`).catch(() => {});
}

/**
 * Whether there is a snapshot of the database under a name.
 * @throws {Error} for a database of that name that somebody else made.
 */
async function isSnapshotOf(client: pg.Client, name: string, database: string): Promise<boolean> {
  const note = await commentOf(client, name);
  if (note !== undefined && readNote(note).of !== database) throw strange(name);
  return note !== undefined;
}

/**
 * Prepares a refresh: holds off snapshots and migrations for as long as the session lives. The import's lock is the import's.
 * @param client a superuser's session in the server's own database.
 * @throws {Error} that says who changes databases at the moment, or that migrations were killed.
 */
export async function prepareRefresh(client: pg.Client, database: string): Promise<void> {
  await holdAlone(client);
  await refuseHalfMigrated(client, database);
  await clear(client, database);
  await client.query(`SELECT pg_advisory_unlock(${IMPORT_LOCK})`);
}

/**
 * Copies the database that a refresh has loaded, to become the snapshot {@link IMPORTED} in {@link swapRefreshed}.
 * @param staging the loaded database; nobody is connected to it.
 * @returns undefined where it would take more of the disk than a copy may that nobody asked for.
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
 * Puts the database that a refresh has loaded in the place of the one of today, which becomes the snapshot
 * {@link BEFORE_REFRESH}: all of it in one transaction. Transactions of others get 5 seconds to end, then are ended: an hour's
 * import must not fail for one that somebody forgot.
 * @param client a superuser's session in the server's own database that holds the import's lock.
 * @param imported what {@link copyImported} has made.
 */
export async function swapRefreshed(client: pg.Client, address: Address, imported: string | undefined): Promise<void> {
  const { database } = address;
  const staging = asideName(database);
  const [saved, former] = [databaseOf(IMPORTED), formerImportedOf(database)];
  const hasFormer = imported !== undefined && (await isSnapshotOf(client, saved, database));
  const more = [
    ...(hasFormer ? [`ALTER DATABASE ${ident(saved)} RENAME TO ${ident(former)}`] : []),
    ...(imported === undefined
      ? []
      : [
          `COMMENT ON DATABASE ${ident(imported)} IS ${literal(noteOf(database, new Date()))}`,
          `ALTER DATABASE ${ident(imported)} RENAME TO ${ident(saved)}`,
        ]),
    ...endEasing(staging),
  ];
  // What an import gives is the new import's; everything else stays as somebody has set it.
  const properties = await databaseProperties(client, database, { wants: (setting) => !isOfImport(setting) });
  const swap = async (force: boolean) => {
    await endSessions(client, staging);
    await exchange(client, address, { next: staging, keepAs: BEFORE_REFRESH, properties, more }, force);
  };
  await swap(false).catch(() => swap(true));
  if (hasFormer) await client.query(`DROP DATABASE ${ident(former)} WITH (FORCE)`).catch(() => {});
}

/**
 * Finds a snapshot of the database.
 * @returns the database that it is.
 * @throws {Error} that says which there are.
 */
export async function findSnapshot(client: pg.Client, database: string, name: string): Promise<string> {
  const all = await listSnapshots(client, database);
  if (all.some((known) => known.name === name)) return databaseOf(name);
  const names = all.map((known) => known.name).join(", ");
  throw new Error(`There is no save point ${name}. ${names ? `There are: ${names}` : "There are none."}`);
}

/** Removes a save point. @throws {Error} when there is none of that name. */
export async function deleteSnapshot(place: SnapshotPlace, name: string): Promise<void> {
  await alone(place, async (client) => {
    await findSnapshot(client, place.address.database, name);
    await client.query(`DROP DATABASE ${ident(databaseOf(name))} WITH (FORCE)`);
  });
}
