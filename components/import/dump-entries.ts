/** Takes pg_dump's plain output apart into its entries. Pure. */

/** One object's SQL, as pg_dump writes it. */
export interface Entry {
  name: string;
  /** For instance TABLE, INDEX, FK CONSTRAINT. */
  type: string;
  schema: string;
  sql: string;
}

const HEADER = /^--\n-- (?:Data for )?Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: .*\n--\n/gm;

/**
 * What ends a dump: a remark, and psql's own command that lifts the guard against a hostile server (CVE-2025-8714). Its
 * counterpart, and settings that an older server does not know, stand before the first entry and are not read at all.
 */
const DUMP_END = /\n--\n-- PostgreSQL database dump complete\n--\s*(\\unrestrict .*\s*)?$/;

/**
 * The entries in pg_dump's order, which respects dependencies. What stands before the first one are session settings, which
 * the import's own sessions have already; what is not an object of its own but changes a setting for the objects behind it
 * stays with the entry it follows.
 */
export function splitDump(dump: string): Entry[] {
  const headers = [...dump.matchAll(HEADER)];
  return headers
    .map((header, index) => {
      const from = header.index + header[0].length;
      const [, name = "", type = "", schema = ""] = header;
      const text = dump.slice(from, headers[index + 1]?.index ?? dump.length);
      return { name, type, schema, sql: text.replace(DUMP_END, "").trim() };
    })
    .filter((entry) => entry.sql.split("\n").some((line) => line !== "" && !line.startsWith("--")));
}

/** What differs between two schemas, by object. */
export interface SchemaDifference {
  object: string;
  how: "missing on the target" | "not on the source" | "different";
}

/** Compares two schemas in both directions. Both must have been written by the same pg_dump, whose wording is its own. */
export function compareSchemas(source: readonly Entry[], target: readonly Entry[]): SchemaDifference[] {
  const theirs = bySql(source);
  const ours = bySql(target);
  return [...new Set([...theirs.keys(), ...ours.keys()])].sort().flatMap((object): SchemaDifference[] => {
    if (!ours.has(object)) return [{ object, how: "missing on the target" }];
    if (!theirs.has(object)) return [{ object, how: "not on the source" }];
    return ours.get(object) === theirs.get(object) ? [] : [{ object, how: "different" }];
  });
}

/** Entries by what they are called. A name may stand more than once (overloads, comments): their texts are put together. */
function bySql(entries: readonly Entry[]): Map<string, string> {
  const found = new Map<string, string[]>();
  for (const entry of entries) {
    const key = describeEntry(entry);
    found.set(key, [...(found.get(key) ?? []), entry.sql]);
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
]);

/** Whether an entry is made on the target by the import's own session for the owner. */
export const isCopied = ({ type, name }: Entry): boolean =>
  !NOT_COPIED.has(type) && !(type === "COMMENT" && /^(EXTENSION|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION) /.test(name));

/** One line for an entry, for messages. */
export const describeEntry = ({ type, schema, name }: Entry): string =>
  `${type.toLowerCase()} ${schema === "-" ? "" : `${schema}.`}${name}`;
