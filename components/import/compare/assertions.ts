/** What must hold before a copy may take the target's place. */
import type pg from "pg";
import { ROLE_NAMES } from "../../../lib/role-names.ts";
import { type FactDifference, findForeignOwners } from "../schema/facts.ts";
import { describeRestriction, readRestrictions } from "../schema/restrictions.ts";
import type { StateDifference } from "../schema/states.ts";
import type { Report } from "../types.ts";
import type { Rewordings } from "./rewording.ts";

/** Roles whose privileges the import compares. */
export const COMPARED_ROLES = Object.values(ROLE_NAMES);

/** Ends the import if a table's rows differ from the source's. */
export function assertRowsEqual(report: Report): void {
  const different = report.tables.filter((proof) => proof.verdict === "different");
  if (different.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      `The copy differs from the source, so it was dropped; the target is as it was:`,
      ...different.map(({ table, differences }) => `  - ${table}: ${differences?.join("; ")}`),
    ].join("\n"),
  );
}

/**
 * Ends the import if the copy's schema differs from the source's: an object is missing, is extra, or means something else. A
 * definition that PostgreSQL only words in another way is not a difference.
 */
export function assertSchemaEqual(
  report: Report,
  differences: StateDifference[],
  facts: FactDifference[],
  { refused }: Rewordings,
): void {
  const fatal = [...differences, ...facts.filter(({ tolerable }) => !tolerable)];
  const sequences = report.sequences.filter((sequence) => sequence.source !== sequence.target);
  const lines = [
    ...fatal.map(({ object, how }) => `  - ${object}: ${how}`),
    ...refused.map((line) => `  - ${line}`),
    ...sequences.map((s) => `  - sequence ${s.name}: ${s.source} on the source, ${s.target} on the target`),
  ];
  if (lines.length > 0) {
    report.verdict = "different";
    throw new Error(
      `The copy's schema differs from the source's, so it was dropped; the target is as it was:\n${lines.join("\n")}`,
    );
  }
  for (const { object, how, tolerable } of facts) if (tolerable) report.remarks.push(`${object}: ${how}`);
}

/** Ends the import unless the owner owns every copied object, whatever role owned it on the source. */
export async function assertOwnership(report: Report, target: pg.Client, owner: string): Promise<void> {
  const others = await findForeignOwners(target, owner);
  if (others.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      `Not everything in the copy belongs to ${owner}, so it was dropped; the target is as it was:`,
      ...others.map((other) => `  - ${other.object} belongs to ${other.owner}`),
    ].join("\n"),
  );
}

/** Ends the import if a role may do more in the copy than a restriction on the source allows it. */
export async function assertRestrictions(report: Report, source: pg.Client, target: pg.Client): Promise<void> {
  const left = await readRestrictions(COMPARED_ROLES, source, target);
  if (left.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      "Privileges in the copy are not as on the source, so it was dropped; the target is as it was:",
      ...left.map((restriction) => `  - ${restriction.object}: ${describeRestriction(restriction)}`),
    ].join("\n"),
  );
}
