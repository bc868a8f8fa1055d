/**
 * The decisions that the image makes in shell and awk, because it contains no Node. Where ./db makes the same decision, both get the
 * same inputs, to the exact second, and must agree.
 */
import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BUSY } from "../../components/backups/backup-container.ts";
import { restorePlanFor } from "../../components/backups/recovery-target.ts";
import {
  type Backup,
  type BackupReport,
  backupsIn,
  damagedIn,
  foreignOwner,
  parseReport,
  troublesOf,
} from "../../components/backups/report.ts";
import { hasProgram } from "../support/path.ts";

const FOLDER = "images/database/backup";

const hex = (value: number, digits: number) => value.toString(16).toUpperCase().padStart(digits, "0");

/** Runs lines of shell with functions of the image's scripts. */
function inImage(parts: readonly string[], lines: string, input = "", shell: readonly string[] = ["sh"]): string {
  const sources = ["limits", ...parts].map((part) => `. ${FOLDER}/${part}.sh`).join("; ");
  const [program = "", ...options] = shell;
  return execFileSync(program, [...options, "-euc", `SHARE=${FOLDER}; ${sources}\n${lines}`], {
    input,
    encoding: "utf8",
  });
}

/** A list of backups as pgBackRest prints it: members sorted by name, and a system identifier with more digits than a double has. */
const listed = (backups: readonly object[], systemIdentifiers: readonly string[] = ["7711238311425556519"]): string => {
  const db = systemIdentifiers
    .map((id, i) => `{"id":${i + 1},"repo-key":1,"system-id":${id},"version":"15"}`)
    .join(",");
  const members = backups.map((each) => JSON.stringify(each)).join(",");
  return (
    `[{"archive":[{"database":{"id":1,"repo-key":1},"id":"15-1","max":"000000010000000000000009","min":"000000010000000000000001"}],` +
    `"backup":[${members}],"cipher":"aes-256-cbc","db":[${db}],"name":"main",` +
    `"repo":[{"cipher":"aes-256-cbc","key":1,"status":{"code":0,"message":"ok"}}],` +
    `"status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]`
  );
};
const asListed = ({ label, type, archive, error, lsn, timestamp, info }: Backup, i = 0): object => ({
  archive: { start: archive.start, stop: archive.stop },
  backrest: { format: 5, version: "2.45" },
  database: { id: 1, "repo-key": 1 },
  error,
  info: {
    delta: info.size,
    repository: { delta: info.repository.delta, size: info.repository.size },
    size: info.size,
  },
  label,
  lsn,
  prior: i === 0 ? null : "20261120-000000F",
  reference: null,
  timestamp,
  type,
});

describe("pgBackRest's list of backups", () => {
  const one = (label: string, error: unknown): Backup =>
    ({
      ...{ label, type: label.endsWith("F") ? "full" : "diff", error },
      archive: { start: "00000002000000000000000A", stop: "00000003000000000000000B" },
      ...{ lsn: { start: "0/A000028", stop: "1/B000100" }, timestamp: { start: 100, stop: 160 } },
      info: { size: 5000, repository: { size: 400, delta: 30 } },
    }) as Backup;

  test("is read as one line per backup", () => {
    expect(inImage(["repository"], "repository_parse", listed([asListed(one("20261120-000000F", false))]))).toBe(
      "20261120-000000F sound 100 160 00000002000000000000000A 00000003000000000000000B 1/B000100 30\n",
    );
    expect(inImage(["repository"], "repository_parse", listed([]))).toBe("");
  });

  // All sequences of three states. pgBackRest omits `error`, or sets it to null, if it did not check pages.
  const states = [true, false, null, undefined];
  const sequences = states.flatMap((a) => states.flatMap((b) => states.map((c) => [a, b, c])));
  test("gives the image and ./db the same sound and damaged backups", () => {
    const lists = sequences.map((errors) => errors.map((error, i) => one(`20261120-00000${i}F`, error)));
    // One list per line of input: prints the state of each of its backups, then the newest sound one.
    const lines = `while IFS= read -r list; do
      printf '%s' "$list" | repository_parse | while read -r label state _; do printf '%s:%s ' "$label" "$state"; done
      repository_info() { printf '%s' "$list"; }
      repository_newest_sound
    done`;
    const said = inImage(["repository"], lines, lists.map((list) => `${listed(list.map(asListed))}\n`).join(""));
    const expected = lists.map((list) => {
      const report = parseReport(`{"info":${listed(list.map(asListed))}}`);
      const damaged = damagedIn(report).map(({ label }) => label);
      const each = list.map(({ label }) => `${label}:${damaged.includes(label) ? "damaged" : "sound"} `).join("");
      return `${each}${(backupsIn(report).at(-1) ?? list.at(-1))?.label}\n`;
    });
    expect(said).toBe(expected.join(""));
  });

  test.each([
    [["1"], "1", false],
    [["1"], "2", true],
    [["1", "2"], "2", false],
    [["1", "2"], "1", true],
    [["7711238311425556519"], "7711238311425556520", true],
    [[], "1", false],
    [["1"], "", false],
  ])("with the databases %j is foreign to the database %j: %s", (known, here, expected) => {
    const info = listed([], known);
    const image =
      inImage(["repository"], `if repository_is_foreign "$(cat)" '${here}'; then echo yes; fi`, info) !== "";
    const report = parseReport(`{"info":${info},"systemIdentifier":"${here}"}`);
    expect({ image, told: foreignOwner(report) !== undefined }).toEqual({ image: expected, told: expected });
  });
});

describe("the backup for a recovery target", () => {
  /** An LSN, in which both numbers have one digit or more. */
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
  /** Timelines that each fork from an earlier one. */
  const forks = fc.array(fc.record({ parent: fc.nat(), fork: fc.integer({ min: 1, max: 60 }) }), { maxLength: 5 });
  const backups = fc.array(
    fc.record({ timeline: fc.integer({ min: 1, max: 6 }), stop: fc.integer({ min: 1, max: 90 }), at: fc.nat(60) }),
    { minLength: 1, maxLength: 9 },
  );

  /** The timelines and backups that the image and `./db restore` choose for times. */
  const choices = (moments: readonly number[], list: readonly Backup[], timelines: readonly string[]) => {
    const report = {
      info: [{ backup: list, db: [], status: { code: 0, message: "ok" } }],
      ...{ now: 1000, infoSaid: "", gaps: [], openGap: "", timelines, systemIdentifier: "", waitingSince: 0 },
      ...{ archiver: { lastFailedAt: null }, full: { ok: null }, begun: true, repositoryThere: true },
    } as unknown as BackupReport;
    const restored = moments.map((at) => {
      try {
        const { backup, timeline } = restorePlanFor({ kind: "time", at }, report);
        return `${timeline} ${backup.label}`;
      } catch {
        return "none";
      }
    });
    const lines = `
      repository_info() { cat <<'JSON'\n${listed(list.map(asListed))}\nJSON\n}
      notes=$(mktemp)
      cat >"$notes"
      for moment in ${moments.join(" ")}; do
        timeline=$(note_timeline_at "$moment" <"$notes")
        label=$(repository_leading_backup "\${timeline:-1}" "$moment" "$notes")
        echo "\${label:+$timeline }\${label:-none}"
      done
      rm "$notes"`;
    const image = inImage(["repository", "notes"], lines, `${timelines.join("\n")}\n`);
    return { image: image.trim().split("\n"), restored };
  };

  test("is the same in the image and in ./db restore, on the same timeline", () => {
    fc.assert(
      fc.property(
        forks,
        backups,
        fc.array(fc.integer({ min: 4, max: 400 }), { minLength: 1, maxLength: 5 }),
        (branches, made, quarters) => {
          const timelines = ["1 1 0 0/0"].concat(
            branches.map(({ parent, fork }, i) => `${(i + 1) * 10} ${i + 2} ${(parent % (i + 1)) + 1} ${lsn(fork)}`),
          );
          const list = made.sort((a, b) => a.stop - b.stop).map(backup);
          const { image, restored } = choices(
            quarters.map((each) => each / 4),
            list,
            timelines,
          );
          expect(image).toEqual(restored);
        },
      ),
      { numRuns: 40 },
    );
  });

  /** Each second of a range, and fractions of it down to a millisecond. */
  const around = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, i) => [0, 0.001, 0.25, 0.5, 0.999].map((part) => from + i + part)).flat();

  // pgBackRest reports whole seconds, so a time within the second in which a backup ended may be before its end.
  test("is one that ended in an earlier second than the target", () => {
    const list = [backup({ timeline: 1, stop: 40, at: 1 }, 0), backup({ timeline: 1, stop: 50, at: 2 }, 1)];
    const moments = around(38, 53);
    const expected = moments.map((at) =>
      at >= 51 ? `1 ${list[1]?.label}` : at >= 41 ? `1 ${list[0]?.label}` : "none",
    );
    expect(choices(moments, list, ["1 1 0 0/0"])).toEqual({ image: expected, restored: expected });
  });

  test("is on a new timeline from the second in which that timeline began", () => {
    const list = [backup({ timeline: 1, stop: 10, at: 1 }, 0), backup({ timeline: 2, stop: 24, at: 9 }, 1)];
    const moments = around(18, 28);
    const expected = moments.map((at) => {
      if (at < 20) return `1 ${list[0]?.label}`;
      return `2 ${list[at < 25 ? 0 : 1]?.label}`;
    });
    expect(choices(moments, list, ["1 1 0 0/0", `20 2 1 ${lsn(5)}`])).toEqual({ image: expected, restored: expected });
  });
});

describe("a backup run that starts during another run", () => {
  test.skipIf(!hasProgram("flock"))("fails with exit code 75 and the message that ./db waits for", () => {
    const lines = `STATE=$(mktemp -d); UNWRITTEN=$STATE/none; OUTPUT=$STATE/output
      exec 8>"$STATE/lock"; flock 8
      now() { echo 130; }
      echo "diff 100 1" >"$STATE/running"
      code=0; (schedule_run full) 2>&1 || code=$?
      rm -r "$STATE"; echo "$code"`;
    expect(inImage(["common", "notes", "schedule"], lines)).toBe(`error: ${BUSY} (diff, for 30 s)\n75\n`);
  });
});

// The shells of Debian, of Alpine, and of systems where sh is bash. A function's variables must not change its caller's.
test.each(
  [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "ash"]].filter(([program = ""]) => hasProgram(program)),
)("the image's scripts return the same results in %s %s", (...shell) => {
  const lines = `
      PATIENCE_FILES=8; PATIENCE_FREE_KB=262144; OUTPUT=$(mktemp)
      words=kept; known=kept
      printf 'x\\ny\\nERROR: [041]: no "room"\\n' >"$OUTPUT"; json "$(error_in "$OUTPUT")"; rm "$OUTPUT"
      echo " $words"
      printf 'F\\nd 1000 500 450 1%% /\\n' | archive_room_of 90 20
      printf '1 1 0 0/0\\n20 2 1 0/5\\n' | note_timeline_at 19.999
      repository_is_foreign '"system-id":12' 13 && echo "$known"
      archive_is_later 00000001000000000000000B 00000001000000000000000A && echo later`;
  const said = inImage(["common", "repository", "notes", "archiving"], lines, "", shell.filter(Boolean));
  expect(said).toBe('"ERROR: [041]: no \\"room\\"" kept\n355\n1\nkept\nlater\n');
});

describe("a scheduled drill", () => {
  const plan =
    "BACKUP_DRILL='30|3|1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31|1,2,3,4,5,6,7,8,9,10,11,12|0,1,2,3,4,5,6|0'";
  const SLOT = Date.parse("2026-11-22T03:30:00Z") / 1000;
  /** Whether the image would start the drill now, and how many seconds overdue it reports. */
  const ask = (now: number, done: number) => {
    const lines = `STATE=$(mktemp -d); UNWRITTEN=$STATE/none; ${plan}; LONGEST_WAIT_AFTER=9
      echo ${done} >"$STATE/drill.slot"; : >"$STATE/full.ok"
      now() { echo ${now}; }
      if schedule_due drill; then echo yes; else echo no; fi
      schedule_late drill
      rm -r "$STATE"`;
    const [due, late] = inImage(["common", "notes", "schedule"], lines).trim().split("\n");
    return { due: due === "yes", late: Number(late) };
  };

  test.each([
    ["is not due in the second before its slot", SLOT - 1, SLOT - 86_400, { due: false, late: 0 }],
    ["is due in the second of its slot", SLOT, SLOT - 86_400, { due: true, late: 0 }],
    ["is 1 s overdue a second later", SLOT + 1, SLOT - 86_400, { due: true, late: 1 }],
    ["is not due after it was done", SLOT + 1, SLOT, { due: false, late: 0 }],
    ["is due if the clock was moved back to before the last drill", SLOT + 60, SLOT + 61, { due: true, late: 60 }],
  ])("%s", (_when, now, done, expected) => expect(ask(now, done)).toEqual(expected));

  test.each([0, 1, 21_600, 21_601])(
    "is reported as a problem only if it is more than six hours overdue (%d s)",
    (late) => {
      const { late: told } = ask(SLOT + late, SLOT - 86_400);
      const none = { ok: null, failed: null, late: 0 };
      const report = {
        ...{ info: [], infoSaid: "", damage: [], openGap: "", begun: false, archiver: null, waitingSince: 0 },
        ...{ systemIdentifier: "", full: none, diff: none, drill: { ...none, late: told } },
      } as unknown as BackupReport;
      expect(troublesOf(report)).toHaveLength(late > 21_600 ? 1 : 0);
    },
  );
});

// Only the image computes this number. ./db shows it.
describe("the room before WAL is dropped", () => {
  const MB = 1024;
  /** The room in KB on a disk of 1000 MB, 50 of them reserved for root; arguments in MB. */
  const room = (used: number, waiting: number, percent = 90) =>
    inImage(
      ["archiving"],
      `PATIENCE_FILES=8; PATIENCE_FREE_KB=262144; archive_room_of ${percent} ${waiting}`,
      `Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x ${1000 * MB} ${used * MB} ${(950 - used) * MB} 1% /\n`,
    ).trim();

  test.each([
    ["reaches up to the configured percentage of what df counts", 500, 20, 90, (855 - 500) * MB],
    ["is 1 MB at 1 MB below that percentage", 854, 20, 90, MB],
    ["is zero at that percentage", 855, 20, 90, 0],
    ["is zero above that percentage", 900, 20, 90, 0],
    ["is seven more WAL files after the first, if other data fills the disk", 500, 1, 10, 7 * 16 * MB],
    ["is one more WAL file after the seventh", 500, 7, 10, 16 * MB],
    ["is zero after the eighth WAL file", 500, 8, 10, 0],
    ["leaves 256 MB of the disk free", 690, 1, 10, 4 * MB],
    ["is zero with 256 MB free", 694, 1, 10, 0],
  ])("%s", (_what, used, waiting, percent, expected) => expect(room(used, waiting, percent)).toBe(String(expected)));
});

describe("a gap in the archived WAL", () => {
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

  test("is found on every timeline, also where the middle number changes, and ignored before the first file", () => {
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

test("the count of restored tables and rows leaves out copies of the database and the stack's own tables", () => {
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
  const count = (lines: readonly string[]) => inImage(["record"], "record_count_tables -", lines.join("\n"));
  expect(count([...left, ...counted, ...own])).toBe("tables 3\nrows 12\n");
  expect(count([])).toBe("tables 0\nrows 0\n");
});
