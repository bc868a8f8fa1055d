/** Reads and writes the application's files: refuses what it must not touch, and never leaves half a file. */
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, statSync } from "node:fs";
import { mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

const OWNER_MAY_WRITE = 0o200;
const PRIVATE = 0o600;
/** What a killed update has left is older than this, milliseconds; what is younger may be in use. */
const ABANDONED_MS = 60_000;

/** What is wrong with the application's folder, or undefined. */
export function folderProblem(folder: string): string | undefined {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return `application is "${folder}", where there is no folder`;
  return found.isDirectory() ? undefined : `application is "${folder}", which is no folder`;
}

/** A file as it is. */
export interface Found {
  /** Undefined where there is no such file. */
  text: string | undefined;
  /** Its permissions. */
  mode: number;
}

/** What keeps a file from being replaced without harm, with the remedy, or undefined. */
function replaceProblem(file: string): string | undefined {
  const found = lstatSync(file, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  const refuse = (what: string, remedy: string) => `${file} is ${what}; ${remedy}. Nothing was written.`;
  if (found.isSymbolicLink()) {
    return refuse("a link", "the passwords would go where it leads. Make it a file, or name another with handoverFile");
  }
  if (!found.isFile()) return refuse(found.isDirectory() ? "a folder" : "no file", "name another with handoverFile");
  if ((found.mode & OWNER_MAY_WRITE) === 0)
    return refuse("read-only", `allow writing (chmod u+w), or name another with handoverFile`);
  return undefined;
}

/**
 * Reads a file that is to be replaced.
 * @throws {Error} for what cannot be replaced without harm: a folder, a link, a file that its owner has made read-only, or one
 *   that is no UTF-8.
 */
export async function readReplaceable(file: string): Promise<Found> {
  const wrong = replaceProblem(file);
  if (wrong !== undefined) throw new Error(wrong);
  const found = lstatSync(file, { throwIfNoEntry: false });
  if (found === undefined) return { text: undefined, mode: PRIVATE };
  const bytes = await readFile(file);
  const text = bytes.toString("utf8");
  // Otherwise, what is not ours would not stay byte for byte.
  if (!Buffer.from(text).equals(bytes)) {
    throw new Error(`${file} is not UTF-8; save it as UTF-8, or name another with handoverFile. Nothing was written.`);
  }
  return { text, mode: found.mode & 0o777 };
}

/** The path of the file of variables; its name may be absolute. */
export const envPath = ({ folder, file }: { folder: string; file: string }): string => resolve(folder, file);

/**
 * Says what keeps the hand-over from writing its file, before anything else is done.
 * @returns the problem with its remedy, or undefined.
 */
export function envFileProblem(application: { folder: string; file: string }): string | undefined {
  const wrong = folderProblem(resolve(application.folder));
  if (wrong !== undefined) return `${wrong}. Nothing was written.`;
  const path = envPath(application);
  const problem = replaceProblem(path);
  if (problem !== undefined) return problem;
  if (!isSeenByGit(path)) return undefined;
  return (
    `${path} would get passwords, but git does not ignore it. Add it to .gitignore (and git rm --cached it, should it be ` +
    `tracked), or name another file: pulumi config set handoverFile FILE. Nothing was written.`
  );
}

/** How a file is written. */
export interface WriteOptions {
  /** Its permissions. */
  mode?: number;
  /** What {@link readReplaceable} found, and the new text is made from. */
  found?: Found;
}

/**
 * Writes a file as a whole or not at all: in a folder beside its place, then over it. The folder is one that git ignores:
 * should this process be killed, the file in it may hold passwords. The next writing clears it away.
 * @throws {Error} when somebody has changed the file since it was read.
 */
export async function writeWhole(
  file: string,
  text: string,
  { mode = PRIVATE, found }: WriteOptions = {},
): Promise<void> {
  const prefix = `.sectorwars-${basename(file)}-`;
  await clearAbandoned(dirname(file), prefix);
  const aside = await mkdtemp(join(dirname(file), prefix));
  try {
    await writeFile(join(aside, ".gitignore"), "*\n");
    const partial = join(aside, "whole");
    const handle = await open(partial, "wx", mode);
    try {
      await handle.writeFile(text);
      // The mode above is cut by the umask.
      await handle.chmod(mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (found !== undefined && (await readReplaceable(file)).text !== found.text) {
      throw new Error(
        `${file} was changed by somebody else in this very moment. Run pulumi up again. Nothing was written.`,
      );
    }
    await rename(partial, file);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** Removes what a killed process has left of files with passwords. */
export async function clearAbandoned(folder: string, prefix: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(folder, name);
    const made = (await stat(path).catch(() => undefined))?.mtimeMs ?? Number.POSITIVE_INFINITY;
    if (Date.now() - made > ABANDONED_MS) await rm(path, { recursive: true, force: true });
  }
}

/** Whether git would take a file into its history: it lies in a repository, and is not ignored. */
function isSeenByGit(file: string): boolean {
  const { status, error } = spawnSync("git", ["-C", dirname(file), "check-ignore", "--quiet", file], {
    stdio: "ignore",
  });
  // Where there is no git to ask, a repository is reason enough for caution.
  if (error !== undefined) return hasRepositoryAbove(dirname(file));
  // 1: not ignored, or tracked already; 128: no repository.
  return status === 1;
}

function hasRepositoryAbove(folder: string): boolean {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, ".git"))) return true;
    if (dirname(at) === at) return false;
  }
}
