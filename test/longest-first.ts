import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take a minute and more on two processors, the longest first. Others come behind, the larger first. */
const LONG = [
  "stack/backup",
  "stack/backup-faults",
  "import/faults",
  "stack/role-drift",
  "stack/hostile-roles",
  "stack/killed",
  "stack/private-files",
  "stack/hostile-backups",
  "stack/damage",
  "stack/handover",
  "stack/first-hour",
  "stack/import",
  "stack/refresh",
  "stack/migrations",
  "stack/application-docs",
  "stack/life",
  "stack/privileges",
  "import/neon",
  "import/kill",
  "import/reports",
  "stack/snapshot",
  "import/schemas",
  "import/large-objects",
  "import/safety-copy",
  "stack/interrupted",
  "stack/trouble",
  "import/errors",
  "import/once",
  "import/hostile-source",
  "import/inheritance",
  "import/rewording",
  "import/planted",
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
