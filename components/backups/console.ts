/** The way to the container that takes the backups. */
import { containerState, DockerError, docker } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { pause } from "../../lib/scope.ts";
import { type BackupReport, parseReport, type Run } from "./report.ts";

/** What a run says that found another one under way (images/database/backup/schedule.sh). */
export const BUSY = "a run is under way";
/** Milliseconds between two looks whether it has ended. */
const LOOK_MS = 2000;

/** Whether a stack has a container for backups at all. */
export const takesBackups = async (stack: string): Promise<boolean> =>
  (await containerState(namesFor(stack).backups)) !== undefined;

/** Runs the image's script in the container. Never with a secret: its arguments show in ps. */
export async function inBackups(stack: string, ...args: string[]): Promise<string> {
  const container = namesFor(stack).backups;
  const state = await containerState(container);
  if (state === undefined) {
    throw new Error(
      `There is no container ${container}: the stack takes no backups (pulumi config set backups true, then pulumi up), or it was ` +
        `removed (pulumi refresh --yes --target '**Container::backup-container', then pulumi up)`,
    );
  }
  if (state.status !== "running")
    throw new Error(`The container ${container} is ${state.status}: docker start ${container}`);
  try {
    return await docker(["exec", container, "sectorwars-backup", ...args]);
  } catch (error) {
    if (!(error instanceof DockerError)) throw error;
    throw new Error(error.stderr.trim().replace(/^error: /, "") || error.message);
  }
}

/** What the container knows. */
export const readReport = async (stack: string): Promise<BackupReport> => parseReport(await inBackups(stack, "report"));

/** What went wrong, among lines that tell what was being done. */
const errorLine = (stderr: string) => stderr.split("\n").find((line) => line.startsWith("error: "));

/** A line of the container's log about a run. */
export interface RunLine extends Omit<Run, "finished"> {
  run: string;
  /** Damaged: a backup was made, and holds damaged pages. */
  result: "ok" | "failed" | "damaged";
}

/**
 * Makes a backup or a drill now, and waits for its end. One that is under way is waited for first.
 * @param say told what the run is at, and for whose end it waits.
 */
export async function runNow(
  stack: string,
  kind: "full" | "diff" | "drill",
  say: (line: string) => void = () => {},
): Promise<RunLine> {
  const container = namesFor(stack).backups;
  if (!(await takesBackups(stack))) await inBackups(stack);
  let isWaiting = false;
  for (;;) {
    const said = await tryRun(container, kind, say);
    if ("line" in said) return said.line;
    if (!isWaiting) say(`${said.busy}; this one begins when it has ended`);
    isWaiting = true;
    await pause(LOOK_MS);
  }
}

/** Begins a run, and waits for its end; or says which one is under way. */
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
    throw new Error(`${container} did not end its run: ${line || "no answer"}`);
  }
}
