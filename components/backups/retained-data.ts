/** Retained data: the data directories that restores replaced and kept in the volume. Their folders' names contain the time. */

/** The start of such a folder's name, before the stamp. */
export const RETAINED_PREFIX = "pgdata.before-";
/** The minimum number of days for which replaced data is retained. */
const RETAINED_DAYS = 7;
const RETAINED_MS = RETAINED_DAYS * 86_400_000;

/** Formats a time for use in names: 20261123T101500Z. */
export const stampOf = (now: Date): string => now.toISOString().replaceAll(/[-:]|\.\d+/g, "");

/** Returns the time of a stamp; undefined if the text is not a stamp. */
export function timeOfStamp(stamp: string): Date | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp)?.slice(1);
  if (parts === undefined) return undefined;
  const [year, month, day, hour, minute, second] = parts;
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

/** A data directory that a restore replaced. */
export interface RetainedData {
  folder: string;
  stamp: string;
  /** The day until which it is retained at least: 2026-11-30. */
  until: string;
  /** The command that brings it back. */
  undo: string;
}

/** Describes the retained data that has a stamp. */
export const retainedDataOf = (stack: string, stamp: string): RetainedData => ({
  folder: `${RETAINED_PREFIX}${stamp}`,
  stamp,
  until: new Date((timeOfStamp(stamp)?.getTime() ?? 0) + RETAINED_MS).toISOString().slice(0, 10),
  undo: `./db restore --undo ${stamp} --stack ${stack}`,
});

/** Returns all retained data among a volume's folders, oldest first. */
export const retainedDataIn = (stack: string, folders: readonly string[]): RetainedData[] =>
  folders
    .filter(
      (folder) => folder.startsWith(RETAINED_PREFIX) && timeOfStamp(folder.slice(RETAINED_PREFIX.length)) !== undefined,
    )
    .sort()
    .map((folder) => retainedDataOf(stack, folder.slice(RETAINED_PREFIX.length)));

/** Returns the folders that can be removed: leftovers of killed restores, and retained data whose time is over. */
export function expiredFolders(folders: readonly string[], now: Date): string[] {
  return folders.filter((folder) => {
    const [, kind, stamp = ""] = /^pgdata\.(next|before)-(.+)$/.exec(folder) ?? [];
    const at = timeOfStamp(stamp);
    return at !== undefined && (kind === "next" || now.getTime() - at.getTime() > RETAINED_MS);
  });
}
