/** Reads users' tables safely: in a superuser's session, planning a query may run code of a table's owner. */
import { readFileSync } from "node:fs";
import type pg from "pg";
import { isSuperuser } from "../../../lib/postgres.ts";
import { isAboutNames, withPath } from "./search-path.ts";

/** The file explains why and how; the image's scripts use it, too. */
const PREPARE = readFileSync("images/database/backup/reading.sql", "utf8");

/** Sessions whose open transaction is prepared until its end. */
const prepared = new WeakSet<pg.Client>();
/** Sessions whose open transaction is prepared for each query. */
const preparedEachTime = new WeakSet<pg.Client>();

/**
 * Whether parallel sessions would wait for each other until their transactions end: since PostgreSQL 16, GRANT of a role locks the role;
 * and event triggers are locked while they are disabled.
 */
const LOCKS = `SELECT pg_catalog.current_setting('server_version_num')::int >= 160000
  OR EXISTS (SELECT FROM pg_catalog.pg_event_trigger t WHERE t.evtenabled <> 'D'
    AND (t.evttags IS NULL OR t.evttags OPERATOR(pg_catalog.&&) '{CREATE FUNCTION,ALTER FUNCTION}'::text[])) AS locks`;

/**
 * Prepares the open transaction of a superuser's session, which must be READ WRITE. The caller must roll it back and never commit it. It
 * becomes read-only, either now or for each query. A session of another role is not changed.
 */
export async function prepareReading(client: pg.Client): Promise<void> {
  if (!isSuperuser(client)) return;
  const { rows } = await client.query<{ locks: boolean }>(LOCKS);
  if (rows[0]?.locks) {
    preparedEachTime.add(client);
    return;
  }
  await client.query(PREPARE);
  prepared.add(client);
}

/** Runs a query in a savepoint, so that locks, settings and the role are undone with it. */
async function askInSavepoint<T>(client: pg.Client, query: string, keys: string[] | null): Promise<T[]> {
  await client.query(`SAVEPOINT reading; SET LOCAL lock_timeout = 0; ${PREPARE}`);
  const rows = await ask<T>(client, query, keys);
  await client.query("ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading");
  return rows;
}

/** SQLSTATE feature_not_supported: a standby rejects READ WRITE. */
const NOT_ON_A_STANDBY = "0A000";

/**
 * Begins a transaction that {@link prepareReading} can prepare. A superuser's becomes read-only there; any other is read-only from the
 * start.
 * @param mode the transaction modes for BEGIN.
 * @throws {Error} with the remedy, for a superuser on a standby server.
 */
export async function beginReading(client: pg.Client, mode = ""): Promise<void> {
  try {
    await client.query(`BEGIN ${mode} ${isSuperuser(client) ? "READ WRITE" : "READ ONLY"}`);
  } catch (error) {
    if ((error as { code?: string }).code !== NOT_ON_A_STANDBY) throw error;
    throw new Error(
      "The server is a standby. There, reading tables as a superuser would run code of their owners as the superuser. Connect as a " +
        "role that is not a superuser, or connect to the primary.",
      { cause: error },
    );
  }
}

/** Prepares sessions without an open transaction while work runs. Without it, {@link readRows} prepares a session for each query. */
export async function whilePrepared<T>(clients: readonly pg.Client[], work: () => Promise<T>): Promise<T> {
  const superusers = clients.filter(isSuperuser);
  try {
    await Promise.all(superusers.map((client) => beginReading(client).then(() => prepareReading(client))));
    return await work();
  } finally {
    for (const client of superusers) for (const sessions of [prepared, preparedEachTime]) sessions.delete(client);
    await Promise.all(superusers.map((client) => client.query("ROLLBACK").catch(() => {})));
  }
}

const ask = async <T>(client: pg.Client, query: string, keys: string[] | null): Promise<T[]> => {
  const { rows } = await client.query<{ row: T }>("SELECT r AS row FROM pg_temp.read_as_owner($1, $2) r", [
    query,
    keys,
  ]);
  return rows.map(({ row }) => row);
};

/** Returns the schemas in which functions of tables' owners may find names. */
async function readSchemas(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT n.nspname AS name FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'sectorwars_stack')
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1`,
  );
  return ["pg_catalog", ...rows.map(({ name }) => name), "pg_temp"];
}

/** Runs a query in a savepoint, so that the open transaction survives a failure: on a source, it holds the snapshot. */
async function askWithin<T extends pg.QueryResultRow>(client: pg.Client, query: string, keys?: string[]): Promise<T[]> {
  try {
    if (keys === undefined) {
      // One round trip. The driver returns one result for each statement, which its types do not describe.
      const results: unknown = await client.query(`SAVEPOINT reading; ${query}; RELEASE SAVEPOINT reading`);
      return (results as pg.QueryResult<T>[])[1]?.rows ?? [];
    }
    await client.query("SAVEPOINT reading");
    const { rows } = await client.query<T>(query, [keys]);
    await client.query("RELEASE SAVEPOINT reading");
    return rows;
  } catch (error) {
    if (isAboutNames(error)) await client.query("ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading");
    throw error;
  }
}

/**
 * Runs a query in a session that is not a superuser's. The planner may call functions of indexes or statistics; if one does not find a
 * name, the query runs again with all schemas in the search path. The name that it finds does not affect the rows.
 */
async function askAsSelf<T extends pg.QueryResultRow>(client: pg.Client, query: string, keys?: string[]): Promise<T[]> {
  const run = async () =>
    client.getTransactionStatus() === "T"
      ? askWithin<T>(client, query, keys)
      : (await client.query<T>(query, keys && [keys])).rows;
  try {
    return await run();
  } catch (error) {
    if (!isAboutNames(error)) throw error;
    return withPath(client, await readSchemas(client), run);
  }
}

/**
 * Runs a query of users' tables with at most their owners' privileges.
 * @param query a query that names everything with its schema, and in which $1 is an array of texts, if it is used.
 * @throws {Error} 42501 if code of a table's owner changes the session's settings.
 */
export async function readRows<T extends pg.QueryResultRow>(
  client: pg.Client,
  query: string,
  keys?: string[],
): Promise<T[]> {
  if (!isSuperuser(client)) return askAsSelf(client, query, keys);
  if (prepared.has(client)) return ask<T>(client, query, keys ?? null);
  if (preparedEachTime.has(client)) return askInSavepoint<T>(client, query, keys ?? null);
  return whilePrepared([client], () => readRows<T>(client, query, keys));
}
