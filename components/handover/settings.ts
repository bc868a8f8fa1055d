/** Settings of the hand-over to the application. */
import { type Pools, poolBudget } from "../../lib/pool-budget.ts";
import { flag, list, matches, notBlank, number, oneOf, text, type ValuesOf, whole } from "../../lib/setting.ts";
import type { Driver } from "./handover.ts";

/** How the application gets the database. */
export interface HandOverSettings {
  /** The application's folder. */
  readonly folder: string;
  /** The env file, relative to the folder. */
  readonly file: string;
  /** The database that the application uses. */
  readonly target: "local" | "neon";
  /** The role that the services log in as. */
  readonly role: "app" | "owner";
  /** The application's Compose files; empty for the default files of docker compose. */
  readonly composeFiles: readonly string[];
  /** The name of the database service in the application's Compose file. */
  readonly service: string;
  /** The name of the network in the application's Compose file. */
  readonly networkKey: string;
  /** Services that get the superuser's variables. */
  readonly superuserServices: readonly string[];
  /** The services' connection pools. */
  readonly pools: Pools;
  /** Seconds that a service waits for a connection of its pool. */
  readonly poolTimeout: number;
  /** The driver in the scheme of the URLs. */
  readonly driver: Driver;
  /** Whether the services connect through the pooler. */
  readonly throughPooler: boolean;
  /** Services that connect to the server directly all the same. */
  readonly directServices: readonly string[];
}

const DRIVERS = ["none", "psycopg2", "psycopg", "asyncpg"] satisfies Driver[];
const composeName = () => text(matches(/^[a-zA-Z0-9._-]+$/, "use the name from the Compose file"));
const positive = () => number(whole(1, 10_000, "use a whole number, at least 1"));

export const HANDOVER_SETTINGS = {
  handoverFolder: text(),
  handoverFile: text(notBlank("use a file name, for example .env")),
  handoverTarget: text(oneOf("local", "neon")),
  handoverRole: text(oneOf("app", "owner")),
  handoverDriver: text(oneOf(...DRIVERS)),
  handoverPooled: flag(),
  handoverDirect: list(),
  composeFiles: list(),
  composeService: composeName(),
  composeNetwork: composeName(),
  composeSuperusers: list(),
  poolServices: number(whole(0, 10_000, "use a whole number, or 0 to count the services automatically")),
  poolWorkers: positive(),
  poolSize: positive(),
  poolOverflow: number(whole(0, 10_000, "use a whole number, 0 or more")),
  poolTimeout: positive(),
};

export type HandoverValues = ValuesOf<typeof HANDOVER_SETTINGS>;

const poolsOf = (values: HandoverValues): Pools =>
  Object.freeze({
    services: values.poolServices,
    workers: values.poolWorkers,
    size: values.poolSize,
    overflow: values.poolOverflow,
  });

/**
 * Returns a problem if the pools exceed maxConnections. With poolServices 0, the hand-over counts the services and checks the sum itself.
 * Pure.
 */
export function poolProblems(values: HandoverValues & { maxConnections: number }): string[] {
  // Through the pooler, the pools' connections are no server connections.
  if (values.handoverFolder === "" || values.poolServices === 0 || values.handoverPooled) return [];
  const budget = poolBudget(poolsOf(values), values.maxConnections);
  if (budget.fits) return [];
  return [
    `maxConnections is ${values.maxConnections}: the application's pools do not fit. ${budget.sum}. Raise maxConnections, or lower ` +
      `poolSize, poolOverflow or poolWorkers`,
  ];
}

/** Returns a problem if the services are to connect through a pooler that the stack does not have. Pure. */
export function pooledProblems(values: HandoverValues & { pooler: boolean }): string[] {
  if (!values.handoverPooled || values.pooler) return [];
  return [
    "handoverPooled is true, but the stack has no pooler: pulumi config set pooler true, or set handoverPooled to false",
  ];
}

/** Returns the settings of the hand-over, or undefined if no application is configured. Pure. */
export function handoverOf(values: HandoverValues): HandOverSettings | undefined {
  if (values.handoverFolder === "") return undefined;
  return Object.freeze({
    folder: values.handoverFolder,
    file: values.handoverFile,
    target: values.handoverTarget as HandOverSettings["target"],
    role: values.handoverRole as HandOverSettings["role"],
    driver: values.handoverDriver as Driver,
    throughPooler: values.handoverPooled,
    directServices: Object.freeze([...values.handoverDirect]),
    composeFiles: Object.freeze([...values.composeFiles]),
    service: values.composeService,
    networkKey: values.composeNetwork,
    superuserServices: Object.freeze([...values.composeSuperusers]),
    pools: poolsOf(values),
    poolTimeout: values.poolTimeout,
  });
}
