/** Runs commands in the backups' container. */
import { containerState, DockerError, docker } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { pause } from "../../lib/scope.ts";
import { type BackupReport, parseReport, type Run } from "./report.ts";

/** Part of the error that the image's script prints while another run is active (images/database/backup/schedule.sh). */
export const BUSY = "a run is under way";
/** Milliseconds between two attempts to start a run while another one is active. */
const RETRY_MS = 2000;

/** Whether the stack has a backups' container. */
export const takesBackups = async (stack: string): Promise<boolean> =>
  (await containerState(namesFor(stack).backups)) !== undefined;

/**
 * Runs the image's script in the container and returns its output. Its arguments are visible in `ps`, so they must not contain a secret.
 * @throws {Error} if there is no container, it does not run, or the script fails.
 */
export async function execInBackupContainer(stack: string, ...args: string[]): Promise<string> {
  const container = namesFor(stack).backups;
  const state = await containerState(container);
  if (state === undefined) {
    throw new Error(
      `There is no container ${container}. Either the stack takes no backups (pulumi config set backups true, then pulumi up), or the ` +
        `container was removed (pulumi refresh --yes --target '**Container::backup*', then pulumi up)`,
    );
  }
  if (state.status !== "running")
    throw new Error(`The container ${container} is ${state.status}. Start it: docker start ${container}`);
  try {
    return await docker(["exec", container, "sectorwars-backup", ...args]);
  } catch (error) {
    if (!(error instanceof DockerError)) throw error;
    throw new Error(error.stderr.trim().replace(/^error: /, "") || error.message);
  }
}

/** Returns the report of the backups' container. */
export const readReport = async (stack: string): Promise<BackupReport> =>
  parseReport(await execInBackupContainer(stack, "report"));

/** Returns the error line, which follows lines of progress. */
const errorLine = (stderr: string) => stderr.split("\n").find((line) => line.startsWith("error: "));

/** The result of a run, as the container's log has it. */
export interface RunLine extends Omit<Run, "finished"> {
  run: string;
  /** `damaged`: the backup was made, but contains damaged pages. */
  result: "ok" | "failed" | "damaged";
}

/**
 * Runs a backup or a drill now, and waits until it has ended. If another run is active, it waits for that one first.
 * @param say receives the steps of the run, and the run that it waits for.
 */
export async function runNow(
  stack: string,
  kind: "full" | "diff" | "drill",
  say: (line: string) => void = () => {},
): Promise<RunLine> {
  const container = namesFor(stack).backups;
  if (!(await takesBackups(stack))) await execInBackupContainer(stack);
  let isWaiting = false;
  for (;;) {
    const said = await tryRun(container, kind, say);
    if ("line" in said) return said.line;
    if (!isWaiting) say(`${said.busy}; this run starts after it`);
    isWaiting = true;
    await pause(RETRY_MS);
  }
}

/** Starts a run and waits until it has ended, or returns the message about the run that is active. */
async function tryRun(
  container: string,
  kind: string,
  say: (line: string) => void,
): Promise<{ line: RunLine } | { busy: string }> {
  let said: string;
  try {
    const line = `sectorwars-backup run ${kind} || [ $? = 1 ]`;
    const onLine = (line: string) => line.includes(BUSY) || say(line);
    said = await docker(["exec", container, "sh", "-c", line], { onLine });
  } catch (error) {
    const text = error instanceof DockerError ? (errorLine(error.stderr) ?? error.stderr.trim()) : String(error);
    const words = text.replace(/^error: /, "");
    if (text.includes(BUSY)) return { busy: words };
    throw new Error(`${container}: ${words}`);
  }
  const line = said.trim().split("\n").at(-1) ?? "";
  try {
    return { line: JSON.parse(line) };
  } catch {
    throw new Error(`${container} did not report the result of the run: ${line || "no output"}`);
  }
}
