/** Opens connections to PostgreSQL with retries and time limits, and quotes SQL. */
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

/** A server's address, a database and a login. */
export interface Address {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string;
  /** TLS options; without them the connection is in clear text, which is only for a local server. */
  tls?: ConnectionOptions;
  /** Whether authentication is bound to the server's certificate, like libpq's channel_binding; `prefer` by default. */
  channelBinding?: ChannelBinding;
}

/** Returns the authority that an address trusts, PEM; undefined for a connection in clear text. */
export const authorityOf = ({ tls }: Address): string | undefined => (typeof tls?.ca === "string" ? tls.ca : undefined);

/** The server's own database, from which sessions manage other databases. */
export const MAINTENANCE_DATABASE = "postgres";

/** Returns the address of the server's own database. */
export const maintenance = (address: Address): Address => ({ ...address, database: MAINTENANCE_DATABASE });

/** libpq's values: never, if the server offers it, or required. */
export type ChannelBinding = "disable" | "prefer" | "require";

/** Options of {@link connect}. */
export interface ConnectOptions {
  /** Milliseconds to retry while the server cannot be reached or is starting. 0 tries once. */
  patienceMs?: number;
  /** Time limit of one attempt in milliseconds, and of its setup. */
  attemptMs?: number;
  /** Shown in pg_stat_activity. */
  applicationName?: string;
  /** Settings of this session, in addition to the pinned ones or overriding them. */
  settings?: SessionSettings;
  /** Names of pinned settings that keep the values of the role and the database. */
  unpinned?: readonly string[];
  /**
   * How settings are pinned: as startup options, which apply from the start, or by the session's first statement, for a server that may
   * be behind a proxy.
   */
  pinBy?: "startup" | "statement";
  /** SQL to run before the connection is returned. */
  setup?: string;
}

/** SQLSTATEs of a server that is not ready: starting up, shutting down, out of connections, not reached. */
const NOT_READY = new Set(["57P03", "57P01", "53300", "08000", "08001", "08003", "08006"]);
/** Internal errors of Neon's proxy while it wakes an endpoint or is overloaded. */
const WAKING = /couldn't connect to compute node|control plane request failed|failed to acquire permit/i;
/** Transient network errors: the server does not listen yet, or a suspended endpoint is waking. An unknown host name is permanent. */
const PASSING = new Set(["ECONNREFUSED", "ECONNRESET", "EAI_AGAIN", "ETIMEDOUT", "EHOSTUNREACH", "EPIPE"]);

/** Returns whether an error is transient. Retrying does not help against a wrong password or a missing database. */
export function isPassing(error: unknown): boolean {
  const { code, message } = error as { code?: string; message?: string };
  if (code === "XX000") return WAKING.test(message ?? "");
  if (code !== undefined) return NOT_READY.has(code) || PASSING.has(code);
  return /timeout expired|terminated unexpectedly|Connection terminated|not queryable/i.test(message ?? "");
}

/** Returns the socket of a connection. */
export const socketOf = (client: pg.Client): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream;

/** Closes a session at once. A regular end would wait for a running COPY whose output is not being read. */
export const drop = (client: pg.Client): void => void socketOf(client).destroy();

/** Returns all settings of a session. */
function settingsOf({ settings = {}, unpinned = [] }: ConnectOptions): SessionSettings {
  const pinned = Object.entries(PINNED_SETTINGS).filter(([name]) => !unpinned.includes(name));
  return { ...Object.fromEntries(pinned), ...settings };
}

/**
 * Opens a connection. Retries after transient errors, with growing pauses.
 * @throws the error of the last attempt after the time limit, or at once if it is not transient; the reason, if the surrounding scope was
 * closed.
 */
export async function connect(address: Address, options: ConnectOptions = {}): Promise<pg.Client> {
  const { patienceMs = 0, attemptMs = 10_000, pinBy = "startup", setup = "" } = options;
  const settings = settingsOf(options);
  const pinned = pinBy === "statement" ? pinStatement(settings) : "";
  const firstStatements = [pinned, PIN_SUPERUSER, setup, SESSION_QUERY].join("\n");
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
      // The kernel's default is two hours, for which a connection that a sleeping laptop lost would hang.
      keepAliveInitialDelayMillis: 10_000,
    });
    // Without a listener, losing an idle connection would end the whole process.
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
 * Makes a client require channel binding, before it connects: pg itself falls back to any method that the server asks for, including a
 * password in clear text. With this, the client gets the password only if the server offers channel binding.
 * @returns a function to call after connecting, which throws if the server accepted the login without proving its identity.
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

/** Reads the server process of a session, and whether it is a superuser's. A proxy may have made up the values of the startup protocol. */
const SESSION_QUERY =
  ";SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on' AS superuser";

/** Sessions of superusers. */
const superusers = new WeakSet<pg.Client>();

/** Returns whether a session that {@link connect} opened is a superuser's. */
export const isSuperuser = (client: pg.Client): boolean => superusers.has(client);

/**
 * Runs a session's first statements, with a time limit.
 * @returns the server process and whether the session is a superuser's, from the last statement.
 */
async function setUp(
  client: pg.Client,
  setup: string,
  timeoutMs: number,
): Promise<{ pid: number; superuser: boolean }> {
  const timer = setTimeout(() => drop(client), timeoutMs);
  try {
    const result = await client.query(setup);
    // If the server returns no row, assume the more restricted case.
    return [result].flat().at(-1)?.rows[0] ?? { pid: 0, superuser: true };
  } finally {
    clearTimeout(timer);
  }
}

/** Opens a connection, runs `work` with it, and closes it. */
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

/** Quotes a name as an SQL identifier. */
export const ident = pg.escapeIdentifier;
/** Quotes a text as an SQL literal. */
export const literal = pg.escapeLiteral;

/** Returns a schema-qualified name, quoted. */
export const qualified = (schema: string, name: string): string => `${ident(schema)}.${ident(name)}`;

/**
 * Replaces a script's variables, with psql's syntax: `:"name"` becomes a quoted identifier, `:'name'` a quoted literal.
 * @throws {Error} for a variable that has no value.
 */
export function fillIn(script: string, variables: Record<string, string>): string {
  return script.replaceAll(/(?<!:):(["'])(\w+)\1/g, (_all, quote: string, name: string) => {
    const value = Object.hasOwn(variables, name) ? variables[name] : undefined;
    if (value === undefined) throw new Error(`the SQL script uses the variable "${name}", which has no value`);
    return quote === '"' ? ident(value) : literal(value);
  });
}
