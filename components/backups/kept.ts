/** Former data that restores have kept in the volume, known by the names of its folders. */

/** How such a folder is named, before the stamp. */
export const KEPT = "pgdata.before-";
/** Days for which former data is kept at least. */
const KEPT_DAYS = 7;
const KEPT_MS = KEPT_DAYS * 86_400_000;

/** A moment as a part of names: 20261123T101500Z. */
export const stampOf = (now: Date): string => now.toISOString().replaceAll(/[-:]|\.\d+/g, "");

/** The moment that a stamp names; undefined for something else. */
export function momentOf(stamp: string): Date | undefined {
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp)?.slice(1);
  if (parts === undefined) return undefined;
  const [year, month, day, hour, minute, second] = parts;
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

/** Former data, as people and machines are told of it. */
export interface Kept {
  folder: string;
  stamp: string;
  /** The day up to which it is kept at least: 2026-11-30. */
  until: string;
  /** What a person types to have it back. */
  undo: string;
}

/** What there is to say of the former data of a stack that has a stamp. */
export const keptAs = (stack: string, stamp: string): Kept => ({
  folder: `${KEPT}${stamp}`,
  stamp,
  until: new Date((momentOf(stamp)?.getTime() ?? 0) + KEPT_MS).toISOString().slice(0, 10),
  undo: `./db restore --undo ${stamp} --stack ${stack}`,
});

/** All former data among a volume's folders, oldest first. */
export const keptAmong = (stack: string, folders: readonly string[]): Kept[] =>
  folders
    .filter((folder) => folder.startsWith(KEPT) && momentOf(folder.slice(KEPT.length)) !== undefined)
    .sort()
    .map((folder) => keptAs(stack, folder.slice(KEPT.length)));

/** Which folders nobody needs: what restores that were killed have left, and former data whose time is over. */
export function overdue(folders: readonly string[], now: Date): string[] {
  return folders.filter((folder) => {
    const [, kind, stamp = ""] = /^pgdata\.(next|before)-(.+)$/.exec(folder) ?? [];
    const moment = momentOf(stamp);
    return moment !== undefined && (kind === "next" || now.getTime() - moment.getTime() > KEPT_MS);
  });
}
