/** What an update that was killed leaves in Pulumi's own files: a lock, and notes of what it was making. */
import { execFile } from "node:child_process";
import { readdir, readFile, rm } from "node:fs/promises";
import { homedir, hostname, userInfo } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { parse } from "yaml";

const run = promisify(execFile);

/** The folder in which Pulumi's file backend keeps its files, in the folder that the backend's URL names. */
const BOOKS = ".pulumi";

/** A lock of a stack, as Pulumi's file backend writes it (pkg/backend/diy/lock.go). */
export interface Lock {
  pid: number;
  username: string;
  hostname: string;
  timestamp: string;
}

/** Who asks: a process is only known to be dead on the machine, and to the user, that it belongs to. */
export interface Here {
  username: string;
  hostname: string;
  /** Whether a process of that number lives that may be Pulumi's. */
  isPulumi: (pid: number) => Promise<boolean>;
}

/** Whether the update that made a lock has ended; undefined where that cannot be told from here. */
export async function hasEnded(lock: Lock, here: Here): Promise<boolean | undefined> {
  if (lock.hostname !== here.hostname || lock.username !== here.username) return undefined;
  return !(await here.isPulumi(lock.pid));
}

/** This machine, and whoever runs this. */
export const here = (): Here => ({ username: userInfo().username, hostname: hostname(), isPulumi });

/** The CLI, which holds the lock, and none of the plugins that it starts. */
const isPulumi = (pid: number) => runs(pid, "comm", /pulumi(?!-(?:resource|language|analyzer))/);

/**
 * Whether a process lives that may be a certain program. Numbers are given again, to threads as well: one counts unless it is known to
 * be something else, or to have ended without its parent's notice. Its age says nothing: it is told by a clock that may have been set
 * meanwhile.
 * @param column of ps: the program's name, or all of its command line.
 * @param pattern what the column of that program matches.
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
    // Silent, it has found no process of that number; one that does not know its options complains.
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    return !(code === 1 && stdout === "" && stderr === "");
  }
}

/**
 * The folder of the project's file backend; undefined where another backend keeps the state.
 * @param environment its PULUMI_BACKEND_URL comes before Pulumi.yaml.
 */
export async function backendFolder(environment: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  const project = parse(await readFile("Pulumi.yaml", "utf8"));
  const url: string = environment.PULUMI_BACKEND_URL || (project.backend?.url ?? "");
  if (!url.startsWith("file://")) return undefined;
  const path = url.slice("file://".length).replace(/\?.*$/, "");
  return resolve(path.replace(/^~(?=\/|$)/, homedir()));
}

/**
 * Files of a stack's locks, with what they say. One that vanishes meanwhile is no lock any more.
 * @throws {Error} for one that says nothing, as a full disk or a power failure leaves it.
 */
export async function locksOf(backend: string, project: string, stack: string): Promise<Map<string, Lock>> {
  const folder = join(backend, BOOKS, "locks", "organization", project, stack);
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
        `The lock ${file} cannot be read. If no update of ${stack} runs: pulumi cancel --stack ${stack}, then try again.`,
      );
    }
  }
  return locks;
}

/** Removes one lock, and no other that was made meanwhile, as `pulumi cancel` would. */
export const removeLock = (file: string): Promise<void> => rm(file, { force: true });

/** Returns the file in which Pulumi's file backend keeps a stack's state. */
export const checkpointFile = (backend: string, project: string, stack: string): string =>
  join(backend, BOOKS, "stacks", project, `${stack}.json`);

/** The resources that a stack's state says are being changed. While nobody holds a lock, nothing is. */
export async function pendingOperations(backend: string, project: string, stack: string): Promise<string[]> {
  const text = await readFile(checkpointFile(backend, project, stack), "utf8").catch(() => "{}");
  const operations: { resource: { urn: string } }[] = JSON.parse(text).checkpoint?.latest?.pending_operations ?? [];
  return operations.map(({ resource }) => resource.urn);
}
