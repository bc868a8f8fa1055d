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

const plural = (n: number, word: string) => `${n} ${word}${n === 1 ? "" : "s"}`;

/** Returns the connections of services that have these pools, and their calculation as text. */
function connectionsOf({ services, workers, size, overflow }: Pools): { count: number; sum: string } {
  return {
    count: services * workers * ENGINES * (size + overflow),
    sum: `${plural(services, "service")} x ${plural(workers, "worker")} x ${ENGINES} engines (sync, async) x (pool ${size} + overflow ${overflow})`,
  };
}

/** Calculates the budget of services that connect directly. */
export function poolBudget(pools: Pools, maxConnections: number): PoolBudget {
  const { count: wanted, sum } = connectionsOf(pools);
  const available = maxConnections - RESERVED;
  return {
    wanted,
    available,
    fits: wanted <= available,
    sum: `${sum} = ${wanted} of ${available} (max_connections ${maxConnections} less ${RESERVED} reserved)`,
  };
}

/** A pooler between the services and the server. */
export interface PoolerShare {
  /** How many of the services connect to the server directly. */
  direct: number;
  /** The largest number of server connections to each database, and the number of databases. */
  size: number;
  databases: number;
  /** The largest number of clients that the pooler accepts. */
  mostClients: number;
}

/** Calculates the budget of services that connect through a pooler: what counts are its server connections, not its clients. */
export function pooledBudget(
  pools: Pools,
  maxConnections: number,
  { direct, size, databases, mostClients }: PoolerShare,
): PoolBudget {
  const clients = connectionsOf({ ...pools, services: Math.max(pools.services - direct, 0) });
  const others = connectionsOf({ ...pools, services: Math.min(direct, pools.services) });
  const wanted = size * databases + others.count;
  const available = maxConnections - RESERVED;
  return {
    wanted,
    available,
    fits: wanted <= available && clients.count <= mostClients,
    sum:
      `pooler ${size} x ${plural(databases, "database")}${others.count > 0 ? ` + direct ${others.sum}` : ""} = ${wanted} of ${available} ` +
      `(max_connections ${maxConnections} less ${RESERVED} reserved), for ${clients.count} of ${mostClients} clients`,
  };
}
