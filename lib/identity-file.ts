/** Where the key that opens safety copies lies. Apart from what reads it, so that settings need no cryptography. */
import { homedir } from "node:os";
import { join } from "node:path";

/** Where the identity lies unless a setting says otherwise: with a person's other settings, as XDG has it. */
export function defaultIdentityFile(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment.XDG_CONFIG_HOME || join(homedir(), ".config"), "sectorwars", "age-identity.txt");
}
