/** Opens sessions like those of an application or user: with the settings of the role and the database, without pinned ones. */

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type Address, isPassing } from "../../lib/postgres.ts";

/** Options of a session. */
export interface SessionOptions {
  /** Milliseconds to retry while the server is not ready. */
  patienceMs?: number;
  /** Time limit of one attempt in milliseconds. */
  attemptMs?: number;
  /** Shown in pg_stat_activity. */
  applicationName?: string;
  /** SQL to run first. */
  setup?: string;
}

/** Opens a session. The caller ends it. */
export async function connect(address: Address, options: SessionOptions = {}): Promise<pg.Client> {
  const { patienceMs = 0, attemptMs = 10_000, applicationName, setup } = options;
  const deadline = Date.now() + patienceMs;
  for (;;) {
    const { tls, channelBinding: _, ...login } = address;
    const client = new pg.Client({
      ...login,
      ssl: tls ?? false,
      connectionTimeoutMillis: attemptMs,
      application_name: applicationName ?? "test",
    });
    client.on("error", () => {});
    try {
      await client.connect();
      if (setup) await client.query(setup);
      return client;
    } catch (error) {
      await client.end().catch(() => {});
      if (!isPassing(error) || Date.now() > deadline) throw error;
      await sleep(100);
    }
  }
}

/** Opens a session, runs `work` with it, and ends it. */
export async function withConnection<T>(
  address: Address,
  work: (client: pg.Client) => Promise<T>,
  options: SessionOptions = {},
): Promise<T> {
  const client = await connect(address, options);
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}
