/** Names of a stack's Docker objects. */
import { createHash } from "node:crypto";

/** What a stack calls its Docker objects. */
export interface Names {
  container: string;
  network: string;
  volume: string;
  image: string;
  /** The container that takes the backups. */
  backups: string;
  /** The volume that holds the backups, or where they lie elsewhere, what is known of them. */
  backupVolume: string;
  /** The folder of the server's socket, which the backups' container shares. */
  socketVolume: string;
  /** The database server's name inside the network, the same in every stack: the application's URLs use it. */
  alias: string;
}

/**
 * The stack `dev` has the names that the application's Compose file uses; any other carries its own name, so that stacks
 * live side by side.
 */
export function namesFor(stack: string): Names {
  const prefix = stack === "dev" ? "sectorwars" : `sectorwars-${stack}`;
  return {
    container: `${prefix}-database`,
    network: `${prefix}-network`,
    volume: `${prefix}-data`,
    image: imageName(`${prefix}-database`),
    backups: `${prefix}-backups`,
    backupVolume: `${prefix}-backups`,
    socketVolume: `${prefix}-socket`,
    alias: "database",
  };
}

/** Docker takes fewer names for images than Pulumi does for stacks: small letters and single separators. */
function imageName(name: string): string {
  const fit = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return fit === name ? name : `${fit}-${createHash("sha256").update(name).digest("hex").slice(0, 6)}`;
}
