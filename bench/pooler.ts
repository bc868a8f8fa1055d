/** Measures queries through the pooler against direct connections. */
import { docker } from "../lib/docker.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import { namesFor } from "../lib/naming.ts";
import type { Address } from "../lib/postgres.ts";
import { withConnection } from "../test/support/session.ts";
import { bringUp, type Up } from "./pulumi.ts";
import { figure, median, type Section } from "./results.ts";

const STACK = "bench";
const SECONDS = 5;
/** Megabytes of pgbench's tables: the data stays in memory, so the measurement is of connections. */
const SCALE = 10;

/** One measurement: clients, and how they send the query. */
interface Case {
  title: string;
  clients: number;
  flags: string[];
}

const CASES: readonly Case[] = [
  { title: "20 clients, prepared", clients: 20, flags: ["-M", "prepared"] },
  { title: "20 clients, simple", clients: 20, flags: ["-M", "simple"] },
  { title: "200 clients, prepared", clients: 200, flags: ["-M", "prepared"] },
  { title: "200 clients, simple", clients: 200, flags: ["-M", "simple"] },
  { title: "20 clients, a new connection for each query", clients: 20, flags: ["-C"] },
];

/** The two ways to the server, as containers in the stack's network see them. */
const WAYS = { direct: "-h database -p 5432", pooled: "-h pooler -p 6432" } as const;
type Way = keyof typeof WAYS;

/** Runs a shell line in the server's container, in which pgbench is, with the owner's password in its environment. */
const inServer = (password: string, line: string) =>
  docker(["exec", "-i", namesFor(STACK).container, "sh", "-c", `read -r PGPASSWORD && export PGPASSWORD && ${line}`], {
    input: `${password}\n`,
  });

const pgbench = ({ user, database }: Address, way: Way, more: string) =>
  `pgbench -n -S -j 2 -T ${SECONDS} ${WAYS[way]} -U ${user} ${more} ${database}`;

/** Returns the transactions a second. */
async function throughput(owner: Address, way: Way, { clients, flags }: Case): Promise<number> {
  const said = await inServer(owner.password, `${pgbench(owner, way, `-c ${clients} ${flags.join(" ")}`)} 2>&1`);
  const found = /^tps = ([\d.]+)/m.exec(said)?.[1];
  if (found === undefined) throw new Error(`pgbench printed no throughput: ${said}`);
  return Number(found);
}

/** Returns the 99th percentile of the latency with 20 clients, in ms, from pgbench's log of every tenth query. */
async function latency(owner: Address, way: Way): Promise<number> {
  const log = "--log --log-prefix=/tmp/latency --sampling-rate=0.1 -c 20 -M prepared";
  const count =
    "cat /tmp/latency* | awk '{ print $3 }' | sort -n | awk '{ at[NR] = $1 } END { print at[int(NR * 0.99)] }'";
  const said = await inServer(
    owner.password,
    `rm -f /tmp/latency*; ${pgbench(owner, way, log)} >/dev/null 2>&1; ${count}; rm -f /tmp/latency*`,
  );
  return Number(said.trim()) / 1000;
}

/** Returns the server processes of 200 clients, and the memory that they do not share with others, in bytes: the largest of samples. */
async function footprint(owner: Address, way: Way): Promise<{ processes: number; bytes: number }> {
  const { container, pooler } = namesFor(STACK);
  // Server connections that are left from the last run through the pooler would count.
  const console = ["psql", "-h", "/run/pgbouncer", "-p", "6432", "-U", "pgbouncer", "pgbouncer"];
  await docker(["exec", pooler, ...console, "-c", "RECONNECT", "-c", "WAIT_CLOSE"]);
  let isOver = false;
  const run = inServer(owner.password, `${pgbench(owner, way, "-c 200 -M prepared")} >/dev/null 2>&1`).finally(() => {
    isOver = true;
  });
  const own = "grep -h ^Private_Dirty: /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '{ kb += $2 } END { print kb }'";
  const backends = `SELECT count(*) FROM pg_stat_activity WHERE usename = '${owner.user}'`;
  const most = { processes: 0, bytes: 0 };
  while (!isOver) {
    const said = await docker([
      ...["exec", "-u", "postgres", container, "sh", "-c"],
      `psql -XAtc "${backends}" && ${own}`,
    ]);
    const [processes = 0, kilobytes = 0] = said.trim().split("\n").map(Number);
    most.processes = Math.max(most.processes, processes);
    most.bytes = Math.max(most.bytes, kilobytes * 1024);
  }
  await run;
  return most;
}

async function measure({ place }: Up, owner: Address, rounds: number): Promise<string[][]> {
  const taken = new Map(CASES.map(({ title }) => [title, { direct: [] as number[], pooled: [] as number[] }]));
  const tails = { direct: [] as number[], pooled: [] as number[] };
  await withConnection(place.address, (client) => client.query("CHECKPOINT"));
  for (let round = 0; round < rounds; round += 1) {
    for (const one of CASES) {
      for (const way of ["direct", "pooled"] as const) {
        taken.get(one.title)?.[way].push(await throughput(owner, way, one));
      }
    }
    for (const way of ["direct", "pooled"] as const) tails[way].push(await latency(owner, way));
  }
  const row = (title: string, unit: string, { direct, pooled }: Record<Way, number[]>) => [
    `${title}, ${unit}`,
    figure(direct),
    figure(pooled),
    (median(pooled) / median(direct)).toFixed(2),
  ];
  const [direct, pooled] = [await footprint(owner, "direct"), await footprint(owner, "pooled")];
  return [
    ["what", "direct", "through the pooler", "pooler / direct"],
    ...CASES.map(({ title }) => row(title, "queries a second", taken.get(title) ?? { direct: [], pooled: [] })),
    row("20 clients, prepared", "p99 in ms", tails),
    ["200 clients, server processes", String(direct.processes), String(pooled.processes), ""],
    ["200 clients, memory of the server's processes", humanBytes(direct.bytes), humanBytes(pooled.bytes), ""],
  ];
}

export async function benchPooler({ rounds }: { rounds: number }): Promise<Section> {
  const up = await bringUp(STACK, { maxConnections: "250", poolerSize: "20", pooler: "true" });
  try {
    const urls = JSON.parse(
      await up.stack.pulumi("stack", "output", "urls", "--json", "--show-secrets", "--stack", STACK),
    );
    const { username, password } = new URL(urls.owner);
    const owner = { ...up.place.address, user: username, password };
    await inServer(password, `pgbench -q -i -s ${SCALE} -h database -U ${username} ${owner.database} 2>&1`);
    return {
      title: "The pooler",
      about:
        `pgbench -S at scale ${SCALE} for ${SECONDS} s, from the server's container, over TCP: direct, and through PgBouncer with 20 server ` +
        "connections. pgbench, PgBouncer and the server share the machine's CPUs, so a pooler cannot raise the throughput here; it keeps the " +
        "number of server processes small. Memory is what the processes do not share (Private_Dirty).",
      table: await measure(up, owner, rounds),
    };
  } finally {
    await up.stack.end();
  }
}
