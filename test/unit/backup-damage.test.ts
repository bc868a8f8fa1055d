/** The messages about damaged data. */
import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import { type Damage, damageInWords } from "../../components/backups/damage.ts";
import type { Backup } from "../../components/backups/report.ts";

const backup = (label: string, stop: number) => ({ label, timestamp: { start: stop - 5, stop } }) as Backup;
const SOUND = [backup("20261120-030000F", 1000), backup("20261121-030000F", 2000)];
const pages = (more: Partial<Extract<Damage, { source: "backup" }>> = {}): Damage => ({
  ...{ at: 1500, source: "backup", label: "20261120-040000F", database: "game", relation: "worlds" },
  ...{ file: "base/5/16384", blocks: "3-5, 9" },
  ...more,
});

describe("messages about damaged data", () => {
  test("are an empty list without damage", () => expect(damageInWords([], SOUND)).toEqual([]));

  test("name the database, table, blocks, time and remedy", () => {
    const [first, second, ...more] = damageInWords([pages()], SOUND);
    expect(first).toBe(
      "DATA IS DAMAGED. It was found at 1970-01-01 00:25:00 UTC (the backup before that, 20261120-030000F, has no damaged page). " +
        "Backups without damaged pages: 20261120-030000F, 20261121-030000F. To restore the data with every change since: " +
        "./db restore --to latest. Then check the result with ./db backup --full and ./db drill. See docs/recovery.md.",
    );
    expect(second).toBe(
      "damaged: database game, worlds, file base/5/16384, blocks 3-5, 9 (found at 1970-01-01 00:25:00 UTC, backup 20261120-040000F)",
    );
    expect(more).toEqual([]);
  });

  test("list the same blocks of a file once, even if several backups found them", () => {
    const later = pages({ at: 1800, label: "20261120-050000F" });
    expect(damageInWords([pages(), later], SOUND)).toHaveLength(2);
    expect(damageInWords([pages(), pages({ blocks: "3" })], SOUND)[2]).toContain(", block 3 (");
  });

  test("name the file alone if it no longer belongs to a table", () => {
    expect(damageInWords([pages({ database: null, relation: null, blocks: "" })], SOUND)[1]).toMatch(
      /^damaged: file base\/5\/16384 \(found at/,
    );
  });

  test("recommend ./db backup --portable if every backup contains damaged pages", () => {
    const [first] = damageInWords([pages()], []);
    expect(first).toContain(
      "Every backup contains damaged pages. Save what can still be read: ./db backup --portable.",
    );
    expect(first).not.toContain("--to latest");
  });

  test("recommend an earlier time if only a drill found the damage, because the replayed changes contain it too", () => {
    const drill: Damage = { at: 1500, source: "drill", label: "20261120-030000F", words: "pg_amcheck: index wrong " };
    const [first, second] = damageInWords([drill], SOUND);
    expect(first).toContain("./db restore --to TIME.");
    expect(second).toContain("20261120-030000F (at 1970-01-01 00:25:00 UTC): pg_amcheck: index wrong");
    expect(damageInWords([drill, pages()], SOUND)[0]).toContain("--to latest");
  });

  test("list ten damaged files and count the others", () => {
    const much = Array.from({ length: 14 }, (_, i) => pages({ file: `base/5/${i}` }));
    expect(damageInWords(much, SOUND)).toHaveLength(12);
    expect(damageInWords(much, SOUND).at(-1)).toBe("4 more damaged files");
  });
});

describe("damaged pages in a pgBackRest manifest", () => {
  test.each([
    ['16384={"checksum-page":true,"size":8192}', ""],
    [
      '16384.2={"checksum-page":false,"checksum-page-error":[[3,5],9,[11,12]],"rck":"x"}',
      "base/5/16384.2\t3-5, 9, 11-12",
    ],
    ['16384_fsm={"bni":1,"checksum-page":false,"checksum-page-error":[7]}', "base/5/16384_fsm\t7"],
    ['16384={"checksum-page":false,"size":8193}', "base/5/16384\t"],
  ])("are read from %s", (line, expected) => {
    const input = `[target:file]\npg_data/base/5/${line}\n`;
    const found = execFileSync("awk", ["-f", "images/database/backup/pages.awk"], { input, encoding: "utf8" });
    expect(found.replace(/\n$/, "")).toBe(expected);
  });
});
