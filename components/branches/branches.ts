/**
 * Branches: copies of the database beside it that others connect to and write, each with a name of its own. Made as snapshots are
 * (components/snapshots/snapshots.ts), with the same roles, passwords, grants and settings.
 */
import type pg from "pg";
import { databaseProperties } from "../../lib/database-properties.ts";
import { ident, literal, maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { isOwnTable, STACK_SCHEMA } from "../../lib/stack-schema.ts";
import {
  alone,
  checkRoom,
  copyDatabase,
  copyUnused,
  findSnapshot,
  type SnapshotPlace,
} from "../snapshots/snapshots.ts";

/** Branches there may be at a time. */
const MOST = 12;
const PREFIX = "branch__";

/**
 * Where branches are noted: in the server's own database, which nobody but superusers writes. A branch belongs to the owner, who
 * may change its comment; a migration does. By its OID, so that another database of the name is no branch.
 */
const NOTES = `${STACK_SCHEMA}.branches`;
const MAKE_NOTES = [
  `CREATE SCHEMA IF NOT EXISTS ${STACK_SCHEMA}`,
  `REVOKE ALL ON SCHEMA ${STACK_SCHEMA} FROM PUBLIC`,
  `CREATE TABLE IF NOT EXISTS ${NOTES} (branch oid PRIMARY KEY, branch_of name NOT NULL, made_from text, made_at timestamptz NOT NULL)`,
  `GRANT USAGE ON SCHEMA ${STACK_SCHEMA} TO ${ident(ROLE_NAMES.monitor)}`,
  `GRANT SELECT ON ${NOTES} TO ${ident(ROLE_NAMES.monitor)}`,
  // Of branches that are gone, dropped by whom it may be.
  `DELETE FROM ${NOTES} WHERE branch NOT IN (SELECT d.oid FROM pg_catalog.pg_database d)`,
];

/** A branch. */
export interface Branch {
  name: string;
  /** Its database, for connections. */
  database: string;
  /** When it was made, ISO 8601. */
  madeAt: string;
  /** The snapshot that it was made from; null for the database itself. */
  from: string | null;
  bytes: number;
  /** Sessions that are connected to it. */
  sessions: number;
}

/** How a branch is made. */
export interface BranchOptions {
  /** A snapshot to begin from; the database as it is now, if left out. */
  from?: string | undefined;
  /** Ends transactions in the database that do not end by themselves. */
  force?: boolean;
}

/** Returns the name of a branch's database. */
export const branchDatabase = (name: string): string => `${PREFIX}${name}`;

/**
 * Checks a branch's name.
 * @throws {Error} that says what it may be.
 */
export function checkBranchName(name: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,39}$/.test(name)) return name;
  throw new Error(
    `"${name}" cannot name a branch: use at most 40 lowercase letters, digits, _ and -, starting with a letter or a digit`,
  );
}

/**
 * All branches of the database, oldest first.
 * @param client a session in the server's own database, of a superuser or the monitor.
 */
export async function listBranches(client: pg.Client, database: string): Promise<Branch[]> {
  if (!(await isOwnTable(client, "branches"))) return [];
  const { rows } = await client.query<Omit<Branch, "madeAt"> & { madeAt: Date }>(
    `SELECT pg_catalog.substr(d.datname, ${PREFIX.length + 1}) AS name, d.datname AS database, n.made_at AS "madeAt", n.made_from AS "from",
       pg_catalog.pg_database_size(d.oid)::float8 AS bytes,
       (SELECT pg_catalog.count(*)::int FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')
         AS sessions
     FROM ${NOTES} n JOIN pg_catalog.pg_database d ON d.oid = n.branch
     WHERE n.branch_of = $1 AND pg_catalog.starts_with(d.datname, $2) ORDER BY n.made_at, d.datname`,
    [database, PREFIX],
  );
  return rows.map((row) => ({ ...row, madeAt: row.madeAt.toISOString() }));
}

/** {@link listBranches} for a command. */
export const readBranches = (place: SnapshotPlace): Promise<Branch[]> =>
  withConnection(maintenance(place.address), (client) => listBranches(client, place.address.database));

/**
 * Finds a branch.
 * @throws {Error} that says which there are.
 */
export function findBranch(branches: readonly Branch[], name: string): Branch {
  const found = branches.find((branch) => branch.name === name);
  if (found) return found;
  const names = branches.map((branch) => branch.name).join(", ");
  throw new Error(
    `There is no branch ${name}. ${names ? `There are: ${names}` : "There are none. Make one: ./db branch create NAME"}`,
  );
}

/** @throws {Error} when the name is taken, or there are too many branches. */
async function refuseAnother(client: pg.Client, database: string, name: string): Promise<void> {
  const all = await listBranches(client, database);
  if (all.some((branch) => branch.name === name)) {
    throw new Error(`There is a branch ${name} already. Delete it first: ./db branch delete ${name}`);
  }
  const { rowCount } = await client.query("SELECT FROM pg_catalog.pg_database WHERE datname = $1", [
    branchDatabase(name),
  ]);
  if (rowCount !== 0) {
    throw new Error(
      `There is a database ${branchDatabase(name)}, which is no branch of ${database}; its name is needed. Rename it: ALTER DATABASE ` +
        `... RENAME TO ...`,
    );
  }
  if (all.length >= MOST) {
    throw new Error(`There are ${MOST} branches already. Delete one: ./db branch delete NAME`);
  }
}

/**
 * Makes a branch. Made from the database itself, it ends idle connections there, and gives transactions 5 seconds to end; whoever
 * connects meanwhile waits. Killed at any moment, it leaves nothing that the next run would not clear.
 * @throws {Error} when the name is taken, there are too many, the disk has no room, or somebody works in the database.
 */
export async function createBranch(place: SnapshotPlace, name: string, options: BranchOptions = {}): Promise<Branch> {
  checkBranchName(name);
  const { address } = place;
  const { database } = address;
  const { from, force = false } = options;
  return alone(place, async (client) => {
    await refuseAnother(client, database, name);
    const source = from === undefined ? database : await findSnapshot(client, database, from);
    await checkRoom(place, client, source, 1);
    const copy =
      from === undefined ? await copyDatabase(client, address, force) : await copyUnused(client, database, source);
    const branch = branchDatabase(name);
    const statements = [
      `ALTER DATABASE ${ident(copy)} RENAME TO ${ident(branch)}`,
      ...(await databaseProperties(client, database, { as: branch })),
      `ALTER DATABASE ${ident(branch)} ALLOW_CONNECTIONS true`,
      ...MAKE_NOTES,
      `INSERT INTO ${NOTES} SELECT d.oid, ${literal(database)}, ${from === undefined ? "NULL" : literal(from)}, pg_catalog.now()
       FROM pg_catalog.pg_database d WHERE d.datname = ${literal(branch)}`,
    ];
    await client.query(`BEGIN; ${statements.join("; ")}; COMMIT`);
    return findBranch(await listBranches(client, database), name);
  });
}

/** Drops a branch, and ends the sessions in it. @throws {Error} when there is none of that name. */
export async function deleteBranch(place: SnapshotPlace, name: string): Promise<void> {
  await alone(place, async (client) => {
    const { database } = findBranch(await listBranches(client, place.address.database), name);
    // Its owner may have made a template of it.
    await client.query(`ALTER DATABASE ${ident(database)} IS_TEMPLATE false`);
    await client.query(`DROP DATABASE ${ident(database)} WITH (FORCE)`);
  });
}
