/** Stops and starts a stack's replicas around an exchange of the server's data. */
import { docker } from "../../lib/docker.ts";
import { replicaLabel } from "./leftovers.ts";

/** Returns the ids of the replicas' containers, running or not. */
async function replicasOf(stack: string): Promise<string[]> {
  const { label, value } = replicaLabel(stack);
  return (await docker(["ps", "--all", "--quiet", "--filter", `label=${label}=${value}`])).split("\n").filter(Boolean);
}

/** Stops all replicas. */
export async function stopReplicas(stack: string): Promise<void> {
  const ids = await replicasOf(stack);
  if (ids.length > 0) await docker(["stop", ...ids]);
}

/** Starts all replicas. One whose copy cannot follow the server clones it anew (images/database/replica.sh). */
export async function startReplicas(stack: string): Promise<void> {
  const ids = await replicasOf(stack);
  if (ids.length > 0) await docker(["start", ...ids]);
}
