/** What archiving costs a server that is written to. */
import { readReport } from "../components/backups/backup-container.ts";
import { connect } from "../test/support/session.ts";
import type { Up } from "./pulumi.ts";
import { median, type Section } from "./results.ts";
import { cpuSeconds } from "./servers.ts";
import { until } from "./until.ts";

const SECONDS = 15;
/** Clients of pgbench, of which each wants a branch of its own most of the time: no fewer branches than these. */
export const CLIENTS = 8;

/** One run of pgbench, and what it took. */
interface Run {
  /** Transactions a second, as pgbench counts them. */
  tps: number;
  /** CPU time of all that ran in the server's container, pgbench and archiving included: ms a transaction. */
  cpu: number;
  /** WAL that was written, MB. */
  wal: number;
  /** WAL files that waited to be archived at its end. */
  waiting: number;
}

/**
 * Brings both servers to rest: nothing of an earlier run is left to be written, archived or vacuumed during the next. The
 * checkpoint makes each page's first change a full image in the log, so that each run has as much of it as there can be.
 */
async function settle(servers: readonly Up[], archiving: Up): Promise<void> {
  for (const { inServer } of servers) await inServer("psql", "-X", "-q", "-c", "CHECKPOINT");
  await until("the archive", async () => (await readReport(archiving.stack.name)).waiting === 0);
  await archiving.inServer("sync");
}

async function transactions({ place, inServer }: Up, duration: number): Promise<Run> {
  const ask = async (sql: string) => Number(await inServer("psql", "-X", "-A", "-t", "-c", sql));
  const written = () => ask("SELECT pg_current_wal_lsn() - '0/0'");
  const [wal, cpu] = [await written(), await cpuSeconds(place)];
  // Without -n it empties its history and vacuums its two small tables first.
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

/** Autovacuum comes when it likes, to one of the two. */
const setAutovacuum = async ({ place }: Up, to: "off" | "DEFAULT") => {
  const client = await connect(place.address);
  await client.query(`ALTER SYSTEM SET autovacuum = ${to}`);
  await client.query("SELECT pg_reload_conf()");
  await client.end();
};

/**
 * pgbench in pairs, one server right after the other, in turn this one or that one first: what drifts on the machine, or is left
 * behind by whoever ran before, does both the same harm. What counts is the ratio within each pair.
 */
export async function measureWrites(up: Up, plain: Up, rounds: number, scale: number): Promise<Section> {
  const servers = [up, plain];
  const duration = Math.max(5, Math.round(SECONDS * Math.min(1, scale)));
  const runs = { on: [] as Run[], off: [] as Run[] };
  const run = async (which: "on" | "off") => {
    await settle(servers, up);
    runs[which].push(await transactions(which === "on" ? up : plain, duration));
  };
  for (const server of servers) await setAutovacuum(server, "off");
  // The first run reads what no later one has to.
  for (const server of servers) await transactions(server, duration);
  for (let pair = 0; pair < rounds * 4; pair += 1) {
    for (const which of pair % 2 === 0 ? (["off", "on"] as const) : (["on", "off"] as const)) await run(which);
    for (const which of ["off", "on"] as const) {
      const { tps = 0, cpu = 0, wal = 0, waiting = 0 } = runs[which].at(-1) ?? {};
      console.log(
        `  pgbench, ${which}: ${tps.toFixed(0)} tps, ${cpu.toFixed(3)} ms CPU each, ${wal.toFixed(0)} MB of WAL, ${waiting} files wait`,
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
    title: "Writes while they are archived",
    about:
      `pgbench, ${CLIENTS} clients, ${duration} s, on two stacks of the same settings and data, each time right after a checkpoint, one after ` +
      "the other in pairs. Every WAL file is compressed, encrypted and put into the repository, on the same disk: " +
      `${median(all("on", "wal")).toFixed(0)} MB during a run, at whose end at most ${Math.max(...all("on", "waiting"))} files waited. ` +
      "Against off: the median of the pairs' ratios. The CPU is all that the server's container used, pgbench and archiving included.",
    table: [
      ["archiving", "transactions a second", "against off", "CPU ms a transaction"],
      row("off", "1"),
      row("on", shown(ratios, 2)),
    ],
  };
}
