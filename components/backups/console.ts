/** The way to the container that takes the backups. */
import { containerState, DockerError, docker } from "../../lib/docker.ts";
import { namesFor } from "../server/naming.ts";
import { type BackupReport, parseReport, type Run } from "./report.ts";

/** The exit code of a run that found another one under way. */
const BUSY = "a run is under way";

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
 * Makes a backup or a drill now, and waits for its end.
 * @param say told what the run is at.
 * @throws {Error} when another run is under way.
 */
export async function runNow(
  stack: string,
  kind: "full" | "diff" | "drill",
  say?: (line: string) => void,
): Promise<RunLine> {
  const container = namesFor(stack).backups;
  if (!(await takesBackups(stack))) await inBackups(stack);
  let said: string;
  try {
    const line = `sectorwars-backup run ${kind} || [ $? = 1 ]`;
    said = await docker(["exec", container, "sh", "-c", line], say ? { onLine: say } : {});
  } catch (error) {
    const text = error instanceof DockerError ? (errorLine(error.stderr) ?? error.stderr.trim()) : String(error);
    if (text.includes(BUSY)) {
      throw new Error(`${text.replace(/^error: /, "")}; wait for it, or look at it: docker logs ${container}`);
    }
    throw new Error(`${container}: ${text.replace(/^error: /, "")}`);
  }
  const line = said.trim().split("\n").at(-1) ?? "";
  try {
    return JSON.parse(line);
  } catch {
    throw new Error(`${container} did not end its run: ${line || "no answer"}`);
  }
}
