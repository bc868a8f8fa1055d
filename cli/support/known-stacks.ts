/** The stacks that there are, without asking Pulumi, which takes a second. */
import { readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const PROJECT = "sectorwars-database";

/** Names of the stacks in the folder that holds Pulumi's state; none where the state is elsewhere. */
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
