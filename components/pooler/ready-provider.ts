/** Creates the pooler's login, writes its configuration, and waits until it works. Runs inside Pulumi's dynamic provider. */
import { createHash } from "node:crypto";
import type { dynamic } from "@pulumi/pulumi";
import { containerLog, quotedLines } from "../../lib/docker.ts";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { glance } from "../../lib/glance.ts";
import { namesFor } from "../../lib/naming.ts";
import { type Address, MAINTENANCE_DATABASE, withConnection } from "../../lib/postgres.ts";
import { pause } from "../../lib/scope.ts";
import { poolerConfiguration } from "./configuration.ts";
import { dropLogin, loginDrift, loginScript, prepareLogin, readLogin } from "./login.ts";
import type { PoolerReadyInputs } from "./pooler.ts";
import { checkPooler, configurePooler, resumePooler, withoutLogins } from "./pooler-container.ts";

/** The server's port inside the network. */
const SERVER_PORT = 5432;
/** Milliseconds until a client must be able to reach the server through the pooler. */
const READY_WITHIN_MS = 30_000;
const LOG_LINES = 15;

interface Outs extends PoolerReadyInputs {
  /** The digest of the function for looking up passwords, as it was created. */
  function: string | null;
  fingerprint: string;
}

const serverOf = ({ host, port, user, password }: PoolerReadyInputs): Address => ({
  host,
  port,
  user,
  password,
  database: MAINTENANCE_DATABASE,
});

const configurationOf = ({ alias, databases, size, replicas }: PoolerReadyInputs): string =>
  poolerConfiguration({ host: alias, port: SERVER_PORT, databases, size, replicas });

/** Adds what the inputs are used for, so that a new version of this program updates existing poolers. The password has a version. */
const wantedOf = ({ poolerPassword: _, ...inputs }: PoolerReadyInputs) => ({
  ...inputs,
  made: createHash("sha256")
    .update(`${configurationOf(inputs as PoolerReadyInputs)}${loginScript()}`)
    .digest("hex"),
});

/** Waits until the pooler can log in to the server. @throws {Error} with the last lines of its log. */
async function waitUntilReady({ stack, dockerHost }: PoolerReadyInputs): Promise<void> {
  for (const deadline = Date.now() + READY_WITHIN_MS; ; await pause(200)) {
    const failure = await checkPooler({ stack, dockerHost }).catch((error: Error) => error);
    if (failure === undefined) return;
    if (Date.now() < deadline) continue;
    const { pooler } = namesFor(stack);
    const log = await containerLog(pooler, LOG_LINES, { host: dockerHost });
    throw new Error(
      [
        `The pooler in ${pooler} cannot log in to the server: ${failure.message}. Its last lines:`,
        ...quotedLines(log),
      ].join("\n"),
    );
  }
}

async function makeReady(inputs: PoolerReadyInputs, olds?: Outs): Promise<Outs> {
  const { stack, dockerHost, poolerPassword } = inputs;
  const place = { stack, dockerHost };
  const isRotated = olds !== undefined && olds.poolerPassword !== poolerPassword;
  // Clients that are logged in with a former password keep their server connections, but PgBouncer can make no new ones for them.
  const reconnect = !isRotated && olds !== undefined && olds.size > inputs.size;
  const apply = async () => {
    await prepareLogin(serverOf(inputs), poolerPassword);
    await configurePooler(place, { ini: configurationOf(inputs), password: poolerPassword, reconnect });
  };
  // Between the two steps, the pooler has another password than the server, and cannot look up passwords.
  await (isRotated ? withoutLogins(place, apply) : apply());
  // The queries may wait for this server: hold-provider.ts.
  await resumePooler(place).catch(() => {});
  await waitUntilReady(inputs);
  const { function: made } = await withConnection(serverOf(inputs), readLogin);
  return { ...inputs, function: made, fingerprint: inputsFingerprint(wantedOf(inputs)) };
}

export const provider: dynamic.ResourceProvider = {
  /** Connects with the inputs of the last update, because those of a preview may be unknown. */
  async diff(id, olds: Outs, news: PoolerReadyInputs) {
    const diff = await diffByFingerprint(id, olds, wantedOf(news));
    if (diff.changes) return diff;
    const found = await glance(serverOf(olds), readLogin);
    const drift = found === undefined ? [] : loginDrift(found, olds.function);
    for (const line of drift) console.log(`pooler: ${line}`);
    return { ...diff, changes: drift.length > 0 };
  },

  async create(inputs: PoolerReadyInputs) {
    return { id: namesFor(inputs.stack).pooler, outs: await makeReady(inputs) };
  },

  async update(_id, olds: Outs, inputs: PoolerReadyInputs) {
    return { outs: await makeReady(inputs, olds) };
  },

  /** Runs while the server stays, after the setting pooler was switched off. */
  async delete(_id, props: Outs) {
    await dropLogin(serverOf(props));
  },
};
