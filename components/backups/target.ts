/** What to restore to, and the backup and timeline that lead there. */
import { parseMoment } from "./moment.ts";
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

/** What somebody wants back. */
export type Target =
  | { kind: "latest" }
  | { kind: "backup"; label: string }
  | { kind: "time" /** Seconds since 1970. */; at: number };

const LABEL = /^\d{8}-\d{6}F(_\d{8}-\d{6}[DI])?$/;

/**
 * Reads `latest`, a backup's label, or a time as people write it ("2026-11-22 10:00", "10 minutes ago", "yesterday 18:00").
 * A time without a zone is one of this machine's.
 * @throws {Error} for what cannot be a moment in the past.
 */
export function parseTarget(text: string, now: Date): Target {
  const wanted = text.trim();
  if (wanted === "latest") return { kind: "latest" };
  if (LABEL.test(wanted)) return { kind: "backup", label: wanted };
  const at = parseMoment(wanted, now);
  if (at > now) throw new Error(`"${text}" is ${at.toISOString()}, which is yet to come`);
  return { kind: "time", at: at.getTime() / 1000 };
}

/** How to get to a target. */
export interface Way {
  backup: Backup;
  /** The timeline that was the server's own at the time. */
  timeline: number;
  /** pgBackRest's arguments. */
  args: string[];
}

interface Timeline {
  since: number;
  id: number;
  parent: number;
  /** Where it left its parent. */
  fork: bigint;
}

/** A position in the write-ahead log, `1/2A000028`, as a number. */
export function position(lsn: string): bigint {
  const [high = "0", low = "0"] = lsn.split("/");
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

const timelineOf = (backup: Backup) => Number.parseInt(backup.archive.start.slice(0, 8), 16);

/**
 * The newest backup from which the target is reached. After a restore the server goes on along a new timeline, and what it
 * left behind stays in the repository: a moment is looked for on the timeline that was in use at that moment.
 * @param unsound whether a backup that holds damaged pages is wanted all the same, where it is named.
 * @throws {Error} with the range there is, when the target is outside of it.
 */
export function wayTo(target: Target, report: BackupReport, unsound = false): Way {
  refuseForeign(report);
  if (target.kind === "backup") return wayToBackup(target.label, report, unsound);
  const range = rangeOf(report);
  if (range === undefined) throw new Error(rangeInWords(report));
  const backups = backupsIn(report);
  if (target.kind === "time") refuseOutside(target.at, range, report);
  if (target.kind === "latest" && report.openGap) {
    throw new Error(`The last change cannot be restored. ${rangeInWords(report)}`);
  }
  const timelines = report.timelines.map(parseTimeline);
  const moment = target.kind === "time" ? target.at : report.now;
  const timeline = timelines.findLast(({ since }) => since <= moment) ?? timelines[0];
  const current = target.kind === "latest" ? report.archiver?.timeline : undefined;
  const id = current ?? timeline?.id ?? timelineOf(backups.at(-1) as Backup);
  const leading = backups.filter(
    (backup) => (target.kind === "latest" || reachableFrom(backup) <= target.at) && leadsTo(id, backup, timelines),
  );
  const backup = leading.at(-1);
  if (backup === undefined) {
    const first = backups.find((one) => leadsTo(id, one, timelines));
    const since = first && ` The first one on its timeline is of ${time(first.timestamp.stop)}.`;
    throw new Error(`No backup leads to that time.${since ?? ` ${rangeInWords(report)}`}`);
  }
  const common = [`--set=${backup.label}`, `--target-timeline=${id}`];
  if (target.kind === "latest") return { backup, timeline: id, args: [...common, "--type=default"] };
  const stamp = new Date(target.at * 1000).toISOString().replace("T", " ").replace("Z", "+00");
  return { backup, timeline: id, args: [...common, "--type=time", `--target=${stamp}`, "--target-action=promote"] };
}

function wayToBackup(label: string, report: BackupReport, unsound: boolean): Way {
  const backups = backupsIn(report);
  const damaged = damagedIn(report).find((one) => one.label === label);
  if (damaged && !unsound) {
    throw new Error(
      `The backup ${label} holds damaged pages. Restore latest, or a time: that goes by a sound backup. ` +
        `To have this one all the same: --unsound`,
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

/** @throws {Error} where the repository is another database's. */
export function refuseForeign(report: BackupReport): void {
  const foreign = foreignOwner(report);
  if (foreign) throw new Error(`Nothing is restored from there: ${foreign}.`);
}

/** Whether a backup lies on a timeline or on what the timeline branched off. */
function leadsTo(id: number, backup: Backup, timelines: readonly Timeline[]): boolean {
  let limit: bigint | undefined;
  // A timeline's number is greater than its parent's, so this ends.
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
 * Makes sure that a moment which is just over can be restored. An archiver that gives WAL up counts it as archived, so this is asked
 * of what is written down about the repository, and not of the server.
 * @param at seconds since 1970.
 * @throws {Error} that says why it cannot, and what can.
 */
export function refuseUnreachable(at: number, report: BackupReport): void {
  const gap = gapInWords(report);
  if (gap) throw new Error(gap);
  const range = rangeOf(report);
  if (range === undefined) throw new Error(rangeInWords(report));
  refuseOutside(at, range, report);
}

/** Which times there are. */
export function rangeInWords(report: BackupReport): string {
  const range = rangeOf(report);
  if (range === undefined) return nothingToRestore(report) ?? "";
  const gaps = range.gaps.map((gap) => `, but for ${time(gap.from)} to ${time(gap.until)}`).join("");
  return `Any moment from ${time(range.from)} to ${time(range.to)} can be restored${gaps}.`;
}
