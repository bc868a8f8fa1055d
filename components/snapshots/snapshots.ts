/**
 * Save points: copies of the database beside it, in the same server. Made file by file (CREATE DATABASE ... STRATEGY
 * file_copy), a gigabyte takes seconds; while a backup is made, through the log. Given back, by renames in one transaction.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { besideBackups } from "../../lib/backup-lock.ts";
import { commentOf, databaseProperties } from "../../lib/database-properties.ts";
import { docker } from "../../lib/docker.ts";
import { type Address, connect, ident, literal, withConnection } from "../../lib/postgres.ts";
import { humanBytes } from "../import/progress.ts";
import { LOCK_KEY as IMPORT_LOCK, maintenance } from "../import/swap.ts";
import { leftShut, LOCK_KEY as MIGRATIONS_LOCK } from "../migrations/door.ts";

/** The state right after the import, which `npm run reset` brings back. */
export const IMPORTED = "imported";
/** What the database held before a save point was restored. */
export const BEFORE_RESTORE = "before_restore";
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
/** The former {@link BEFORE_RESTORE}, for the moment until it is dropped. */
const formerOf = (database: string) => `${database}__former`;

/**
 * Checks a save point's name.
 * @throws {Error} that says what it may be.
 */
export function checkName(name: string): string {
  if (name === BEFORE_RESTORE) throw new Error(`${BEFORE_RESTORE} is what a restore keeps; give another name`);
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
    if (!rows[0].mine) throw new Error(`${words}. Wait for the end, then try again.`);
  }
}

/** Runs work on the server's own database, while nobody else makes, restores, migrates or imports. */
async function alone<T>(place: SnapshotPlace, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const { database } = place.address;
  return withConnection(
    maintenance(place.address),
    async (client) => {
      await holdAlone(client);
      if (await leftShut(client, database)) {
        throw new Error("Migrations were killed half-way. Run pulumi up first: it puts the database back as it was.");
      }
      await clear(client, database);
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
    [[asideOf(database), formerOf(database)], NEWBORN_LIMIT],
  );
  for (const { name, comment, newborn } of rows) {
    if (!newborn && readNote(comment).of !== database) throw strange(name);
    await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
  }
}

async function checkRoom(place: SnapshotPlace, client: pg.Client, source: string, share: number): Promise<void> {
  const { rows } = await client.query("SELECT pg_database_size($1)::float8 AS bytes", [source]);
  const { bytes } = rows[0];
  const shown = await docker(["exec", place.container, "df", "-Pk", "/var/lib/postgresql/data"], {
    host: place.dockerHost,
  });
  const free = Number(shown.trim().split("\n").at(-1)?.trim().split(/\s+/)[3]) * 1024;
  if (free * share >= bytes && free >= bytes + ROOM_LEFT) return;
  throw new Error(
    `There is no room for another copy: it takes ${humanBytes(bytes)}, and ${humanBytes(free)} are free, of which ` +
      `${humanBytes(Math.max(ROOM_LEFT, free * (1 - share)))} stay for the server. Delete a save point: npm run snapshot -- delete NAME`,
  );
}

/**
 * Runs a statement for which nobody may be connected to the database. The statement's own lock keeps newcomers waiting, and
 * goes with its session: nothing stays shut, wherever this is killed. PostgreSQL gives those who work 5 seconds to end;
 * meanwhile idle connections are ended here, with PostgreSQL's own words for it.
 * @param force ends transactions, too.
 * @throws {Error} that names who works in the database and does not end.
 */
async function undisturbed(
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
    const all = (await listSnapshots(client, database)).filter((known) => known.name !== BEFORE_RESTORE);
    if (all.some((known) => known.name === name)) {
      throw new Error(`There is a save point ${name} already. Delete it first: npm run snapshot -- delete ${name}`);
    }
    if (all.length >= MOST)
      throw new Error(`There are ${MOST} save points already. Delete one: npm run snapshot -- delete NAME`);
    await checkRoom(place, client, database, options.share ?? 1);
    const aside = asideOf(database);
    await besideBackups(client, async (strategy) => {
      const sql = copySql({ from: database, to: aside, strategy });
      await undisturbed(client, address, options.force ?? false, () => client.query(sql));
    });
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
    await find(client, database, name);
    await checkRoom(place, client, databaseOf(name), 1);
    // The long part comes first: newcomers wait for the renames only.
    const way = { from: databaseOf(name), to: asideOf(database) };
    await besideBackups(client, (strategy) => client.query(copySql({ ...way, strategy })));
    await exchange(client, place.address, force);
  });
}

/** At every moment there is one database of the name, the old one or the new. */
async function exchange(client: pg.Client, address: Address, force: boolean): Promise<void> {
  const { database } = address;
  const [now, next, before, former] = [database, asideOf(database), databaseOf(BEFORE_RESTORE), formerOf(database)];
  const note = await commentOf(client, before);
  const hasFormer = note !== undefined;
  if (hasFormer && readNote(note).of !== database) throw strange(before);
  const properties = await databaseProperties(client, database);
  const statements = [
    ...(hasFormer ? [`ALTER DATABASE ${ident(before)} RENAME TO ${ident(former)}`] : []),
    `ALTER DATABASE ${ident(now)} RENAME TO ${ident(before)}`,
    `COMMENT ON DATABASE ${ident(before)} IS ${literal(noteOf(database, new Date()))}`,
    `ALTER DATABASE ${ident(before)} ALLOW_CONNECTIONS false`,
    `ALTER DATABASE ${ident(before)} OWNER TO CURRENT_USER`,
    `ALTER DATABASE ${ident(next)} RENAME TO ${ident(now)}`,
    `ALTER DATABASE ${ident(now)} ALLOW_CONNECTIONS true`,
    ...properties,
  ];
  await undisturbed(client, address, force, () => client.query(`BEGIN; ${statements.join("; ")}; COMMIT`));
  // Should this fail, the next run does it.
  if (hasFormer) await client.query(`DROP DATABASE ${ident(former)} WITH (FORCE)`).catch(() => {});
}

async function find(client: pg.Client, database: string, name: string): Promise<void> {
  const all = await listSnapshots(client, database);
  if (all.some((known) => known.name === name)) return;
  const names = all.map((known) => known.name).join(", ");
  throw new Error(`There is no save point ${name}. ${names ? `There are: ${names}` : "There are none."}`);
}

/** Removes a save point. @throws {Error} when there is none of that name. */
export async function deleteSnapshot(place: SnapshotPlace, name: string): Promise<void> {
  await alone(place, async (client) => {
    await find(client, place.address.database, name);
    await client.query(`DROP DATABASE ${ident(databaseOf(name))} WITH (FORCE)`);
  });
}
