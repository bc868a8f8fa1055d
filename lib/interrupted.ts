/** Finds what a killed update leaves in Pulumi's files: a lock, and pending operations. */
import { execFile } from "node:child_process";
import { readdir, readFile, rm } from "node:fs/promises";
import { hostname, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { checkpointFile, PULUMI_FOLDER } from "./backend.ts";

const run = promisify(execFile);

/** A lock of a stack, as Pulumi's file backend writes it (pkg/backend/diy/lock.go). */
export interface Lock {
  pid: number;
  username: string;
  hostname: string;
  timestamp: string;
}

/** The current user and machine. Whether a process has ended is only known on its own machine, to its own user. */
export interface Here {
  username: string;
  hostname: string;
  /** Whether a process with this id exists that may be Pulumi. */
  isPulumi: (pid: number) => Promise<boolean>;
}

/** Returns whether the update that holds a lock has ended; undefined if this user on this machine cannot know. */
export async function hasEnded(lock: Lock, here: Here): Promise<boolean | undefined> {
  if (lock.hostname !== here.hostname || lock.username !== here.username) return undefined;
  return !(await here.isPulumi(lock.pid));
}

/** Returns the current user and machine. */
export const here = (): Here => ({ username: userInfo().username, hostname: hostname(), isPulumi });

/** Matches the CLI, which holds the lock, but not its plugins. */
const isPulumi = (pid: number) => runs(pid, "comm", /pulumi(?!-(?:resource|language|analyzer))/);

/**
 * Returns whether a process exists that may be a given program. The kernel reuses process ids, for threads too: a process counts unless
 * it is known to be another program, or a zombie. Its age is not used, because the clock may have been set since it started.
 * @param column a column of ps: the program's name, or its whole command line.
 * @param pattern matches that column for the program.
 */
export async function runs(pid: number, column: "comm" | "args", pattern: RegExp): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
  }
  try {
    const { stdout } = await run("ps", ["-p", String(pid), "-o", "stat=", "-o", `${column}=`]);
    return !stdout.trim().startsWith("Z") && pattern.test(stdout);
  } catch (error) {
    // A silent failure means that there is no such process; a ps that does not support the options prints an error.
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    return !(code === 1 && stdout === "" && stderr === "");
  }
}

/**
 * Reads the lock files of a stack. Ignores a file that disappears while they are read.
 * @throws {Error} for an unreadable lock, which a full disk or a power failure can leave.
 */
export async function locksOf(backend: string, project: string, stack: string): Promise<Map<string, Lock>> {
  const folder = join(backend, PULUMI_FOLDER, "locks", "organization", project, stack);
  const names = await readdir(folder).catch(() => []);
  const locks = new Map<string, Lock>();
  for (const name of names.filter((each) => each.endsWith(".json"))) {
    const file = join(folder, name);
    const text = await readFile(file, "utf8").catch(() => undefined);
    if (text === undefined) continue;
    try {
      locks.set(file, JSON.parse(text));
    } catch {
      throw new Error(
        `The lock ${file} cannot be read. If no update of ${stack} is running: pulumi cancel --stack ${stack}, then try again.`,
      );
    }
  }
  return locks;
}

/** Removes one lock. `pulumi cancel` would also remove a newer one. */
export const removeLock = (file: string): Promise<void> => rm(file, { force: true });

/** Returns the resources with pending operations in a stack's state. If no update holds a lock, these were interrupted. */
export async function pendingOperations(backend: string, project: string, stack: string): Promise<string[]> {
  const text = await readFile(checkpointFile(backend, project, stack), "utf8").catch(() => "{}");
  const operations: { resource: { urn: string } }[] = JSON.parse(text).checkpoint?.latest?.pending_operations ?? [];
  return operations.map(({ resource }) => resource.urn);
}
