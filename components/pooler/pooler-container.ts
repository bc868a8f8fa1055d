/** Runs commands in the pooler's container. images/pooler/sectorwars-pooler.sh has them. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { type ContainerState, containerState, DockerError, docker } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { MAINTENANCE_DATABASE } from "../../lib/postgres.ts";
import { currentScope, isOutsideScopes } from "../../lib/scope.ts";
import { poolerUsers } from "./configuration.ts";
import { type PoolerReport, parsePoolerReport } from "./report.ts";

/** Separates the two files that `configure` reads. */
const USERS = "-- USERS --";

/** A stack's pooler. */
export interface PoolerPlace {
  stack: string;
  dockerHost?: string | undefined;
}

/** Returns the state of the pooler's container, or undefined if the stack has none. */
export const poolerState = ({ stack, dockerHost: host }: PoolerPlace): Promise<ContainerState | undefined> =>
  containerState(namesFor(stack).pooler, { host });

/** Runs a command, and returns its output. Arguments are visible in `ps`, so they must not contain a secret. */
async function execInPooler({ stack, dockerHost: host }: PoolerPlace, args: string[], input?: string): Promise<string> {
  const interactive = input === undefined ? [] : ["-i"];
  try {
    return await docker(["exec", ...interactive, namesFor(stack).pooler, "sectorwars-pooler", ...args], {
      host,
      input,
    });
  } catch (error) {
    if (!(error instanceof DockerError)) throw error;
    throw new Error(error.stderr.trim().replace(/^(error|psql: error): /, "") || error.message);
  }
}

/** PgBouncer's configuration. */
export interface PoolerFiles {
  /** The text of pgbouncer.ini. */
  ini: string;
  /** The password of the pooler's role. */
  password: string;
  /** Whether the server connections must be replaced, because a smaller limit does not end existing ones. */
  reconnect: boolean;
}

/** Writes the configuration, and applies it without ending a client's connection. */
export async function configurePooler(place: PoolerPlace, { ini, password, reconnect }: PoolerFiles): Promise<void> {
  const command = ["configure", ...(reconnect ? ["reconnect"] : [])];
  await execInPooler(place, command, `${ini}${USERS}\n${poolerUsers(password)}`);
}

/** Logs in to the server through the pooler. @throws {Error} with PgBouncer's message. */
export const checkPooler = async (place: PoolerPlace): Promise<void> => void (await execInPooler(place, ["check"]));

/** Lets held queries run. */
export const resumePooler = async (place: PoolerPlace): Promise<void> => void (await execInPooler(place, ["resume"]));

/** Reads the pooler's state from its admin console. */
export const readPooler = async (place: PoolerPlace): Promise<PoolerReport> =>
  parsePoolerReport(await execInPooler(place, ["report"]));

/** Returns the password of the pooler's role from its container; undefined if the stack has no pooler, or it is not configured yet. */
export async function poolerPassword({ stack, dockerHost: host }: PoolerPlace): Promise<string | undefined> {
  const file = "/etc/pgbouncer/users.txt";
  const text = await docker(["exec", namesFor(stack).pooler, "cat", file], { host }).catch(() => "");
  return /" "(.+)"/.exec(text)?.[1];
}

/**
 * Which clients must connect again after a change, because they cache what the change made wrong: none; those with prepared
 * statements, whose result types may be others now; or all, because the database is another one.
 */
export type Disconnect = "none" | "statements" | "sessions";

/** Held queries. */
export interface HeldQueries {
  /** Whether queries wait: false for a stack without a running pooler. */
  readonly isHolding: boolean;
  /** Lets the queries run again, after it has disconnected clients. Only the first call has an effect. */
  release(disconnect: Disconnect): Promise<void>;
}

const NOTHING_HELD: HeldQueries = { isHolding: false, release: async () => {} };

/** Options of {@link holdQueries}. */
export interface HoldOptions {
  /** The databases; by default all of them, for a restart of the server. */
  databases?: readonly string[];
  /** Receives a line about transactions that did not end. */
  say?: (line: string) => void;
}

/**
 * Makes new queries wait in the pooler, and waits until running transactions have ended, for 10 seconds at most. Closes the pooler's
 * server connections. If this process ends, the queries run again.
 * @returns a hold without effect, if the stack has no running pooler.
 */
export async function holdQueries(place: PoolerPlace, options: HoldOptions = {}): Promise<HeldQueries> {
  if ((await poolerState(place))?.status !== "running") return NOTHING_HELD;
  const { dockerHost: host, stack } = place;
  const command = ["exec", "-i", namesFor(stack).pooler, "sectorwars-pooler", "hold", ...(options.databases ?? [])];
  const env = host ? { ...process.env, DOCKER_HOST: host } : process.env;
  const child = spawn("docker", command, { env, stdio: ["pipe", "pipe", "pipe"], detached: isOutsideScopes() });
  const forget = currentScope()?.add(() => child.kill("SIGKILL"));
  const { promise: held, resolve } = Promise.withResolvers<void>();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on("line", (line) => line === "held" && resolve());
  createInterface({ input: child.stderr }).on("line", (line) => options.say?.(`pooler: ${line}`));
  child.stdin.on("error", () => {});
  for (const event of ["close", "error"]) {
    child.on(event, () => {
      forget?.();
      resolve();
      end();
    });
  }
  await held;
  let isReleased = false;
  return {
    isHolding: true,
    async release(disconnect) {
      if (isReleased) return ended;
      isReleased = true;
      child.stdin.end(`${disconnect}\n`);
      await ended;
    },
  };
}

/**
 * Makes a change to a database, or to the whole server, while its queries wait in the pooler. If the change fails, no client is
 * disconnected, because it was undone.
 * @param disconnect which clients must connect again after the change.
 */
export async function whileHeld<T>(
  place: PoolerPlace,
  { disconnect, ...options }: HoldOptions & { disconnect: Disconnect },
  change: () => Promise<T>,
): Promise<T> {
  const held = await holdQueries(place, options);
  let after: Disconnect = "none";
  try {
    const result = await change();
    after = disconnect;
    return result;
  } finally {
    await held.release(after);
  }
}

/** Runs work while no client can log in, so that a login does not fail between the two steps of a change of the pooler's own password. */
export const withoutLogins = <T>(place: PoolerPlace, work: () => Promise<T>): Promise<T> =>
  whileHeld(place, { databases: [MAINTENANCE_DATABASE], disconnect: "none" }, work);
