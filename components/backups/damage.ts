/** Describes damage in the data, and how to repair it. */

import { time } from "./format.ts";
import type { Backup } from "./report.ts";

/** Damage as images/database/backup/damage.sh records it. `at` is when it was found, in seconds since 1970. */
export type Damage =
  | {
      at: number;
      /** A backup found damaged pages, or the server could not read a page when the rows were counted after the backup. */
      source: "backup";
      label: string;
      /** Null if the file belongs to no present table or index. */
      database: string | null;
      relation: string | null;
      /** Path in the data directory. */
      file: string;
      /** Block numbers, counted from the start of the table: `3-5, 9`. Empty if they are not known. */
      blocks: string;
    }
  /** The server read pages with a wrong checksum. */
  | { at: number; source: "checksums"; database: string; count: number }
  /** A drill found that the restored data is wrong. */
  | { at: number; source: "drill"; label: string; words: string };

/** The number of findings that are listed; the others are counted. */
const LISTED = 10;

/**
 * Returns what is damaged, since when, which backups are sound, and how to repair the data. Empty if no damage is known.
 * @param sound the backups without damaged pages, oldest first.
 */
export function damageInWords(damage: readonly Damage[], sound: readonly Backup[]): string[] {
  const findings = damage.filter((one, i) => damage.findIndex((other) => sameAs(one, other)) === i);
  if (findings.length === 0) return [];
  const listed = findings.slice(0, LISTED).map(findingInWords);
  if (findings.length > LISTED) listed.push(`${findings.length - LISTED} more damaged files`);
  return [`${summaryOf(findings, sound)} ${remedyFor(findings, sound)}`, ...listed];
}

/** Whether two findings are the same damage: every backup finds the same pages again. */
function sameAs(one: Damage, other: Damage): boolean {
  if (one.source === "backup" && other.source === "backup") {
    return one.file === other.file && one.blocks === other.blocks;
  }
  return one === other;
}

function findingInWords(finding: Damage): string {
  const at = time(finding.at);
  switch (finding.source) {
    case "backup": {
      const { database, relation, file, blocks, label } = finding;
      const where = database === null ? "" : `database ${database}, ${relation ?? "a table that no longer exists"}, `;
      const pages = blocks === "" ? "" : `, ${/^\d+$/.test(blocks) ? "block" : "blocks"} ${blocks}`;
      return `damaged: ${where}file ${file}${pages} (found at ${at}, backup ${label})`;
    }
    case "checksums": {
      const { database, count } = finding;
      const where = database === "" ? "the shared catalogs" : `database ${database}`;
      return `damaged: ${where}: the server read ${count} ${count === 1 ? "page" : "pages"} with a wrong checksum (at ${at}; docker logs names them)`;
    }
    case "drill":
      return `damaged: the data that a drill restored from the backup ${finding.label} (at ${at}): ${finding.words.trim()}`;
  }
}

function summaryOf(findings: readonly Damage[], sound: readonly Backup[]): string {
  const first = Math.min(...findings.map(({ at }) => at));
  const before = sound.findLast(({ timestamp }) => timestamp.stop < first);
  const since = before === undefined ? "" : ` (the backup before that, ${before.label}, has no damaged page)`;
  const labels = sound.map(({ label }) => label);
  const which =
    labels.length === 0
      ? "Every backup contains damaged pages."
      : `Backups without damaged pages: ${labels.slice(-5).join(", ")}${labels.length > 5 ? ` and ${labels.length - 5} older ones` : ""}.`;
  return `DATA IS DAMAGED. It was found at ${time(first)}${since}. ${which}`;
}

function remedyFor(findings: readonly Damage[], sound: readonly Backup[]): string {
  if (sound.length === 0) {
    return 'Save what can still be read: ./db backup --portable. Then follow docs/recovery.md, "the data is damaged".';
  }
  const isInBackups = findings.every(({ source }) => source === "drill");
  const restore = isInBackups
    ? "To restore a time before the damage: ./db restore --to TIME."
    : "To restore the data with every change since: ./db restore --to latest.";
  return `${restore} Then check the result with ./db backup --full and ./db drill. See docs/recovery.md.`;
}
