/** Measures read replicas: the time to clone one, its cost for the server, and its lag. */
import { setTimeout as sleep } from "node:timers/promises";
import { docker } from "../lib/docker.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import { namesFor, replicaNames } from "../lib/naming.ts";
import { connect } from "../test/support/session.ts";
import { fill } from "./fill.ts";
import { bringUp, type Up } from "./pulumi.ts";
import { figure, median, percentile, ratio, type Section, seconds } from "./results.ts";
import { until } from "./until.ts";
import { CLIENTS } from "./writes.ts";

const STACK = "bench";
const DATA = "/var/lib/postgresql/data";
const SECONDS = 15;
/** Milliseconds between two samples of the lag. */
const SAMPLE_MS = 200;

const replica = replicaNames(STACK, 1);

const ask = async ({ inServer }: Up, sql: string) => (await inServer("psql", "-X", "-A", "-t", "-c", sql)).trim();

/** Waits until the replica has replayed everything. */
const caughtUp = (up: Up) =>
  until(
    "the replica",
    async () => (await ask(up, "SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication")) === "t",
  );

/** Removes the copy and clones it anew. Returns the seconds until the replica streams. */
async function cloneAnew(up: Up): Promise<number> {
  await docker(["stop", replica.container]);
  const image = `${namesFor(STACK).image}:15`;
  await docker([
    "run",
    "--rm",
    "-v",
    `${replica.volume}:${DATA}`,
    "--entrypoint",
    "rm",
    image,
    "-rf",
    `${DATA}/pgdata`,
  ]);
  return seconds(async () => {
    await docker(["start", replica.container]);
    await caughtUp(up);
  });
}

/** Copies the same server with pg_basebackup alone, into the server's own volume. Returns the seconds. */
async function copyAlone({ inServer }: Up): Promise<number> {
  const socket = "local replication postgres peer";
  await docker([
    "exec",
    namesFor(STACK).container,
    "sh",
    "-c",
    `grep -q '${socket}' /etc/postgresql/pg_hba.conf || echo '${socket}' >>/etc/postgresql/pg_hba.conf`,
  ]);
  await inServer("psql", "-X", "-q", "-c", "SELECT pg_reload_conf()");
  const took = await seconds(() => inServer("pg_basebackup", "-c", "fast", "-X", "stream", "-D", `${DATA}/copy`));
  await inServer("rm", "-rf", `${DATA}/copy`);
  return took;
}

/** Runs pgbench. Returns transactions per second. */
async function transactions({ place, inServer }: Up, duration: number, ...more: string[]): Promise<number> {
  const said = await inServer(
    "pgbench",
    "-c",
    String(CLIENTS),
    "-j",
    "2",
    "-T",
    String(duration),
    ...more,
    place.address.database,
  );
  return Number(/tps = ([\d.]+)/.exec(said)?.[1]);
}

/** Measures pgbench with the replica and without it, in alternating pairs after a checkpoint. */
async function measureThroughput(up: Up, pairs: number, duration: number) {
  const tps = { with: [] as number[], without: [] as number[] };
  const run = async (which: "with" | "without") => {
    await docker([which === "with" ? "start" : "stop", replica.container]);
    if (which === "with") await caughtUp(up);
    await ask(up, "CHECKPOINT");
    tps[which].push(await transactions(up, duration));
    console.log(`  pgbench ${which} the replica: ${tps[which].at(-1)?.toFixed(0)} tps`);
  };
  await transactions(up, duration);
  for (let pair = 0; pair < pairs; pair += 1) {
    for (const which of pair % 2 === 0 ? (["without", "with"] as const) : (["with", "without"] as const))
      await run(which);
  }
  await docker(["start", replica.container]);
  await caughtUp(up);
  return tps;
}

/** Samples the lag, in milliseconds, while pgbench runs at a rate. */
async function measureLag(up: Up, rate: number, duration: number): Promise<number[]> {
  const client = await connect(up.place.address);
  const lags: number[] = [];
  let isRunning = true;
  const load = transactions(up, duration, "-R", String(Math.round(rate))).finally(() => {
    isRunning = false;
  });
  while (isRunning) {
    await sleep(SAMPLE_MS);
    const sql = "SELECT coalesce(extract(epoch FROM replay_lag) * 1000, 0)::float8 AS ms FROM pg_stat_replication";
    const { rows } = await client.query<{ ms: number }>(sql);
    if (rows[0]) lags.push(rows[0].ms);
  }
  await Promise.all([load, client.end()]);
  return lags;
}

export async function benchReplicas({ rounds, scale }: { rounds: number; scale: number }): Promise<Section> {
  const up = await bringUp(STACK, { backups: "false", replicas: "1" });
  try {
    const size = await fill(up, scale);
    await caughtUp(up);
    const [cloned, alone] = [[] as number[], [] as number[]];
    for (let round = 0; round < rounds; round += 1) {
      alone.push(await copyAlone(up));
      cloned.push(await cloneAnew(up));
      console.log(`  clone ${cloned.at(-1)?.toFixed(1)} s, pg_basebackup alone ${alone.at(-1)?.toFixed(1)} s`);
    }
    const duration = Math.max(5, Math.round(SECONDS * Math.min(1, scale)));
    const tps = await measureThroughput(up, rounds * 2, duration);
    const ratios = tps.with.map((value, pair) => value / (tps.without[pair] ?? Number.NaN));
    const lags = await measureLag(up, 0.8 * median(tps.with), duration);
    return {
      title: "Read replicas",
      about:
        `A database of ${humanBytes(size)}, the server and one replica on this machine. pgbench, ${CLIENTS} clients, ${duration} s, in pairs ` +
        "with and without the replica, each after a checkpoint. The lag is sampled while pgbench runs at 80 % of the throughput: the time " +
        `from the flush on the server to the replay on the replica, ${lags.length} samples.`,
      table: [
        ["what", "value", "against"],
        ["`pg_basebackup` alone", `${figure(alone)} s`, "1"],
        ["clone, until the replica has caught up", `${figure(cloned)} s`, ratio(cloned, alone)],
        ["transactions per second without the replica", figure(tps.without), "1"],
        [
          "transactions per second with it",
          figure(tps.with),
          `${median(ratios).toFixed(2)} (${ratios.map((r) => r.toFixed(2)).join(", ")})`,
        ],
        ["lag, median", `${median(lags).toFixed(1)} ms`, ""],
        ["lag, 99th percentile", `${percentile(lags, 0.99).toFixed(1)} ms`, ""],
      ],
    };
  } finally {
    await up.stack.end();
  }
}
