/**
 * Settings that decide what a statement means, pinned for every session when it connects. The owner of a database may give it
 * settings (`ALTER DATABASE ... SET search_path`), and a superuser's session would follow them.
 */
import { readFileSync } from "node:fs";
import pg from "pg";

const literal = pg.escapeLiteral;

/** Settings by their names, as PostgreSQL spells the values. */
export type SessionSettings = Readonly<Record<string, string>>;

/**
 * Reads settings from lines `NAME = VALUE`; empty lines and lines that begin with # are left out.
 * @throws {Error} for a line of another form.
 */
export function parseSettings(text: string): SessionSettings {
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    lines.map((line) => {
      const [, name = "", value = ""] = /^([a-z_.]+) =(?: (.*))?$/.exec(line) ?? [];
      if (name === "") throw new Error(`images/database/session-settings: "${line}" is not NAME = VALUE`);
      return [name, value];
    }),
  );
}

/** The one list, shared with the image's scripts. Every role may set each of them. */
export const PINNED_SETTINGS: SessionSettings = parseSettings(readFileSync("images/database/session-settings", "utf8"));

/** The list for pg_dump, which chooses the encoding itself, also of a server that is older than a setting is. */
export const DUMP_SETTINGS: SessionSettings = Object.fromEntries(
  Object.entries(PINNED_SETTINGS).filter(([name]) => !["client_encoding", "idle_session_timeout"].includes(name)),
);

/**
 * Settings as libpq's and the protocol's `options`: they win over those of the database and the role (PostgreSQL manual,
 * "Parameter Interaction via SQL"). White space and backslashes are escaped with a backslash, as pg_split_opts expects.
 */
export const startupOptions = (settings: SessionSettings): string =>
  Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(/[\s\\]/g, "\\$&")}`)
    .join(" ");

/** SQL that sets settings for the rest of a session, as far as the server knows them. Nothing in it depends on the search path. */
const setKnown = (settings: SessionSettings, condition: string): string => {
  const values = Object.entries(settings).map(([name, value]) => `(${literal(name)}, ${literal(value)})`);
  return (
    `SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES ${values.join(", ")}) s (name, value) ` +
    `WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL AND ${condition};`
  );
};

/** SQL that pins settings in a session with a server behind a proxy, which may pass no startup options on. */
export const pinStatement = (settings: SessionSettings): string => setKnown(settings, "true");

/**
 * SQL that pins what only a superuser may set, in a session that is one, before it does anything else. A superuser's session
 * never expands a view and never asks a foreign table of the database's owner (restrict_nonsystem_relation_kind,
 * PostgreSQL 15.8; CVE-2024-7348). Triggers fire and event triggers hold, whatever the owner set while it was allowed to.
 */
export const PIN_SUPERUSER = setKnown(
  { session_replication_role: "origin", restrict_nonsystem_relation_kind: "view, foreign-table" },
  // A text and a text: PostgreSQL's own operator, whatever others there are.
  "pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'",
);

/** Settings of the superuser role that keep statements with passwords out of the server's log when they fail or are slow. */
export const SUPERUSER_SETTINGS: Readonly<Record<string, string>> = {
  log_min_error_statement: "panic",
  log_min_duration_statement: "-1",
};
