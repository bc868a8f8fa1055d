/** Sessions on source and target, with settings that make both print every value the same way. */
import type pg from "pg";
import { type Address, type ConnectOptions, connect, ident, literal } from "../../../lib/postgres.ts";
import type { OwnerLogin } from "../types.ts";

/** Milliseconds that a suspended source may take to start. */
const SOURCE_PATIENCE_MS = 60_000;

/**
 * Settings that make the load's own sessions faster. They affect no other session, need no restart, and end with the sessions.
 * Commits do not wait for the disk: a crash loses only the staging database, and a checkpoint before the swap brings all of it to
 * disk. Full pages of new indexes go to the WAL uncompressed, because compressing them takes longer than writing them.
 */
export const RELAXED = {
  synchronous_commit: "off",
  wal_compression: "off",
};

/** Settings of the target's sessions. The server ends work whose client is gone; any role may set this part of {@link RELAXED}. */
const TARGET_ONLY = {
  synchronous_commit: RELAXED.synchronous_commit,
  check_function_bodies: "off",
  jit: "off",
  client_connection_check_interval: "1s",
  client_min_messages: "warning",
};

/**
 * Settings that only a superuser may change: the staging database has them until the import ends. Statements are not logged,
 * because they hold the application's data.
 */
const STAGING_ONLY = { wal_compression: RELAXED.wal_compression, log_min_duration_statement: "-1" };

/**
 * Settings of the source's sessions: read-only, at most 60 s of waiting for a lock, and no other timeouts. The server ends a session
 * whose client is gone, even if no packet says so, so that its snapshot is released. A setting that a version does not know is left out.
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
 * Opens a session on a database of the target's server with the login of the address. A superuser's session creates databases and
 * extensions, reads catalogs, and copies plain tables out; code from the source never runs in it.
 */
export function openTarget(address: Address, options: ConnectOptions = {}): Promise<pg.Client> {
  return connect(address, {
    patienceMs: 10_000,
    applicationName: "sectorwars-import",
    settings: TARGET_ONLY,
    ...options,
  });
}

/** Returns the address with the owner's login. */
export const asOwner = (address: Address, { owner, ownerPassword }: OwnerLogin): Address => ({
  ...address,
  user: owner,
  password: ownerPassword,
});

/**
 * Opens the session in which code from the source runs, logged in as the owner, so that it never has more than the owner's
 * privileges. `SET ROLE` in a superuser's session is not enough: any function can reset the role.
 */
export const openOwner = (database: Address, target: OwnerLogin): Promise<pg.Client> =>
  openTarget(asOwner(database, target));

/** Returns the superuser's statements that apply {@link STAGING_ONLY} to a staging database, for sessions that begin later. */
export const applyStagingSettings = (database: string): string[] =>
  Object.entries(STAGING_ONLY).map(
    ([name, value]) => `ALTER DATABASE ${ident(database)} SET ${name} = ${literal(value)}`,
  );

/** Returns the statements that undo {@link applyStagingSettings} before the swap. */
export const resetStagingSettings = (database: string): string[] =>
  Object.keys(STAGING_ONLY).map((name) => `ALTER DATABASE ${ident(database)} RESET ${name}`);
