/** The report of the backups' container about backups, archiving and the repository, and its evaluation. */
import { humanBytes } from "../../lib/human-bytes.ts";
import { imageLimit } from "../../lib/image-limits.ts";
import { type Damage, damageInWords } from "./damage.ts";
import { duration, time } from "./format.ts";

export { duration, time };

/** A run of a backup or a drill that has ended. Times are seconds since 1970. */
export interface Run {
  finished: number;
  seconds: number;
  label?: string;
  bytes?: number;
  error?: string;
  /** Whether damaged data made the run fail. */
  damaged?: boolean;
  /** A failure of a step other than the backup itself. */
  warning?: string;
  /** The number of tables that a drill compared. */
  tables?: number;
  rows?: number;
  /** What a drill compared with: the fingerprints recorded after the backup, or the present content of the tables. */
  compared?: "recorded" | "present";
}

/** The last runs of one kind. */
export interface Runs {
  ok: Run | null;
  /** Null unless the last run failed. */
  failed: Run | null;
  /** Seconds for which a run has been overdue; 0 if none is. */
  late: number;
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

/** The report (images/database/backup/report.sh). */
export interface BackupReport {
  now: number;
  info: { backup: Backup[]; db: { "system-id": string }[]; status: { code: number; message: string } }[] | null;
  infoSaid: string;
  full: Runs;
  diff: Runs;
  drill: Runs;
  /** Kind and start of the active run, or empty. */
  running: string;
  /** Known damage in the data; missing in the report of an older image. */
  damage?: Damage[];
  /** Null while the server does not answer. */
  archiver: {
    archived: number;
    failed: number;
    lastArchivedAt: number | null;
    lastFailed: string | null;
    lastFailedAt: number | null;
    timeline: number;
    /** Size of all databases. */
    databaseBytes: number;
  } | null;
  /** The data's system identifier, read from disk, so also while the server is down; empty if there is no data. */
  systemIdentifier: string;
  /** Seconds since 1970 up to which everything is archived; 0 if nothing has been. */
  archivedUntil: number;
  /** The last error of the archive command, while its attempts fail; else empty. */
  archivingSaid: string;
  /** Usage of the data's disk, in per cent, at which the server drops WAL that it cannot archive. */
  walDropThresholdPercent: number;
  /**
   * Bytes of waiting WAL that still fit on that disk before the server drops WAL; 0 if it drops WAL now. The image decides that
   * (archiving.sh). Null if the image cannot examine the disk; undefined from an image of an earlier version.
   */
  walRoom?: number | null;
  /** WAL files that wait to be archived. */
  waiting: number;
  /** Seconds since 1970 at which the first waiting file was ready to be archived; 0 if none waits. */
  waitingSince: number;
  walBytes: number;
  dataSize: number;
  dataFree: number;
  /** Null for a store, which reports neither size. */
  repositorySize: number | null;
  repositoryFree: number | null;
  repositoryBytes: number | null;
  repositoryThere: boolean;
  /** Whether anything has ever been archived. */
  begun: boolean;
  /** Closed gaps: `from until first-file last-file label`, times in seconds since 1970. */
  gaps: string[];
  /**
   * The first WAL file that was dropped since the last full backup: `time file`, or empty. If the server ran without archiving, the
   * file is `off-` and the time of its start. If unarchived WAL was left in retained data, it is `exchanged-` and the time of the exchange.
   */
  openGap: string;
  /** `since timeline parent fork-position`, oldest first. */
  timelines: string[];
  /** Folders of retained data. */
  kept: string[];
}

/** Parses the report. A system identifier has more digits than a JavaScript number can hold, so it becomes a string. */
export function parseReport(text: string): BackupReport {
  return JSON.parse(text.replaceAll(/"system-id":\s*(\d+)/g, '"system-id":"$1"'));
}

/** Returns all backups in which pgBackRest found no damaged page, oldest first. */
export const backupsIn = (report: BackupReport): Backup[] =>
  (report.info?.[0]?.backup ?? []).filter((backup) => backup.error !== true);

/** Returns the backups in which pgBackRest found damaged pages, oldest first. */
export const damagedIn = (report: BackupReport): Backup[] =>
  (report.info?.[0]?.backup ?? []).filter((backup) => backup.error === true);

/** A time range that cannot be restored; seconds since 1970. */
export interface Gap {
  from: number;
  until: number;
}

/** The times that can be restored; seconds since 1970. */
export interface Range {
  from: number;
  to: number;
  gaps: Gap[];
}

/**
 * Seconds from a backup's end, as pgBackRest reports it, to the first time that can be restored from it. The image uses the same number,
 * so both choose the same backup.
 */
const REACHABLE_AFTER = Number(imageLimit("REACHABLE_AFTER_SECONDS"));

/** Returns the first time that can be restored from a backup, in seconds since 1970. */
export const reachableFrom = ({ timestamp }: Pick<Backup, "timestamp">): number => timestamp.stop + REACHABLE_AFTER;

/** Returns the range from the end of the oldest backup to the last archived change; undefined if there is no backup. */
export function rangeOf(report: BackupReport): Range | undefined {
  const oldest = backupsIn(report).find((backup) => backup.type === "full");
  if (oldest === undefined) return undefined;
  const gaps = report.gaps
    .map((line) => {
      const [from = 0, until = 0] = line.split(" ").map(Number);
      return { from, until };
    })
    // A gap before the oldest backup is outside the range.
    .filter(({ until }) => until > oldest.timestamp.stop);
  const cut = Number(report.openGap.split(" ")[0] || Number.POSITIVE_INFINITY);
  const isIncomplete = report.archiver === null || isFailing(report) || isLagging(report);
  const archived = isIncomplete ? report.archivedUntil : report.now;
  return { from: reachableFrom(oldest), to: Math.min(archived, cut), gaps };
}

/** Whether the last attempt to archive failed. */
export const isFailing = ({ archiver }: BackupReport): boolean =>
  (archiver?.lastFailedAt ?? 0) > (archiver?.lastArchivedAt ?? 0) && archiver?.lastFailedAt != null;

/** Whether WAL has waited so long that the archiver, although it reports no failure, must be too slow or hang. */
const isLagging = ({ waitingSince, now }: BackupReport): boolean => waitingSince > 0 && now - waitingSince > MAY_LAG;

/** Returns all problems, most dangerous first, each with the risk or the remedy. Empty without problems. */
export function troublesOf(report: BackupReport): string[] {
  const troubles: string[] = [];
  const gap = gapInWords(report);
  if (gap) troubles.push(gap);
  troubles.push(...damageInWords(report.damage ?? [], backupsIn(report)));
  troubles.push(...repositoryTroubles(report));
  if (isFailing(report) || isLagging(report)) troubles.push(waitingInWords(report));
  for (const kind of ["full", "diff", "drill"] as const) {
    const { failed, late } = report[kind];
    if (failed && !isCoveredByDamage(failed, report))
      troubles.push(`the last ${NAMES[kind]} failed at ${time(failed.finished)}: ${failed.error}`);
    else if (late > MAY_BE_LATE) troubles.push(`the ${NAMES[kind]} is ${duration(late)} overdue`);
  }
  return troubles;
}

/** Whether a run failed because of damage that is reported separately, or that a later full backup no longer found. */
function isCoveredByDamage({ damaged, finished }: Run, { damage = [], full }: BackupReport): boolean {
  return damaged === true && (damage.length > 0 || (full.ok?.finished ?? 0) > finished);
}

/** Returns the repository's problems: why it cannot be read, or that it belongs to another database. Empty before the first backup. */
export function repositoryTroubles(report: BackupReport): string[] {
  const { info, infoSaid } = report;
  const said = infoSaid.trim();
  if (report.begun && !report.repositoryThere) {
    return [
      `the repository is empty, missing or unreadable${said ? ` (${said})` : ""}: bring it back, ` +
        `or start a new one: ./db backup --begin-anew`,
    ];
  }
  if (info === null || said) return [`the repository cannot be read: ${said || "no answer"}`];
  const troubles: string[] = [];
  const status = info[0]?.status;
  // Status 2: the repository has no backup yet.
  if (status && status.code !== 0 && status.code !== 2) {
    troubles.push(`the repository cannot be used: ${status.message.slice(0, 200)}`);
  }
  if (report.full.ok && backupsIn(report).length + damagedIn(report).length === 0) {
    troubles.push(
      "the backups that were made are missing from the repository, so nothing can be restored: bring them back",
    );
  }
  const foreign = foreignOwner(report);
  if (foreign) troubles.push(`${foreign}: nothing is archived`);
  return troubles;
}

/** Returns why nothing can be restored; undefined if something can. */
export function nothingToRestore(report: BackupReport): string | undefined {
  if (rangeOf(report) !== undefined) return undefined;
  const [trouble] = repositoryTroubles(report);
  const damaged = damagedIn(report).at(-1);
  if (damaged && !trouble) {
    return (
      "No sound backup can be restored: every backup contains damaged pages. To restore the newest one nevertheless: " +
      `./db restore --to ${damaged.label} --unsound`
    );
  }
  return trouble ? `Nothing can be restored: ${trouble}.` : "There is no backup yet, so nothing can be restored.";
}

/** Describes the open gap: after WAL that was never archived, changes cannot be restored until the next full backup. Undefined without one. */
export function gapInWords({ openGap }: BackupReport): string | undefined {
  if (openGap === "") return undefined;
  const [since, file = ""] = openGap.split(" ");
  const why = file.startsWith("off-")
    ? "the server ran with backups turned off"
    : file.startsWith("exchanged-")
      ? "WAL that was not archived is only in the data that a restore retained"
      : `the server dropped WAL that it could not archive (from ${file} on)`;
  return (
    `${why}: nothing later than ${time(Number(since))} can be restored until the next full backup, which the backups' container takes ` +
    `as soon as the repository is reachable`
  );
}

/** Describes the repository's owner, if that is another database; else undefined. */
export function foreignOwner({ info, systemIdentifier }: BackupReport): string | undefined {
  const known = info?.[0]?.db.at(-1)?.["system-id"];
  if (known === undefined || systemIdentifier === "" || known === systemIdentifier) return undefined;
  return `the repository belongs to another database (${known}; this one is ${systemIdentifier})`;
}

/** Describes the changes at risk while archiving fails, the room left for WAL, and how long it lasts at the rate since the failure began. */
function waitingInWords(report: BackupReport): string {
  const { archivedUntil, waiting, walBytes, now } = report;
  const rate = (waiting * WAL_FILE) / Math.max(now - archivedUntil, 1);
  const limit = describeWalRoom(report, archivedUntil > 0 ? rate : 0);
  const said = report.archivingSaid ? `. The cause: ${report.archivingSaid.trim()}` : "";
  return (
    `nothing has been archived since ${time(archivedUntil)}, so losing the database's disk would lose every later change: ${waiting} ` +
    `WAL files wait there (${humanBytes(walBytes)}).${limit}${said}`
  );
}

/** Seconds that a WAL file may wait before it counts as a problem. PostgreSQL's archiver pauses for a minute after three failures. */
const MAY_LAG = 300;

/** Seconds that a run may be overdue before it counts as a problem. A run on a large database takes hours. */
const MAY_BE_LATE = 6 * 3600;

/** The size of a WAL file in bytes. */
const WAL_FILE = 16 * 1024 * 1024;

/** Says how much more WAL can wait on the data's disk. */
function describeWalRoom(report: BackupReport, rate: number): string {
  const { walRoom, walDropThresholdPercent: percent, dataSize, dataFree } = report;
  if (walRoom == null) return "";
  if (walRoom === 0) {
    return ` ${percent} % of the disk (${humanBytes(dataSize)}, ${humanBytes(dataFree)} free) are in use, so the server drops WAL`;
  }
  const lasts = rate > 0 ? `, about ${duration(walRoom / rate)} at the present rate` : "";
  return ` There is room for ${humanBytes(walRoom)} more${lasts}. When ${percent} % of the disk are in use, the server drops WAL`;
}

const NAMES = { full: "full backup", diff: "differential backup", drill: "drill" } as const;

/** Summarises the backups in one line. */
export function summaryOf(report: BackupReport): string {
  const backups = backupsIn(report);
  const last = backups.at(-1);
  const range = rangeOf(report);
  if (last === undefined || range === undefined) {
    if (damagedIn(report).length > 0) return "no sound one";
    if (report.full.ok) return "no readable one";
    return report.running ? "the first one is being made" : "none yet; the first one is made automatically";
  }
  const size = report.repositoryBytes === null ? "" : ` (${humanBytes(report.repositoryBytes)})`;
  const damaged = damagedIn(report).length;
  const unsound = damaged > 0 ? ` (and ${damaged} with damaged pages)` : "";
  const { ok: proof } = report.drill;
  const against = proof?.compared === "present" ? " against the data at that time" : "";
  const drill = proof ? `, proven${against} by a drill at ${time(proof.finished)}` : "";
  const gaps = range.gaps.map((gap) => `, except ${time(gap.from)} to ${time(gap.until)}`).join("");
  return (
    `${backups.length}${unsound}, the last ${duration(report.now - last.timestamp.stop)} ago${size}; ` +
    `any time from ${time(range.from)} to ${range.to === report.now ? "now" : time(range.to)}${gaps}${drill}`
  );
}

/** Figures for monitoring. Times are seconds since 1970, sizes are bytes. */
export interface BackupFigures {
  /** The last successful run of each kind; null before the first one. */
  last: Record<Kind, { finished: number; ageSeconds: number; seconds: number; bytes: number | null } | null>;
  /** Kinds whose last run failed. */
  failed: Kind[];
  /** Known damage in the data: how much, and since when. */
  damage: { findings: number; since: number | null; damagedBackups: number; lastSound: number | null };
  /** Whether the last successful drill compared with the fingerprints recorded after the backup; null if not known. */
  drillHadRecord: boolean | null;
  archiving: {
    failing: boolean;
    failures: number | null;
    until: number;
    waitingFiles: number;
    walBytes: number;
    /** Null where that is not known. */
    roomBytes: number | null;
    givenUp: boolean;
  };
  repository: { ok: boolean; bytes: number | null; freeBytes: number | null };
}

type Kind = "full" | "diff" | "drill";
const KINDS: readonly Kind[] = ["full", "diff", "drill"];

/** Returns the figures of a report. */
export function figuresIn(report: BackupReport): BackupFigures {
  const last = (kind: Kind) => {
    const run = report[kind].ok;
    if (run === null) return null;
    const { finished, seconds, bytes = null } = run;
    return { finished, ageSeconds: report.now - finished, seconds, bytes };
  };
  return {
    last: { full: last("full"), diff: last("diff"), drill: last("drill") },
    failed: KINDS.filter((kind) => {
      const { failed } = report[kind];
      return failed && !isCoveredByDamage(failed, report);
    }),
    damage: {
      findings: report.damage?.length ?? 0,
      since: report.damage?.[0] ? Math.min(...report.damage.map(({ at }) => at)) : null,
      damagedBackups: damagedIn(report).length,
      lastSound: backupsIn(report).at(-1)?.timestamp.stop ?? null,
    },
    drillHadRecord: report.drill.ok?.compared ? report.drill.ok.compared === "recorded" : null,
    archiving: {
      failing: isFailing(report),
      failures: report.archiver?.failed ?? null,
      until: report.archivedUntil,
      waitingFiles: report.waiting,
      walBytes: report.walBytes,
      roomBytes: report.walRoom ?? null,
      givenUp: report.openGap !== "",
    },
    repository: {
      ok: report.repositoryThere && report.info?.[0]?.status.code === 0 && !report.infoSaid && !foreignOwner(report),
      bytes: report.repositoryBytes,
      freeBytes: report.repositoryFree,
    },
  };
}

/** Returns the figures in Prometheus' text format. */
export function figuresOf(report: BackupReport): string {
  const { last, failed, damage, drillHadRecord, archiving, repository } = figuresIn(report);
  const lines: string[] = [];
  const figure = (name: string, help: string, values: [string, number | null | undefined][]) => {
    const known = values.filter((entry): entry is [string, number] => typeof entry[1] === "number");
    if (known.length === 0) return;
    // By Prometheus' convention, only the names of counters end with _total.
    const type = name.endsWith("_total") ? "counter" : "gauge";
    lines.push(`# HELP sectorwars_backup_${name} ${help}`, `# TYPE sectorwars_backup_${name} ${type}`);
    for (const [labels, value] of known) lines.push(`sectorwars_backup_${name}${labels} ${value}`);
  };
  const one = (name: string, help: string, value: number | boolean | null | undefined) =>
    figure(name, help, [["", typeof value === "boolean" ? Number(value) : value]]);
  const each = (name: string, help: string, value: (kind: Kind) => number | undefined | null) =>
    figure(
      name,
      help,
      KINDS.map((kind) => [`{kind="${kind}"}`, value(kind)]),
    );
  one("report_time_seconds", "When these figures were read.", report.now);
  each("last_success_time_seconds", "End of the last successful run of a kind.", (kind) => last[kind]?.finished);
  each("last_success_age_seconds", "Age of the last successful run of a kind.", (kind) => last[kind]?.ageSeconds);
  each("last_duration_seconds", "Duration of the last successful run of a kind.", (kind) => last[kind]?.seconds);
  each("last_size_bytes", "Bytes that the last successful run of a kind added.", (kind) => last[kind]?.bytes);
  each("failed", "1 if the last run of a kind failed.", (kind) => Number(failed.includes(kind)));
  one("damage_findings", "Known damaged tables and files.", damage.findings);
  one("damaged_since_seconds", "When damage was first found; missing without damage.", damage.since);
  one("damaged_backups", "Backups in the repository that contain damaged pages.", damage.damagedBackups);
  one("last_sound_time_seconds", "End of the newest backup without damaged pages.", damage.lastSound);
  one(
    "drill_had_record",
    "1 if the last successful drill compared with the fingerprints recorded after the backup.",
    drillHadRecord,
  );
  one("archived_total", "WAL files archived.", report.archiver?.archived);
  one("archive_failures_total", "Failed attempts to archive a WAL file.", archiving.failures);
  one("archive_failing", "1 while the last attempt to archive failed.", archiving.failing);
  one("archived_until_seconds", "Time up to which everything is archived.", archiving.until);
  one("wal_waiting_files", "WAL files that wait to be archived.", archiving.waitingFiles);
  one("wal_bytes", "Size of pg_wal.", archiving.walBytes);
  one("wal_room_bytes", "Room for waiting WAL before the server drops it.", archiving.roomBytes);
  one("wal_given_up", "1 after the server dropped WAL, until the next full backup.", archiving.givenUp);
  one("data_free_bytes", "Free bytes on the data's disk.", report.dataFree);
  one("repository_free_bytes", "Free bytes on the repository's disk.", repository.freeBytes);
  one("repository_bytes", "Size of the repository.", repository.bytes);
  one("repository_ok", "1 if the repository is readable and belongs to this database.", repository.ok);
  one("troubles", "Number of problems.", troublesOf(report).length);
  return `${lines.join("\n")}\n`;
}
