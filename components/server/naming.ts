/** Names of a stack's Docker objects. */

export interface Names {
  container: string;
  network: string;
  volume: string;
  image: string;
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
    image: `${prefix}-database`,
    alias: "database",
  };
}
