/** Names of a stack's Docker objects. */
import { createHash } from "node:crypto";

/** The names of a stack's Docker objects. */
export interface Names {
  container: string;
  network: string;
  volume: string;
  image: string;
  /** The backup container. */
  backups: string;
  /** The volume with the backups, or only with data about them if they are stored elsewhere. */
  backupVolume: string;
  /** The volume with the server's socket, which the backup container shares. */
  socketVolume: string;
  /** The pooler's container. */
  pooler: string;
  poolerImage: string;
  /** The database server's name inside the network, the same in every stack: the application's URLs use it. */
  alias: string;
  /** The pooler's name inside the network. */
  poolerAlias: string;
  /** The name of all replicas inside the network. */
  replicaAlias: string;
}

/** The names of a replica, and of its objects in Docker. */
export interface ReplicaNames {
  /** Name in the network, of the replication slot, and of the connection to the primary. */
  name: string;
  container: string;
  volume: string;
}

/**
 * Returns the names of a stack's Docker objects. The stack `dev` has the names from the application's Compose file; the names of any other
 * stack contain its own name, so that stacks can run side by side.
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
    pooler: `${prefix}-pooler`,
    poolerImage: imageName(`${prefix}-pooler`),
    alias: "database",
    replicaAlias: "replica",
    poolerAlias: "pooler",
  };
}

/** Returns the names of a stack's replica. @param index counts from 1. */
export function replicaNames(stack: string, index: number): ReplicaNames {
  const name = `replica${index}`;
  const prefix = namesFor(stack).container.replace(/database$/, name);
  return { name, container: prefix, volume: `${prefix}-data` };
}

/** Docker's image names are more restricted than Pulumi's stack names: lowercase letters and single separators. */
function imageName(name: string): string {
  const fit = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return fit === name ? name : `${fit}-${createHash("sha256").update(name).digest("hex").slice(0, 6)}`;
}
