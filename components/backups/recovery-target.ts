/** Recovery targets, and the restore plans that reach them. */
import { parseTime } from "./parse-time.ts";
import {
  type Backup,
  type BackupReport,
  backupsIn,
  damagedIn,
  foreignOwner,
  gapInWords,
  nothingToRestore,
  rangeOf,
  reachableFrom,
  time,
} from "./report.ts";

/** What to restore to. */
export type RecoveryTarget =
  | { kind: "latest" }
  | { kind: "backup"; label: string }
  | { kind: "time" /** Seconds since 1970. */; at: number };

const LABEL = /^\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?$/;

/**
 * Parses `latest`, a backup's label, or a time such as "2026-11-22 10:00", "10 minutes ago" or "yesterday 18:00". A time without a zone
 * is in this machine's zone.
 * @throws {Error} for a text that is not a time, is ambiguous, or is in the future.
 */
export function parseRecoveryTarget(text: string, now: Date): RecoveryTarget {
  const wanted = text.trim();
  if (wanted === "latest") return { kind: "latest" };
  if (LABEL.test(wanted)) return { kind: "backup", label: wanted };
  const at = parseTime(wanted, now);
  if (at > now) throw new Error(`"${text}" is ${at.toISOString()}, which is in the future`);
  return { kind: "time", at: at.getTime() / 1000 };
}

/** The backup, timeline and WAL that reach a recovery target. */
export interface RestorePlan {
  backup: Backup;
  /** The server's timeline at the recovery target. */
  timeline: number;
  /** The arguments of `pgbackrest restore`, which limit the WAL. */
  args: string[];
}

interface Timeline {
  since: number;
  id: number;
  parent: number;
  /** The LSN at which it branched off its parent. */
  fork: bigint;
}

/** Converts an LSN such as `1/2A000028` to a number. */
export function position(lsn: string): bigint {
  const [high = "0", low = "0"] = lsn.split("/");
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

const timelineOf = (backup: Backup) => Number.parseInt(backup.archive.start.slice(0, 8), 16);

/**
 * Returns the restore plan for a recovery target, from the newest backup that leads to it. After a restore the server continues on a new
 * timeline, and the repository keeps the old one, so a time is reached on the timeline that was in use then.
 * @param unsound accepts a backup with damaged pages, if the target names it.
 * @throws {Error} with the range that can be restored, if the target is outside it.
 */
export function restorePlanFor(target: RecoveryTarget, report: BackupReport, unsound = false): RestorePlan {
  refuseForeign(report);
  if (target.kind === "backup") return planForBackup(target.label, report, unsound);
  const range = rangeOf(report);
  if (range === undefined) throw new Error(rangeInWords(report));
  const backups = backupsIn(report);
  if (target.kind === "time") refuseOutside(target.at, range, report);
  if (target.kind === "latest" && report.openGap) {
    throw new Error(`The latest change cannot be restored. ${rangeInWords(report)}`);
  }
  const timelines = report.timelines.map(parseTimeline);
  const targetTime = target.kind === "time" ? target.at : report.now;
  const timeline = timelines.findLast(({ since }) => since <= targetTime) ?? timelines[0];
  const current = target.kind === "latest" ? report.archiver?.timeline : undefined;
  const id = current ?? timeline?.id ?? timelineOf(backups.at(-1) as Backup);
  const leading = backups.filter(
    (backup) => (target.kind === "latest" || reachableFrom(backup) <= target.at) && leadsTo(id, backup, timelines),
  );
  const backup = leading.at(-1);
  if (backup === undefined) {
    const first = backups.find((one) => leadsTo(id, one, timelines));
    const since = first && ` The first backup on its timeline ended at ${time(first.timestamp.stop)}.`;
    throw new Error(`No backup leads to that time.${since ?? ` ${rangeInWords(report)}`}`);
  }
  const common = [`--set=${backup.label}`, `--target-timeline=${id}`];
  if (target.kind === "latest") return { backup, timeline: id, args: [...common, "--type=default"] };
  const stamp = new Date(target.at * 1000).toISOString().replace("T", " ").replace("Z", "+00");
  return { backup, timeline: id, args: [...common, "--type=time", `--target=${stamp}`, "--target-action=promote"] };
}

function planForBackup(label: string, report: BackupReport, unsound: boolean): RestorePlan {
  const backups = backupsIn(report);
  const damaged = damagedIn(report).find((one) => one.label === label);
  if (damaged && !unsound) {
    throw new Error(
      `The backup ${label} contains damaged pages. Restore latest, or a time, which uses a sound backup. ` +
        `To restore this one nevertheless, add --unsound`,
    );
  }
  const backup = damaged ?? backups.find((one) => one.label === label);
  if (backup === undefined) {
    const there = backups.map((one) => one.label).join(", ");
    throw new Error(there ? `There is no backup ${label}. There are: ${there}` : rangeInWords(report));
  }
  const args = [`--set=${backup.label}`, "--type=immediate", "--target-action=promote"];
  return {
    backup,
    timeline: timelineOf(backup),
    args: [...args, "--recovery-option=recovery_target_timeline=current"],
  };
}

/** @throws {Error} if the repository belongs to another database. */
export function refuseForeign(report: BackupReport): void {
  const foreign = foreignOwner(report);
  if (foreign) throw new Error(`The restore was refused: ${foreign}.`);
}

/** Whether a backup is on a timeline, or on the part of an ancestor that the timeline continues. */
function leadsTo(id: number, backup: Backup, timelines: readonly Timeline[]): boolean {
  let limit: bigint | undefined;
  // A timeline's number is greater than its parent's, so the loop ends.
  for (let at: number | undefined = id; at !== undefined && at > 0; ) {
    if (timelineOf(backup) === at) return limit === undefined || position(backup.lsn.stop) <= limit;
    const known: Timeline | undefined = timelines.find((timeline) => timeline.id === at);
    limit = known?.fork;
    at = known && known.parent < at ? known.parent : undefined;
  }
  return false;
}

function parseTimeline(line: string): Timeline {
  const [since, id, parent, fork] = line.split(" ");
  return { since: Number(since), id: Number(id), parent: Number(parent), fork: position(fork ?? "0/0") };
}

function refuseOutside(
  at: number,
  range: { from: number; to: number; gaps: { from: number; until: number }[] },
  report: BackupReport,
) {
  const inGap = range.gaps.find((gap) => at > gap.from && at < gap.until);
  if (at >= range.from && at <= range.to && !inGap) return;
  throw new Error(`${time(at)} cannot be restored. ${rangeInWords(report)}`);
}

/**
 * Checks that a time can be restored. The server counts dropped WAL as archived, so this reads the report about the repository instead
 * of asking the server.
 * @param at seconds since 1970.
 * @throws {Error} with the reason and the range that can be restored, if it cannot.
 */
export function refuseUnreachable(at: number, report: BackupReport): void {
  const gap = gapInWords(report);
  if (gap) throw new Error(gap);
  const range = rangeOf(report);
  if (range === undefined) throw new Error(rangeInWords(report));
  refuseOutside(at, range, report);
}

/** Describes the range of times that can be restored. */
export function rangeInWords(report: BackupReport): string {
  const range = rangeOf(report);
  if (range === undefined) return nothingToRestore(report) ?? "";
  const gaps = range.gaps.map((gap) => `, except ${time(gap.from)} to ${time(gap.until)}`).join("");
  return `Any time from ${time(range.from)} to ${time(range.to)} can be restored${gaps}.`;
}
