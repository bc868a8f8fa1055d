/** What archiving costs a server that is written to. */
import { readReport } from "../components/backups/console.ts";
import { connect } from "../lib/postgres.ts";
import type { Up } from "./pulumi.ts";
import { median, type Section } from "./results.ts";
import { until } from "./until.ts";

const SECONDS = 30;
/** Clients of pgbench, of which each wants a branch of its own most of the time: no fewer branches than these. */
export const CLIENTS = 8;

/** One run of pgbench, and how much of it was archived. */
interface Run {
  /** Transactions a second, as pgbench counts them. */
  tps: number;
  /** WAL files that were archived during it. */
  archived: number;
  /** WAL files that waited at its end. */
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
  const archivedNow = () => ask("SELECT archived_count FROM pg_stat_archiver");
  const before = await archivedNow();
  // Without -n it empties its history and vacuums its two small tables first.
  const how = ["-c", String(CLIENTS), "-j", "2", "-T", String(duration)];
  const said = await inServer("pgbench", ...how, place.address.database);
  const waiting = await ask("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'");
  return { tps: Number(/tps = ([\d.]+)/.exec(said)?.[1]), archived: (await archivedNow()) - before, waiting };
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
  for (let pair = 0; pair < rounds * 2; pair += 1) {
    for (const which of pair % 2 === 0 ? (["off", "on"] as const) : (["on", "off"] as const)) await run(which);
    const [off, on] = [runs.off.at(-1), runs.on.at(-1)];
    console.log(
      `  pgbench: ${off?.tps.toFixed(0)} off, ${on?.tps.toFixed(0)} on (${on?.archived} archived, ${on?.waiting} wait)`,
    );
  }
  for (const server of servers) await setAutovacuum(server, "DEFAULT");
  const shown = (values: number[], digits: number) =>
    `${median(values).toFixed(digits)} (${values.map((value) => value.toFixed(digits)).join(", ")})`;
  const tps = (which: "on" | "off") => runs[which].map((run) => run.tps);
  const off = tps("off");
  const ratios = tps("on").map((value, pair) => value / (off[pair] ?? Number.NaN));
  const archived = median(runs.on.map((run) => run.archived));
  const waiting = Math.max(...runs.on.map((run) => run.waiting));
  return {
    title: "Writes while they are archived",
    about:
      `pgbench, ${CLIENTS} clients, ${duration} s, on two stacks of the same settings and data, each time right after a checkpoint, one after the other in pairs. ` +
      `Every WAL file is compressed, encrypted and put into the repository on the same disk: ${archived} during a run; at its end at most ${waiting} waited. ` +
      "Against off: the median of the pairs' ratios.",
    table: [
      ["archiving", "transactions a second", "against off"],
      ["off", shown(off, 0), "1"],
      ["on", shown(tps("on"), 0), shown(ratios, 2)],
    ],
  };
}
