/** The way of the services through the stack's pooler. */
import type { HandOverSettings } from "./settings.ts";

/** The stack's pooler, as a hand-over sees it. */
export interface PoolerAccess {
  /** Its name inside the network, and its port on 127.0.0.1. */
  readonly alias: string;
  readonly port: number;
  /** The largest number of server connections to each database, and the number of databases. */
  readonly size: number;
  readonly databases: number;
}

/** The pooler that the services connect through. */
export interface PooledHandOver extends PoolerAccess {
  /** Services that connect to the server directly all the same. */
  directServices: string[];
}

/** Returns the pooler that the services connect through; undefined if they connect to the server. */
export function pooledHandOver(
  { throughPooler, directServices }: HandOverSettings,
  pooler: PoolerAccess | undefined,
): PooledHandOver | undefined {
  if (!throughPooler || pooler === undefined) return undefined;
  const { alias, port, size, databases } = pooler;
  return { alias, port, size, databases, directServices: [...directServices] };
}
