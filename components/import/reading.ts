/** Reads users' tables. In a superuser's session that takes care: planning a query may run code of a table's owner. */
import { readFileSync } from "node:fs";
import type pg from "pg";
import { isSuperuser } from "../../lib/postgres.ts";
import { isAboutNames, withPath } from "./search-path.ts";

/** Why and how is said in the file, which the image's scripts use as well. */
const PREPARE = readFileSync("images/database/backup/reading.sql", "utf8");

/** Sessions whose open transaction is prepared to its end. */
const prepared = new WeakSet<pg.Client>();
/** Sessions whose open transaction is prepared for each query. */
const preparedEachTime = new WeakSet<pg.Client>();

/**
 * Whether sessions side by side would wait for each other to the end of their transactions: from PostgreSQL 16 on, GRANT of a role locks
 * the role; and event triggers, which are disabled meanwhile, are locked by that.
 */
const LOCKS = `SELECT pg_catalog.current_setting('server_version_num')::int >= 160000
  OR EXISTS (SELECT FROM pg_catalog.pg_event_trigger t WHERE t.evtenabled <> 'D'
    AND (t.evttags IS NULL OR t.evttags OPERATOR(pg_catalog.&&) '{CREATE FUNCTION,ALTER FUNCTION}'::text[])) AS locks`;

/**
 * Prepares the open transaction of a superuser's session, which has to be one that can write. It must be rolled back, never
 * committed. It becomes read only, or does so for each query. A session of another role is left as it is.
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

/** Locks, settings and the role go with the savepoint. */
async function askInSavepoint<T>(client: pg.Client, query: string, keys: string[] | null): Promise<T[]> {
  await client.query(`SAVEPOINT reading; SET LOCAL lock_timeout = 0; ${PREPARE}`);
  const rows = await ask<T>(client, query, keys);
  await client.query("ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading");
  return rows;
}

/** SQLSTATE of a standby that is to write: feature_not_supported. */
const NOT_ON_A_STANDBY = "0A000";

/**
 * Begins a transaction that {@link prepareReading} can prepare. A superuser's becomes read only by that, any other is from its start.
 * @param mode what stands behind BEGIN.
 * @throws {Error} that says what to do, for a superuser on a standby server.
 */
export async function beginReading(client: pg.Client, mode = ""): Promise<void> {
  try {
    await client.query(`BEGIN ${mode} ${isSuperuser(client) ? "READ WRITE" : "READ ONLY"}`);
  } catch (error) {
    if ((error as { code?: string }).code !== NOT_ON_A_STANDBY) throw error;
    throw new Error(
      "The server is a standby, on which tables cannot be read as a superuser without running code of their owners as the " +
        "superuser. Connect as a role that is not a superuser, or to the primary.",
      { cause: error },
    );
  }
}

/** Prepares sessions that have no transaction open, for as long as the work takes. Without it, {@link readRows} prepares for each query. */
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

/** The schemas in which functions of tables' owners may find names. */
async function readSchemas(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT n.nspname AS name FROM pg_catalog.pg_namespace n
     WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'sectorwars_stack')
       AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1`,
  );
  return ["pg_catalog", ...rows.map(({ name }) => name), "pg_temp"];
}

/** Runs a query so that, should it fail, the open transaction goes on: on a source it holds the snapshot. */
async function askWithin<T extends pg.QueryResultRow>(client: pg.Client, query: string, keys?: string[]): Promise<T[]> {
  try {
    if (keys === undefined) {
      // One round trip. Of several statements the driver returns several results, which its types do not know.
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
 * Runs a query in a session that is no superuser's; once more with all schemas in the search path, should the function of an index or of
 * statistics, which the planner may call, not find a name. Which one it finds changes nothing in the rows.
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
 * Runs a query of users' tables with at most their owners' rights.
 * @param query which names everything with its schema, and in which $1 is an array of texts, if it is used.
 * @throws {Error} 42501 when code of a table's owner changes the session's settings.
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
