import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take two minutes and more on two processors, the longest first. Others come behind, the larger first. */
const LONG = [
  "stack/backup",
  "stack/backup-faults",
  "stack/handover",
  "stack/import",
  "stack/life",
  "import/faults",
  "stack/migrations",
  "stack/snapshot",
  "import/kill",
  "stack/interrupted",
  "stack/trouble",
  "import/neon",
  "import/schemas",
];

const rank = ({ moduleId }: TestSpecification): number => {
  const found = LONG.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
  return found === -1 ? LONG.length : found;
};

/** Begins with what takes longest, so that no file is left to run alone at the end. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((one, other) => rank(one) - rank(other));
  }
}
