/** Reads and writes the application's files: refuses what it must not touch, and never leaves half a file. */
import { execFile } from "node:child_process";
import { lstat, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const OWNER_MAY_WRITE = 0o200;
const PRIVATE = 0o600;

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

/** Writes a file as a whole or not at all: beside its place, then over it. */
export async function writeWhole(file: string, text: string, mode = PRIVATE): Promise<void> {
  const partial = join(dirname(file), `.${process.pid}-${Date.now()}.partial`);
  try {
    const handle = await open(partial, "wx", mode);
    try {
      await handle.writeFile(text);
      // The mode above is cut by the umask.
      await handle.chmod(mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
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
