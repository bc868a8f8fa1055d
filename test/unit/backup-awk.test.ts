/** What the image finds out by awk, where no Node is. */
import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { restorePlanFor } from "../../components/backups/recovery-target.ts";
import type { Backup, BackupReport } from "../../components/backups/report.ts";

const FOLDER = "images/database/backup";

const hex = (value: number, digits: number) => value.toString(16).toUpperCase().padStart(digits, "0");

describe("the backup that leads to a moment", () => {
  /** A position some hundreds of megabytes into the log, of any length. */
  const lsn = (at: number) => `${hex(Math.floor(at / 7), 1)}/${hex((at % 7) * 0x1f00000 + 0x28, 1)}`;
  const backup = ({ timeline, stop, at }: { timeline: number; stop: number; at: number }, n: number): Backup => ({
    label: `20261120-${String(n).padStart(6, "0")}F`,
    type: "full",
    error: n % 5 === 4,
    archive: { start: `${hex(timeline, 8)}0000000000000001`, stop: `${hex(timeline, 8)}0000000000000001` },
    lsn: { start: lsn(at), stop: lsn(at) },
    timestamp: { start: stop - 1, stop },
    info: { size: 1, repository: { size: 1, delta: 1 } },
  });
  const asList = ({ label, archive, error, lsn: { start, stop }, timestamp }: Backup) =>
    [
      `archive:start:${archive.start}`,
      `error:${error}`,
      `label:${label}`,
      `lsn:start:${start},stop:${stop}`,
      `timestamp:start:${timestamp.start},stop:${timestamp.stop}`,
    ].join("\n");
  /** Timelines that each leave an earlier one somewhere. */
  const forks = fc.array(fc.record({ parent: fc.nat(), fork: fc.integer({ min: 1, max: 60 }) }), { maxLength: 5 });
  const backups = fc.array(
    fc.record({ timeline: fc.integer({ min: 1, max: 6 }), stop: fc.integer({ min: 1, max: 90 }), at: fc.nat(60) }),
    { minLength: 1, maxLength: 9 },
  );

  /** What the image chooses for a moment, and what `./db restore` does. */
  const choices = (moment: number, list: readonly Backup[], timelines: readonly string[]) => {
    const wanted = timelines.findLast((line) => Number(line.split(" ")[0]) <= moment)?.split(" ")[1] ?? "1";
    const report = {
      info: [{ backup: list, db: [], status: { code: 0, message: "ok" } }],
      ...{ now: 1000, infoSaid: "", gaps: [], openGap: "", timelines, systemIdentifier: "", waitingSince: 0 },
      ...{ archiver: { lastFailedAt: null }, full: { ok: null }, begun: true, repositoryThere: true },
    } as unknown as BackupReport;
    const restored = (() => {
      try {
        return restorePlanFor({ kind: "time", at: moment }, report).backup.label;
      } catch {
        return "";
      }
    })();
    const after = `"$(cat ${FOLDER}/reachable-after)"`;
    const flags = `-F '[:,]' -v wanted=${wanted} -v moment=${moment} -v after=${after} -v notes=/dev/fd/3`;
    const line = `awk ${flags} -f ${FOLDER}/hex.awk -f ${FOLDER}/leading.awk 3<<N\n${timelines.join("\n")}\nN`;
    const input = `${list.map(asList).join("\n")}\n`;
    return { image: execFileSync("sh", ["-c", line], { input, encoding: "utf8" }).trim(), restored };
  };

  test("is the same one that ./db restore finds", () => {
    fc.assert(
      fc.property(forks, backups, fc.integer({ min: 4, max: 400 }), (branches, made, quarters) => {
        const timelines = ["1 1 0 0/0"].concat(
          branches.map(({ parent, fork }, i) => `${(i + 1) * 10} ${i + 2} ${(parent % (i + 1)) + 1} ${lsn(fork)}`),
        );
        const list = made.sort((a, b) => a.stop - b.stop).map(backup);
        const { image, restored } = choices(quarters / 4, list, timelines);
        expect(image).toBe(restored);
      }),
      { numRuns: 80 },
    );
  });

  // pgBackRest tells whole seconds, so a moment in the second in which a backup ended may be before its end.
  test("is one that ended in an earlier second, to the millisecond", () => {
    const list = [backup({ timeline: 1, stop: 40, at: 1 }, 0), backup({ timeline: 1, stop: 50, at: 2 }, 1)];
    for (const from of [39, 40, 41, 49, 50, 51, 52]) {
      for (const part of [0, 0.001, 0.25, 0.5, 0.999]) {
        const moment = from + part;
        const expected = moment >= 51 ? list[1]?.label : moment >= 41 ? list[0]?.label : "";
        expect(choices(moment, list, ["1 1 0 0/0"]), String(moment)).toEqual({ image: expected, restored: expected });
      }
    }
  });
});

describe("a hole in the archive", () => {
  const name = (timeline: number, place: number) =>
    hex(timeline, 8) + hex(Math.floor(place / 256), 8) + hex(place % 256, 8);
  const holes = (names: string[], first: string) =>
    execFileSync("awk", ["-v", `first=${first}`, "-f", `${FOLDER}/hex.awk`, "-f", `${FOLDER}/holes.awk`], {
      input: names
        .map((file) => `${file}-\n`)
        .sort()
        .join(""),
      encoding: "utf8",
    }).trim();

  test("is found on whichever timeline it is, also where the number in the middle changes; before the first file it counts for nothing", () => {
    const starts = fc.record({ from: fc.nat(100_000), files: fc.integer({ min: 3, max: 40 }) });
    fc.assert(
      fc.property(fc.array(starts, { minLength: 1, maxLength: 3 }), fc.nat(), fc.nat(), (timelines, which, where) => {
        const all = timelines.flatMap(({ from, files }, i) =>
          Array.from({ length: files }, (_, place) => name(i + 1, from + place)),
        );
        const first = all[0] ?? "";
        expect(holes(all, first)).toBe("");
        const i = which % timelines.length;
        const { from, files } = timelines[i] ?? { from: 0, files: 0 };
        const lost = name(i + 1, from + 1 + (where % (files - 2)));
        const left = all.filter((file) => file !== lost);
        expect(holes(left, first)).toMatch(/^the archive lacks WAL files between [0-9A-F]{24} and [0-9A-F]{24}$/);
        expect(holes(left, name(i + 1, from + files - 1))).toBe("");
      }),
      { numRuns: 25 },
    );
  });
});

test("what was restored is counted in the user's tables: no copies of the database, nothing of the stack's own", () => {
  const counted = [
    "sectorwars_dev public.ships\t3\tx",
    'sectorwars_dev "odd ""name"".save__x\t4\tx',
    "further public.worlds\t5\tx",
  ];
  const left = [
    ...["save__before", "save__before_refresh", "branch__feature-x", "sectorwars_dev_before_migration"],
    ...["sectorwars_dev_before_migration_", "sectorwars_dev_former_migration", "sectorwars_dev_undone"],
    ...["sectorwars_dev_import", "sectorwars_dev_import_check"],
  ].map((database) => `${database} public.ships\t100\tx`);
  const own = ["sectorwars_stack.readonly_denied", "pg_largeobject", "pg_largeobject_metadata"].map(
    (table) => `sectorwars_dev ${table}\t100\tx`,
  );
  const count = (lines: readonly string[]) =>
    execFileSync("sh", ["-euc", `. ${FOLDER}/record.sh; count_tables -`], { input: lines.join("\n") }).toString();
  expect(count([...left, ...counted, ...own])).toBe("tables 3\nrows 12\n");
  expect(count([])).toBe("tables 0\nrows 0\n");
});
