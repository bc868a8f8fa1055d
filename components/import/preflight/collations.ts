/** Where text is sorted and compared by other rules here than on the source. Pure. */
import { type Finding, finding, findings } from "./findings.ts";
import type { SourceLook, UsedCollation } from "./source-look.ts";

/** Rules for text that the target has. */
export interface Rules {
  /** The database's own, as `ICU en-US`. */
  collation: string;
  /** Names of the collations of PostgreSQL's own schema. */
  collations: ReadonlySet<string>;
  /** Locales of its C library. */
  locales: ReadonlySet<string>;
}

/** Locales are spelled in more than one way: en_US.UTF-8 is en_US.utf8. */
export const plainLocale = (locale: string): string => locale.toLowerCase().replaceAll("-", "");

const BYTEWISE = new Set(["libc C", "libc POSIX"]);
const sameRules = (one: string, other: string) => one === other || (BYTEWISE.has(one) && BYTEWISE.has(other));

/** Whether the target can make, or has, a collation that is used; if not, why. */
function lacking({ schema, name, provider, locale, rules }: UsedCollation, target: Rules): string | undefined {
  if (schema === "pg_catalog") return target.collations.has(name) ? undefined : "the target does not have it";
  if (provider === "b") return "is of the builtin provider (PostgreSQL 17), which the target does not know";
  if (rules !== null) return "has rules of its own (PostgreSQL 16), which the target does not know";
  if (provider === "c" && locale !== null && !target.locales.has(plainLocale(locale))) {
    return `is of the locale ${locale}, which the target's system does not have`;
  }
  return undefined;
}

/** Collations by name, and what changes where the databases' own differ. */
export function checkCollations(look: SourceLook, source: string | undefined, target: Rules | undefined): Finding[] {
  return [
    ...checkVersions(look),
    ...(target ? look.collations.flatMap((used) => missing(used, target)) : []),
    ...(target && source && !sameRules(source, target.collation) ? checkDefault(look, source, target.collation) : []),
    ...findings(
      "collation-uniqueness",
      look.textIndexes.filter(({ unique, loose }) => unique && loose).map(({ name, table }) => `${name} on ${table}`),
      "is unique by a collation that holds different texts for equal; which ones, the library's version decides",
      "Should the import fail at this key, look for the two rows on the source",
    ),
  ];
}

function missing(used: UsedCollation, target: Rules): Finding[] {
  const why = lacking(used, target);
  if (why === undefined) return [];
  const remedy = "On the source, use a collation that both have (C, or one of ICU's such as en-x-icu)";
  return [finding("collation-missing", `collation ${used.schema}.${used.name}`, why, remedy)];
}

/** An index that was built by other rules than today's may hold what it should have refused. */
function checkVersions(look: SourceLook): Finding[] {
  const changed = ({ made, now }: { made: string | null; now: string | null }) => made !== null && made !== now;
  const told = (subject: string, { made, now }: { made: string | null; now: string | null }) =>
    finding(
      "collation-version",
      subject,
      `indexes on the source were built by version ${made}, it has ${now ?? "none"} now: a unique one may hold rows that are equal`,
      "On the source: REINDEX DATABASE, then ALTER DATABASE (or COLLATION) ... REFRESH COLLATION VERSION",
    );
  return [
    ...look.databaseCollation.filter(changed).map((versions) => told("the database's collation", versions)),
    ...look.collations.filter(changed).map((used) => told(`collation ${used.schema}.${used.name}`, used)),
  ];
}

function checkDefault(look: SourceLook, source: string, target: string): Finding[] {
  const sorted = look.textIndexes.filter(({ usesDefault }) => usesDefault);
  const columns = new Set(sorted.flatMap((index) => index.columns));
  const change = `text sorts by ${target} here and by ${source} on the source`;
  return [
    ...(sorted.length === 0
      ? [finding("collation-order", "all text", `${change}; no index depends on it`)]
      : findings(
          "collation-order",
          sorted.map(({ name }) => name),
          `${change}; indexes are built anew (${columns.size} columns), and ORDER BY may give another order`,
          'Where bytewise order is meant, queries and columns say COLLATE "C"',
        )),
    ...findings(
      "collation-uniqueness",
      sorted.filter(({ unique, folds }) => unique && folds).map(({ name, table }) => `${name} on ${table}`),
      `is unique without regard to capital letters, by rules that differ; rows that differ on the source may be equal here`,
      "Should the import fail at this key, look for the two rows on the source",
    ),
    ...findings(
      "collation-bounds",
      look.textBounds,
      "is partitioned by ranges of text; a row may belong to another partition here, and the import would fail",
      'Declare the key with COLLATE "C" on the source',
    ),
    ...findings(
      "collation-computed",
      look.textComputed,
      "compares or folds text by rules that differ; where that gives another answer, the import fails",
      'Say COLLATE "C" in it on the source',
    ),
  ];
}
