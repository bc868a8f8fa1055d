/**
 * Waits until the server accepts connections, and sets the superuser's password. Runs inside Pulumi's dynamic provider. Docker's own
 * health check is too slow for this, and does not tell the cause of a failure.
 */
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import {
  type ContainerState,
  containerLog,
  containerState,
  docker,
  forwardCommand,
  isRemoteEngine,
  quotedLines,
} from "../../lib/docker.ts";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import { type Address, connect, ident, isPassing, literal } from "../../lib/postgres.ts";
import { pause } from "../../lib/scope.ts";
import { passwordVerifier } from "../../lib/scram.ts";
import { serverProgram } from "../../lib/server-programs.ts";
import { SUPERUSER_SETTINGS } from "../../lib/session-settings.ts";
import type { ServerReadyInputs } from "./database-server.ts";
import { likelyCause } from "./likely-cause.ts";
import { tlsPart } from "./server-access.ts";

const PATIENCE_MS = 180_000;
/** The number of restarts after which the container is considered to have failed. */
const RESTARTS_TOO_MANY = 2;
/** Milliseconds between two progress lines of a recovery. */
const RECOVERY_PACE_MS = 15_000;
const LOG_LINES = 30;
const INVALID_PASSWORD = "28P01";

/** Whether the container has failed for good, so that waiting longer is pointless. */
const hasFailed = (state: ContainerState | undefined) =>
  state === undefined || state.restarts > RESTARTS_TOO_MANY || ["exited", "dead", "removing"].includes(state.status);

/** Returns the error for a server that did not start: the container's state, the likely cause, and its last lines. */
async function notReady({ container, dockerHost: host }: ServerReadyInputs, why: string): Promise<Error> {
  const state = await containerState(container, { host });
  const log = await containerLog(container, LOG_LINES, { host });
  const does = state
    ? `is ${state.status}${state.restarts ? `, restarted ${state.restarts} times` : ""}, last exit code ${state.exitCode}`
    : "does not exist";
  return new Error(
    [
      `The database server in ${container} did not become ready: ${why}. The container ${does}.`,
      `Likely cause: ${likelyCause(log, state)}`,
      `Its last lines:`,
      ...quotedLines(log),
    ].join("\n"),
  );
}

/**
 * Returns the error for a server that is healthy on another machine and unreachable from this one; undefined for any other failure.
 * @param code of the failed connection. ECONNREFUSED: nothing forwards the port. A wrong password: another server answers, because this
 *   server's password has just been set.
 */
export function whyUnreached(
  { container, host, port, dockerHost }: ServerReadyInputs,
  state: ContainerState | undefined,
  code: string | undefined,
): Error | undefined {
  if (!isRemoteEngine(dockerHost) || state?.health !== "healthy") return undefined;
  const healthy = `The database server ${container} is healthy on ${dockerHost ?? process.env.DOCKER_HOST}, but`;
  const forward = `in another terminal, and leave it running: ${forwardCommand(port, dockerHost)}\nThen run pulumi up again.`;
  if (code === "ECONNREFUSED") {
    return new Error(`${healthy} ${host}:${port} on this machine does not lead to it. Forward the port, ${forward}`);
  }
  if (code !== INVALID_PASSWORD) return undefined;
  return new Error(
    `${healthy} another server answers at ${host}:${port} on this machine. Stop that server, or choose another port (pulumi config ` +
      `set port ${port + 1}). Then forward the port, ${forward}`,
  );
}

/** Runs SQL as the superuser through the container's Unix socket, with peer authentication. */
async function throughSocket({ container, dockerHost: host }: ServerReadyInputs, sql: string): Promise<void> {
  await docker(serverProgram(container, "psql", ["-v", "ON_ERROR_STOP=1", "-d", "postgres"], { input: true }), {
    host,
    input: sql,
  });
}

/** Sets the password as a SCRAM verifier, so that the clear text reaches neither the server's log nor its statistics. */
const setPassword = (inputs: ServerReadyInputs): Promise<void> =>
  throughSocket(
    inputs,
    `SET log_min_error_statement = panic; SET log_min_duration_statement = -1; SET log_statement = none;
     ALTER ROLE postgres PASSWORD ${literal(passwordVerifier("postgres", inputs.password))};`,
  );

/** Prints the size of data that is being restored from backups, in KiB; nothing once the restore is complete. */
const FILLED =
  "cd /var/lib/postgresql/data && [ -e recovering ] && { [ ! -e pgdata/global/pg_control ] || [ -e pgdata/recovery.signal ]; } && " +
  "du -sk pgdata | cut -f 1";

/** Reports the progress of a recovery. */
class RecoveryWatch {
  private readonly inputs: ServerReadyInputs;
  private lastLine = Date.now();

  constructor(inputs: ServerReadyInputs) {
    this.inputs = inputs;
  }

  /** Whether data is being restored or WAL replayed, which has no time limit. */
  async isUnderWay(): Promise<boolean> {
    const { container, dockerHost: host, recovers } = this.inputs;
    if (!recovers) return false;
    const filled = await docker(["exec", container, "sh", "-c", FILLED], { host }).catch(() => "");
    if (filled.trim() === "") return false;
    if (Date.now() - this.lastLine > RECOVERY_PACE_MS) {
      this.lastLine = Date.now();
      console.log(`recovery: ${humanBytes(Number(filled) * 1024)} restored`);
    }
    return true;
  }
}

/** Waits until a TCP connection succeeds. Repairs what an earlier use of the volume left: another password, a missing database. */
async function firstConnection(inputs: ServerReadyInputs): Promise<pg.Client> {
  const { host, port, password, container, dockerHost } = inputs;
  const recovery = new RecoveryWatch(inputs);
  const address: Address = { host, port, database: "postgres", user: "postgres", password, ...tlsPart(inputs) };
  let deadline = Date.now() + PATIENCE_MS;
  let lastLook = 0;
  let passwordSet = false;
  for (;;) {
    let failure: string | undefined;
    try {
      const client = await connect(address, { attemptMs: 3000 });
      await makeDatabase(client, inputs);
      return client;
    } catch (error) {
      if (error instanceof UnknownDatabase) throw error;
      const { code } = error as { code?: string };
      failure = code;
      if (code === INVALID_PASSWORD && !passwordSet) {
        await setPassword(inputs);
        passwordSet = true;
        continue;
      }
      if (!isPassing(error)) {
        const unreached = whyUnreached(inputs, await containerState(container, { host: dockerHost }), code);
        throw unreached ?? (await notReady(inputs, (error as Error).message));
      }
      if (Date.now() > deadline) throw await notReady(inputs, `no connection within ${PATIENCE_MS / 1000} s`);
    }
    if (Date.now() - lastLook > 1000) {
      lastLook = Date.now();
      const state = await containerState(container, { host: dockerHost });
      if (hasFailed(state)) throw await notReady(inputs, "the container ended");
      const unreached = whyUnreached(inputs, state, failure);
      if (unreached !== undefined) throw unreached;
      if (await recovery.isUnderWay()) deadline = Date.now() + PATIENCE_MS;
    }
    await pause(100);
  }
}

/** The error for backups that do not contain the wanted database. */
class UnknownDatabase extends Error {}

/** Creates the database if it is missing: after a kill between initdb and its creation, nothing else would create it. */
async function makeDatabase(client: pg.Client, { database, recovers }: ServerReadyInputs): Promise<void> {
  const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [database]);
  if (rowCount === 0 && recovers) await refuseOthers(client, database);
  if (rowCount === 0) await client.query(`CREATE DATABASE ${ident(database)} TEMPLATE template0`);
  // An import that was killed during its swap leaves connections blocked.
  else await client.query(`ALTER DATABASE ${ident(database)} CONNECTION LIMIT -1`);
}

/** @throws {Error} if other databases were restored. A new empty one beside them would look like a loss of data. */
async function refuseOthers(client: pg.Client, database: string): Promise<void> {
  const { rows } = await client.query<{ datname: string }>(
    "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datname <> 'postgres' AND datconnlimit <> -2 ORDER BY 1",
  );
  if (rows.length === 0) return;
  await client.end();
  throw new UnknownDatabase(
    `The backups contain no database ${database}, but ${rows.map(({ datname }) => datname).join(", ")}. Choose one of these: ` +
      "pulumi config set database NAME, then pulumi up",
  );
}

async function makeReady(inputs: ServerReadyInputs): Promise<{ version: string; fingerprint: string }> {
  const client = await firstConnection(inputs);
  try {
    // Without these settings, a slow or failing statement that sets a password would be logged with it. Only the superuser runs such
    // statements.
    for (const [name, value] of Object.entries(SUPERUSER_SETTINGS)) {
      await client.query(`ALTER ROLE postgres SET ${ident(name)} = ${literal(value)}`);
    }
    const { rows } = await client.query<{ server_version: string }>("SHOW server_version");
    // The server may have read its certificate just before the present one arrived.
    if (inputs.authority) await client.query("SELECT pg_catalog.pg_reload_conf()");
    const version = rows[0]?.server_version.split(" ")[0] ?? "unknown";
    return { version, fingerprint: inputsFingerprint({ ...inputs }) };
  } finally {
    await client.end();
  }
}

/** Waits for the server whenever its container or its password has changed. */
export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: ServerReadyInputs) {
    return { id: inputs.container, outs: { ...inputs, ...(await makeReady(inputs)) } };
  },

  async update(_id, _olds, inputs: ServerReadyInputs) {
    return { outs: { ...inputs, ...(await makeReady(inputs)) } };
  },
};
