/**
 * Save points: copies of the database beside it, in the same server. Made file by file (CREATE DATABASE ... STRATEGY
 * file_copy), a gigabyte takes seconds; given back, by two renames.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { docker } from "../../lib/docker.ts";
import { type Address, ident, literal, withConnection } from "../../lib/postgres.ts";
import { humanBytes } from "../import/progress.ts";
import { maintenance } from "../import/swap.ts";

/** The state right after the import, which `npm run reset` brings back. */
export const IMPORTED = "imported";
/** What the database held before a save point was restored. */
export const BEFORE_RESTORE = "before_restore";
/** Save points there may be; more than these nobody tells apart. */
const MOST = 12;
/** Room that is left for the server itself, bytes. */
const ROOM_LEFT = 1024 ** 3;
/** Milliseconds in which transactions under way may end by themselves. */
const PATIENCE_MS = 5000;
/** Settings that are lists of names, and kept with their quotes: quoted once more, a list would become one name (pg_dump does so). */
const LISTS = [
  ...["search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"],
  ...["shared_preload_libraries", "unix_socket_directories"],
];
const SIGNALS = ["SIGINT", "SIGTERM"] as const;
/** Key of the advisory lock of whoever makes or restores save points: the letters "savepoin" as a 64-bit number. */
const LOCK_KEY = "8314054653158189422";

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
const aside = (database: string) => `${database}__restoring`;
const databaseOf = (name: string) => `${PREFIX}${name}`;

/**
 * Checks a save point's name.
 * @throws {Error} that says what it may be.
 */
export function checkName(name: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,39}$/.test(name)) return name;
  throw new Error(`"${name}" cannot name a save point: use up to 40 small letters, digits, _ and -, no sign first`);
}

/** All save points of the database, oldest first. */
export async function listSnapshots(client: pg.Client, database: string): Promise<Snapshot[]> {
  const { rows } = await client.query<{ datname: string; comment: string; bytes: number }>(
    `SELECT datname, shobj_description(oid, 'pg_database') AS comment, pg_database_size(oid)::float8 AS bytes
     FROM pg_database WHERE starts_with(datname, $1)`,
    [PREFIX],
  );
  return rows
    .map(({ datname, comment, bytes }) => ({ ...readComment(comment), name: datname.slice(PREFIX.length), bytes }))
    .filter((found) => found.of === database)
    .map(({ name, madeAt, bytes }) => ({ name, madeAt, bytes }))
    .sort((a, b) => (a.madeAt < b.madeAt ? -1 : 1));
}

/** What is written on a save point's database: whose it is, and since when. Others' databases have no such comment. */
const commentOf = (database: string, madeAt: Date) => `save point of ${database} at ${madeAt.toISOString()}`;
function readComment(comment: string | null): { of: string; madeAt: string } {
  const [, of = "", madeAt = ""] = /^save point of (\w+) at (\S+)$/.exec(comment ?? "") ?? [];
  return { of, madeAt };
}

/** Runs work on the server's own database, alone among those who make save points. */
async function alone<T>(place: SnapshotPlace, work: (client: pg.Client) => Promise<T>): Promise<T> {
  return withConnection(
    maintenance(place.address),
    async (client) => {
      const { rows } = await client.query(`SELECT pg_try_advisory_lock(${LOCK_KEY}) AS mine`);
      if (!rows[0].mine) throw new Error("Another save point is being made or restored. Wait for it, then try again.");
      await clearAside(client, place.address.database);
      return work(client);
    },
    { patienceMs: 10_000 },
  );
}

/** What a run that was killed has left: a copy that never became anything, a door that stayed shut. */
async function clearAside(client: pg.Client, database: string): Promise<void> {
  const name = aside(database);
  const { rows } = await client.query(
    "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1",
    [name],
  );
  if (rows.length > 0) {
    if (readComment(rows[0].comment).of !== database && rows[0].comment !== null) {
      throw new Error(`There is a database ${name}, whose name is needed. Rename it: ALTER DATABASE ... RENAME TO ...`);
    }
    await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
  }
  await client.query(`ALTER DATABASE ${ident(database)} ALLOW_CONNECTIONS true`);
}

async function checkRoom(place: SnapshotPlace, client: pg.Client, source: string): Promise<void> {
  const { rows } = await client.query("SELECT pg_database_size($1)::float8 AS bytes", [source]);
  const line = (
    await docker(["exec", place.container, "df", "-Pk", "/var/lib/postgresql/data"], { host: place.dockerHost })
  )
    .trim()
    .split("\n")
    .at(-1);
  const free = Number(line?.trim().split(/\s+/)[3]) * 1024;
  if (free >= rows[0].bytes + ROOM_LEFT) return;
  throw new Error(
    `There is no room for another copy: it takes ${humanBytes(rows[0].bytes)}, and ${humanBytes(free)} are free, of which ` +
      `${humanBytes(ROOM_LEFT)} stay for the server. Delete a save point: npm run snapshot -- delete NAME`,
  );
}

/**
 * Shuts the database for the time of the work: nobody new gets in, whoever works gets a few seconds to end a transaction, and
 * idle connections are ended with PostgreSQL's own words for it.
 * @throws {Error} when a transaction does not end, unless it is forced.
 */
async function shut<T>(client: pg.Client, database: string, force: boolean, work: () => Promise<T>): Promise<T> {
  const open = async () => {
    // What failed between BEGIN and COMMIT has left a transaction that takes no other command.
    await client.query("ROLLBACK");
    await client.query(`ALTER DATABASE ${ident(database)} ALLOW_CONNECTIONS true`);
  };
  // Ctrl-C ends what is under way here, but must not leave the door shut. It waits for its turn on this connection.
  const interrupted = () => void open().finally(() => process.exit(130));
  for (const signal of SIGNALS) process.on(signal, interrupted);
  await client.query(`ALTER DATABASE ${ident(database)} ALLOW_CONNECTIONS false`);
  try {
    const others =
      "FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    const deadline = Date.now() + (force ? 0 : PATIENCE_MS);
    for (;;) {
      await client.query(`SELECT pg_terminate_backend(pid, 5000) ${others} ${force ? "" : "AND state = 'idle'"}`, [
        database,
      ]);
      const { rows } = await client.query(`SELECT application_name AS name, usename AS role, state ${others}`, [
        database,
      ]);
      if (rows.length === 0) break;
      if (Date.now() > deadline) {
        const who = rows.map(({ name, role, state }) => `${role}${name ? ` (${name})` : ""}, ${state}`).join("; ");
        throw new Error(`Somebody works in the database: ${who}. Wait for the end, or end it by force: --force`);
      }
      await sleep(100);
    }
    return await work();
  } finally {
    await open();
    for (const signal of SIGNALS) process.off(signal, interrupted);
  }
}

const copy = (from: string, to: string, owner: string) =>
  `CREATE DATABASE ${ident(to)} TEMPLATE ${ident(from)} STRATEGY file_copy OWNER ${ident(owner)}`;

async function ownerOf(client: pg.Client, database: string): Promise<string> {
  const { rows } = await client.query("SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = $1", [
    database,
  ]);
  return rows[0]?.owner ?? "postgres";
}

/**
 * Makes a save point.
 * @param force ends transactions that do not end by themselves.
 * @throws {Error} when the name is taken, there are too many, the disk has no room, or somebody works in the database.
 */
export async function saveSnapshot(place: SnapshotPlace, name: string, force: boolean): Promise<Snapshot> {
  checkName(name);
  const { database } = place.address;
  return alone(place, async (client) => {
    const all = await listSnapshots(client, database);
    if (all.some((known) => known.name === name)) {
      throw new Error(`There is a save point ${name} already. Delete it first: npm run snapshot -- delete ${name}`);
    }
    if (all.length >= MOST)
      throw new Error(`There are ${MOST} save points already. Delete one: npm run snapshot -- delete NAME`);
    await checkRoom(place, client, database);
    const owner = await ownerOf(client, database);
    // Under another name until it is whole: one that was cut short is cleared by the next run.
    await shut(client, database, force, () => client.query(copy(database, aside(database), owner)));
    await becomeSnapshot(client, aside(database), name, database, new Date());
    return (await listSnapshots(client, database)).find((known) => known.name === name) as Snapshot;
  });
}

async function becomeSnapshot(client: pg.Client, from: string, name: string, of: string, madeAt: Date): Promise<void> {
  const saved = databaseOf(name);
  await client.query(`
    BEGIN;
    COMMENT ON DATABASE ${ident(from)} IS ${literal(commentOf(of, madeAt))};
    ALTER DATABASE ${ident(from)} RENAME TO ${ident(saved)};
    ALTER DATABASE ${ident(saved)} ALLOW_CONNECTIONS false;
    COMMIT`);
}

/**
 * Brings a save point back. What the database held is kept as the save point `before_restore`, in the place of a former one.
 * @throws {Error} when there is no such save point, no room, or somebody works in the database.
 */
export async function restoreSnapshot(place: SnapshotPlace, name: string, force: boolean): Promise<void> {
  const { database } = place.address;
  await alone(place, async (client) => {
    await find(client, database, name);
    await checkRoom(place, client, databaseOf(name));
    const owner = await ownerOf(client, database);
    const next = aside(database);
    // The long part comes first: the database is shut for the renames only.
    await client.query(copy(databaseOf(name), next, owner));
    await client.query(await sameAccess(client, database, next));
    await shutAndRename(client, database, next, force);
  });
}

async function shutAndRename(client: pg.Client, database: string, next: string, force: boolean): Promise<void> {
  const before = databaseOf(BEFORE_RESTORE);
  const { rows } = await client.query("SELECT FROM pg_database WHERE datname = $1", [before]);
  const { rows: described } = await client.query<{ comment: string | null }>(
    "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1",
    [database],
  );
  const comment = described[0]?.comment;
  const madeAt = new Date();
  await shut(client, database, force, async () => {
    if (rows.length > 0) await client.query(`DROP DATABASE ${ident(before)} WITH (FORCE)`);
    await client.query(`
      BEGIN;
      COMMENT ON DATABASE ${ident(database)} IS ${literal(commentOf(database, madeAt))};
      COMMENT ON DATABASE ${ident(next)} IS ${comment ? literal(comment) : "NULL"};
      ALTER DATABASE ${ident(database)} RENAME TO ${ident(before)};
      ALTER DATABASE ${ident(next)} RENAME TO ${ident(database)};
      COMMIT`);
  });
}

async function find(client: pg.Client, database: string, name: string): Promise<void> {
  const all = await listSnapshots(client, database);
  if (all.some((known) => known.name === name)) return;
  const names = all.map((known) => known.name).join(", ");
  throw new Error(`There is no save point ${name}. ${names ? `There are: ${names}` : "There are none."}`);
}

/** Who may connect, and the settings that belong to a database: a copy of its files does not have them. */
async function sameAccess(client: pg.Client, from: string, to: string): Promise<string> {
  const { rows: grants } = await client.query<{ line: string }>(
    `SELECT format('GRANT %s ON DATABASE %I TO %s%s', privilege_type, $2::text,
       CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
       CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS line
     FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = $1`,
    [from, to],
  );
  const { rows: settings } = await client.query<{ line: string }>(
    `SELECT format('ALTER %s SET %s = %s',
       CASE WHEN setrole = 0 THEN format('DATABASE %I', $2::text)
         ELSE format('ROLE %I IN DATABASE %I', pg_get_userbyid(setrole), $2::text) END,
       name, CASE WHEN value = '""' THEN quote_literal('') WHEN name = ANY ($3) THEN value ELSE quote_literal(value) END) AS line
     FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(setconfig) item,
       LATERAL (SELECT split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1) AS value) x
     WHERE datname = $1`,
    [from, to, LISTS],
  );
  return [
    `REVOKE ALL ON DATABASE ${ident(to)} FROM PUBLIC`,
    ...grants.map(({ line }) => line),
    ...settings.map(({ line }) => line),
  ].join(";");
}

/** Removes a save point. @throws {Error} when there is none of that name. */
export async function deleteSnapshot(place: SnapshotPlace, name: string): Promise<void> {
  await alone(place, async (client) => {
    await find(client, place.address.database, name);
    await client.query(`DROP DATABASE ${ident(databaseOf(name))} WITH (FORCE)`);
  });
}
