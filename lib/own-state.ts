/** What the last update left of the stack whose program this is. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { backendFolder, checkpointFile } from "./interrupted.ts";
import { resourcesOf, type StateResource, stateResources } from "./stack-state.ts";

/**
 * Reads the resources of the stack that is being updated or previewed. Secrets stay encrypted. Nothing is locked. A file backend's
 * checkpoint is read directly, which takes a millisecond; the CLI takes half a second.
 * @returns none for a stack that was never updated.
 * @throws {Error} when the state cannot be read.
 */
export async function ownResources(project: string, stack: string): Promise<StateResource[]> {
  const backend = await backendFolder();
  const checkpoint =
    backend && (await readFile(checkpointFile(backend, project, stack), "utf8").catch(() => undefined));
  if (checkpoint !== undefined) return resourcesOf(JSON.parse(checkpoint).checkpoint?.latest ?? {});
  const { stdout } = await promisify(execFile)("pulumi", ["stack", "export", "--stack", stack, "--non-interactive"], {
    maxBuffer: 256 * 1024 * 1024,
  });
  return stateResources(stdout);
}
