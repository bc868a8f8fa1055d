/** Measures the cost of archiving for a server under writes. */
import { readReport } from "../components/backups/backup-container.ts";
import { connect } from "../test/support/session.ts";
import type { Up } from "./pulumi.ts";
import { median, type Section } from "./results.ts";
import { cpuSeconds } from "./servers.ts";
import { until } from "./until.ts";

const SECONDS = 15;
/** Number of pgbench clients. pgbench needs at least as many branches (its scale), or the clients wait for each other's row locks. */
export const CLIENTS = 8;

/** The measurements of one run of pgbench. */
interface Run {
  /** Transactions per second, as pgbench counts them. */
  tps: number;
  /** CPU time of everything in the server's container, including pgbench and archiving: milliseconds per transaction. */
  cpu: number;
  /** WAL written, in MB. */
  wal: number;
  /** WAL files that waited to be archived at the end. */
  waiting: number;
}

/**
 * Brings both servers to rest, so that no run writes, archives or vacuums data of an earlier one. After the checkpoint, the first change
 * of each page writes a full-page image, so every run produces as much WAL as possible.
 */
async function quiesce(servers: readonly Up[], archiving: Up): Promise<void> {
  for (const { inServer } of servers) await inServer("psql", "-X", "-q", "-c", "CHECKPOINT");
  await until("the archive", async () => (await readReport(archiving.stack.name)).waiting === 0);
  await archiving.inServer("sync");
}

async function transactions({ place, inServer }: Up, duration: number): Promise<Run> {
  const ask = async (sql: string) => Number(await inServer("psql", "-X", "-A", "-t", "-c", sql));
  const written = () => ask("SELECT pg_current_wal_lsn() - '0/0'");
  const [wal, cpu] = [await written(), await cpuSeconds(place)];
  // Without -n, pgbench first truncates its history and vacuums its two small tables.
  const how = ["-c", String(CLIENTS), "-j", "2", "-T", String(duration)];
  const said = await inServer("pgbench", ...how, place.address.database);
  const count = Number(/actually processed: (\d+)/.exec(said)?.[1]);
  return {
    tps: Number(/tps = ([\d.]+)/.exec(said)?.[1]),
    cpu: ((await cpuSeconds(place)) - cpu) * (1000 / count),
    wal: ((await written()) - wal) / 1_000_000,
    waiting: await ask("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"),
  };
}

/** Switches autovacuum, which could otherwise run on one of the servers only. */
const setAutovacuum = async ({ place }: Up, to: "off" | "DEFAULT") => {
  const client = await connect(place.address);
  await client.query(`ALTER SYSTEM SET autovacuum = ${to}`);
  await client.query("SELECT pg_reload_conf()");
  await client.end();
};

/**
 * Runs pgbench in pairs, on one server immediately after the other, in alternating order. So drift of the machine and after-effects of an
 * earlier run affect both servers equally. The result is the ratio within each pair.
 */
export async function measureWrites(up: Up, plain: Up, rounds: number, scale: number): Promise<Section> {
  const servers = [up, plain];
  const duration = Math.max(5, Math.round(SECONDS * Math.min(1, scale)));
  const runs = { on: [] as Run[], off: [] as Run[] };
  const run = async (which: "on" | "off") => {
    await quiesce(servers, up);
    runs[which].push(await transactions(which === "on" ? up : plain, duration));
  };
  for (const server of servers) await setAutovacuum(server, "off");
  // The first run fills the caches and is not measured.
  for (const server of servers) await transactions(server, duration);
  for (let pair = 0; pair < rounds * 4; pair += 1) {
    for (const which of pair % 2 === 0 ? (["off", "on"] as const) : (["on", "off"] as const)) await run(which);
    for (const which of ["off", "on"] as const) {
      const { tps = 0, cpu = 0, wal = 0, waiting = 0 } = runs[which].at(-1) ?? {};
      console.log(
        `  pgbench, ${which}: ${tps.toFixed(0)} tps, ${cpu.toFixed(3)} ms CPU each, ${wal.toFixed(0)} MB of WAL, ${waiting} files waiting`,
      );
    }
  }
  for (const server of servers) await setAutovacuum(server, "DEFAULT");
  const shown = (values: number[], digits: number) =>
    `${median(values).toFixed(digits)} (${values.map((value) => value.toFixed(digits)).join(", ")})`;
  const all = (which: "on" | "off", what: keyof Run) => runs[which].map((run) => run[what]);
  const off = all("off", "tps");
  const ratios = all("on", "tps").map((value, pair) => value / (off[pair] ?? Number.NaN));
  const row = (which: "on" | "off", against: string) => [
    which,
    shown(all(which, "tps"), 0),
    against,
    median(all(which, "cpu")).toFixed(3),
  ];
  return {
    title: "Writes with archiving",
    about:
      `pgbench, ${CLIENTS} clients, ${duration} s, on two stacks with the same settings and data, in pairs, each run immediately after a ` +
      "checkpoint. Every WAL file is compressed, encrypted and stored in the repository on the same disk: " +
      `${median(all("on", "wal")).toFixed(0)} MB per run, and at most ${Math.max(...all("on", "waiting"))} files waited at its end. ` +
      "Against off: the median of the pairs' ratios. CPU is the time of the server's container, including pgbench and archiving.",
    table: [
      ["archiving", "transactions per second", "against off", "CPU ms per transaction"],
      row("off", "1"),
      row("on", shown(ratios, 2)),
    ],
  };
}
