/** Checks for features of a newer source that the target's version lacks. Pure. */
import { type Code, type Finding, finding, findings } from "./findings.ts";
import type { SourceContents } from "./source-info.ts";

/** What the target supports. */
export interface Abilities {
  /** PostgreSQL's own functions, as regprocedure writes them. */
  functions: ReadonlySet<string>;
}

const CHANGE_IT = "Change it on the source, or drop it there until the import is done";

/** Findings by the kind that the catalog query returns. */
const FEATURES: Record<string, [Code, string, string]> = {
  "virtual-column": [
    "feature-virtual-column",
    "is a virtual generated column (PostgreSQL 18)",
    "Make it STORED on the source",
  ],
  "temporal-constraint": [
    "feature-temporal-constraint",
    "is a temporal key, WITHOUT OVERLAPS or PERIOD (PostgreSQL 18)",
    "Use an exclusion constraint instead",
  ],
  "not-enforced": [
    "feature-not-enforced",
    "is a constraint that is NOT ENFORCED (PostgreSQL 18)",
    "Drop it on the source, or make it NOT VALID",
  ],
  "not-null": [
    "feature-not-null",
    "is a NOT NULL constraint that is NOT VALID or NO INHERIT (PostgreSQL 18)",
    "Validate it, or drop NO INHERIT, on the source",
  ],
  "partitioned-exclusion": [
    "feature-partitioned-exclusion",
    "is an exclusion constraint on a partitioned table (PostgreSQL 17)",
    "Create it on the partitions instead",
  ],
  "storage-parameter": [
    "feature-storage-parameter",
    "has a storage parameter of PostgreSQL 18",
    "RESET it on the source",
  ],
  "partition-identity": [
    "feature-partition-identity",
    "is an identity column of a partition (PostgreSQL 17): the target generates values only for rows inserted through the partitioned table",
    "Insert through the partitioned table",
  ],
};

const EXPRESSION = /^expression /;

/** Returns findings for features in the catalog and in stored expressions, and for hints in function bodies. */
export function checkFeatures(contents: SourceContents, target: Abilities | undefined): Finding[] {
  return [
    ...contents.features.flatMap(({ kind, object }) => {
      if (EXPRESSION.test(kind)) {
        const syntax = kind.replace(EXPRESSION, "");
        return finding("feature-expression", object, `uses ${syntax}, which came after PostgreSQL 15`, CHANGE_IT);
      }
      const known = FEATURES[kind];
      return known ? finding(known[0], object, known[1], known[2]) : [];
    }),
    ...(target === undefined
      ? []
      : contents.calls
          .filter(({ name }) => !target.functions.has(name))
          .flatMap(({ name, objects, count }) =>
            findings(
              "feature-function",
              count > objects.length ? [...objects, `${count - objects.length} others`] : objects,
              `calls ${name}, which the target does not have`,
              CHANGE_IT,
            ),
          )),
    ...contents.bodies.map(({ object, uses }) =>
      finding(
        "feature-in-body",
        object,
        `its body seems to use ${uses.join(", ")}, which the target does not have; a call would fail`,
        "Check the body; ./db preflight tries it on the target",
      ),
    ),
  ];
}
