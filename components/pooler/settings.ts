/** Settings of the connection pooler. */
import { flag, number, portNumber, type ValuesOf, whole } from "../../lib/setting.ts";

/** The pooler: its address, and the server connections that it may open. */
export interface PoolerSettings {
  /** Port on 127.0.0.1. */
  readonly port: number;
  /** The largest number of server connections to each database. */
  readonly size: number;
  /** The image that the pooler's image is built on. */
  readonly baseImage: string;
}

export const POOLER_SETTINGS = {
  pooler: flag(),
  poolerPort: portNumber(),
  poolerSize: number(whole(0, 10_000, "use a whole number, or 0 to derive it from maxConnections")),
};

export type PoolerValues = ValuesOf<typeof POOLER_SETTINGS>;

/** Settings of other components that the pooler's depend on. */
interface Others {
  maxConnections: number;
  /** Further databases in the same server. */
  databases: readonly string[];
}

/** superuser_reserved_connections, and the two server connections with which the pooler looks up passwords. */
const RESERVED = 3 + 2;
/** Connections for migrations, ./db, backups and people, which go to the server directly. */
const DIRECT = 12;
/** More server connections than this do not raise the throughput of a server with a few processors. */
const MOST = 20;

/** Returns the largest number of server connections to each database that leaves enough for direct connections. */
export function poolSize({ poolerSize, maxConnections, databases }: PoolerValues & Others): number {
  if (poolerSize > 0) return poolerSize;
  const share = Math.floor((maxConnections - RESERVED - DIRECT) / (1 + databases.length));
  return Math.min(Math.max(share, 1), MOST);
}

/** Returns the problems of the pooler's settings that involve more than one setting. `port` is that of the server. Pure. */
export function poolerProblems(values: PoolerValues & Others, port: number, poolerPort: number): string[] {
  if (!values.pooler) return [];
  const count = 1 + values.databases.length;
  const [wanted, available] = [poolSize(values) * count, values.maxConnections - RESERVED];
  return [
    ...(port === poolerPort
      ? [`poolerPort is ${poolerPort}, which is the server's port: choose another one, or 0 for the default`]
      : []),
    ...(wanted > available
      ? [
          `maxConnections is ${values.maxConnections}: the pooler's server connections do not fit. ${poolSize(values)} for each of ` +
            `${count} database${count === 1 ? "" : "s"} = ${wanted} of ${available} (max_connections ${values.maxConnections} less ` +
            `${RESERVED} reserved). Raise maxConnections, or lower poolerSize`,
        ]
      : []),
  ];
}

/** Returns the settings of the pooler, or undefined if the stack has none. Pure. */
export const poolerOf = (values: PoolerValues & Others, port: number, baseImage: string): PoolerSettings | undefined =>
  values.pooler ? Object.freeze({ port, size: poolSize(values), baseImage }) : undefined;
