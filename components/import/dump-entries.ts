/** Takes pg_dump's plain output apart into its entries. Pure. */
import type { States } from "./states.ts";

/** One object's SQL, as pg_dump writes it. */
export interface Entry {
  name: string;
  /** For instance TABLE, INDEX, FK CONSTRAINT. */
  type: string;
  schema: string;
  sql: string;
  /** SQL that makes the same object closer to the source's than pg_dump's own does. Definitions are compared by `sql`. */
  made?: string;
}

/**
 * A header, or what may hold a text that looks like one: strings, quoted names, dollar-quoted bodies, other remarks. Whatever
 * begins first is taken whole, so only a header that is none of these is found as one.
 */
const HEADER_OR_QUOTED =
  /^--\n-- (?:Data for )?Name: (?<name>.*); Type: (?<type>[A-Z ]+); Schema: (?<schema>.*); Owner: .*\n--\n|'[^']*'|"[^"]*"|\$(?<tag>(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?)\$[\s\S]*?\$\k<tag>\$|--.*/gm;

/**
 * What ends a dump: a remark, and psql's own command that lifts the guard against a hostile server (CVE-2025-8714). Its
 * counterpart, and settings that an older server does not know, stand before the first entry and are not read at all.
 */
const DUMP_END = /\n--\n-- PostgreSQL database dump complete\n--\s*(\\unrestrict .*\s*)?$/;

/** Settings for the entries to come. They belong to none, least of all to the one that happens to stand before them. */
const SETTINGS_BEHIND = /(\n+SET default_\w+ = .*;)+\s*$/;

/**
 * The entries in pg_dump's order, which respects dependencies. What stands before the first one are session settings, which
 * the import's own sessions have already. Of the settings between entries only one counts here, the access method of the tables to
 * come: a table that has another than heap carries it, so that its failure is no other object's.
 */
export function splitDump(dump: string): Entry[] {
  const headers = [...dump.matchAll(HEADER_OR_QUOTED)].filter(({ groups }) => groups?.type !== undefined);
  let method = accessMethodBehind(dump.slice(0, headers[0]?.index)) ?? HEAP;
  return headers
    .map((header, index) => {
      const from = header.index + header[0].length;
      const { name = "", type = "", schema = "" } = header.groups ?? {};
      const text = dump.slice(from, headers[index + 1]?.index ?? dump.length).replace(DUMP_END, "");
      const own = text.replace(SETTINGS_BEHIND, "").trim();
      const sql = STORED.has(type) && method !== HEAP ? withMethod(own, method) : own;
      method = accessMethodBehind(text) ?? method;
      return { name, type, schema, sql };
    })
    .filter((entry) => entry.sql.split("\n").some((line) => line !== "" && !line.startsWith("--")));
}

/** Types of entries that the setting applies to (pg_dump: _selectTableAccessMethod). */
const STORED = new Set(["TABLE", "MATERIALIZED VIEW"]);
const HEAP = "heap";
const withMethod = (sql: string, method: string) =>
  `SET default_table_access_method = ${method};\n${sql}\nRESET default_table_access_method;`;

/** The access method that a text sets for the entries behind it. */
const accessMethodBehind = (text: string): string | undefined =>
  [...(SETTINGS_BEHIND.exec(text)?.[0] ?? "").matchAll(/^SET default_table_access_method = (.*);$/gm)].at(-1)?.[1];

/**
 * An entry's SQL without "DEFAULT NULL", which says that a column has no default. pg_dump 15 writes it for a child's column where the
 * parent's has one, and for a grandchild's only if it has looked at the child before: that depends on the tables' OIDs. A column that has
 * lost its default, or got one, still differs by its own.
 */
const withoutNullDefaults = ({ type, sql }: Entry): string =>
  type === "TABLE" ? sql.replace(/^( {4}.*) DEFAULT NULL(?=( NOT NULL)?,?$)/gm, "$1") : sql;

const SETS_NO_DEFAULT = /^ALTER TABLE .* SET DEFAULT NULL;$/s;

/**
 * Entries by what they are called, to be compared with those that the same pg_dump wrote of another database: its wording is
 * its own. A name may stand more than once (comments); their texts are put together.
 */
export function schemaStates(entries: readonly Entry[]): States {
  const found = new Map<string, string[]>();
  for (const entry of entries) {
    const sql = withoutNullDefaults(entry).replace(SETTINGS_BEHIND, "");
    if (entry.type === "DEFAULT" && SETS_NO_DEFAULT.test(sql)) continue;
    const key = describeEntry(entry);
    found.set(key, [...(found.get(key) ?? []), sql]);
  }
  return new Map([...found].map(([key, texts]) => [key, texts.sort().join("\n")]));
}

/** Types that belong to a server or to its superuser, not to a copy of the data. */
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
  // It holds a login for another server, and would give it to everybody who may use the copy.
  "USER MAPPING",
]);

/** Whether an entry is made on the target by the import's own session for the owner. */
export const isCopied = ({ type, name }: Entry): boolean =>
  !NOT_COPIED.has(type) && !(type === "COMMENT" && /^(EXTENSION|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION) /.test(name));

/** One line for an entry, for messages. */
export const describeEntry = ({ type, schema, name }: Entry): string =>
  `${type.toLowerCase()} ${schema === "-" ? "" : `${schema}.`}${name}`;
