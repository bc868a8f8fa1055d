/** How many connections the application may open, against how many the server takes. */

/** The application's pools. */
export interface Pools {
  /** Services that hold pools; 0 counts those that are found. */
  services: number;
  /** Processes of each. */
  workers: number;
  /** Connections that a pool keeps. */
  size: number;
  /** Connections that it opens beyond, when they are wanted. */
  overflow: number;
}

/** The reckoning. */
export interface PoolBudget {
  /** Connections that the application may hold at once. */
  wanted: number;
  /** Connections that the server has for it. */
  available: number;
  fits: boolean;
  /** The sum, in words. */
  sum: string;
}

/** SQLAlchemy's synchronous and its asynchronous engine have a pool each. */
const ENGINES = 2;
/** superuser_reserved_connections: the server keeps them for people in trouble. */
const RESERVED = 3;

/** Does the sum. */
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
