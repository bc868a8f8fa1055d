/** Large objects as a part of the import: which of them come along, their proof, and what the report says. */
import type pg from "pg";
import { humanBytes } from "../../lib/human-bytes.ts";
import {
  copyLargeObjects,
  describeLargeObjects,
  digestLargeObjects,
  findLargeObjectDifferences,
  grantLargeObjects,
  LARGE_OBJECTS,
  type LargeObjectsDigest,
  type OwnGrants,
  readOwnGrants,
} from "./large-objects.ts";
import type { Progress } from "./progress.ts";
import { type ImportRecord, noteStates } from "./record.ts";
import type { SafetyCopy } from "./safety-copy.ts";
import type { SelectionSettings } from "./selection-settings.ts";
import type { Catalog, ImportSpec, Report } from "./types.ts";

/** What came of the source's large objects. */
export interface LargeObjectsCopy {
  /** What the source sent; undefined where nothing was to be sent. */
  sent: LargeObjectsDigest | undefined;
  /** Whether they stayed behind by choice. */
  leftOut: boolean;
  grants: OwnGrants;
}

/** Why large objects stay behind, or undefined where they come along. */
export function whyLeftOut(selection: SelectionSettings | undefined): string | undefined {
  if (selection?.schemaOnly) return "only the schema was to be imported (importSchemaOnly)";
  if (selection && selection.masks.length > 0) {
    return "values are masked (importMasks), and what a large object holds cannot be";
  }
  return undefined;
}

/** Copies large objects, where there are any and a selection does not leave them out; the report says which. */
export async function copyLargeObjectsOf(
  { selection }: Pick<ImportSpec, "selection">,
  { largeObjects: count }: Pick<Catalog, "largeObjects">,
  at: { source: pg.Client; owner: pg.Client; progress: Progress; report: Report; safetyCopy: SafetyCopy | undefined },
): Promise<LargeObjectsCopy> {
  const { source, owner, progress, report, safetyCopy } = at;
  if (count === 0) return { sent: undefined, leftOut: false, grants: {} };
  const named = `${count.toLocaleString("en")} large object${count === 1 ? "" : "s"}`;
  const why = whyLeftOut(selection);
  if (why !== undefined) {
    report.skipped.push({ what: named, why });
    return { sent: undefined, leftOut: true, grants: {} };
  }
  progress.phase(`${named}, under the numbers that they have`);
  const end = progress.begin("large objects");
  const observer = safetyCopy?.observeLargeObjects();
  const sent = await copyLargeObjects(source, owner, undefined, observer);
  await observer?.end(sent);
  const grants = await readOwnGrants(source);
  await grantLargeObjects(owner, grants);
  end();
  if (selection) report.remarks.push(`${named}: all were copied, whichever rows were selected`);
  return { sent, leftOut: false, grants };
}

/**
 * Compares what the source sent with what the target's server holds now that all code of the source has run.
 * @returns both states, for the record that a later comparison reads.
 * @throws {Error} that names the objects that differ.
 */
export async function proveLargeObjects(
  { sent, leftOut, grants }: LargeObjectsCopy,
  { source, superuser, report }: { source: pg.Client; superuser: pg.Client; report: Report },
): Promise<ImportRecord> {
  const held = await digestLargeObjects(superuser);
  if (sent === undefined) {
    if (held.objects > 0) throw differ(report, [`${held.objects} large objects came to be on the target`]);
    // They differ by choice: a later comparison needs to know what the source had.
    const theirs = leftOut ? await digestLargeObjects(source) : held;
    return noteStates(stateOf(theirs), stateOf(held));
  }
  if (describeLargeObjects(held) !== describeLargeObjects(sent)) {
    throw differ(report, await findLargeObjectDifferences(source, superuser));
  }
  report.largeObjects = { objects: sent.objects, bytes: sent.bytes, source: sent.sha256, target: held.sha256 };
  const restricted = Object.keys(grants).length;
  const others = restricted === 0 ? "" : `, but for ${restricted}, on which it has what the source grants it`;
  report.remarks.push(
    `${sent.objects.toLocaleString("en")} large objects (${humanBytes(sent.bytes)}) have the numbers, bytes and comments that they have on ` +
      `the source (SHA-256 ${sent.sha256}); the application may read and change them${others}`,
  );
  return noteStates(stateOf(sent), stateOf(held));
}

const stateOf = (digest: LargeObjectsDigest) => new Map([[LARGE_OBJECTS, describeLargeObjects(digest)]]);

function differ(report: Report, differences: readonly string[]): Error {
  report.verdict = "different";
  return new Error(
    [
      "The copy's large objects differ from the source's, so it was thrown away; the target is as it was:",
      ...differences.map((line) => `  - ${line}`),
    ].join("\n"),
  );
}
