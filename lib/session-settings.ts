/**
 * Settings that change the meaning of statements, pinned for every session when it connects. The owner of a database can change its
 * settings (`ALTER DATABASE ... SET search_path`), which would apply to a superuser's session too.
 */
import { readFileSync } from "node:fs";
import pg from "pg";

const literal = pg.escapeLiteral;

/** Settings by their names, with values in PostgreSQL's syntax. */
export type SessionSettings = Readonly<Record<string, string>>;

/**
 * Reads settings from lines `NAME = VALUE`. Ignores empty lines and lines that begin with #.
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

/** The pinned settings, from the file that the image's scripts use too. Every role may set each of them. */
export const PINNED_SETTINGS: SessionSettings = parseSettings(readFileSync("images/database/session-settings", "utf8"));

/** The settings for pg_dump, which chooses the encoding itself, and which may connect to a server that lacks a newer setting. */
export const DUMP_SETTINGS: SessionSettings = Object.fromEntries(
  Object.entries(PINNED_SETTINGS).filter(([name]) => !["client_encoding", "idle_session_timeout"].includes(name)),
);

/**
 * Returns settings as the `options` of libpq and the protocol, which override those of the database and the role (PostgreSQL manual,
 * "Parameter Interaction via SQL"). White space and backslashes are escaped with a backslash, as pg_split_opts expects.
 */
export const startupOptions = (settings: SessionSettings): string =>
  Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(/[\s\\]/g, "\\$&")}`)
    .join(" ");

/** Returns SQL that sets those settings that the server knows, for the whole session. It does not depend on the search path. */
const setKnown = (settings: SessionSettings, condition: string): string => {
  const values = Object.entries(settings).map(([name, value]) => `(${literal(name)}, ${literal(value)})`);
  return (
    `SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES ${values.join(", ")}) s (name, value) ` +
    `WHERE pg_catalog.current_setting(s.name, true) IS NOT NULL AND ${condition};`
  );
};

/** Returns SQL that pins settings in a session with a server behind a proxy, which may not forward startup options. */
export const pinStatement = (settings: SessionSettings): string => setKnown(settings, "true");

/**
 * SQL that pins the settings that only a superuser may change, in a superuser's session, before any other statement. Such a session
 * never expands a view and never reads a foreign table (restrict_nonsystem_relation_kind, PostgreSQL 15.8; CVE-2024-7348). Triggers and
 * event triggers stay active, whatever the owner set during a temporary grant.
 */
export const PIN_SUPERUSER = setKnown(
  { session_replication_role: "origin", restrict_nonsystem_relation_kind: "view, foreign-table" },
  // The operator is schema-qualified, so that another operator = in the search path cannot replace it.
  "pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'",
);

/** Settings of the superuser role that keep failed or slow statements, which may contain passwords, out of the server's log. */
export const SUPERUSER_SETTINGS: Readonly<Record<string, string>> = {
  log_min_error_statement: "panic",
  log_min_duration_statement: "-1",
  log_statement: "none",
};
