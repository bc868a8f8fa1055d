import { describe, expect, test } from "vitest";
import type { BackupReport } from "../../components/backups/report.ts";
import { checkRoom } from "../../components/backups/restore.ts";
import type { Way } from "../../components/backups/target.ts";

const GIB = 1024 ** 3;
const way = { backup: { info: { size: 5 * GIB } } } as Way;
const free = (bytes: number) => ({ dataFree: bytes }) as BackupReport;

describe("the room that a restore takes beside the running data", () => {
  test("is the backup's size, and what the server needs meanwhile", () => {
    expect(() => checkRoom(way, free(6 * GIB))).not.toThrow();
    expect(() => checkRoom(way, free(6 * GIB - 1))).toThrow(
      /Nothing was changed: .* are free on its disk.* Make room\./,
    );
  });
});
