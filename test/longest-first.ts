import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take a minute and more on two processors, the longest first. */
const LONG = [
  "stack/backup-restore",
  "stack/backup-damage",
  "stack/backup-loss",
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
  "stack/pooler",
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

/** Milliseconds that stand for a file of the list that was not measured yet, so that it comes before those that were. */
const UNMEASURED_MS = 3_600_000;

/**
 * Starts with the files that take longest, so that none is left to run alone at the end. Times are those of the last run on this machine,
 * which vitest keeps in node_modules/.vite; before the first run, the list above stands in for them.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const expected = new Map(files.map((file) => [file, this.expectedMs(file)]));
    return (await super.sort(files)).sort((one, other) => (expected.get(other) ?? 0) - (expected.get(one) ?? 0));
  }

  private expectedMs(file: TestSpecification): number {
    const measured = this.ctx.cache.getTestSpecificationResult(file);
    if (measured && !measured.failed) return measured.duration;
    const place = LONG.findIndex((name) => file.moduleId.endsWith(`/${name}.test.ts`));
    return place === -1 ? 0 : UNMEASURED_MS - place;
  }
}
