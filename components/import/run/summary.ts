/** The result of an import in short. */
import { createHash } from "node:crypto";
import { humanBytes } from "../../../lib/human-bytes.ts";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import type { Progress } from "../progress.ts";
import { describeSelection } from "../selection/selection.ts";
import type { Report, SafetyCopyFacts } from "../types.ts";

/** Returns what the stack keeps of an import, with one fingerprint of all tables. */
export function summarise(source: string, report: Report, progress: Progress): ImportSummary {
  const hash = createHash("sha256");
  for (const { table, rows, target } of [...report.tables].sort((a, b) => (a.table < b.table ? -1 : 1))) {
    hash.update(`${table} ${rows} ${target}\n`);
  }
  if (report.largeObjects) hash.update(`large objects ${report.largeObjects.target}\n`);
  const butFor = describeSelection(report.tables);
  return {
    source,
    finishedAt: new Date().toISOString(),
    tables: report.tables.length,
    rows: report.rows,
    bytes: report.bytes,
    seconds: Math.round(progress.seconds * 10) / 10,
    fingerprint: hash.digest("hex"),
    ...(butFor !== "" && { butFor }),
    ...(report.safetyCopy && {
      safetyCopy: { name: report.safetyCopy.name, sha256: report.safetyCopy.sha256 },
    }),
  };
}

/** Returns the progress line for a finished safety copy. */
export function describeCopy({ path, bytes, sha256, verified }: SafetyCopyFacts): string {
  const proof =
    verified === "decrypted"
      ? "decrypted and equal to what the source sent"
      : "read back as written; it was not decrypted, because its identity is not on this machine";
  return `import: safety copy ${path}, ${humanBytes(bytes)}, SHA-256 ${sha256}, ${proof}`;
}
