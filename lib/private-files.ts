/**
 * Finds files with secrets that other users of the machine can access, and removes those permissions. Does nothing on Windows, which has
 * access lists instead of modes, and where folders in a user's profile are private.
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

/** The permission bits of the group and of all other users. */
const OTHERS = 0o077;

/** A file or folder that only its owner may access. */
export interface PrivatePlace {
  path: string;
  /** Whether to check everything in a folder, and not only the folder itself, which suffices to keep other users out. */
  whole: boolean;
}

/** A file or folder that other users can access. */
export interface Exposed {
  path: string;
  /** Its permissions, for example 0o644. */
  mode: number;
}

/** Formats a mode for `chmod`, for example 0644. */
export const modeText = (mode: number): string => `0${mode.toString(8).padStart(3, "0")}`;

/** Returns the real path, because the given one may be a link of its owner; undefined if it does not exist. */
function realPathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

/** Returns the entries of a folder; an empty list if it is not a folder, no longer exists, or cannot be read. */
function entries(path: string): Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** Returns the permissions of a file or folder, or undefined for anything else, such as a link, which has no permissions of its own. */
function modeOf(path: string): number | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isFile() || found?.isDirectory() ? found.mode & 0o7777 : undefined;
}

/**
 * Calls `found` for each file and folder that other users can access.
 * @param intoPrivate whether to search folders that other users cannot access.
 */
function walk({ path, whole }: PrivatePlace, intoPrivate: boolean, found: (exposed: Exposed) => void): void {
  const mode = modeOf(path);
  if (mode === undefined) return;
  const isOpen = (mode & OTHERS) !== 0;
  // The folder first: once it is private, other users cannot add files while the rest is checked.
  if (isOpen) found({ path, mode });
  if (!whole || !(isOpen || intoPrivate)) return;
  for (const entry of entries(path)) walk({ path: join(path, entry.name), whole }, intoPrivate, found);
}

/**
 * Returns the files and folders that other users of this machine can access. A private folder protects everything in it, whatever the
 * modes of its files are: Pulumi writes the files of its state with the mode that the umask gives.
 */
export function exposedIn(places: readonly PrivatePlace[]): Exposed[] {
  const all: Exposed[] = [];
  if (process.platform === "win32") return all;
  for (const { path, whole } of places) {
    const real = realPathOf(path);
    if (real !== undefined)
      walk({ path: real, whole }, false, ({ path: at, mode }) => all.push({ path: at.replace(real, path), mode }));
  }
  return all;
}

/**
 * Removes all permissions of other users, also inside folders that are already private. Files of another user stay unchanged;
 * {@link exposedIn} returns them.
 */
export function makePrivate(places: readonly PrivatePlace[]): void {
  if (process.platform === "win32") return;
  for (const { path, whole } of places) {
    const real = realPathOf(path);
    if (real !== undefined) walk({ path: real, whole }, true, (exposed) => close(exposed.path));
  }
}

/**
 * Removes the permissions of other users from one file or folder. If they had access to the folder, they may have put a link into it, or
 * may replace a file by one during this call. So the mode is changed through a descriptor, and only for files with a single name.
 */
function close(path: string): void {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const found = fstatSync(descriptor);
    if (found.isDirectory() || (found.isFile() && found.nlink === 1))
      fchmodSync(descriptor, found.mode & 0o7777 & ~OTHERS);
  } catch {
    // It belongs to another user, or no longer exists.
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
