/** Reads and writes the application's files. Refuses files that it must not replace, and writes each file as a whole or not at all. */
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, statSync } from "node:fs";
import { mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

const OWNER_MAY_WRITE = 0o200;
const PRIVATE = 0o600;
/** Age in milliseconds after which a temporary folder is taken to be left by a killed update; a younger one may be in use. */
const ABANDONED_MS = 60_000;

/** Returns what is wrong with the application's folder, or undefined. */
export function folderProblem(folder: string): string | undefined {
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found === undefined) return `application is "${folder}", which does not exist`;
  return found.isDirectory() ? undefined : `application is "${folder}", which is not a folder`;
}

/** A file's contents and permissions. */
export interface Found {
  /** Undefined if the file does not exist. */
  text: string | undefined;
  mode: number;
}

/** Returns the reason why a file must not be replaced, with the remedy, or undefined. */
function replaceProblem(file: string): string | undefined {
  const found = lstatSync(file, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  const refuse = (what: string, remedy: string) => `${file} is ${what}; ${remedy}. Nothing was written.`;
  if (found.isSymbolicLink()) {
    return refuse(
      "a link",
      "the passwords would be written to its target. Make it a file, or set handoverFile to another",
    );
  }
  if (!found.isFile())
    return refuse(found.isDirectory() ? "a folder" : "not a regular file", "set handoverFile to another");
  if ((found.mode & OWNER_MAY_WRITE) === 0)
    return refuse("read-only", `make it writable (chmod u+w), or set handoverFile to another`);
  return undefined;
}

/**
 * Reads a file that will be replaced.
 * @throws {Error} if it must not be replaced: a folder, a link, a read-only file, or a file that is not UTF-8.
 */
export async function readReplaceable(file: string): Promise<Found> {
  const wrong = replaceProblem(file);
  if (wrong !== undefined) throw new Error(wrong);
  const found = lstatSync(file, { throwIfNoEntry: false });
  if (found === undefined) return { text: undefined, mode: PRIVATE };
  const bytes = await readFile(file);
  const text = bytes.toString("utf8");
  // Otherwise, the user's own lines would not stay byte for byte.
  if (!Buffer.from(text).equals(bytes)) {
    throw new Error(`${file} is not UTF-8; save it as UTF-8, or set handoverFile to another. Nothing was written.`);
  }
  return { text, mode: found.mode & 0o777 };
}

/** Returns the path of the env file; its name may be absolute. */
export const envPath = ({ folder, file }: { folder: string; file: string }): string => resolve(folder, file);

/**
 * Checks whether the hand-over can write its file, before anything else is done.
 * @returns the problem with its remedy, or undefined.
 */
export function envFileProblem(application: { folder: string; file: string }): string | undefined {
  const wrong = folderProblem(resolve(application.folder));
  if (wrong !== undefined) return `${wrong}. Nothing was written.`;
  const path = envPath(application);
  const problem = replaceProblem(path);
  if (problem !== undefined) return problem;
  if (!wouldGitTrack(path)) return undefined;
  return (
    `${path} would get passwords, but git does not ignore it. Add it to .gitignore (and run git rm --cached on it if it is ` +
    `tracked), or use another file: pulumi config set handoverFile FILE. Nothing was written.`
  );
}

/** Options of {@link writeWhole}. */
export interface WriteOptions {
  mode?: number;
  /** The result of {@link readReplaceable} that the new text is based on. */
  found?: Found;
}

/**
 * Writes a file as a whole or not at all: into a temporary folder beside it, then renames it. Git ignores the temporary folder, because
 * a killed process leaves a file with passwords in it. The next write removes it.
 * @throws {Error} if the file has changed since it was read.
 */
export async function writeWhole(
  file: string,
  text: string,
  { mode = PRIVATE, found }: WriteOptions = {},
): Promise<void> {
  const prefix = `.sectorwars-${basename(file)}-`;
  await clearAbandoned(dirname(file), prefix);
  const temporary = await mkdtemp(join(dirname(file), prefix));
  try {
    await writeFile(join(temporary, ".gitignore"), "*\n");
    const partial = join(temporary, "whole");
    const handle = await open(partial, "wx", mode);
    try {
      await handle.writeFile(text);
      // The umask limits the mode given to open().
      await handle.chmod(mode);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (found !== undefined && (await readReplaceable(file)).text !== found.text) {
      throw new Error(
        `${file} was changed by another program while the hand-over was writing it. Run pulumi up again. Nothing was written.`,
      );
    }
    await rename(partial, file);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Removes temporary folders that a killed process left, which may contain passwords. */
export async function clearAbandoned(folder: string, prefix: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(folder, name);
    const made = (await stat(path).catch(() => undefined))?.mtimeMs ?? Number.POSITIVE_INFINITY;
    if (Date.now() - made > ABANDONED_MS) await rm(path, { recursive: true, force: true });
  }
}

/** Whether git would add a file: it is in a repository, and not ignored. */
function wouldGitTrack(file: string): boolean {
  const { status, error } = spawnSync("git", ["-C", dirname(file), "check-ignore", "--quiet", file], {
    stdio: "ignore",
  });
  // Git is not installed: any repository above counts.
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
