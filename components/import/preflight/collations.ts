/** Checks where the target sorts and compares text by other rules than the source. Pure. */
import { type Finding, finding, findings } from "./findings.ts";
import type { SourceContents, UsedCollation } from "./source-info.ts";

/** The target's rules for text. */
export interface Rules {
  /** The database's default collation, for instance `ICU en-US`. */
  collation: string;
  /** Names of the collations in pg_catalog. */
  collations: ReadonlySet<string>;
  /** Locales of its C library. */
  locales: ReadonlySet<string>;
}

/** Normalises a locale's spelling: en_US.UTF-8 is en_US.utf8. */
export const plainLocale = (locale: string): string => locale.toLowerCase().replaceAll("-", "");

const BYTEWISE = new Set(["libc C", "libc POSIX"]);
const sameRules = (one: string, other: string) => one === other || (BYTEWISE.has(one) && BYTEWISE.has(other));

/** Returns why the target neither has nor can create a collation; undefined if it can. */
function lacking({ schema, name, provider, locale, rules }: UsedCollation, target: Rules): string | undefined {
  if (schema === "pg_catalog") return target.collations.has(name) ? undefined : "the target does not have it";
  if (provider === "b") return "is of the builtin provider (PostgreSQL 17), which the target does not know";
  if (rules !== null) return "has rules of its own (PostgreSQL 16), which the target does not know";
  if (provider === "c" && locale !== null && !target.locales.has(plainLocale(locale))) {
    return `is of the locale ${locale}, which the target's system does not have`;
  }
  return undefined;
}

/** Checks the collations that the source uses, and what changes if the databases' default collations differ. */
export function checkCollations(
  contents: SourceContents,
  source: string | undefined,
  target: Rules | undefined,
): Finding[] {
  return [
    ...checkVersions(contents),
    ...(target ? contents.collations.flatMap((used) => missing(used, target)) : []),
    ...(target && source && !sameRules(source, target.collation)
      ? checkDefault(contents, source, target.collation)
      : []),
    ...findings(
      "collation-uniqueness",
      contents.textIndexes
        .filter(({ unique, loose }) => unique && loose)
        .map(({ name, table }) => `${name} on ${table}`),
      "is unique under a collation that treats different texts as equal; which ones depends on the library's version",
      "If the import fails at this key, find the two rows on the source and change one of them",
    ),
  ];
}

function missing(used: UsedCollation, target: Rules): Finding[] {
  const why = lacking(used, target);
  if (why === undefined) return [];
  const remedy = "On the source, use a collation that both servers have (C, or an ICU collation such as en-x-icu)";
  return [finding("collation-missing", `collation ${used.schema}.${used.name}`, why, remedy)];
}

/** Checks for indexes built under another version of a collation, which may hold rows that they should have rejected. */
function checkVersions(contents: SourceContents): Finding[] {
  const changed = ({ made, now }: { made: string | null; now: string | null }) => made !== null && made !== now;
  const changedVersion = (subject: string, { made, now }: { made: string | null; now: string | null }) =>
    finding(
      "collation-version",
      subject,
      `indexes on the source were built under version ${made}, and it now has ${now ?? "none"}: a unique index may hold equal rows`,
      "On the source: REINDEX DATABASE, then ALTER DATABASE (or COLLATION) ... REFRESH COLLATION VERSION",
    );
  return [
    ...contents.databaseCollation
      .filter(changed)
      .map((versions) => changedVersion("the database's collation", versions)),
    ...contents.collations.filter(changed).map((used) => changedVersion(`collation ${used.schema}.${used.name}`, used)),
  ];
}

function checkDefault(contents: SourceContents, source: string, target: string): Finding[] {
  const sorted = contents.textIndexes.filter(({ usesDefault }) => usesDefault);
  const columns = new Set(sorted.flatMap((index) => index.columns));
  const change = `text sorts by ${target} here and by ${source} on the source`;
  return [
    ...(sorted.length === 0
      ? [finding("collation-order", "all text", `${change}; no index depends on it`)]
      : findings(
          "collation-order",
          sorted.map(({ name }) => name),
          `${change}; indexes are rebuilt (${columns.size} columns), and ORDER BY may return another order`,
          'For bytewise order, add COLLATE "C" to the queries and columns',
        )),
    ...findings(
      "collation-uniqueness",
      sorted.filter(({ unique, folds }) => unique && folds).map(({ name, table }) => `${name} on ${table}`),
      `is unique regardless of case, by rules that differ; rows that differ on the source may be equal on the target`,
      "If the import fails at this key, find the two rows on the source and change one of them",
    ),
    ...findings(
      "collation-bounds",
      contents.textBounds,
      "is partitioned by ranges of text; a row may belong to another partition on the target, and the import would fail",
      'Declare the key with COLLATE "C" on the source',
    ),
    ...findings(
      "collation-computed",
      contents.textComputed,
      "compares text or changes its case by rules that differ; if the result differs, the import fails",
      'Add COLLATE "C" to it on the source',
    ),
  ];
}
