/** Compares the connections that the application may open with those that the server allows. */

/** The application's pools. */
export interface Pools {
  /** The number of services with pools; 0 to count the services that were found. */
  services: number;
  /** Processes of each service. */
  workers: number;
  /** Connections that a pool keeps open. */
  size: number;
  /** Further connections that a pool opens on demand. */
  overflow: number;
}

/** The result of the comparison. */
export interface PoolBudget {
  /** Connections that the application may open at once. */
  wanted: number;
  /** Connections that the server allows for the application. */
  available: number;
  fits: boolean;
  /** The calculation as text. */
  sum: string;
}

/** SQLAlchemy's synchronous and asynchronous engines have one pool each. */
const ENGINES = 2;
/** superuser_reserved_connections. */
const RESERVED = 3;

/** Calculates the budget. */
export function poolBudget({ services, workers, size, overflow }: Pools, maxConnections: number): PoolBudget {
  const wanted = services * workers * ENGINES * (size + overflow);
  const available = maxConnections - RESERVED;
  const plural = (n: number, word: string) => `${n} ${word}${n === 1 ? "" : "s"}`;
  return {
    wanted,
    available,
    fits: wanted <= available,
    sum:
      `${plural(services, "service")} x ${plural(workers, "worker")} x ${ENGINES} engines (sync, async) x (pool ${size} + overflow ` +
      `${overflow}) = ${wanted} of ${available} (max_connections ${maxConnections} less ${RESERVED} reserved)`,
  };
}
