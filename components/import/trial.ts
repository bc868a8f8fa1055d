/** The trial of the schema as a part of the preflight: where it can be made, and without telling anything twice. */

import { type Code, type Finding, finding } from "./preflight/findings.ts";
import type { Examination } from "./preflight.ts";
import { type TrialSpec, trySchema } from "./rehearsal.ts";
import { notYetTold } from "./trial-failures.ts";

/** Findings that leave nothing to try, or that would only fail the trial in other words. */
const IN_THE_WAY = new Set<Code>([
  "import-running",
  "target-name-taken",
  "target-unreachable",
  "dump-missing",
  "table-locked",
  "privilege-missing",
  "encoding-unsupported",
]);

/**
 * Tries to make the source's schema on the target, where that is possible. A trial that cannot be made is a finding, no error.
 * @returns what the preflight has not told yet.
 */
export async function tryWherePossible(spec: TrialSpec, seen: Examination): Promise<Finding[]> {
  const notTried = (why: string) => [finding("schema-not-tried", "the schema", `was not tried on the target: ${why}`)];
  if (seen.catalog === undefined || seen.targetLook === undefined) return notTried("one end could not be read");
  const obstacles = new Set(seen.findings.map(({ code }) => code).filter((code) => IN_THE_WAY.has(code)));
  if (obstacles.size > 0) return notTried([...obstacles].join(", "));
  try {
    return notYetTold(await trySchema(spec, seen.catalog), seen.findings);
  } catch (error) {
    return notTried((error as Error).message);
  }
}
