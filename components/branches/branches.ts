/**
 * Branches: named copies of the database that clients can connect to and change. They are made like snapshots
 * (components/snapshots/snapshots.ts), and have the database's roles, passwords, grants and settings.
 */
import type pg from "pg";
import { databaseProperties } from "../../lib/database-properties.ts";
import { ident, literal, maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { isOwnTable, STACK_SCHEMA } from "../../lib/stack-schema.ts";
import {
  checkRoom,
  copyDatabase,
  copyUnused,
  findSnapshot,
  type SnapshotPlace,
  withExclusiveLocks,
} from "../snapshots/snapshots.ts";

/** The maximum number of branches. */
const MOST = 12;
const PREFIX = "branch__";

/**
 * The table of branches, in the server's own database, where only superusers can write. A comment on the branch would not do, because a
 * branch belongs to the owner and a migration may change it. Branches are identified by OID, so that another database with the same
 * name is not taken for one.
 */
const REGISTRY = `${STACK_SCHEMA}.branches`;
const CREATE_REGISTRY = [
  `CREATE SCHEMA IF NOT EXISTS ${STACK_SCHEMA}`,
  `REVOKE ALL ON SCHEMA ${STACK_SCHEMA} FROM PUBLIC`,
  `CREATE TABLE IF NOT EXISTS ${REGISTRY} (branch oid PRIMARY KEY, branch_of name NOT NULL, made_from text, made_at timestamptz NOT NULL)`,
  `GRANT USAGE ON SCHEMA ${STACK_SCHEMA} TO ${ident(ROLE_NAMES.monitor)}`,
  `GRANT SELECT ON ${REGISTRY} TO ${ident(ROLE_NAMES.monitor)}`,
  // A branch may have been dropped with SQL.
  `DELETE FROM ${REGISTRY} WHERE branch NOT IN (SELECT d.oid FROM pg_catalog.pg_database d)`,
];

/** A branch. */
export interface Branch {
  name: string;
  /** The name of its database. */
  database: string;
  /** When it was made, ISO 8601. */
  madeAt: string;
  /** The snapshot that it was copied from; null if it was copied from the database. */
  from: string | null;
  bytes: number;
  /** The number of sessions that are connected to it. */
  sessions: number;
}

/** How a branch is made. */
export interface BranchOptions {
  /** The snapshot to copy; by default the database as it is now. */
  from?: string | undefined;
  /** Ends transactions in the database that do not end within 5 seconds. */
  force?: boolean;
}

/** Returns the name of a branch's database. */
export const branchDatabase = (name: string): string => `${PREFIX}${name}`;

/**
 * Checks a branch's name.
 * @throws {Error} with the rule, for an invalid name.
 */
export function checkBranchName(name: string): string {
  if (/^[a-z0-9][a-z0-9_-]{0,39}$/.test(name)) return name;
  throw new Error(
    `"${name}" is not a valid name for a branch: use at most 40 lowercase letters, digits, _ and -, starting with a letter or a digit`,
  );
}

/**
 * Returns all branches of the database, oldest first.
 * @param client a session of a superuser or the monitor in the server's own database.
 */
export async function listBranches(client: pg.Client, database: string): Promise<Branch[]> {
  if (!(await isOwnTable(client, "branches"))) return [];
  const { rows } = await client.query<Omit<Branch, "madeAt"> & { madeAt: Date }>(
    `SELECT pg_catalog.substr(d.datname, ${PREFIX.length + 1}) AS name, d.datname AS database, n.made_at AS "madeAt", n.made_from AS "from",
       pg_catalog.pg_database_size(d.oid)::float8 AS bytes,
       (SELECT pg_catalog.count(*)::int FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')
         AS sessions
     FROM ${REGISTRY} n JOIN pg_catalog.pg_database d ON d.oid = n.branch
     WHERE n.branch_of = $1 AND pg_catalog.starts_with(d.datname, $2) ORDER BY n.made_at, d.datname`,
    [database, PREFIX],
  );
  return rows.map((row) => ({ ...row, madeAt: row.madeAt.toISOString() }));
}

/** Connects, and returns {@link listBranches}. */
export const readBranches = (place: SnapshotPlace): Promise<Branch[]> =>
  withConnection(maintenance(place.address), (client) => listBranches(client, place.address.database));

/**
 * Returns the branch with a name.
 * @throws {Error} that lists the existing branches, if there is no such branch.
 */
export function findBranch(branches: readonly Branch[], name: string): Branch {
  const found = branches.find((branch) => branch.name === name);
  if (found) return found;
  const names = branches.map((branch) => branch.name).join(", ");
  throw new Error(
    `There is no branch ${name}. ${names ? `Existing branches: ${names}` : "Create one: ./db branch create NAME"}`,
  );
}

/** @throws {Error} if the name is taken, or there are {@link MOST} branches. */
async function assertBranchAllowed(client: pg.Client, database: string, name: string): Promise<void> {
  const all = await listBranches(client, database);
  if (all.some((branch) => branch.name === name)) {
    throw new Error(`The branch ${name} already exists. Delete it first: ./db branch delete ${name}`);
  }
  const { rowCount } = await client.query("SELECT FROM pg_catalog.pg_database WHERE datname = $1", [
    branchDatabase(name),
  ]);
  if (rowCount !== 0) {
    throw new Error(
      `The database ${branchDatabase(name)} already exists and is not a branch of ${database}, but the branch needs its name. Rename it: ` +
        `ALTER DATABASE ... RENAME TO ...`,
    );
  }
  if (all.length >= MOST) {
    throw new Error(`There are already ${MOST} branches, the maximum. Delete one: ./db branch delete NAME`);
  }
}

/**
 * Creates a branch. To copy the database, it ends idle connections there and gives transactions 5 seconds to end; new connections wait.
 * The next run clears whatever a killed run leaves.
 * @throws {Error} if the name is taken, there are too many branches, the disk is too full, or a session is active in the database.
 */
export async function createBranch(place: SnapshotPlace, name: string, options: BranchOptions = {}): Promise<Branch> {
  checkBranchName(name);
  const { database } = place.address;
  const { from, force = false } = options;
  return withExclusiveLocks(place, async (client) => {
    await assertBranchAllowed(client, database, name);
    const source = from === undefined ? database : await findSnapshot(client, database, from);
    await checkRoom(place, client, source, 1);
    const copy =
      from === undefined ? await copyDatabase(client, place, force) : await copyUnused(client, database, source);
    const branch = branchDatabase(name);
    const statements = [
      `ALTER DATABASE ${ident(copy)} RENAME TO ${ident(branch)}`,
      ...(await databaseProperties(client, database, { as: branch })),
      `ALTER DATABASE ${ident(branch)} ALLOW_CONNECTIONS true`,
      ...CREATE_REGISTRY,
      `INSERT INTO ${REGISTRY} SELECT d.oid, ${literal(database)}, ${from === undefined ? "NULL" : literal(from)}, pg_catalog.now()
       FROM pg_catalog.pg_database d WHERE d.datname = ${literal(branch)}`,
    ];
    await client.query(`BEGIN; ${statements.join("; ")}; COMMIT`);
    return findBranch(await listBranches(client, database), name);
  });
}

/** Drops a branch, and ends the sessions in it. @throws {Error} if there is no branch with that name. */
export async function deleteBranch(place: SnapshotPlace, name: string): Promise<void> {
  await withExclusiveLocks(place, async (client) => {
    const { database } = findBranch(await listBranches(client, place.address.database), name);
    // A template cannot be dropped, and the owner may have made one of it.
    await client.query(`ALTER DATABASE ${ident(database)} IS_TEMPLATE false`);
    await client.query(`DROP DATABASE ${ident(database)} WITH (FORCE)`);
  });
}
