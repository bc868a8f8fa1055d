/** Makes a backup look days old without waiting for days: moves its times in pgBackRest's list of backups. */
import { createHash } from "node:crypto";

const DAY_SECONDS = 86_400;

/**
 * Returns the text of a backup.info in which the backup `label` was made `days` days earlier. Its checksum is the one that pgBackRest
 * expects: SHA-1 of the sections and their lines as JSON, without the last section, which holds the checksum.
 * @throws {Error} if backup.info does not list the backup.
 */
export function backdateBackup(info: string, label: string, days: number): string {
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
  if (!text.includes(`\n${label}=`)) throw new Error(`backup.info does not list the backup ${label}`);
  const json = sections.map(([head = "", ...lines]) => {
    const values = lines.map((line) => line.replace(/^([^=]+)=/, '"$1":'));
    return `"${head.slice(1, -1)}":{${values.join(",")}}`;
  });
  const checksum = createHash("sha1")
    .update(`{${json.join(",")}}`)
    .digest("hex");
  return `${text}\n\n[backrest]\nbackrest-checksum="${checksum}"\n`;
}
