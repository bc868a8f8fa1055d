/** Sessions on both ends that spell every value the same way. */
import type pg from "pg";
import { type Address, type ConnectOptions, connect } from "../../lib/postgres.ts";

/** How long a suspended source may take to wake, ms. */
const SOURCE_PATIENCE_MS = 60_000;

/**
 * Settings that decide how a value is written as text, in which order rows come, and whether a session is cut off. The same
 * on both ends, or equal rows would have different fingerprints (pg_dump pins most of them for the same reason).
 */
const PINNED = {
  statement_timeout: "0",
  lock_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  extra_float_digits: "3",
  datestyle: "ISO, YMD",
  intervalstyle: "postgres",
  timezone: "UTC",
  bytea_output: "hex",
  xmloption: "content",
  lc_monetary: "C",
  search_path: "",
  client_encoding: "UTF8",
  synchronize_seqscans: "off",
  jit: "off",
  row_security: "off",
};

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

/** Settings of the target alone: the load's own speed, and an end to work whose client is gone. */
const TARGET_ONLY = {
  ...RELAXED,
  check_function_bodies: "off",
  client_min_messages: "warning",
  client_connection_check_interval: "1s",
  // The superuser's statements hold the application's data; they have no place in the server's log.
  log_min_duration_statement: "-1",
};

/**
 * Settings of the source that not every version knows: it lets go of a snapshot whose reader is gone, even when no packet says
 * so, and has no time-outs of its own.
 */
const SOURCE_WHERE_KNOWN = {
  tcp_keepalives_idle: "10",
  tcp_keepalives_interval: "5",
  tcp_keepalives_count: "3",
  tcp_user_timeout: "25000",
  client_connection_check_interval: "1s",
  transaction_timeout: "0",
  idle_session_timeout: "0",
};

const whereKnown = (settings: Record<string, string>) =>
  `SELECT set_config(name, value, false) FROM (VALUES ${Object.entries(settings)
    .map(([name, value]) => `('${name}', '${value}')`)
    .join(", ")}) s (name, value) JOIN pg_catalog.pg_settings USING (name);`;

const asSql = (settings: Record<string, string>) =>
  Object.entries(settings)
    .map(([name, value]) => `SET ${name} = '${value}';`)
    .join(" ");

/** Settings of the source alone. Somebody else's lock on a table may last a minute. */
const SOURCE_ONLY = "SET default_transaction_read_only = on; SET lock_timeout = '60s';";

/** Opens a session on the source. It cannot write: the server refuses. */
export function openSource(address: Address, patienceMs = SOURCE_PATIENCE_MS): Promise<pg.Client> {
  return connect(address, {
    patienceMs,
    attemptMs: 20_000,
    applicationName: "sectorwars-import",
    setup: `${asSql(PINNED)} ${SOURCE_ONLY} ${whereKnown(SOURCE_WHERE_KNOWN)}`,
  });
}

/** Opens a session on a database of the target's server. */
export function openTarget(address: Address, options: ConnectOptions = {}): Promise<pg.Client> {
  return connect(address, {
    patienceMs: 10_000,
    applicationName: "sectorwars-import",
    setup: asSql({ ...PINNED, ...TARGET_ONLY }),
    ...options,
  });
}
