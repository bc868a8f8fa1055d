/** Reads users' tables. In a superuser's session that takes care: planning a query may run code of a table's owner. */
import { readFileSync } from "node:fs";
import type pg from "pg";
import { isSuperuser } from "../../lib/postgres.ts";

/** Why and how is said in the file, which the image's scripts use as well. */
const PREPARE = readFileSync("images/database/backup/reading.sql", "utf8");

/** Sessions whose open transaction is prepared to its end. */
const prepared = new WeakSet<pg.Client>();

/**
 * Prepares the open transaction of a superuser's session, which has to be one that can write, and becomes read only. It must be
 * rolled back, never committed. A session of another role is left as it is.
 */
export async function prepareReading(client: pg.Client): Promise<void> {
  if (!isSuperuser(client)) return;
  await client.query(PREPARE);
  prepared.add(client);
}

/** Prepares sessions that have no transaction open, for as long as the work takes. Without it, {@link readRows} prepares for each query. */
export async function whilePrepared<T>(clients: readonly pg.Client[], work: () => Promise<T>): Promise<T> {
  const superusers = clients.filter(isSuperuser);
  try {
    await Promise.all(superusers.map((client) => client.query(`BEGIN; ${PREPARE}`)));
    for (const client of superusers) prepared.add(client);
    return await work();
  } finally {
    for (const client of superusers) prepared.delete(client);
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

/**
 * Runs a query of users' tables with at most their owners' rights.
 * @param query in which $1 is an array of texts, if it is used.
 * @throws {Error} 42501 when code of a table's owner changes the session's settings.
 */
export async function readRows<T extends pg.QueryResultRow>(
  client: pg.Client,
  query: string,
  keys?: string[],
): Promise<T[]> {
  if (!isSuperuser(client)) return (await client.query<T>(query, keys && [keys])).rows;
  if (prepared.has(client)) return ask<T>(client, query, keys ?? null);
  return whilePrepared([client], () => ask<T>(client, query, keys ?? null));
}
