/** Sessions as an application or a person has them: with the settings that the role and the database give, none of them pinned. */

import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { type Address, isPassing } from "../../lib/postgres.ts";

/** How patiently to connect, and what to do first. */
export interface SessionOptions {
  /** Milliseconds to keep trying while the server is not ready. */
  patienceMs?: number;
  /** Milliseconds that one attempt may take. */
  attemptMs?: number;
  /** Shown in pg_stat_activity. */
  applicationName?: string;
  /** SQL run first. */
  setup?: string;
}

/** Opens a session. Whoever opened it ends it. */
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

/** Opens a session for the time of one piece of work. */
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
