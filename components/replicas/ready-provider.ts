/** Waits until a replica has cloned the data and streams. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { containerLog, containerState, docker, quotedLines } from "../../lib/docker.ts";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import { withConnection } from "../../lib/postgres.ts";
import { pause } from "../../lib/scope.ts";
import { loginAddress } from "../server/server-access.ts";
import type { ReplicaReadyInputs } from "./replicas.ts";

/** Milliseconds without progress of the clone, after which the replica has failed. */
const PATIENCE_MS = 120_000;
/** Milliseconds between two progress lines about a clone. */
const PACE_MS = 10_000;
const RESTARTS_TOO_MANY = 3;
const LOG_LINES = 20;

const STREAMS = `
  SELECT FROM pg_catalog.pg_stat_replication WHERE application_name = $1 AND state OPERATOR(pg_catalog.=) 'streaming'`;

/** Prints the size of a clone under way, in KiB; nothing before and after it. */
const CLONED = "du -sk /var/lib/postgresql/data/clone 2>/dev/null | cut -f 1";

async function failure({ replica, container, dockerHost: host }: ReplicaReadyInputs, why: string): Promise<Error> {
  const log = await containerLog(container, LOG_LINES, { host });
  const lines = quotedLines(log);
  return new Error(
    [`${replica} does not follow the primary: ${why}. The last lines of ${container}:`, ...lines].join("\n"),
  );
}

/** @throws {Error} with the container's last lines, if it has ended, or neither clones nor streams for {@link PATIENCE_MS}. */
async function awaitStream(inputs: ReplicaReadyInputs): Promise<void> {
  const { replica, container, dockerHost: host } = inputs;
  let [size, deadline, lastLine] = [0, Date.now() + PATIENCE_MS, Date.now()];
  await withConnection({ ...loginAddress({ ...inputs, database: "postgres" }) }, async (client) => {
    while ((await client.query(STREAMS, [replica])).rowCount === 0) {
      const state = await containerState(container, { host });
      if (state === undefined) throw await failure(inputs, "its container does not exist");
      if (state.restarts > RESTARTS_TOO_MANY) throw await failure(inputs, `it was restarted ${state.restarts} times`);
      const cloned = Number(await docker(["exec", container, "sh", "-c", CLONED], { host }).catch(() => "0"));
      if (cloned !== size) deadline = Date.now() + PATIENCE_MS;
      size = cloned;
      if (Date.now() > deadline) throw await failure(inputs, `no progress for ${PATIENCE_MS / 1000} s`);
      if (cloned > 0 && Date.now() - lastLine > PACE_MS) {
        lastLine = Date.now();
        console.log(`${replica}: ${humanBytes(cloned * 1024)} cloned`);
      }
      await pause(300);
    }
  });
}

const stateOf = (inputs: ReplicaReadyInputs) => ({ ...inputs, fingerprint: inputsFingerprint({ ...inputs }) });

export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: ReplicaReadyInputs) {
    await awaitStream(inputs);
    return { id: inputs.container, outs: stateOf(inputs) };
  },

  async update(_id, _olds, news: ReplicaReadyInputs) {
    await awaitStream(news);
    return { outs: stateOf(news) };
  },
};
