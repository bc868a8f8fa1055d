/** The staging database, and its swap with the target's database. */
import type pg from "pg";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import { type Address, ident, literal, withConnection } from "../../../lib/postgres.ts";
import { ROLE_NAMES } from "../../../lib/role-names.ts";
import { pause } from "../../../lib/scope.ts";
import { endSessions } from "../../../lib/sessions.ts";
import { isOwnTable, STACK_SCHEMA } from "../../../lib/stack-schema.ts";
import { findRelations } from "../schema/catalog.ts";
import { applyStagingSettings, resetStagingSettings } from "../session/session.ts";
import type { Target } from "../types.ts";

/** Key of the advisory lock that an import holds on the server: the letters "sectorwa" as a 64-bit number. */
export const LOCK_KEY = "8315161638746617697";

/** Milliseconds until the server releases the lock of an import that was killed: it checks every second whether its client is there. */
const LOCK_PATIENCE_MS = 3000;
/** Milliseconds for dropping a large database, which waits for a checkpoint. */
const CLEARING_PATIENCE_MS = 60_000;
/** Application name of a session that cleans up after an import. */
export const CLEARING = "sectorwars-import clearing";

/** Returns the name of the staging database, which an import fills before the swap. */
export const stagingName = (database: string): string => `${database}_import`;
/** Returns the name of the database in which definitions are restored to see how PostgreSQL words them; it holds no rows. */
export const scratchName = (database: string): string => `${database}_import_check`;
/** Returns the name of the replaced, empty database between the swap and its drop. */
export const formerName = (database: string) => `${database}_before_import`;

/** Returns the names of the databases that exist only while an import loads and compares. */
export const importNames = (database: string): string[] => [stagingName(database), scratchName(database)];

/**
 * Takes the import's advisory lock on the server for the life of the session. It waits for a session that cleans up after a
 * failed import.
 * @throws {Error} if another import is running.
 */
export async function lockServer(client: pg.Client): Promise<void> {
  for (const begun = Date.now(); ; await pause(100)) {
    const { rows } = await client.query(`SELECT pg_try_advisory_lock(${LOCK_KEY}) AS mine`);
    if (rows[0].mine) return;
    const holder = await client.query(`
      SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted
        AND (classid::bigint << 32) + objid::bigint = ${LOCK_KEY} AND application_name = '${CLEARING}'`);
    const patience = holder.rowCount === 0 ? LOCK_PATIENCE_MS : CLEARING_PATIENCE_MS;
    if (Date.now() - begun > patience) break;
  }
  throw new Error("Another import into this server is running. Wait for it, or stop it, then try again.");
}

/** Comment on the databases that an import makes or replaces. A database of the same name without it is never dropped. */
const MADE_BY_IMPORT = "made by the import, and dropped by it";
/** Connection limit that marks a new database until it has its comment. No session can connect to it before that. */
const UNMARKED_LIMIT = 20_231;
/** A condition on a row of pg_database: an import made the database. Never NULL. */
export const IS_MADE_BY_IMPORT = `coalesce(shobj_description(oid, 'pg_database') = ${literal(MADE_BY_IMPORT)},
  NOT datallowconn AND datconnlimit = ${UNMARKED_LIMIT})`;

/**
 * Drops the databases that a killed run has left behind.
 * @throws {Error} if a database of such a name was not made by an import.
 */
export async function clearStaging(client: pg.Client, database: string): Promise<void> {
  const { rows } = await client.query<{ name: string; mine: boolean }>(
    `SELECT datname AS name, ${IS_MADE_BY_IMPORT} AS mine FROM pg_database WHERE datname = ANY ($1)`,
    [[stagingName(database), scratchName(database), formerName(database)]],
  );
  for (const { name, mine } of rows) {
    if (!mine) {
      throw new Error(
        `The database ${name} exists and was not made by an import, which needs its name. Rename it: ` +
          `ALTER DATABASE ${ident(name)} RENAME TO ...`,
      );
    }
    await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
  }
}

/**
 * Drops what killed runs have left for any database. The caller must hold the server's lock, because then no other import is
 * alive. The name is checked besides the comment, because an owner can comment on his databases but cannot rename them.
 */
export async function clearDead(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT datname AS name FROM pg_database WHERE datname ~ '(${stagingName("")}|${formerName("")})$' AND ${IS_MADE_BY_IMPORT}`,
  );
  for (const { name } of rows) await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
}

/**
 * Creates an empty database of an import, with the cluster's encoding and collation and the comment that marks it.
 * @param database its name: the staging database's by default, or the scratch database's.
 */
export async function createImportDatabase(
  client: pg.Client,
  { target }: { target: Pick<Target, "address" | "owner"> },
  database = stagingName(target.address.database),
): Promise<Address> {
  const staging = { ...target.address, database };
  const name = ident(staging.database);
  // CREATE DATABASE cannot share a transaction with COMMENT. The connection limit marks the database if the run dies in between.
  await client.query(
    `CREATE DATABASE ${name} TEMPLATE template0 OWNER ${ident(target.owner)} ALLOW_CONNECTIONS false CONNECTION LIMIT ${UNMARKED_LIMIT}`,
  );
  await client.query(`
    COMMENT ON DATABASE ${name} IS ${literal(MADE_BY_IMPORT)};
    REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
    ${applyStagingSettings(staging.database).join(";\n")};
    ALTER DATABASE ${name} ALLOW_CONNECTIONS true CONNECTION LIMIT -1`);
  return staging;
}

/** Renames the staging database to an unused name and removes its mark, so that no import drops it. */
export async function renameStaging(client: pg.Client, database: string): Promise<void> {
  await endSessions(client, stagingName(database));
  await client.query(`
    BEGIN;
    COMMENT ON DATABASE ${ident(stagingName(database))} IS NULL;
    ${resetStagingSettings(stagingName(database)).join(";\n")};
    ALTER DATABASE ${ident(stagingName(database))} RENAME TO ${ident(database)};
    COMMIT`);
}

/** Writes the import's summary into the staging database, so that it becomes visible in the swap together with the data. */
export async function writeMarker(client: pg.Client, summary: ImportSummary): Promise<void> {
  await client.query(`
    CREATE TABLE ${STACK_SCHEMA}.import (summary jsonb NOT NULL);
    COMMENT ON TABLE ${STACK_SCHEMA}.import IS 'What this database was imported from. While it is here, nothing is imported again.';
    GRANT SELECT ON TABLE ${STACK_SCHEMA}.import TO ${ident(ROLE_NAMES.monitor)}`);
  await client.query(`INSERT INTO ${STACK_SCHEMA}.import VALUES ($1)`, [JSON.stringify(summary)]);
}

/** Reads the summary of the import that filled a database, or undefined. */
export async function readMarker(client: pg.Client): Promise<ImportSummary | undefined> {
  if (!(await isOwnTable(client, "import"))) return undefined;
  const found = await client.query<{ summary: ImportSummary }>(`SELECT summary FROM ${STACK_SCHEMA}.import`);
  return found.rows[0]?.summary;
}

/**
 * Swaps the staging database in for the target's: two renames in one transaction, so that a database of that name exists at any
 * time, the old one or the new one.
 * @throws {Error} if the target is no longer empty; then it stays as it is.
 */
export async function swapIn(client: pg.Client, target: Address): Promise<void> {
  const { database } = target;
  // From here on only superusers can connect, so a target that is found empty stays empty until the renames.
  await client.query(`ALTER DATABASE ${ident(database)} CONNECTION LIMIT 0`);
  try {
    await endSessions(client, database, stagingName(database));
    await assertTargetEmpty(target);
    await client.query(`
      BEGIN;
      COMMENT ON DATABASE ${ident(database)} IS ${literal(MADE_BY_IMPORT)};
      COMMENT ON DATABASE ${ident(stagingName(database))} IS NULL;
      ${resetStagingSettings(stagingName(database)).join(";\n")};
      ALTER DATABASE ${ident(database)} RENAME TO ${ident(formerName(database))};
      ALTER DATABASE ${ident(stagingName(database))} RENAME TO ${ident(database)};
      COMMIT`);
  } catch (error) {
    // If the server is gone, the next update lifts the connection limit when it prepares the server.
    await client.query("ROLLBACK").catch(() => {});
    await client.query(`ALTER DATABASE ${ident(database)} CONNECTION LIMIT -1`).catch(() => {});
    throw error;
  }
  // The data is in place. If dropping the replaced, empty database fails, the next run drops it.
  await client.query(`DROP DATABASE ${ident(formerName(database))} WITH (FORCE)`).catch(() => {});
}

async function assertTargetEmpty(target: Address): Promise<void> {
  const { database } = target;
  const relations = await withConnection(target, findRelations);
  if (relations.length > 0) {
    throw new Error(
      `The database ${database} was empty when the import began and now holds ${relations.join(", ")}, so it was not replaced. ` +
        `Stop the application that writes to it, drop these or reset the stack, then run pulumi up again.`,
    );
  }
}
