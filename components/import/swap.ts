/** The database that is loaded aside, and the moment in which it takes the target's place. */
import type pg from "pg";
import { type ImportSummary, SAMPLE } from "../../lib/import-summary.ts";
import { type Address, ident, literal, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { pause } from "../../lib/scope.ts";
import { endSessions } from "../../lib/sessions.ts";
import { isOwnTable, STACK_SCHEMA } from "../../lib/stack-schema.ts";
import { findRelations } from "./catalog.ts";
import { easeStaging, endEasing } from "./session.ts";
import type { Target } from "./types.ts";

/** Key of the advisory lock that an import holds on the server: the letters "sectorwa" as a 64-bit number. */
export const LOCK_KEY = "8315161638746617697";

/** Milliseconds for the lock of an import that died to go: the server looks every second whether its client is there. */
const LOCK_PATIENCE_MS = 3000;
/** Milliseconds for the removal of a large database, which waits for a checkpoint. */
const CLEARING_PATIENCE_MS = 60_000;
/** What a session that clears up behind an import calls itself. */
export const CLEARING = "sectorwars-import clearing";

/** The database that an import fills while nobody sees it. */
export const asideName = (database: string): string => `${database}_import`;
/** The database in which definitions are restored once more, to see how PostgreSQL words them; it holds no rows. */
export const scratchName = (database: string): string => `${database}_import_check`;
/** The empty one that it replaces, for the moment until it is dropped. */
export const formerName = (database: string) => `${database}_before_import`;

/** Databases that exist only while an import loads and compares. */
export const importNames = (database: string): string[] => [asideName(database), scratchName(database)];

/**
 * Makes sure that no other import works on the server, for as long as the session lives. One that clears up behind a failed
 * import is waited for.
 * @throws {Error} when another import works.
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

/** Written on the databases that an import makes or puts away, so that no other of such a name is ever dropped. */
const ITS_OWN = "made by the import, and dropped by it";
/** Connections that a database may have which is only just made, and which nobody can get into yet: a number to know it by. */
const NEWBORN_LIMIT = 20_231;
/** Whether a row of pg_database is one of those; never NULL. */
export const IS_ITS_OWN = `coalesce(shobj_description(oid, 'pg_database') = ${literal(ITS_OWN)},
  NOT datallowconn AND datconnlimit = ${NEWBORN_LIMIT})`;

/**
 * Removes what a run that died has left behind.
 * @throws {Error} for a database of such a name that no import made.
 */
export async function clearAside(client: pg.Client, database: string): Promise<void> {
  const { rows } = await client.query<{ name: string; mine: boolean }>(
    `SELECT datname AS name, ${IS_ITS_OWN} AS mine FROM pg_database WHERE datname = ANY ($1)`,
    [[asideName(database), scratchName(database), formerName(database)]],
  );
  for (const { name, mine } of rows) {
    if (!mine) {
      throw new Error(
        `There is a database ${name}, which no import made; its name is needed. Rename it: ALTER DATABASE ... RENAME TO ...`,
      );
    }
    await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
  }
}

/**
 * Removes what runs that died have left, whichever database they were for. Only for who holds the server's lock: then all of them
 * are dead. The mark alone is no reason to drop anything: the owner of a database can write it on any database of his, but
 * cannot rename one.
 */
export async function clearDead(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT datname AS name FROM pg_database WHERE datname ~ '(${asideName("")}|${formerName("")})$' AND ${IS_ITS_OWN}`,
  );
  for (const { name } of rows) await client.query(`DROP DATABASE ${ident(name)} WITH (FORCE)`);
}

/**
 * Makes the database that is loaded aside, with the cluster's encoding and collation; empty, but for its mark.
 * @param database its name; the staging database's, if left out.
 */
export async function makeAside(
  client: pg.Client,
  { target }: { target: Pick<Target, "address" | "owner"> },
  database = asideName(target.address.database),
): Promise<Address> {
  const aside = { ...target.address, database };
  const name = ident(aside.database);
  // A database cannot be made in a transaction with its comment; whoever dies in between leaves one that can be told, too.
  await client.query(
    `CREATE DATABASE ${name} TEMPLATE template0 OWNER ${ident(target.owner)} ALLOW_CONNECTIONS false CONNECTION LIMIT ${NEWBORN_LIMIT}`,
  );
  await client.query(`
    COMMENT ON DATABASE ${name} IS ${literal(ITS_OWN)};
    REVOKE ALL ON DATABASE ${name} FROM PUBLIC;
    ${easeStaging(aside.database).join(";\n")};
    ALTER DATABASE ${name} ALLOW_CONNECTIONS true CONNECTION LIMIT -1`);
  return aside;
}

/** Gives the loaded database a name that nothing has yet; from then on it is nobody's to drop. */
export async function release(client: pg.Client, database: string): Promise<void> {
  await endSessions(client, asideName(database));
  await client.query(`
    BEGIN;
    COMMENT ON DATABASE ${ident(asideName(database))} IS NULL;
    ${endEasing(asideName(database)).join(";\n")};
    ALTER DATABASE ${ident(asideName(database))} RENAME TO ${ident(database)};
    COMMIT`);
}

/** Writes into the loaded database what it is a copy of. It becomes visible together with the data, or not at all. */
export async function writeMarker(client: pg.Client, summary: ImportSummary): Promise<void> {
  await client.query(`
    CREATE TABLE ${STACK_SCHEMA}.import (summary jsonb NOT NULL);
    COMMENT ON TABLE ${STACK_SCHEMA}.import IS 'What this database was imported from. While it is here, nothing is imported again.';
    GRANT SELECT ON TABLE ${STACK_SCHEMA}.import TO ${ident(ROLE_NAMES.monitor)}`);
  await client.query(`INSERT INTO ${STACK_SCHEMA}.import VALUES ($1)`, [JSON.stringify(summary)]);
}

/** What a database says it was imported from, or undefined. */
export async function readMarker(client: pg.Client): Promise<ImportSummary | undefined> {
  if (!(await isOwnTable(client, "import"))) return undefined;
  const found = await client.query<{ summary: ImportSummary }>(`SELECT summary FROM ${STACK_SCHEMA}.import`);
  return found.rows[0]?.summary;
}

/** Whether an import was that of the sample. */
export const isSample = (summary: ImportSummary | undefined): boolean =>
  summary?.source.startsWith(`${SAMPLE} (`) ?? false;

/**
 * Puts the loaded database in the target's place: two renames in one transaction, so that at every moment there is one
 * database of that name, the old or the new.
 * @throws {Error} when something was put into the target meanwhile; then it stays as it is.
 */
export async function swapIn(client: pg.Client, target: Address): Promise<void> {
  const { database } = target;
  // From here on only superusers get in: what is found empty stays empty until it is replaced.
  await client.query(`ALTER DATABASE ${ident(database)} CONNECTION LIMIT 0`);
  try {
    await endSessions(client, database, asideName(database));
    await refuseFilled(target);
    await client.query(`
      BEGIN;
      COMMENT ON DATABASE ${ident(database)} IS ${literal(ITS_OWN)};
      COMMENT ON DATABASE ${ident(asideName(database))} IS NULL;
      ${endEasing(asideName(database)).join(";\n")};
      ALTER DATABASE ${ident(database)} RENAME TO ${ident(formerName(database))};
      ALTER DATABASE ${ident(asideName(database))} RENAME TO ${ident(database)};
      COMMIT`);
  } catch (error) {
    // Should the server be gone, the limit is lifted when it is made ready the next time.
    await client.query("ROLLBACK").catch(() => {});
    await client.query(`ALTER DATABASE ${ident(database)} CONNECTION LIMIT -1`).catch(() => {});
    throw error;
  }
  // The data is in place. The empty database that is left over is cleared by the next run, should that fail here.
  await client.query(`DROP DATABASE ${ident(formerName(database))} WITH (FORCE)`).catch(() => {});
}

async function refuseFilled(target: Address): Promise<void> {
  const { database } = target;
  const relations = await withConnection(target, findRelations);
  if (relations.length > 0) {
    throw new Error(
      `While the import ran, something was put into ${database} (${relations.join(", ")}), so it was not replaced. ` +
        `Stop what uses it, empty or reset it, then run pulumi up again.`,
    );
  }
}
