import { describe, expect, test } from "vitest";
import type { RestorePlan } from "../../components/backups/recovery-target.ts";
import type { BackupReport } from "../../components/backups/report.ts";
import { checkRoom } from "../../components/backups/restore.ts";

const GIB = 1024 ** 3;
const way = { backup: { info: { size: 5 * GIB } } } as RestorePlan;
const free = (bytes: number, more: Partial<BackupReport> = {}) =>
  ({ dataFree: bytes, archiver: null, kept: [], ...more }) as unknown as BackupReport;

describe("the disk space that a restore needs", () => {
  test("is the backup's size plus 1 GiB for the server", () => {
    expect(() => checkRoom(way, free(6 * GIB))).not.toThrow();
    expect(() => checkRoom(way, free(6 * GIB - 1))).toThrow(
      /^The restore needs .* are free\. Nothing was changed\. Free some space\./,
    );
  });

  test("is the databases' size plus 1 GiB, if they have grown since the backup", () => {
    const grown = { archiver: { databaseBytes: 50 * GIB } } as Partial<BackupReport>;
    expect(() => checkRoom(way, free(51 * GIB, grown))).not.toThrow();
    expect(() => checkRoom(way, free(51 * GIB - 1, grown))).toThrow("needs about 50.0 GB");
  });

  test("can be freed by deleting retained data, and the error names the command", () => {
    const kept = ["pgdata.next-20261123T101500Z", "pgdata.before-20261123T101500Z", "pgdata.before-20261122T101500Z"];
    expect(() => checkRoom(way, free(GIB, { kept }))).toThrow(
      "the data that an earlier restore retained: ./db restore --forget 20261122T101500Z",
    );
  });
});
