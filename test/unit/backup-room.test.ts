import { describe, expect, test } from "vitest";
import type { BackupReport } from "../../components/backups/report.ts";
import { checkRoom } from "../../components/backups/restore.ts";
import type { Way } from "../../components/backups/target.ts";

const GIB = 1024 ** 3;
const way = { backup: { info: { size: 5 * GIB } } } as Way;
const free = (bytes: number, more: Partial<BackupReport> = {}) =>
  ({ dataFree: bytes, archiver: null, kept: [], ...more }) as unknown as BackupReport;

describe("the room that a restore takes beside the running data", () => {
  test("is the backup's size, and what the server needs meanwhile", () => {
    expect(() => checkRoom(way, free(6 * GIB))).not.toThrow();
    expect(() => checkRoom(way, free(6 * GIB - 1))).toThrow(
      /Nothing was changed: .* are free on its disk.* Make room\./,
    );
  });

  test("is that of the databases, where they have grown since", () => {
    const grown = { archiver: { databaseBytes: 50 * GIB } } as Partial<BackupReport>;
    expect(() => checkRoom(way, free(51 * GIB, grown))).not.toThrow();
    expect(() => checkRoom(way, free(51 * GIB - 1, grown))).toThrow("takes about 50.0 GB");
  });

  test("may be made by what a former restore has kept", () => {
    const kept = ["pgdata.next-20261123T101500Z", "pgdata.before-20261123T101500Z", "pgdata.before-20261122T101500Z"];
    expect(() => checkRoom(way, free(GIB, { kept }))).toThrow(
      "what a former restore has kept goes with: ./db restore --forget 20261122T101500Z",
    );
  });
});
