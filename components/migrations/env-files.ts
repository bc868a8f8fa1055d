/** Reads an application's env files without the blocks that the hand-over wrote into them. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { removeBlock } from "../handover/env-block.ts";

const COPIES = ".local";
const COPY_PREFIX = "application-env-";
/** Age in milliseconds after which a copy is taken to be left by a killed process. */
const ABANDONED_MS = 60_000;

/** An env file. */
export interface EnvFile {
  path: string;
  /** Its text without the hand-over's block. */
  text: string;
  /** The variables that the block sets; undefined if there is no block. */
  block: Record<string, string> | undefined;
}

/** Reads an env file. Returns undefined if it does not exist. A damaged block is left in the text; the hand-over reports it. */
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

/** Removes copies that a killed process left. */
function clearCopies(): void {
  for (const name of readdirSync(COPIES).filter((name) => name.startsWith(COPY_PREFIX))) {
    const path = join(COPIES, name);
    const made = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - made > ABANDONED_MS) rmSync(path, { recursive: true, force: true });
  }
}

/**
 * Calls `work` with the paths of the env files without the hand-over's blocks. A file with a block is copied without it into a
 * folder that only this user can read, for as long as `work` runs.
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

/** Returns Compose's flags for env files. */
export const envFlags = (paths: readonly string[]): string[] => paths.flatMap((path) => ["--env-file", path]);
