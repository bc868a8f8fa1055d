import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  parseRecoveryTarget,
  position,
  rangeInWords,
  refuseUnreachable,
  restorePlanFor,
} from "../../components/backups/recovery-target.ts";
import type { Backup, BackupReport } from "../../components/backups/report.ts";
import { figuresIn, figuresOf, parseReport, rangeOf, summaryOf, troublesOf } from "../../components/backups/report.ts";

const at = (text: string) => Date.parse(text) / 1000;
const NOW = at("2026-11-23T12:00:00Z");

function backup(
  stop: string,
  more: { timeline?: number; lsn?: string; type?: "full" | "diff"; error?: boolean } = {},
): Backup {
  const label = `${stop.replaceAll(/[-:]/g, "").replace("T", "-").slice(0, 15)}F`;
  const file = `${(more.timeline ?? 1).toString(16).padStart(8, "0")}0000000000000003`;
  return {
    label,
    type: more.type ?? "full",
    error: more.error ?? false,
    archive: { start: file, stop: file },
    lsn: { start: "0/3000028", stop: more.lsn ?? "0/3000138" },
    timestamp: { start: at(stop) - 5, stop: at(stop) },
    info: { size: 1000, repository: { size: 100, delta: 100 } },
  };
}

function report(more: Partial<BackupReport> = {}, backups = [backup("2026-11-20T03:00:00Z")]): BackupReport {
  return {
    now: NOW,
    info: [{ backup: backups, db: [{ "system-id": "7711238311425556519" }], status: { code: 0, message: "ok" } }],
    infoSaid: "",
    full: { ok: null, failed: null, late: 0 },
    diff: { ok: null, failed: null, late: 0 },
    drill: { ok: null, failed: null, late: 0 },
    running: "",
    archiver: {
      archived: 9,
      failed: 0,
      lastArchivedAt: NOW - 30,
      lastFailed: null,
      lastFailedAt: null,
      timeline: 1,
      databaseBytes: 1e9,
    },
    systemIdentifier: "7711238311425556519",
    archivedUntil: NOW - 30,
    archivingSaid: "",
    walDropThresholdPercent: 90,
    walRoom: 4e10,
    waiting: 0,
    waitingSince: 0,
    walBytes: 32 * 1024 * 1024,
    dataSize: 1e11,
    dataFree: 5e10,
    repositorySize: 1e11,
    repositoryFree: 5e10,
    repositoryBytes: 1e7,
    repositoryThere: true,
    begun: true,
    gaps: [],
    openGap: "",
    timelines: [`${at("2026-11-20T02:59:00Z")} 1 0 0/0`],
    kept: [],
    ...more,
  };
}

describe("the formats of a recovery target", () => {
  const now = new Date("2026-11-23T12:00:00Z");
  test.each([
    ["2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"],
    ["2026-11-22 10:00 UTC", "2026-11-22T10:00:00Z"],
    ["2026-11-22 10:00:30.5+02", "2026-11-22T08:00:30.500Z"],
    ["2026-11-22 10:00:30 -0330", "2026-11-22T13:30:30Z"],
    // Rounded up, so that a recovery to a transaction's commit time includes that transaction.
    ["2026-11-22 10:00:30.123456+00", "2026-11-22T10:00:30.124Z"],
    ["2026-11-22 10:00:30.123000+00", "2026-11-22T10:00:30.123Z"],
    // How Pulumi prints a time that has no quotes in its settings file.
    ["2026-11-22 10:00:30.5 +0000 UTC", "2026-11-22T10:00:30.500Z"],
    ["22 Nov 2026 10:00 UTC", "2026-11-22T10:00:00Z"],
    ["10 minutes ago", "2026-11-23T11:50:00Z"],
    ["an hour ago", "2026-11-23T11:00:00Z"],
    ["yesterday 18:00 UTC", "2026-11-22T18:00:00Z"],
  ])("%s is %s", (text, moment) => expect(parseRecoveryTarget(text, now)).toEqual({ kind: "time", at: at(moment) }));

  test("include latest and the label of a backup", () => {
    expect(parseRecoveryTarget("latest", now)).toEqual({ kind: "latest" });
    for (const label of ["20261120-030000F", "20261120-030000F_20261121-030000D"]) {
      expect(parseRecoveryTarget(label, now)).toEqual({ kind: "backup", label });
    }
  });

  test.each([
    ["", "is not a valid time. Write, for instance"],
    ["soon", "is not a valid time. Write, for instance"],
    ["10 minutes ago or so", "is not a valid time. Write, for instance"],
    ["yesterday 18:00 to 19:00", "is not a valid time. Write, for instance"],
    ["2026-13-41 10:00", "is not a valid time"],
    ["2026-02-30 10:00", "is not a valid time"],
    ["2026-02-30 10:00 UTC", "is not a valid time"],
    ["2026-11-22 10:00 Europe/Berlin", "is not a valid time. Write, for instance"],
    ["2026-11-22 10:00 CST", "is ambiguous: the name of its zone stands for several. Write UTC or an offset: +02:00"],
    ["10/11/2026 10:00", "is ambiguous: 10/11 may be two days. Write it as 2026-11-22 10:00"],
    ["10.11.2026 10:00", "is ambiguous: 10.11 may be two days"],
    ["yesterday", "has no time of day. Add it:"],
    ["2026-11-22", "has no time of day. Add it:"],
    ["2026-11-24 10:00 UTC", "is in the future"],
  ])("%j is refused: it %s", (text, message) => expect(() => parseRecoveryTarget(text, now)).toThrow(message));
});

describe("a recovery target on a machine in the zone Europe/Berlin", () => {
  const zone = process.env.TZ;
  const parse = (text: string, now = "2026-11-23T12:00:00Z") => parseRecoveryTarget(text, new Date(now));
  beforeAll(() => {
    process.env.TZ = "Europe/Berlin";
  });
  afterAll(() => {
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  });

  test.each([
    ["2026-11-22 10:00", "2026-11-22T09:00:00Z"],
    ["2026-07-22T10:00:30.25", "2026-07-22T08:00:30.250Z"],
    ["yesterday 14:00", "2026-11-22T13:00:00Z"],
    ["22.11.2026 10:00", "2026-11-22T09:00:00Z"],
    ["2026-11-22 10:00 UTC", "2026-11-22T10:00:00Z"],
    ["2026-11-22T10:00-05:00", "2026-11-22T15:00:00Z"],
    ["22 Nov 2026 10:00 +02:00", "2026-11-22T08:00:00Z"],
  ])("%s is %s", (text, moment) => expect(parse(text)).toEqual({ kind: "time", at: at(moment) }));

  test.each(["2026-10-25 02:30", "25 Oct 2026 02:30"])(
    "%s is refused because it occurred twice, and the error names both times",
    (text) =>
      expect(() => parse(text)).toThrow(
        `"${text}" is ambiguous: clocks in this machine's zone were set back, so it occurred twice. Write "2026-10-25 02:30 +02:00" or, for the later one, "2026-10-25 02:30 +01:00"`,
      ),
  );

  test("an offset selects one of the two, and relative or adjacent times are not ambiguous", () => {
    expect(parse("2026-10-25 02:30 +02:00")).toEqual({ kind: "time", at: at("2026-10-25T00:30:00Z") });
    expect(parse("2026-10-25 02:30 +01:00")).toEqual({ kind: "time", at: at("2026-10-25T01:30:00Z") });
    expect(parse("10 minutes ago", "2026-10-25T01:10:00Z")).toEqual({ kind: "time", at: at("2026-10-25T01:00:00Z") });
    expect(parse("2026-10-25 03:00")).toEqual({ kind: "time", at: at("2026-10-25T02:00:00Z") });
    expect(parse("2026-10-25 01:59:59")).toEqual({ kind: "time", at: at("2026-10-24T23:59:59Z") });
  });

  test.each(["2026-03-29 02:30", "29 Mar 2026 02:30"])("%s is refused because the clocks skipped it", (text) =>
    expect(() => parse(text)).toThrow(
      `"${text}" does not exist: clocks in this machine's zone were set forward past it.`,
    ),
  );

  test("a future time is rejected with the time as it was understood", () =>
    expect(() => parse("14:00")).toThrow('"14:00" is 2026-11-23T13:00:00.000Z, which is in the future'));
});

describe("the present as a recovery target", () => {
  test("can be reached if archiving is up to date", () => expect(() => refuseUnreachable(NOW, report())).not.toThrow());

  test.each<[string, Partial<BackupReport>, RegExp]>([
    // PostgreSQL counts a dropped file as archived.
    [
      "WAL was dropped",
      { openGap: `${NOW} 00000001000000000000000A` },
      /^the server dropped WAL that it could not archive \(from 0{7}1.*A on\): nothing later than 2026-11-23 12:00:00 UTC can be restored/,
    ],
    [
      "the server ran with backups off",
      { openGap: `${NOW - 3600} off-${NOW - 3500}` },
      /^the server ran with backups turned off: nothing later than 2026-11-23 11:00:00 UTC can be restored/,
    ],
    [
      "it is in a gap that was closed later",
      { gaps: [`${NOW - 60} ${NOW + 60} 1 2 label`] },
      /cannot be restored\. Any time/,
    ],
    ["the archiver's state is unknown", { archiver: null }, /2026-11-23 12:00:00 UTC cannot be restored\. Any time/],
    ["there is no backup yet", { info: [] }, /^There is no backup yet/],
    [
      "WAL that was not archived is only in retained data",
      { openGap: `${NOW - 3600} exchanged-${NOW - 3500}` },
      /^WAL that was not archived is only in the data that a restore retained: nothing later than 2026-11-23 11:00:00 UTC can/,
    ],
    [
      "the archiver hangs",
      { waiting: 1, waitingSince: NOW - 301 },
      /2026-11-23 12:00:00 UTC cannot be restored\. Any time from .* to 2026-11-23 11:59:30 UTC/,
    ],
  ])("is refused if %s", (_name, more, message) => expect(() => refuseUnreachable(NOW, report(more))).toThrow(message));
});

describe("the restore plan", () => {
  const target = (text: string) => ({ kind: "time" as const, at: at(text) });

  test("starts at the newest backup before the target time", () => {
    const backups = ["2026-11-20T03:00:00Z", "2026-11-21T03:00:00Z", "2026-11-22T03:00:00Z"].map((stop) =>
      backup(stop),
    );
    const way = restorePlanFor(target("2026-11-21T10:00:00Z"), report({}, backups));
    expect(way.backup.label).toBe("20261121-030000F");
    expect(way.args).toEqual([
      "--set=20261121-030000F",
      "--target-timeline=1",
      "--type=time",
      "--target=2026-11-21 10:00:00.000+00",
      "--target-action=promote",
    ]);
  });

  test("never starts at a backup with errors", () => {
    const backups = [backup("2026-11-20T03:00:00Z"), backup("2026-11-21T03:00:00Z", { error: true })];
    expect(restorePlanFor(target("2026-11-21T10:00:00Z"), report({}, backups)).backup.label).toBe("20261120-030000F");
  });

  test.each(["2026-11-20T02:59:59Z", "2026-11-19T00:00:00Z"])(
    "is refused for %s, before all backups, with the range that can be restored",
    (text) =>
      expect(() => restorePlanFor(target(text), report())).toThrow(
        "cannot be restored. Any time from 2026-11-20 03:00:01 UTC to 2026-11-23 12:00:00 UTC can be restored.",
      ),
  );

  test("is refused within a gap and after the start of an open gap", () => {
    const gap = `${at("2026-11-21T00:00:00Z")} ${at("2026-11-22T00:00:00Z")} 1 2 label`;
    expect(() => restorePlanFor(target("2026-11-21T10:00:00Z"), report({ gaps: [gap] }))).toThrow(
      "except 2026-11-21 00:00:00 UTC to 2026-11-22 00:00:00 UTC",
    );
    const openGap = `${at("2026-11-21T00:00:00Z")} 000000010000000000000009`;
    expect(() => restorePlanFor(target("2026-11-21T10:00:00Z"), report({ openGap }))).toThrow(
      "to 2026-11-21 00:00:00 UTC",
    );
    expect(() => restorePlanFor({ kind: "latest" }, report({ openGap }))).toThrow(
      "The latest change cannot be restored. Any time from 2026-11-20 03:00:01 UTC to 2026-11-21 00:00:00 UTC",
    );
    // A gap before the oldest backup does not count.
    const early = `${at("2026-11-18T00:00:00Z")} ${at("2026-11-19T00:00:00Z")} 1 2 label`;
    expect(rangeOf(report({ gaps: [early, gap] }))?.gaps).toHaveLength(1);
    expect(rangeOf(report({ openGap }))?.to).toBe(at("2026-11-21T00:00:00Z"));
  });

  test("is refused if there is no backup yet", () => {
    expect(() => restorePlanFor({ kind: "latest" }, report({}, []))).toThrow("There is no backup yet");
  });

  test("is refused if the repository belongs to another database", () => {
    expect(() => restorePlanFor({ kind: "latest" }, report({ systemIdentifier: "7711238311425556520" }))).toThrow(
      "The restore was refused: the repository belongs to another database (7711238311425556519; this one is",
    );
    // If the data is lost, its system identifier is unknown and not compared.
    expect(restorePlanFor({ kind: "latest" }, report({ systemIdentifier: "" })).timeline).toBe(1);
    expect(rangeInWords(report({}, []))).toBe("There is no backup yet, so nothing can be restored.");
  });

  test.each<[string, Partial<BackupReport>, RegExp]>([
    [
      "is missing",
      { repositoryThere: false },
      /^Nothing can be restored: the repository is empty, missing or unreadable/,
    ],
    [
      "has another key",
      { info: null, infoSaid: "WARN: crypto error" },
      /^Nothing can be restored: the repository cannot be/,
    ],
    [
      "lost its backups",
      { full: { ok: { finished: NOW, seconds: 4 }, failed: null, late: 0 } },
      /^Nothing can be restored: the backups that were made are missing from the repository/,
    ],
  ])("is refused with the reason if the repository %s", (_name, more, words) => {
    const away = report({ info: [], ...more }, []);
    expect(() => restorePlanFor({ kind: "latest" }, away)).toThrow(words);
    expect(rangeInWords(away)).toMatch(words);
  });

  describe("after a restore", () => {
    // At 10:00 on the 22nd, a restore went back to 0/5000000, which had been written on the 21st.
    const timelines = [`${at("2026-11-20T00:00:00Z")} 1 0 0/0`, `${at("2026-11-22T10:00:00Z")} 2 1 0/5000000`];
    const before = backup("2026-11-20T03:00:00Z");
    const abandoned = backup("2026-11-22T03:00:00Z", { lsn: "0/7000000" });
    const after = backup("2026-11-22T10:05:00Z", { timeline: 2, lsn: "0/6000000" });
    const both = report({ timelines }, [before, abandoned, after]);
    both.archiver = { ...(both.archiver as NonNullable<BackupReport["archiver"]>), timeline: 2 };

    test("follows the timeline that the server was on at the target time", () => {
      expect(restorePlanFor(target("2026-11-22T09:00:00Z"), both)).toMatchObject({ backup: abandoned, timeline: 1 });
      expect(restorePlanFor(target("2026-11-22T11:00:00Z"), both)).toMatchObject({ backup: after, timeline: 2 });
    });

    test("does not start at a backup of abandoned changes for a time on the new timeline", () => {
      const early = report({ timelines }, [before, abandoned]);
      expect(restorePlanFor(target("2026-11-22T11:00:00Z"), early)).toMatchObject({ backup: before, timeline: 2 });
    });

    test("follows the server's current timeline for latest", () => {
      expect(restorePlanFor({ kind: "latest" }, both).args).toEqual([
        `--set=${after.label}`,
        "--target-timeline=2",
        "--type=default",
      ]);
    });

    test("continues on the first timeline if the restore was undone", () => {
      const undone = report({ timelines: [...timelines, `${at("2026-11-22T12:00:00Z")} 1 0 0/0`] }, [
        before,
        abandoned,
        after,
      ]);
      expect(restorePlanFor(target("2026-11-22T13:00:00Z"), undone)).toMatchObject({ backup: abandoned, timeline: 1 });
    });
  });

  test("accepts the label of a backup, and lists the labels for an unknown one", () => {
    expect(restorePlanFor({ kind: "backup", label: "20261120-030000F" }, report()).args).toContain("--type=immediate");
    expect(() => restorePlanFor({ kind: "backup", label: "20200101-000000F" }, report())).toThrow(
      "There are: 20261120-030000F",
    );
  });
});

test("WAL positions are compared as numbers", () => {
  expect(position("1/0") > position("0/FFFFFFFF")).toBe(true);
  expect(position("0/9000000") < position("0/10000000")).toBe(true);
});

describe("backups with damaged pages", () => {
  const sound = backup("2026-11-20T03:00:00Z");
  const damaged = backup("2026-11-21T03:00:00Z", { error: true });
  const finding = { at: NOW - 60, source: "checksums" as const, database: "game", count: 2 };
  const failed = { finished: NOW - 30, seconds: 1, damaged: true, error: "the backup X holds damaged pages" };
  const full = { ok: { finished: NOW - 3600, seconds: 1 }, failed, late: 0 };

  test("are counted separately, and the metrics show them and the newest sound backup", () => {
    const told = report({ full, damage: [finding, { ...finding, at: NOW - 90, database: "other" }] }, [sound, damaged]);
    expect(summaryOf(told)).toMatch(/^1 \(and 1 with damaged pages\), the last 3 days ago/);
    expect(figuresIn(told)).toMatchObject({
      failed: [],
      damage: { findings: 2, since: NOW - 90, damagedBackups: 1, lastSound: sound.timestamp.stop },
    });
    expect(figuresOf(told)).toContain(`\nsectorwars_backup_damaged_since_seconds ${NOW - 90}\n`);
    expect(figuresOf(report())).not.toContain("damaged_since_seconds");
  });

  test("are reported once, as damage or else as a failed run, and not after a good full backup", () => {
    const words = (more: Partial<BackupReport>) => troublesOf(report({ full, ...more }, [sound, damaged])).join("\n");
    expect(words({ damage: [finding] })).toMatch(
      /^DATA IS DAMAGED[^\n]*\ndamaged: database game: the server read 2 pages[^\n]*$/,
    );
    expect(words({ damage: [] })).toBe(
      "the last full backup failed at 2026-11-23 11:59:30 UTC: the backup X holds damaged pages",
    );
    expect(words({ damage: [], full: { ...full, ok: { finished: NOW, seconds: 1 } } })).toBe("");
  });

  test("are not reported as a lost repository if there is no sound backup, and the error names --unsound", () => {
    const told = report({ full }, [damaged]);
    expect(summaryOf(told)).toBe("no sound one");
    expect(troublesOf(told).join()).not.toContain("holds none of the backups");
    expect(() => restorePlanFor({ kind: "latest" }, told)).toThrow(`./db restore --to ${damaged.label} --unsound`);
  });

  test("are restored only by their label and with --unsound", () => {
    const told = report({}, [sound, damaged]);
    const target = { kind: "backup" as const, label: damaged.label };
    expect(() => restorePlanFor(target, told)).toThrow(`The backup ${damaged.label} contains damaged pages.`);
    expect(restorePlanFor(target, told, true).args).toContain(`--set=${damaged.label}`);
    expect(restorePlanFor(target, report({}, [damaged]), true).backup).toBe(damaged);
    expect(restorePlanFor({ kind: "latest" }, told, true).backup).toBe(sound);
  });
});

describe("the problems that a backup report lists", () => {
  test("are an empty list if everything works", () => {
    expect(troublesOf(report())).toEqual([]);
    expect(summaryOf(report())).toContain("any time from 2026-11-20 03:00:01 UTC to now");
  });

  const archiver = report().archiver as NonNullable<BackupReport["archiver"]>;
  test.each<[string, Partial<BackupReport>, RegExp]>([
    [
      "failing archiving",
      { waiting: 3, archivedUntil: NOW - 3600, walRoom: 3e9, archiver: { ...archiver, lastFailedAt: NOW - 5 } },
      /nothing has been archived since 2026-11-23 11:00:00 UTC, .*: 3 WAL files .* room for 2\.8 GB more, about 2 days at the present rate/,
    ],
    [
      "failing archiving, with pgBackRest's error",
      { waiting: 3, archivingSaid: "ERROR: [041]: no\n", archiver: { ...archiver, lastFailedAt: NOW - 5 } },
      /3 WAL files wait there .*\. The cause: ERROR: \[041\]: no$/,
    ],
    [
      "failing archiving, without the room for WAL if the image does not report it",
      { waiting: 3, walRoom: null, archiver: { ...archiver, lastFailedAt: NOW - 5 } },
      /3 WAL files wait there \([\d.]+ MB\)\.$/,
    ],
    [
      "failing archiving, on a disk above the configured percentage",
      { waiting: 3, dataFree: 9e9, walRoom: 0, archiver: { ...archiver, lastFailedAt: NOW - 5 } },
      /90 % of the disk \(93\.1 GB, 8\.4 GB free\) are in use, so the server drops WAL/,
    ],
    [
      "missing backups",
      {
        full: { ok: { finished: NOW - 60, seconds: 4 }, failed: null, late: 0 },
        info: [{ backup: [], db: [], status: { code: 2, message: "no valid backups" } }],
      },
      /the backups that were made are missing from the repository/,
    ],
    [
      "hanging archiving",
      { waiting: 2, waitingSince: NOW - 301 },
      /^nothing has been archived since 2026-11-23 11:59:30 UTC, so losing .* would lose every later change: 2 WAL files wait there/,
    ],
    [
      "an open gap",
      { openGap: `${NOW} 00000001000000000000000A` },
      /the server dropped WAL that it could not archive \(from 0{7}1.*A on\): nothing later than 2026-11-23 12:00:00 UTC can be restored/,
    ],
    [
      "an empty, missing or unreadable repository",
      { repositoryThere: false },
      /empty, missing or unreadable.*--begin-anew/,
    ],
    ["a wrong key", { info: null, infoSaid: "WARN: crypto error" }, /cannot be read: WARN: crypto error/],
    ["a repository of another database", { systemIdentifier: "7711238311425556520" }, /belongs to another database/],
    [
      "a failed drill",
      { drill: { ok: null, failed: { finished: NOW, seconds: 1, error: "boo" }, late: 90_000 } },
      /last drill failed at .*: boo/,
    ],
    ["an overdue backup", { diff: { ok: null, failed: null, late: 90_000 } }, /backup is 25 hours overdue/],
  ])("include %s", (_name, more, message) => {
    expect(troublesOf(report(more))).toHaveLength(1);
    expect(troublesOf(report(more))[0]).toMatch(message);
    expect(figuresOf(report(more))).toContain("sectorwars_backup_troubles 1\n");
  });
});

test("a system identifier keeps all its digits", () => {
  const text = JSON.stringify(report()).replace('"system-id":"7711238311425556519"', '"system-id":7711238311425556519');
  expect(parseReport(text).info?.[0]?.db[0]?.["system-id"]).toBe("7711238311425556519");
});

test("the metrics contain the last good run of each kind, the failed kinds, and the state of archiving and the repository", () => {
  const done = { finished: NOW - 60, seconds: 4, bytes: 5e9 };
  const failed = { finished: NOW - 30, seconds: 1, error: "boo" };
  expect(
    figuresIn(report({ full: { ok: done, failed: null, late: 0 }, drill: { ok: done, failed, late: 0 } })),
  ).toMatchObject({
    last: { full: { ...done, ageSeconds: 60 }, diff: null },
    failed: ["drill"],
    archiving: { failing: false, failures: 0, until: NOW - 30, waitingFiles: 0, givenUp: false },
    repository: { ok: true, bytes: 1e7 },
  });
  expect(figuresIn(report({ systemIdentifier: "1" })).repository.ok).toBe(false);
});

test("the summary and the metrics say what a drill compared the data with", () => {
  const drilled = (compared?: "recorded" | "present") =>
    report({ drill: { ok: { finished: NOW, seconds: 4, ...(compared ? { compared } : {}) }, failed: null, late: 0 } });
  expect(summaryOf(drilled("recorded"))).toContain(", proven by a drill at 2026-11-23 12:00:00 UTC");
  expect(summaryOf(drilled("present"))).toContain(", proven against the data at that time by a drill at 2026-11-23");
  expect(figuresOf(drilled("recorded"))).toContain("sectorwars_backup_drill_had_record 1\n");
  expect(figuresOf(drilled("present"))).toContain("sectorwars_backup_drill_had_record 0\n");
  expect(figuresOf(drilled())).not.toContain("drill_had_record");
});

test("the metrics are Prometheus lines: help, type or number", () => {
  const done = { finished: NOW - 60, seconds: 4, bytes: 5e9 };
  const lines = figuresOf(report({ full: { ok: done, failed: null, late: 0 } }))
    .trimEnd()
    .split("\n");
  expect(lines).toContain('sectorwars_backup_last_success_age_seconds{kind="full"} 60');
  expect(lines).toContain('sectorwars_backup_last_size_bytes{kind="full"} 5000000000');
  const types = lines.filter((line) => line.startsWith("# TYPE")).map((line) => line.split(" ").slice(2));
  expect(types.filter(([, type]) => type === "counter").map(([name]) => name)).toEqual([
    "sectorwars_backup_archived_total",
    "sectorwars_backup_archive_failures_total",
  ]);
  expect(types.every(([, type]) => type === "counter" || type === "gauge")).toBe(true);
  for (const line of lines)
    expect(line).toMatch(/^# (HELP|TYPE) sectorwars_backup_|^sectorwars_backup_\w+(\{kind="\w+"\})? \d/);
});
