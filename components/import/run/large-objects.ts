/** Large objects in the import: whether they are copied, their proof, and the report's entries. */
import type pg from "pg";
import { humanBytes } from "../../../lib/human-bytes.ts";
import type { Progress } from "../progress.ts";
import { type Baseline, baselineOfStates } from "../rows/baseline.ts";
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
} from "../rows/large-objects.ts";
import type { SafetyCopy } from "../safety-copy/safety-copy.ts";
import type { Catalog, ImportSpec, Report, SelectionSettings } from "../types.ts";

/** Result of copying the source's large objects. */
export interface LargeObjectsCopy {
  /** What the source sent; undefined if nothing was to be sent. */
  sent: LargeObjectsDigest | undefined;
  /** Whether the selection left them out. */
  leftOut: boolean;
  grants: OwnGrants;
}

/** Returns why large objects are not copied, or undefined if they are. */
export function whyLeftOut(selection: SelectionSettings | undefined): string | undefined {
  if (selection?.schemaOnly) return "only the schema is imported (importSchemaOnly)";
  if (selection && selection.masks.length > 0) {
    return "values are masked (importMasks), and large objects cannot be masked";
  }
  return undefined;
}

/** Copies large objects, unless the source has none or the selection leaves them out. */
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
  progress.phase(`copying ${named} with their OIDs`);
  const end = progress.begin("large objects");
  const observer = safetyCopy?.observeLargeObjects();
  const sent = await copyLargeObjects(source, owner, undefined, observer);
  await observer?.end(sent);
  const grants = await readOwnGrants(source);
  await grantLargeObjects(owner, grants);
  end();
  if (selection)
    report.remarks.push(`${named}: all were copied, because importSubset and importExclude select only rows`);
  return { sent, leftOut: false, grants };
}

/**
 * Compares what the source sent with what the target's server holds after all code of the source has run.
 * @returns both states, for the baseline.
 * @throws {Error} that names the objects that differ.
 */
export async function proveLargeObjects(
  { sent, leftOut, grants }: LargeObjectsCopy,
  { source, superuser, report }: { source: pg.Client; superuser: pg.Client; report: Report },
): Promise<Baseline> {
  const held = await digestLargeObjects(superuser);
  if (sent === undefined) {
    if (held.objects > 0)
      throw differ(report, [`${held.objects} large objects are on the target, although none were copied`]);
    // If the selection left them out, the baseline needs the source's state.
    const theirs = leftOut ? await digestLargeObjects(source) : held;
    return baselineOfStates(stateOf(theirs), stateOf(held));
  }
  if (describeLargeObjects(held) !== describeLargeObjects(sent)) {
    throw differ(report, await findLargeObjectDifferences(source, superuser));
  }
  report.largeObjects = { objects: sent.objects, bytes: sent.bytes, source: sent.sha256, target: held.sha256 };
  const restricted = Object.keys(grants).length;
  const others = restricted === 0 ? "" : `, except ${restricted}, on which it has the source's grants`;
  report.remarks.push(
    `${sent.objects.toLocaleString("en")} large objects (${humanBytes(sent.bytes)}) have the same OIDs, bytes and comments as on the ` +
      `source (SHA-256 ${sent.sha256}); the application may read and change them${others}`,
  );
  return baselineOfStates(stateOf(sent), stateOf(held));
}

const stateOf = (digest: LargeObjectsDigest) => new Map([[LARGE_OBJECTS, describeLargeObjects(digest)]]);

function differ(report: Report, differences: readonly string[]): Error {
  report.verdict = "different";
  return new Error(
    [
      "The copy's large objects differ from the source's, so it was dropped; the target is as it was:",
      ...differences.map((line) => `  - ${line}`),
    ].join("\n"),
  );
}
