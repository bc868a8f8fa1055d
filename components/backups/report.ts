/** What the backups' container tells of backups, archiving and the repository, and what is to be thought of it. */
import { humanBytes } from "../../lib/human-bytes.ts";
import { imageLimit } from "../../lib/image-limits.ts";
import { type Damage, damageInWords } from "./damage.ts";
import { duration, time } from "./words.ts";

export { duration, time };

/** A run that ended. Times are seconds since 1970. */
export interface Run {
  finished: number;
  seconds: number;
  label?: string;
  bytes?: number;
  error?: string;
  /** Whether damaged data is what went wrong. */
  damaged?: boolean;
  /** What did not work beside the backup itself. */
  warning?: string;
  /** Of a drill. */
  tables?: number;
  rows?: number;
  /** Of a drill: with what was recorded behind the backup, or with what the tables hold at present. */
  compared?: "recorded" | "present";
}

/** The last runs of a kind. */
export interface Runs {
  ok: Run | null;
  /** Null unless the last one failed. */
  failed: Run | null;
  /** Seconds since which one is due that has not succeeded; 0 where none is. */
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

/** The container's answer (images/database/backup/report.sh). */
export interface BackupReport {
  now: number;
  info: { backup: Backup[]; db: { "system-id": string }[]; status: { code: number; message: string } }[] | null;
  infoSaid: string;
  full: Runs;
  diff: Runs;
  drill: Runs;
  /** Kind and beginning of the run under way, or empty. */
  running: string;
  /** What is known to be damaged in the data; an image that was made earlier does not tell. */
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
  /** Of the data, also while its server is down; empty where there is none. */
  systemIdentifier: string;
  /** Seconds since 1970 up to which everything is in the repository; 0 where nothing was archived yet. */
  archivedUntil: number;
  /** What the archiver said last, while its attempts fail; else empty. */
  archivingSaid: string;
  /** Per cent of the data's disk at which WAL that cannot be archived is given up. */
  walDropThresholdPercent: number;
  /**
   * Bytes of WAL that cannot be archived which still fit on that disk before WAL is dropped; 0 if it is dropped now. The image decides
   * that (archiving.sh). Null if it cannot look at the disk; an image that was made earlier does not tell.
   */
  walRoom?: number | null;
  /** WAL files that wait for being archived. */
  waiting: number;
  /** Seconds since 1970 at which the first of them was ready to be archived; 0 where none waits. */
  waitingSince: number;
  walBytes: number;
  dataSize: number;
  dataFree: number;
  /** Null for a store, which tells neither. */
  repositorySize: number | null;
  repositoryFree: number | null;
  repositoryBytes: number | null;
  repositoryThere: boolean;
  /** Whether anything was ever archived. */
  begun: boolean;
  /** Closed gaps: `from until first-file last-file label`, times in seconds since 1970. */
  gaps: string[];
  /**
   * The first WAL file that was given up since the last full backup: `time file`, or empty. Where the server ran without
   * archiving, `off-` and the time of its start stand in the file's place; where WAL stayed behind in data that was put aside,
   * `exchanged-` and the time of that.
   */
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

/** All backups in which pgBackRest found no damaged page, oldest first. */
export const backupsIn = (report: BackupReport): Backup[] =>
  (report.info?.[0]?.backup ?? []).filter((backup) => backup.error !== true);

/** The backups in which pgBackRest found damaged pages, oldest first. */
export const damagedIn = (report: BackupReport): Backup[] =>
  (report.info?.[0]?.backup ?? []).filter((backup) => backup.error === true);

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

/** Seconds after the second in which pgBackRest says that a backup ended, until it reaches every moment. The image uses it too. */
const REACHABLE_AFTER = Number(imageLimit("REACHABLE_AFTER_SECONDS"));

/** The first moment that is reached from a backup, in seconds since 1970. */
export const reachableFrom = ({ timestamp }: Pick<Backup, "timestamp">): number => timestamp.stop + REACHABLE_AFTER;

/** From the end of the oldest backup to the last change that is archived; undefined without a backup. */
export function rangeOf(report: BackupReport): Range | undefined {
  const oldest = backupsIn(report).find((backup) => backup.type === "full");
  if (oldest === undefined) return undefined;
  const gaps = report.gaps
    .map((line) => {
      const [from = 0, until = 0] = line.split(" ").map(Number);
      return { from, until };
    })
    // What lies before the oldest backup is out of reach anyway.
    .filter(({ until }) => until > oldest.timestamp.stop);
  const cut = Number(report.openGap.split(" ")[0] || Number.POSITIVE_INFINITY);
  const isBehind = report.archiver === null || isFailing(report) || isLagging(report);
  const archived = isBehind ? report.archivedUntil : report.now;
  return { from: reachableFrom(oldest), to: Math.min(archived, cut), gaps };
}

/** Whether the last attempt at archiving failed. */
export const isFailing = ({ archiver }: BackupReport): boolean =>
  (archiver?.lastFailedAt ?? 0) > (archiver?.lastArchivedAt ?? 0) && archiver?.lastFailedAt != null;

/** Whether WAL waits for so long that an archiver which fails at nothing must be too slow, or hang. */
const isLagging = ({ waitingSince, now }: BackupReport): boolean => waitingSince > 0 && now - waitingSince > MAY_LAG;

/** Everything that is wrong, most dangerous first, each with what is at risk or what to do. Empty when all is well. */
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
    else if (late > MAY_BE_LATE) troubles.push(`the ${NAMES[kind]} is due since ${duration(late)}, and was not made`);
  }
  return troubles;
}

/** Whether a run failed for damage that is told of elsewhere, or that a full backup has found gone since. */
function isCoveredByDamage({ damaged, finished }: Run, { damage = [], full }: BackupReport): boolean {
  return damaged === true && (damage.length > 0 || (full.ok?.finished ?? 0) > finished);
}

/** What is wrong with the repository: why it cannot be read, or whose it is. Empty when all is well, and before the first backup. */
export function repositoryTroubles(report: BackupReport): string[] {
  const { info, infoSaid } = report;
  const said = infoSaid.trim();
  if (report.begun && !report.repositoryThere) {
    return [
      `the repository is empty, missing or cannot be read${said ? ` (${said})` : ""}: bring it back, ` +
        `or begin anew with ./db backup --begin-anew`,
    ];
  }
  if (info === null || said) return [`the repository cannot be read: ${said || "no answer"}`];
  const troubles: string[] = [];
  const status = info[0]?.status;
  // 2 is a repository without a backup yet.
  if (status && status.code !== 0 && status.code !== 2) {
    troubles.push(`the repository cannot be used: ${status.message.slice(0, 200)}`);
  }
  if (report.full.ok && backupsIn(report).length + damagedIn(report).length === 0) {
    troubles.push("the repository holds none of the backups that were made: nothing can be restored. Bring them back");
  }
  const foreign = foreignOwner(report);
  if (foreign) troubles.push(`${foreign}: nothing is archived`);
  return troubles;
}

/** Why nothing at all can be restored; undefined where something can. */
export function nothingToRestore(report: BackupReport): string | undefined {
  if (rangeOf(report) !== undefined) return undefined;
  const [trouble] = repositoryTroubles(report);
  const damaged = damagedIn(report).at(-1);
  if (damaged && !trouble) {
    return (
      "Nothing sound can be restored: every backup holds damaged pages. To have the newest one all the same: " +
      `./db restore --to ${damaged.label} --unsound`
    );
  }
  return trouble ? `Nothing can be restored: ${trouble}.` : "There is no backup yet, so nothing can be restored.";
}

/** Set while what is written now cannot be had back: behind WAL that never reached the repository, until the next full backup. */
export function gapInWords({ openGap }: BackupReport): string | undefined {
  if (openGap === "") return undefined;
  const [since, file = ""] = openGap.split(" ");
  const why = file.startsWith("off-")
    ? "the server ran with backups switched off"
    : file.startsWith("exchanged-")
      ? "WAL stayed behind in the data that a restore put aside"
      : `WAL was given up (from ${file} on)`;
  return (
    `${why}: nothing later than ${time(Number(since))} can be restored until a new full backup is made, which happens by itself ` +
    `once the repository is back`
  );
}

/** Set where the repository belongs to another database than this one, in words. */
export function foreignOwner({ info, systemIdentifier }: BackupReport): string | undefined {
  const known = info?.[0]?.db.at(-1)?.["system-id"];
  if (known === undefined || systemIdentifier === "" || known === systemIdentifier) return undefined;
  return `the repository belongs to another database (${known}; this one is ${systemIdentifier})`;
}

/** What is at risk while archiving fails, the room that is left, and how long it lasts at the rate since it began. */
function waitingInWords(report: BackupReport): string {
  const { archivedUntil, waiting, walBytes, dataSize, dataFree, walDropThresholdPercent, walRoom, now } = report;
  const rate = (waiting * WAL_FILE) / Math.max(now - archivedUntil, 1);
  const limit = (() => {
    if (walRoom == null) return "";
    if (walRoom === 0) {
      return ` ${walDropThresholdPercent} % of that disk (${humanBytes(dataSize)}, ${humanBytes(dataFree)} free) are in use: archiving is given up`;
    }
    const lasts = archivedUntil > 0 && rate > 0 ? `, about ${duration(walRoom / rate)} at the present rate` : "";
    return ` There is room for ${humanBytes(walRoom)} more${lasts}, until ${walDropThresholdPercent} % of that disk are in use and archiving is given up`;
  })();
  const said = report.archivingSaid ? `. What is in the way: ${report.archivingSaid.trim()}` : "";
  return (
    `changes are not archived since ${time(archivedUntil)}, and would be lost with the database's disk: ${waiting} WAL files ` +
    `wait there (${humanBytes(walBytes)}).${limit}${said}`
  );
}

/** Seconds that a WAL file may wait before that is a trouble; PostgreSQL's archiver rests for a minute after three failures. */
const MAY_LAG = 300;

/** Seconds after which a run that has not ended is a trouble; a large database's takes hours. */
const MAY_BE_LATE = 6 * 3600;

/** Bytes of one file of the write-ahead log. */
const WAL_FILE = 16 * 1024 * 1024;

const NAMES = { full: "full backup", diff: "differential backup", drill: "drill" } as const;

/** What is there, in a line. */
export function summaryOf(report: BackupReport): string {
  const backups = backupsIn(report);
  const last = backups.at(-1);
  const range = rangeOf(report);
  if (last === undefined || range === undefined) {
    if (damagedIn(report).length > 0) return "none that is sound";
    if (report.full.ok) return "none that can be read";
    return report.running ? "the first one is being made" : "none yet; the first one follows by itself";
  }
  const size = report.repositoryBytes === null ? "" : ` (${humanBytes(report.repositoryBytes)})`;
  const damaged = damagedIn(report).length;
  const unsound = damaged > 0 ? ` (and ${damaged} with damaged pages)` : "";
  const { ok: proof } = report.drill;
  const against = proof?.compared === "present" ? " against the data of then" : "";
  const drill = proof ? `, proven${against} by a drill at ${time(proof.finished)}` : "";
  const gaps = range.gaps.map((gap) => `, but not ${time(gap.from)} to ${time(gap.until)}`).join("");
  return (
    `${backups.length}${unsound}, the last ${duration(report.now - last.timestamp.stop)} ago${size}; ` +
    `any moment from ${time(range.from)} to ${range.to === report.now ? "now" : time(range.to)}${gaps}${drill}`
  );
}

/** What monitoring wants to know; times are seconds since 1970, sizes bytes. */
export interface BackupFigures {
  /** Of each kind the last good run; null before the first one. */
  last: Record<Kind, { finished: number; ageSeconds: number; seconds: number; bytes: number | null } | null>;
  /** Kinds whose last run failed. */
  failed: Kind[];
  /** Damage in the data: how much is known, and since when. */
  damage: { findings: number; since: number | null; damagedBackups: number; lastSound: number | null };
  /** Whether the last good drill had the record behind the backup to compare with; null where that is not known. */
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

/** The figures of a report. */
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

/** The figures in Prometheus' text format. */
export function figuresOf(report: BackupReport): string {
  const { last, failed, damage, drillHadRecord, archiving, repository } = figuresIn(report);
  const lines: string[] = [];
  const figure = (name: string, help: string, values: [string, number | null | undefined][]) => {
    const known = values.filter((entry): entry is [string, number] => typeof entry[1] === "number");
    if (known.length === 0) return;
    lines.push(`# HELP sectorwars_backup_${name} ${help}`, `# TYPE sectorwars_backup_${name} gauge`);
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
  each("last_success_time_seconds", "End of the last good run of a kind.", (kind) => last[kind]?.finished);
  each("last_success_age_seconds", "Age of the last good run of a kind.", (kind) => last[kind]?.ageSeconds);
  each("last_duration_seconds", "How long the last good run of a kind took.", (kind) => last[kind]?.seconds);
  each("last_size_bytes", "What the last good run of a kind added to the repository.", (kind) => last[kind]?.bytes);
  each("failed", "1 where the last run of a kind failed.", (kind) => Number(failed.includes(kind)));
  one("damage_findings", "Damaged tables and files that are known; 0 where all is well.", damage.findings);
  one("damaged_since_seconds", "When damage was first found; missing where all is well.", damage.since);
  one("damaged_backups", "Backups in the repository that hold damaged pages.", damage.damagedBackups);
  one("last_sound_time_seconds", "End of the newest backup without damaged pages.", damage.lastSound);
  one(
    "drill_had_record",
    "1 where the last good drill compared with what was recorded behind the backup.",
    drillHadRecord,
  );
  one("archived_total", "WAL files archived.", report.archiver?.archived);
  one("archive_failures_total", "Failed attempts at archiving a WAL file.", archiving.failures);
  one("archive_failing", "1 while the last attempt at archiving failed.", archiving.failing);
  one("archived_until_seconds", "Up to when everything is in the repository.", archiving.until);
  one("wal_waiting_files", "WAL files that wait for being archived.", archiving.waitingFiles);
  one("wal_bytes", "Size of pg_wal.", archiving.walBytes);
  one("wal_room_bytes", "Room left for WAL that waits before it is given up.", archiving.roomBytes);
  one("wal_given_up", "1 after WAL was given up, until a new full backup is made.", archiving.givenUp);
  one("data_free_bytes", "Room left on the database's disk.", report.dataFree);
  one("repository_free_bytes", "Room left on the repository's disk.", repository.freeBytes);
  one("repository_bytes", "Size of the repository.", repository.bytes);
  one("repository_ok", "1 while pgBackRest reads the repository and it is this database's.", repository.ok);
  one("troubles", "How many things are wrong.", troublesOf(report).length);
  return `${lines.join("\n")}\n`;
}
