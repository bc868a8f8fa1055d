/**
 * Keeps files with secrets to their owner: finds those that other users of the machine can reach, and takes the others' rights away.
 * Windows has access lists instead of modes, and folders in a person's profile are private there, so nothing is done.
 */
import {
  closeSync,
  constants,
  type Dirent,
  fchmodSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  realpathSync,
} from "node:fs";
import { join } from "node:path";

/** What others may do with a file: read, write, execute, as its group or as anybody. */
const OTHERS = 0o077;

/** A file or folder that only its owner may use. */
export interface PrivatePlace {
  path: string;
  /** Whether everything in a folder is meant, and not the folder alone, which is enough to keep others out. */
  whole: boolean;
}

/** A file or folder that others can reach. */
export interface Exposed {
  path: string;
  /** Its permissions, for instance 0o644. */
  mode: number;
}

/** A mode as `chmod` takes it, for instance 0644. */
export const modeText = (mode: number): string => `0${mode.toString(8).padStart(3, "0")}`;

/** The real path of a place, whose own path may be a link that its owner made; undefined where there is nothing. */
function placed(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/** What is in a folder; nothing for what is no folder, is gone by now, or cannot be read. */
function entries(path: string): Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** The permissions of a file or folder, or undefined: a link has none of its own, and leads out of the place. */
function modeOf(path: string): number | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isFile() || found?.isDirectory() ? found.mode & 0o7777 : undefined;
}

/**
 * Walks through a file or folder and calls back for what has rights for others.
 * @param intoPrivate whether folders that keep others out are searched as well.
 */
function walk({ path, whole }: PrivatePlace, intoPrivate: boolean, found: (exposed: Exposed) => void): void {
  const mode = modeOf(path);
  if (mode === undefined) return;
  const isOpen = (mode & OTHERS) !== 0;
  // The folder first: once it is closed, nobody can put anything into it while the rest is being looked at.
  if (isOpen) found({ path, mode });
  if (!whole || !(isOpen || intoPrivate)) return;
  for (const entry of entries(path)) walk({ path: join(path, entry.name), whole }, intoPrivate, found);
}

/**
 * Lists what other users of this machine can reach in the places. A folder without rights for others keeps them from everything in it,
 * whatever the modes are there: Pulumi writes its state's files as the umask has it.
 */
export function exposedIn(places: readonly PrivatePlace[]): Exposed[] {
  const all: Exposed[] = [];
  if (process.platform === "win32") return all;
  for (const { path, whole } of places) {
    const real = placed(path);
    if (real !== undefined)
      walk({ path: real, whole }, false, ({ path: at, mode }) => all.push({ path: at.replace(real, path), mode }));
  }
  return all;
}

/**
 * Takes all rights of others away in the places, also inside of folders that are private already. What belongs to another user stays
 * as it is: {@link exposedIn} tells what is left.
 */
export function makePrivate(places: readonly PrivatePlace[]): void {
  if (process.platform === "win32") return;
  for (const { path, whole } of places) {
    const real = placed(path);
    if (real !== undefined) walk({ path: real, whole }, true, (exposed) => close(exposed.path));
  }
}

/**
 * Takes others' rights away from one file or folder. While a folder was open to others, they may have put a link into it, or may
 * exchange a file for one at this moment: the mode is changed through a descriptor, and only of what has no second name.
 */
function close(path: string): void {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = fstatSync(descriptor);
    if (found.isDirectory() || (found.isFile() && found.nlink === 1))
      fchmodSync(descriptor, found.mode & 0o7777 & ~OTHERS);
  } catch {
    // Another user's, or gone by now.
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
