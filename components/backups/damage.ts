/** Damage in the data: what is known of it, in words, and the way back. */
import type { Backup } from "./report.ts";
import { time } from "./words.ts";

/** A finding, as images/database/backup/damage.sh notes it. `at` is when it was found, in seconds since 1970. */
export type Damage =
  | {
      at: number;
      /** A backup found damaged pages, or the server refused to read one when the rows behind it were counted. */
      source: "backup";
      label: string;
      /** Null where the file belongs to nothing that is there now. */
      database: string | null;
      relation: string | null;
      /** In the data directory. */
      file: string;
      /** Numbers of the pages, from the table's first one: `3-5, 9`. Empty where they are not known. */
      blocks: string;
    }
  /** The server has read pages with a wrong checksum. */
  | { at: number; source: "checksums"; database: string; count: number }
  /** A drill's restored data was not as it must be. */
  | { at: number; source: "drill"; label: string; words: string };

/** Findings that are told one by one; the rest is counted. */
const TOLD = 10;

/**
 * What is damaged, since when, which backups are sound, and the way back. Empty where nothing is known to be damaged.
 * @param sound the backups without damaged pages, oldest first.
 */
export function damageInWords(damage: readonly Damage[], sound: readonly Backup[]): string[] {
  const findings = damage.filter((one, i) => damage.findIndex((other) => sameAs(one, other)) === i);
  if (findings.length === 0) return [];
  const told = findings.slice(0, TOLD).map(findingInWords);
  if (findings.length > TOLD) told.push(`${findings.length - TOLD} more damaged files`);
  return [`${summaryOf(findings, sound)} ${wayBack(findings, sound)}`, ...told];
}

/** Every backup finds the same pages again. */
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
      const where =
        database === null ? "" : `database ${database}, ${relation ?? "a table that is not there any more"}, `;
      const pages = blocks === "" ? "" : `, ${/^\d+$/.test(blocks) ? "block" : "blocks"} ${blocks}`;
      return `damaged: ${where}file ${file}${pages} (found at ${at}, backup ${label})`;
    }
    case "checksums": {
      const { database, count } = finding;
      const where = database === "" ? "the tables that all databases share" : `database ${database}`;
      return `damaged: ${where}: the server read ${count} ${count === 1 ? "page" : "pages"} with a wrong checksum (at ${at}; docker logs names them)`;
    }
    case "drill":
      return `damaged: what a drill restored from the backup ${finding.label} (at ${at}): ${finding.words.trim()}`;
  }
}

function summaryOf(findings: readonly Damage[], sound: readonly Backup[]): string {
  const first = Math.min(...findings.map(({ at }) => at));
  const before = sound.findLast(({ timestamp }) => timestamp.stop < first);
  const since = before === undefined ? "" : ` (the backup before that, ${before.label}, has no damaged page)`;
  const labels = sound.map(({ label }) => label);
  const which =
    labels.length === 0
      ? "No backup is sound."
      : `Backups without damaged pages: ${labels.slice(-5).join(", ")}${labels.length > 5 ? ` and ${labels.length - 5} older ones` : ""}.`;
  return `DATA IS DAMAGED. It was found at ${time(first)}${since}. ${which}`;
}

function wayBack(findings: readonly Damage[], sound: readonly Backup[]): string {
  if (sound.length === 0) {
    return 'Save what can be read: ./db backup --portable. Then docs/recovery.md, "the data is damaged".';
  }
  const isInBackups = findings.every(({ source }) => source === "drill");
  const restore = isInBackups
    ? "To go back to a time before it: ./db restore --to TIME."
    : "To have the data back as it was, every change since included: ./db restore --to latest.";
  return `${restore} Then ./db backup --full and ./db drill look whether all is well. docs/recovery.md tells more.`;
}
