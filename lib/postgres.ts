/** Connections to PostgreSQL with bounded patience, and SQL text put together safely. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";

/** Where a server is and who asks. */
export interface Address {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string;
  /** TLS options; without them the connection is in clear text, which only a local server may have. */
  tls?: ConnectionOptions;
}

/** How patiently to connect, and what to do first. */
export interface ConnectOptions {
  /** Milliseconds to keep trying while the server cannot be reached or is starting. 0 tries once. */
  patienceMs?: number;
  /** Milliseconds that one attempt may take. */
  attemptMs?: number;
  /** Shown in pg_stat_activity. */
  applicationName?: string;
  /** SQL run before the connection is handed out. */
  setup?: string;
}

/** SQLSTATEs of a server that is there but not ready yet: starting up, shutting down, out of connections. */
const NOT_READY = new Set(["57P03", "57P01", "53300"]);
/** Network errors that pass: nobody listens yet, a suspended endpoint is waking. A name that is not known stays so. */
const PASSING = new Set(["ECONNREFUSED", "ECONNRESET", "EAI_AGAIN", "ETIMEDOUT", "EHOSTUNREACH", "EPIPE"]);

/** Whether another attempt may help. A wrong password or a missing database never gets better by waiting. */
export function isPassing(error: unknown): boolean {
  const { code, message } = error as { code?: string; message?: string };
  if (code !== undefined) return NOT_READY.has(code) || PASSING.has(code);
  return /timeout expired|terminated unexpectedly|Connection terminated/i.test(message ?? "");
}

/**
 * Opens a connection, with growing pauses between attempts while the failure is one that passes.
 * @throws the last attempt's error once the patience is used up, or at once when waiting cannot help.
 */
export async function connect(address: Address, options: ConnectOptions = {}): Promise<pg.Client> {
  const { patienceMs = 0, attemptMs = 10_000 } = options;
  const deadline = Date.now() + patienceMs;
  for (let pause = 50; ; pause = Math.min(pause * 1.5, 1000)) {
    const client = new pg.Client({
      host: address.host,
      port: address.port,
      database: address.database,
      user: address.user,
      password: address.password,
      ssl: address.tls ?? false,
      connectionTimeoutMillis: attemptMs,
      application_name: options.applicationName ?? "sectorwars-database",
      keepAlive: true,
      // Without a delay of ours the kernel asks after two hours: a connection that a sleeping laptop lost would hang.
      keepAliveInitialDelayMillis: 10_000,
    });
    // Without a listener, a server that goes away while the connection is idle would end the whole process.
    client.on("error", () => {});
    try {
      await client.connect();
      if (options.setup) await client.query(options.setup);
      return client;
    } catch (error) {
      await client.end().catch(() => {});
      if (!isPassing(error) || Date.now() + pause > deadline) throw error;
      await sleep(pause);
    }
  }
}

/** Opens a connection for the time of one piece of work. */
export async function withConnection<T>(
  address: Address,
  work: (client: pg.Client) => Promise<T>,
  options: ConnectOptions = {},
): Promise<T> {
  const client = await connect(address, options);
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}

/** A name as SQL: quoted, inner quotes doubled. */
export const ident = pg.escapeIdentifier;
/** A text as SQL: quoted, inner quotes doubled. */
export const literal = pg.escapeLiteral;

/** A schema-qualified name as SQL. */
export const qualified = (schema: string, name: string): string => `${ident(schema)}.${ident(name)}`;

/**
 * Fills in a script's variables, written as psql writes them: `:"name"` becomes a quoted name, `:'name'` a quoted text.
 * @throws {Error} for a variable that has no value.
 */
export function fillIn(script: string, variables: Record<string, string>): string {
  return script.replaceAll(/(?<!:):(["'])(\w+)\1/g, (_all, quote: string, name: string) => {
    const value = Object.hasOwn(variables, name) ? variables[name] : undefined;
    if (value === undefined) throw new Error(`the SQL script uses the variable "${name}", which has no value`);
    return quote === '"' ? ident(value) : literal(value);
  });
}
