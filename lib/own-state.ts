/** Reads the state of the stack whose program is running. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { backendFolder, checkpointFile } from "./interrupted.ts";
import { resourcesOf, type StateResource, stateResources } from "./stack-state.ts";

/**
 * Reads the resources of the stack that is being updated or previewed. Secrets stay encrypted. Takes no lock. Reads a file backend's
 * checkpoint directly, which takes 1 ms; the CLI takes 500 ms.
 * @returns an empty list for a stack that was never updated.
 * @throws {Error} if the state cannot be read.
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
