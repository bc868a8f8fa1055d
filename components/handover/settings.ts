/** Settings of the hand-over to the application. */
import { type Pools, poolBudget } from "../../lib/pool-budget.ts";
import { list, matches, notBlank, number, oneOf, text, type ValuesOf, whole } from "../../lib/setting.ts";
import type { Driver } from "./handover.ts";

/** How the application gets the database. */
export interface HandOverSettings {
  /** The application's folder. */
  readonly folder: string;
  /** The file of variables in it. */
  readonly file: string;
  readonly target: "local" | "neon";
  /** Role that the services log in as. */
  readonly role: "app" | "owner";
  /** The application's Compose files; none are those that docker compose finds by itself. */
  readonly composeFiles: readonly string[];
  /** What the application's Compose file calls its database, and the network. */
  readonly service: string;
  readonly networkKey: string;
  /** Services of it that get the superuser's variables. */
  readonly superuserServices: readonly string[];
  readonly pools: Pools;
  /** Seconds. */
  readonly poolTimeout: number;
  readonly driver: Driver;
}

const DRIVERS = ["none", "psycopg2", "psycopg", "asyncpg"] satisfies Driver[];
const composeName = () => text(matches(/^[a-zA-Z0-9._-]+$/, "give the name that the Compose file has"));
const positive = () => number(whole(1, 10_000, "give a whole number, at least 1"));

export const HANDOVER_SETTINGS = {
  handoverFolder: text(),
  handoverFile: text(notBlank("name a file, for instance .env")),
  handoverTarget: text(oneOf("local", "neon")),
  handoverRole: text(oneOf("app", "owner")),
  handoverDriver: text(oneOf(...DRIVERS)),
  composeFiles: list(),
  composeService: composeName(),
  composeNetwork: composeName(),
  composeSuperusers: list(),
  poolServices: number(whole(0, 10_000, "give a whole number, or 0 for as many as are found")),
  poolWorkers: positive(),
  poolSize: positive(),
  poolOverflow: number(whole(0, 10_000, "give a whole number, 0 or more")),
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
 * Returns what is wrong with the pools' sum. Services that are not named are counted, and the sum is done, where the Compose files are
 * read. Pure.
 */
export function poolProblems(values: HandoverValues & { maxConnections: number }): string[] {
  if (values.handoverFolder === "" || values.poolServices === 0) return [];
  const budget = poolBudget(poolsOf(values), values.maxConnections);
  if (budget.fits) return [];
  return [
    `maxConnections is ${values.maxConnections}: the application's pools do not fit. ${budget.sum}. Raise maxConnections, or lower ` +
      `poolSize, poolOverflow or poolWorkers`,
  ];
}

/** Returns how the application gets the database; undefined where none is named. Pure. */
export function handoverOf(values: HandoverValues): HandOverSettings | undefined {
  if (values.handoverFolder === "") return undefined;
  return Object.freeze({
    folder: values.handoverFolder,
    file: values.handoverFile,
    target: values.handoverTarget as HandOverSettings["target"],
    role: values.handoverRole as HandOverSettings["role"],
    driver: values.handoverDriver as Driver,
    composeFiles: Object.freeze([...values.composeFiles]),
    service: values.composeService,
    networkKey: values.composeNetwork,
    superuserServices: Object.freeze([...values.composeSuperusers]),
    pools: poolsOf(values),
    poolTimeout: values.poolTimeout,
  });
}
