/** A backup that is days old, without waiting for days: pgBackRest's list of backups with a time moved into the past. */
import { createHash } from "node:crypto";

const DAY_SECONDS = 86_400;

/**
 * The text of a backup.info in which one backup was made so many days earlier, with the checksum that pgBackRest expects:
 * SHA-1 of the sections and their lines as JSON, without the last section, which holds the checksum.
 * @throws {Error} when the backup is not in it.
 */
export function agedInfo(info: string, label: string, days: number): string {
  const earlier = (_all: string, name: string, seconds: string) => name + (Number(seconds) - days * DAY_SECONDS);
  const sections = info
    .trim()
    .split("\n\n")
    .slice(0, -1)
    .map((section) =>
      section
        .split("\n")
        .map((line) =>
          line.startsWith(`${label}=`) ? line.replaceAll(/("backup-timestamp-(?:start|stop)":)(\d+)/g, earlier) : line,
        ),
    );
  const text = sections.map((lines) => lines.join("\n")).join("\n\n");
  if (!text.includes(`\n${label}=`)) throw new Error(`backup.info knows no backup ${label}`);
  const json = sections.map(([head = "", ...lines]) => {
    const values = lines.map((line) => line.replace(/^([^=]+)=/, '"$1":'));
    return `"${head.slice(1, -1)}":{${values.join(",")}}`;
  });
  const sum = createHash("sha1")
    .update(`{${json.join(",")}}`)
    .digest("hex");
  return `${text}\n\n[backrest]\nbackrest-checksum="${sum}"\n`;
}
