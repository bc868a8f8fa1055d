/** Splits pg_dump's plain output into its entries. Pure. */
import type { States } from "./states.ts";

/** One object's SQL, as pg_dump writes it. */
export interface Entry {
  name: string;
  /** For instance TABLE, INDEX, FK CONSTRAINT. */
  type: string;
  schema: string;
  sql: string;
  /** SQL that creates the object closer to the source's than pg_dump's SQL does. Definitions are compared by `sql`. */
  made?: string;
}

/**
 * A header, or anything that may contain a text like one: strings, quoted names, dollar-quoted bodies, other comments. The one that
 * begins first matches as a whole, so a text inside a string is never taken for a header.
 */
const HEADER_OR_QUOTED =
  /^--\n-- (?:Data for )?Name: (?<name>.*); Type: (?<type>[A-Z ]+); Schema: (?<schema>.*); Owner: .*\n--\n|'[^']*'|"[^"]*"|\$(?<tag>(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?)\$[\s\S]*?\$\k<tag>\$|--.*/gm;

/**
 * The end of a dump: a comment, and psql's command \unrestrict, part of its guard against a hostile server (CVE-2025-8714). Its
 * counterpart and settings that an older server does not know come before the first entry and are ignored.
 */
const DUMP_END = /\n--\n-- PostgreSQL database dump complete\n--\s*(\\unrestrict .*\s*)?$/;

/** Settings for the next entries. They are not part of the entry before them. */
const TRAILING_SETTINGS = /(\n+SET default_\w+ = .*;)+\s*$/;

/**
 * Returns the entries in pg_dump's order, which respects dependencies. The session settings before the first entry are dropped, because
 * the import's sessions have them already. Of the settings between entries, only the access method of the next tables matters: a table
 * with another method than heap gets the setting in its own entry, so that a failure is that table's alone.
 */
export function splitDump(dump: string): Entry[] {
  const headers = [...dump.matchAll(HEADER_OR_QUOTED)].filter(({ groups }) => groups?.type !== undefined);
  let method = trailingAccessMethod(dump.slice(0, headers[0]?.index)) ?? HEAP;
  return headers
    .map((header, index) => {
      const from = header.index + header[0].length;
      const { name = "", type = "", schema = "" } = header.groups ?? {};
      const text = dump.slice(from, headers[index + 1]?.index ?? dump.length).replace(DUMP_END, "");
      const own = text.replace(TRAILING_SETTINGS, "").trim();
      const sql = STORED.has(type) && method !== HEAP ? withMethod(own, method) : own;
      method = trailingAccessMethod(text) ?? method;
      return { name, type, schema, sql };
    })
    .filter((entry) => entry.sql.split("\n").some((line) => line !== "" && !line.startsWith("--")));
}

/** Types of entries that the setting applies to (pg_dump: _selectTableAccessMethod). */
const STORED = new Set(["TABLE", "MATERIALIZED VIEW"]);
const HEAP = "heap";
const withMethod = (sql: string, method: string) =>
  `SET default_table_access_method = ${method};\n${sql}\nRESET default_table_access_method;`;

/** Returns the access method that a text sets for the entries after it. */
const trailingAccessMethod = (text: string): string | undefined =>
  [...(TRAILING_SETTINGS.exec(text)?.[0] ?? "").matchAll(/^SET default_table_access_method = (.*);$/gm)].at(-1)?.[1];

/**
 * Returns an entry's SQL without "DEFAULT NULL", which means that a column has no default. pg_dump 15 writes it for a child's column if
 * the parent's has a default, and for a grandchild's only if it has processed the child before, which depends on the tables' OIDs. A
 * column that has lost or gained a default still differs.
 */
const withoutNullDefaults = ({ type, sql }: Entry): string =>
  type === "TABLE" ? sql.replace(/^( {4}.*) DEFAULT NULL(?=( NOT NULL)?,?$)/gm, "$1") : sql;

const SETS_NO_DEFAULT = /^ALTER TABLE .* SET DEFAULT NULL;$/s;

/**
 * Returns entries by name, for a comparison with those that the same pg_dump wrote for another database: each version has its own
 * wording. A name may occur more than once (comments); the texts are then combined.
 */
export function schemaStates(entries: readonly Entry[]): States {
  const found = new Map<string, string[]>();
  for (const entry of entries) {
    const sql = withoutNullDefaults(entry).replace(TRAILING_SETTINGS, "");
    if (entry.type === "DEFAULT" && SETS_NO_DEFAULT.test(sql)) continue;
    const key = describeEntry(entry);
    found.set(key, [...(found.get(key) ?? []), sql]);
  }
  return new Map([...found].map(([key, texts]) => [key, texts.sort().join("\n")]));
}

/** Types of entries that belong to a server or to its superuser, and are not copied. */
const NOT_COPIED = new Set([
  "EXTENSION",
  "PUBLICATION",
  "PUBLICATION TABLE",
  "PUBLICATION TABLES IN SCHEMA",
  "SUBSCRIPTION",
  "SUBSCRIPTION TABLE",
  "EVENT TRIGGER",
  "SECURITY LABEL",
  "ACL",
  "DEFAULT ACL",
  // It holds a login for another server, which every user of the copy could use.
  "USER MAPPING",
]);

/** Returns whether the import creates an entry on the target as the owner. */
export const isCopied = ({ type, name }: Entry): boolean =>
  !NOT_COPIED.has(type) && !(type === "COMMENT" && /^(EXTENSION|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION) /.test(name));

/** Returns an entry's name for messages. */
export const describeEntry = ({ type, schema, name }: Entry): string =>
  `${type.toLowerCase()} ${schema === "-" ? "" : `${schema}.`}${name}`;

/**
 * Returns a schema and a name as one key. A name may contain any character, so a plain concatenation would be ambiguous. A dump's
 * headers have a space in place of a line break.
 */
export const entryKey = (schema: string, name: string): string =>
  JSON.stringify([schema, name].map((text) => text.replaceAll(/[\n\r]/g, " ")));
