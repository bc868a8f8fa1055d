/** Sessions on both ends that spell every value the same way. */
import type pg from "pg";
import { type Address, type ConnectOptions, connect, ident, literal } from "../../lib/postgres.ts";
import type { OwnerLogin } from "./types.ts";

/** How long a suspended source may take to wake, ms. */
const SOURCE_PATIENCE_MS = 60_000;

/**
 * Settings of the load's own sessions that make it faster. Nobody else's work is touched, no restart is needed, and none of them can
 * outlive the sessions. Commits do not wait for the disk: a crash loses the database that is loaded aside, and nothing else; before it
 * takes its place a checkpoint has brought all of it to disk. Whole pages of new indexes go to the WAL as they are: compressing them
 * takes longer than writing them.
 */
export const RELAXED = {
  synchronous_commit: "off",
  wal_compression: "off",
};

/** Settings of the target alone: an end to work whose client is gone, and what any role may set of {@link RELAXED}. */
const TARGET_ONLY = {
  synchronous_commit: RELAXED.synchronous_commit,
  check_function_bodies: "off",
  jit: "off",
  client_connection_check_interval: "1s",
  client_min_messages: "warning",
};

/**
 * Settings that only a superuser may give: they are the staging database's until the import ends. The statements hold the
 * application's data, which has no place in the server's log.
 */
const STAGING_ONLY = { wal_compression: RELAXED.wal_compression, log_min_duration_statement: "-1" };

/**
 * Settings of the source: it cannot write, somebody else's lock on a table may last a minute, it lets go of a snapshot whose
 * reader is gone, even when no packet says so, and has no time-outs of its own. A version that does not know one has none.
 */
const SOURCE_ONLY = {
  default_transaction_read_only: "on",
  lock_timeout: "60s",
  jit: "off",
  tcp_keepalives_idle: "10",
  tcp_keepalives_interval: "5",
  tcp_keepalives_count: "3",
  tcp_user_timeout: "25000",
  client_connection_check_interval: "1s",
  transaction_timeout: "0",
};

/** Opens a session on the source. It cannot write: the server refuses. */
export function openSource(address: Address, patienceMs = SOURCE_PATIENCE_MS): Promise<pg.Client> {
  return connect(address, {
    patienceMs,
    attemptMs: 20_000,
    applicationName: "sectorwars-import",
    settings: SOURCE_ONLY,
    pinBy: "statement",
  });
}

/**
 * Opens a session on a database of the target's server, as whoever the address names. As the superuser it may make databases and
 * extensions, read catalogs, and copy plain tables out; code from the source never runs in it.
 */
export function openTarget(address: Address, options: ConnectOptions = {}): Promise<pg.Client> {
  return connect(address, {
    patienceMs: 10_000,
    applicationName: "sectorwars-import",
    settings: TARGET_ONLY,
    ...options,
  });
}

/** A database of the target's server as its owner logs in there. */
export const asOwner = (address: Address, { owner, ownerPassword }: OwnerLogin): Address => ({
  ...address,
  user: owner,
  password: ownerPassword,
});

/**
 * Opens the session in which code from the source runs: logged in as the owner, so that nothing in it can have more than the
 * owner's rights. `SET ROLE` in a superuser's session would not do: any function can take the role back.
 */
export const openOwner = (database: Address, target: OwnerLogin): Promise<pg.Client> =>
  openTarget(asOwner(database, target));

/** Statements of the superuser that ease the load of a staging database, for sessions that begin later. */
export const easeStaging = (database: string): string[] =>
  Object.entries(STAGING_ONLY).map(
    ([name, value]) => `ALTER DATABASE ${ident(database)} SET ${name} = ${literal(value)}`,
  );

/** Statements that take back what {@link easeStaging} gave, before the staging database becomes the data. */
export const endEasing = (database: string): string[] =>
  Object.keys(STAGING_ONLY).map((name) => `ALTER DATABASE ${ident(database)} RESET ${name}`);
