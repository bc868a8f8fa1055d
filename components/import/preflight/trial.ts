/** The trial of the schema as part of the preflight: whether it can run, and which of its findings are new. */

import { type Code, type Finding, finding } from "./findings.ts";
import type { Examination } from "./preflight.ts";
import { type TrialSpec, trySchema } from "./schema-trial.ts";
import { notYetReported } from "./trial-failures.ts";

/** Findings that make the trial impossible, or that it would only repeat in other words. */
const OBSTACLES = new Set<Code>([
  "import-running",
  "target-name-taken",
  "target-unreachable",
  "dump-missing",
  "table-locked",
  "privilege-missing",
  "encoding-unsupported",
]);

/**
 * Tries to create the source's schema on the target, if that is possible. A trial that cannot run is a finding, not an error.
 * @returns the findings that the preflight does not have yet.
 */
export async function tryWherePossible(spec: TrialSpec, seen: Examination): Promise<Finding[]> {
  const notTried = (why: string) => [finding("schema-not-tried", "the schema", `was not tried on the target: ${why}`)];
  if (seen.catalog === undefined || seen.targetInfo === undefined)
    return notTried("the source or the target could not be read");
  const obstacles = new Set(seen.findings.map(({ code }) => code).filter((code) => OBSTACLES.has(code)));
  if (obstacles.size > 0) return notTried([...obstacles].join(", "));
  try {
    return notYetReported(await trySchema(spec, seen.catalog), seen.findings);
  } catch (error) {
    return notTried((error as Error).message);
  }
}
