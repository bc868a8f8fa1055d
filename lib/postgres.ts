/** Connections to PostgreSQL with bounded patience, and SQL text put together safely. */
import type { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import pg from "pg";
import "./pg-environment.ts";
import { currentScope, pause } from "./scope.ts";
import {
  PIN_SUPERUSER,
  PINNED_SETTINGS,
  pinStatement,
  type SessionSettings,
  startupOptions,
} from "./session-settings.ts";

/** Where a server is and who asks. */
export interface Address {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string;
  /** TLS options; without them the connection is in clear text, which only a local server may have. */
  tls?: ConnectionOptions;
  /** Whether the password's proof is tied to the server's certificate, as libpq's channel_binding; `prefer` if left out. */
  channelBinding?: ChannelBinding;
}

/** The server's own database, in which sessions work on the others. */
export const MAINTENANCE_DATABASE = "postgres";

/** Returns the address of the server's own database. */
export const maintenance = (address: Address): Address => ({ ...address, database: MAINTENANCE_DATABASE });

/** libpq's words: never, where the server offers it, or not without it. */
export type ChannelBinding = "disable" | "prefer" | "require";

/** How patiently to connect, and what to do first. */
export interface ConnectOptions {
  /** Milliseconds to keep trying while the server cannot be reached or is starting. 0 tries once. */
  patienceMs?: number;
  /** Milliseconds that one attempt may take, and as many again its setup. */
  attemptMs?: number;
  /** Shown in pg_stat_activity. */
  applicationName?: string;
  /** Settings of this session beside the pinned ones, or in their place. */
  settings?: SessionSettings;
  /** Names of pinned settings that are left as the role and the database have them. */
  unpinned?: readonly string[];
  /**
   * How settings are pinned: as startup options, which hold from the first moment, or by the session's first statement, for a
   * server that may stand behind a proxy.
   */
  pinBy?: "startup" | "statement";
  /** SQL run before the connection is handed out. */
  setup?: string;
}

/** SQLSTATEs of a server that is there but not ready yet: starting up, shutting down, out of connections, not reached. */
const NOT_READY = new Set(["57P03", "57P01", "53300", "08000", "08001", "08003", "08006"]);
/** What Neon's proxy says, as an internal error, while it wakes an endpoint or has too much to do. */
const WAKING = /couldn't connect to compute node|control plane request failed|failed to acquire permit/i;
/** Network errors that pass: nobody listens yet, a suspended endpoint is waking. A name that is not known stays so. */
const PASSING = new Set(["ECONNREFUSED", "ECONNRESET", "EAI_AGAIN", "ETIMEDOUT", "EHOSTUNREACH", "EPIPE"]);

/** Whether another attempt may help. A wrong password or a missing database never gets better by waiting. */
export function isPassing(error: unknown): boolean {
  const { code, message } = error as { code?: string; message?: string };
  if (code === "XX000") return WAKING.test(message ?? "");
  if (code !== undefined) return NOT_READY.has(code) || PASSING.has(code);
  return /timeout expired|terminated unexpectedly|Connection terminated|not queryable/i.test(message ?? "");
}

/** The socket below a connection. */
export const socketOf = (client: pg.Client): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream;

/** Ends a session at once, whatever it is doing: a polite end would wait behind a copy that nobody reads. */
export const drop = (client: pg.Client): void => void socketOf(client).destroy();

/** All settings that a session gets. */
function settingsOf({ settings = {}, unpinned = [] }: ConnectOptions): SessionSettings {
  const pinned = Object.entries(PINNED_SETTINGS).filter(([name]) => !unpinned.includes(name));
  return { ...Object.fromEntries(pinned), ...settings };
}

/**
 * Opens a connection, with growing pauses between attempts while the failure is one that passes.
 * @throws the last attempt's error once the patience is used up, or at once when waiting cannot help; the reason, where the
 * surrounding scope was closed.
 */
export async function connect(address: Address, options: ConnectOptions = {}): Promise<pg.Client> {
  const { patienceMs = 0, attemptMs = 10_000, pinBy = "startup", setup = "" } = options;
  const settings = settingsOf(options);
  const pinned = pinBy === "statement" ? pinStatement(settings) : "";
  const firstStatements = [pinned, PIN_SUPERUSER, setup, WHOSE].join("\n");
  const deadline = Date.now() + patienceMs;
  const scope = currentScope();
  for (let wait = 50; ; wait = Math.min(wait * 1.5, 1000)) {
    scope?.check();
    const client = new pg.Client({
      host: address.host,
      port: address.port,
      database: address.database,
      user: address.user,
      password: address.password,
      ssl: address.tls ?? false,
      enableChannelBinding: address.tls !== undefined && address.channelBinding !== "disable",
      connectionTimeoutMillis: attemptMs,
      application_name: options.applicationName ?? "sectorwars-database",
      options: pinBy === "startup" ? startupOptions(settings) : undefined,
      keepAlive: true,
      // Without a delay of ours the kernel asks after two hours: a connection that a sleeping laptop lost would hang.
      keepAliveInitialDelayMillis: 10_000,
    });
    // Without a listener, a server that goes away while the connection is idle would end the whole process.
    client.on("error", () => {});
    const demand = address.channelBinding === "require" ? demandChannelBinding(client, address.password) : undefined;
    const forget = scope?.add(() => drop(client), client);
    client.once("end", () => forget?.());
    try {
      await client.connect();
      demand?.();
      const { pid, superuser } = await setUp(client, firstStatements, attemptMs);
      if (superuser) superusers.add(client);
      scope?.opened(client, address, pid);
      return client;
    } catch (error) {
      drop(client);
      scope?.check();
      if (!isPassing(error) || Date.now() + wait > deadline) throw error;
      await pause(wait);
    }
  }
}

const BINDING = "SCRAM-SHA-256-PLUS";
const UNBOUND = `the server does not offer channel binding (${BINDING}), which channel_binding=require demands`;

/**
 * Holds a client, before it connects, to channel binding: pg itself falls back to whatever the server asks for, a password in
 * clear text included. The password is given to nothing else.
 * @returns what to call behind the connecting: it throws should the server have let us in without proving itself.
 */
function demandChannelBinding(client: pg.Client, password: string): () => void {
  let offered = false;
  let proven = false;
  const { connection } = client as unknown as { connection: EventEmitter };
  connection.on("authenticationSASL", ({ mechanisms }: { mechanisms: string[] }) => {
    offered = mechanisms.includes(BINDING);
  });
  connection.on("authenticationSASLFinal", () => {
    proven = offered;
  });
  (client as { password?: unknown }).password = async () => {
    if (!offered) throw new Error(`${UNBOUND}; the password was not sent`);
    return password;
  };
  return () => {
    if (!proven) throw new Error(UNBOUND);
  };
}

/** The server's process behind a session, and its rights: what the protocol tells at its start may be a proxy's invention. */
const WHOSE =
  ";SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on' AS superuser";

/** Sessions of superusers. */
const superusers = new WeakSet<pg.Client>();

/** Whether a session that {@link connect} opened is a superuser's. */
export const isSuperuser = (client: pg.Client): boolean => superusers.has(client);

/**
 * Runs a session's first statements, in bounded time.
 * @returns the server's process and whether it is a superuser's, which the last of them asks for.
 */
async function setUp(
  client: pg.Client,
  setup: string,
  timeoutMs: number,
): Promise<{ pid: number; superuser: boolean }> {
  const timer = setTimeout(() => drop(client), timeoutMs);
  try {
    const result = await client.query(setup);
    // A server that says nothing is treated with care.
    return [result].flat().at(-1)?.rows[0] ?? { pid: 0, superuser: true };
  } finally {
    clearTimeout(timer);
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
