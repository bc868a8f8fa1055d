/** Lists the stacks without the Pulumi CLI, which takes 1 s. */
import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const PROJECT = "sectorwars-database";

/** Returns the names of the stacks in the folder with Pulumi's state; an empty list if the state is elsewhere. */
export function knownStacks(backend = process.env.PULUMI_BACKEND_URL || "file://./.local/state"): string[] {
  if (!backend.startsWith("file://")) return [];
  const folder = backend.replace(/^file:\/\//, "").replace(/^~/, homedir());
  try {
    return readdirSync(join(folder, ".pulumi", "stacks", PROJECT))
      .filter((file) => file.endsWith(".json"))
      .map((file) => file.slice(0, -".json".length))
      .sort();
  } catch {
    return [];
  }
}
