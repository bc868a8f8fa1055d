/** What the backups' container tells of backups, archiving and the repository, and what is to be thought of it. */
import { humanBytes } from "../import/progress.ts";

/** A run that ended. Times are seconds since 1970. */
export interface Run {
  finished: number;
  seconds: number;
  label?: string;
  bytes?: number;
  error?: string;
  /** What did not work beside the backup itself. */
  warning?: string;
  /** Of a drill. */
  tables?: number;
  rows?: number;
}

/** One backup, as pgBackRest lists it. */
export interface Backup {
  label: string;
  type: "full" | "diff" | "incr";
  error: boolean | null;
  archive: { start: string; stop: string };
  lsn: { start: string; stop: string };
  /** Seconds since 1970. */
  timestamp: { start: number; stop: number };
  info: { size: number; repository: { size: number; delta: number } };
}

/** The container's answer (images/database/backup.sh, `report`). */
export interface BackupReport {
  now: number;
  info: { backup: Backup[]; db: { "system-id": string }[]; status: { code: number; message: string } }[] | null;
  infoSaid: string;
  full: { ok: Run | null; failed: Run | null };
  diff: { ok: Run | null; failed: Run | null };
  drill: { ok: Run | null; failed: Run | null };
  /** Kind and beginning of the run under way, or empty. */
  running: string;
  /** Null while the server does not answer. */
  archiver: {
    archived: number;
    failed: number;
    lastArchivedAt: number | null;
    lastFailed: string | null;
    lastFailedAt: number | null;
    systemIdentifier: string;
    timeline: number;
    /** Bytes of WAL a second, on average. */
    walRate: number;
  } | null;
  /** WAL files that wait for being archived. */
  waiting: number;
  walBytes: number;
  dataSize: number;
  dataFree: number;
  repositoryFree: number;
  repositoryBytes: number;
  repositoryThere: boolean;
  /** Whether anything was ever archived. */
  begun: boolean;
  /** Closed gaps: `from until first-file last-file label`, times in seconds since 1970. */
  gaps: string[];
  /** The first WAL file that was given up since the last full backup: `time file`, or empty. */
  openGap: string;
  /** `since timeline parent fork-position`, oldest first. */
  timelines: string[];
  /** Folders of former data beside today's. */
  kept: string[];
}

/** Reads the container's answer. A system identifier has more digits than a JavaScript number: it stays a text. */
export function parseReport(text: string): BackupReport {
  return JSON.parse(text.replaceAll(/"system-id":\s*(\d+)/g, '"system-id":"$1"'));
}

/** All backups that are whole, oldest first. */
export const backupsIn = (report: BackupReport): Backup[] =>
  (report.info?.[0]?.backup ?? []).filter((backup) => backup.error !== true);

/** A stretch of time that cannot be restored; seconds since 1970. */
export interface Gap {
  from: number;
  until: number;
}

/** Which times can be restored; seconds since 1970. */
export interface Range {
  from: number;
  to: number;
  gaps: Gap[];
}

/** From the end of the oldest backup to the last change that is archived; undefined without a backup. */
export function rangeOf(report: BackupReport): Range | undefined {
  const oldest = backupsIn(report).find((backup) => backup.type === "full");
  if (oldest === undefined) return undefined;
  const gaps = report.gaps.map((line) => {
    const [from = 0, until = 0] = line.split(" ").map(Number);
    return { from, until };
  });
  const cut = Number(report.openGap.split(" ")[0] || Number.POSITIVE_INFINITY);
  const archived =
    report.archiver === null || isFailing(report) ? (report.archiver?.lastArchivedAt ?? report.now) : report.now;
  return { from: oldest.timestamp.stop, to: Math.min(archived, cut), gaps };
}

/** Whether the last attempt at archiving failed. */
export const isFailing = ({ archiver }: BackupReport): boolean =>
  (archiver?.lastFailedAt ?? 0) > (archiver?.lastArchivedAt ?? 0) && archiver?.lastFailedAt != null;

/** Everything that is wrong, most dangerous first, each with what is at risk or what to do. Empty when all is well. */
export function troublesOf(report: BackupReport): string[] {
  const troubles: string[] = [];
  const { archiver, info } = report;
  if (report.openGap) {
    const [since, file] = report.openGap.split(" ");
    troubles.push(
      `WAL was given up at ${time(Number(since))} (${file}): nothing later can be restored until a new full backup is made, which ` +
        `happens by itself once the repository is back`,
    );
  }
  if (report.begun && !report.repositoryThere) {
    troubles.push(
      `the repository is empty, missing or cannot be read${report.infoSaid ? ` (${report.infoSaid.trim()})` : ""}: bring it back, ` +
        `or begin anew with npm run backup -- --begin-anew`,
    );
  } else if (info === null || report.infoSaid) {
    troubles.push(`the repository cannot be read: ${report.infoSaid.trim() || "no answer"}`);
  } else {
    const status = info[0]?.status;
    // 2 is a repository without a backup yet.
    if (status && status.code !== 0 && status.code !== 2) {
      troubles.push(`the repository cannot be used: ${status.message.slice(0, 200)}`);
    }
    const known = info[0]?.db.at(-1)?.["system-id"];
    if (archiver !== null && known !== undefined && known !== archiver.systemIdentifier) {
      troubles.push(
        `the repository belongs to another database (${known}; this one is ${archiver.systemIdentifier}): nothing is archived`,
      );
    }
  }
  if (isFailing(report)) {
    const rate = archiver?.walRate ?? 0;
    const lasts = rate > 0 ? `, which lasts for about ${duration(report.dataFree / rate)} at the present rate` : "";
    troubles.push(
      `changes are not archived since ${time(archiver?.lastArchivedAt ?? 0)}: ${report.waiting} WAL files ` +
        `(${humanBytes(report.walBytes)}) wait on the database's disk, which has ${humanBytes(report.dataFree)} left${lasts}`,
    );
  }
  for (const kind of ["full", "diff", "drill"] as const) {
    const { failed } = report[kind];
    if (failed) troubles.push(`the last ${NAMES[kind]} failed at ${time(failed.finished)}: ${failed.error}`);
  }
  return troubles;
}

const NAMES = { full: "full backup", diff: "differential backup", drill: "drill" } as const;

/** A moment, for people: UTC, to the second. */
export const time = (seconds: number): string =>
  seconds > 0 ? `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC` : "never";

/** Seconds as people say them. */
export function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} minutes`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} hours`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** What is there, in a line. */
export function summaryOf(report: BackupReport): string {
  const backups = backupsIn(report);
  const last = backups.at(-1);
  const range = rangeOf(report);
  if (last === undefined || range === undefined) {
    return report.running ? "the first one is being made" : "none yet; the first one follows by itself";
  }
  const drill = report.drill.ok ? `, proven by a drill at ${time(report.drill.ok.finished)}` : "";
  const gaps = range.gaps.map((gap) => `, but not ${time(gap.from)} to ${time(gap.until)}`).join("");
  return (
    `${backups.length}, the last ${duration(report.now - last.timestamp.stop)} ago (${humanBytes(report.repositoryBytes)}); ` +
    `any moment from ${time(range.from)} to ${range.to === report.now ? "now" : time(range.to)}${gaps}${drill}`
  );
}

/** The figures in Prometheus' text format. */
export function figuresOf(report: BackupReport): string {
  const lines: string[] = [];
  const figure = (name: string, help: string, values: [string, number | null | undefined][]) => {
    const known = values.filter((entry): entry is [string, number] => typeof entry[1] === "number");
    if (known.length === 0) return;
    lines.push(`# HELP sectorwars_backup_${name} ${help}`, `# TYPE sectorwars_backup_${name} gauge`);
    for (const [labels, value] of known) lines.push(`sectorwars_backup_${name}${labels} ${value}`);
  };
  const kinds = ["full", "diff", "drill"] as const;
  const each = (
    value: (kind: (typeof kinds)[number]) => number | undefined | null,
  ): [string, number | undefined | null][] => kinds.map((kind) => [`{kind="${kind}"}`, value(kind)]);
  figure("report_time_seconds", "When these figures were read.", [["", report.now]]);
  figure(
    "last_success_time_seconds",
    "End of the last good run of a kind.",
    each((kind) => report[kind].ok?.finished),
  );
  figure(
    "last_success_age_seconds",
    "Age of the last good run of a kind.",
    each((kind) => age(report, report[kind].ok)),
  );
  figure(
    "last_duration_seconds",
    "How long the last good run of a kind took.",
    each((kind) => report[kind].ok?.seconds),
  );
  figure(
    "last_size_bytes",
    "What the last good run of a kind added to the repository.",
    each((kind) => report[kind].ok?.bytes),
  );
  figure(
    "failed",
    "1 where the last run of a kind failed.",
    each((kind) => (report[kind].failed ? 1 : 0)),
  );
  figure("archived_total", "WAL files archived.", [["", report.archiver?.archived]]);
  figure("archive_failures_total", "Failed attempts at archiving a WAL file.", [["", report.archiver?.failed]]);
  figure("archive_failing", "1 while the last attempt at archiving failed.", [["", isFailing(report) ? 1 : 0]]);
  figure("wal_waiting_files", "WAL files that wait for being archived.", [["", report.waiting]]);
  figure("wal_bytes", "Size of pg_wal.", [["", report.walBytes]]);
  figure("data_free_bytes", "Room left on the database's disk.", [["", report.dataFree]]);
  figure("repository_free_bytes", "Room left on the repository's disk.", [["", report.repositoryFree]]);
  figure("repository_bytes", "Size of the repository.", [["", report.repositoryBytes]]);
  figure("repository_ok", "1 while pgBackRest reads the repository and calls it ok.", [
    ["", report.repositoryThere && report.info?.[0]?.status.code === 0 && !report.infoSaid ? 1 : 0],
  ]);
  figure("wal_given_up", "1 after WAL was given up, until a new full backup is made.", [["", report.openGap ? 1 : 0]]);
  figure("troubles", "How many things are wrong.", [["", troublesOf(report).length]]);
  return `${lines.join("\n")}\n`;
}

const age = (report: BackupReport, run: Run | null) => (run ? report.now - run.finished : undefined);
