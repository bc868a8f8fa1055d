/** Reads and writes the application's files: refuses what it must not touch, and never leaves half a file. */
import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { lstat, mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
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

/**
 * Reads a file that is to be replaced.
 * @throws {Error} for what cannot be replaced without harm: a folder, a link, a file that its owner has made read-only.
 */
export async function readReplaceable(file: string): Promise<Found> {
  const found = await lstat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return { text: undefined, mode: PRIVATE };
  const refuse = (what: string, remedy: string) => new Error(`${file} is ${what}; ${remedy}. Nothing was written.`);
  if (found.isSymbolicLink()) {
    throw refuse("a link", "the passwords would go where it leads. Make it a file, or name another with handoverFile");
  }
  if (!found.isFile()) throw refuse(found.isDirectory() ? "a folder" : "no file", "name another with handoverFile");
  if ((found.mode & OWNER_MAY_WRITE) === 0)
    throw refuse("read-only", `allow writing (chmod u+w), or name another with handoverFile`);
  return { text: await readFile(file, "utf8"), mode: found.mode & 0o777 };
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

async function clearAbandoned(folder: string, prefix: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(folder, name);
    const made = (await stat(path).catch(() => undefined))?.mtimeMs ?? Number.POSITIVE_INFINITY;
    if (Date.now() - made > ABANDONED_MS) await rm(path, { recursive: true, force: true });
  }
}

/** Whether git would take a file into its history: it lies in a repository, and is not ignored. */
export async function isSeenByGit(file: string): Promise<boolean> {
  try {
    await run("git", ["-C", dirname(file), "check-ignore", "--quiet", file]);
    return false;
  } catch (error) {
    // 1: not ignored, or tracked already; 128: no repository.
    const { code } = error as { code?: number | string };
    if (code === 1) return true;
    if (code === "ENOENT") return hasRepositoryAbove(dirname(file));
    return false;
  }
}

/** Where there is no git to ask, a repository is reason enough for caution. */
async function hasRepositoryAbove(folder: string): Promise<boolean> {
  for (let at = folder; ; at = dirname(at)) {
    const isHere = await stat(join(at, ".git")).then(
      () => true,
      () => false,
    );
    if (isHere) return true;
    if (dirname(at) === at) return false;
  }
}
