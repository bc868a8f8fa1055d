/** The path of the identity that decrypts safety copies. A separate module, so that the settings do not load cryptography. */
import { homedir } from "node:os";
import { join } from "node:path";

/** Returns the default path of the identity: in the user's configuration folder (XDG Base Directory Specification). */
export function defaultIdentityFile(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment.XDG_CONFIG_HOME || join(homedir(), ".config"), "sectorwars", "age-identity.txt");
}
