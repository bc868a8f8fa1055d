/** An application's files of variables, as they are without what the hand-over wrote into them. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { removeBlock } from "../handover/env-block.ts";

const COPIES = ".local";
const COPY_PREFIX = "application-env-";
/** Copies that are older than this were left by a process that was killed, milliseconds. */
const ABANDONED_MS = 60_000;

/** A file of variables. */
export interface EnvFile {
  path: string;
  /** Its text without the hand-over's block. */
  text: string;
  /** What that block sets, by variable; undefined where there is none. */
  block: Record<string, string> | undefined;
}

/** Reads a file of variables; undefined where there is none. A block that somebody damaged is an error of the hand-over's. */
export function readEnvFile(path: string): EnvFile | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined;
  const whole = readFileSync(path, "utf8");
  try {
    const { text, stack, ours } = removeBlock(whole);
    return { path, text, block: stack === undefined ? undefined : ours };
  } catch {
    return { path, text: whole, block: undefined };
  }
}

/** Removes copies that a process left which was killed while it had them. */
function clearCopies(): void {
  for (const name of readdirSync(COPIES).filter((name) => name.startsWith(COPY_PREFIX))) {
    const path = join(COPIES, name);
    const made = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - made > ABANDONED_MS) rmSync(path, { recursive: true, force: true });
  }
}

/**
 * Gives work the paths of files of variables without the hand-over's blocks. A file that has a block is copied, for as long as the
 * work runs, into a folder that only this user can read.
 */
export function withoutBlocks<T>(files: readonly EnvFile[], work: (paths: string[]) => T): T {
  if (files.every(({ block }) => block === undefined)) return work(files.map(({ path }) => path));
  mkdirSync(COPIES, { recursive: true, mode: 0o700 });
  clearCopies();
  const folder = resolve(mkdtempSync(join(COPIES, COPY_PREFIX)));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  try {
    const paths = files.map(({ path, text, block }, i) => {
      if (block === undefined) return path;
      const copy = join(folder, `${i}-${basename(path)}`);
      writeFileSync(copy, text, { mode: 0o600 });
      return copy;
    });
    const result = work(paths);
    if (result instanceof Promise) return result.finally(remove) as T;
    remove();
    return result;
  } catch (error) {
    remove();
    throw error;
  }
}

/** Compose's flags for such files. */
export const envFlags = (paths: readonly string[]): string[] => paths.flatMap((path) => ["--env-file", path]);
