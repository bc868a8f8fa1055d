/** Backups, recovery and save points, each against what one would use otherwise. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { readReport, runNow } from "../components/backups/console.ts";
import { backupsIn } from "../components/backups/report.ts";
import { humanBytes } from "../components/import/progress.ts";
import { namesFor } from "../components/server/naming.ts";
import {
  deleteSnapshot,
  restoreSnapshot,
  type SnapshotPlace,
  saveSnapshot,
} from "../components/snapshots/snapshots.ts";
import { docker } from "../lib/docker.ts";
import { ident, withConnection } from "../lib/postgres.ts";
import { addressOf } from "../lib/stack.ts";
import { events } from "./lab.ts";
import { type BenchStack, makeStack } from "./pulumi.ts";
import { figure, median, ratio, type Section, seconds } from "./results.ts";

const run = promisify(execFile);
const STACK = "bench";
/** The same server without archiving. */
const PLAIN = "bench-plain";
/** In the volume of the backups, so that both write to the same disk. */
const OTHERS = "/var/lib/sectorwars-backups/others";
const PGBENCH_SECONDS = 30;
const DATA = "/var/lib/postgresql/data";

/** A stack that is up. */
interface Up {
  stack: BenchStack;
  place: SnapshotPlace;
  /** A command in the server's container, as the server's user. */
  inServer: (...args: string[]) => Promise<string>;
}

async function bringUp(name: string, settings: Record<string, string>): Promise<Up> {
  const stack = await makeStack(name);
  for (const [key, value] of Object.entries(settings)) await stack.pulumi("config", "set", key, value, "--stack", name);
  await stack.pulumi("up", "--yes", "--skip-preview", "--stack", name);
  const urls = JSON.parse(await stack.pulumi("stack", "output", "urls", "--json", "--show-secrets", "--stack", name));
  const { container } = namesFor(name);
  return {
    stack,
    place: { address: addressOf(urls.superuser), container },
    inServer: (...args) => docker(["exec", "-u", "postgres", container, ...args]),
  };
}

/** About 1 GB at scale 1: half of it pgbench's, half jsonb under indexes. */
async function fill({ place, inServer }: Up, scale: number): Promise<number> {
  const pgbench = ["pgbench", "-q", "-i", "-I", "dtGp", "-s", String(Math.max(1, Math.round(32 * scale)))];
  await inServer(...pgbench, place.address.database);
  return withConnection(place.address, async (client) => {
    await client.query(events(Math.round(700_000 * scale)));
    await client.query("VACUUM ANALYZE");
    await client.query("CHECKPOINT");
    return (await client.query("SELECT pg_database_size(current_database())::float8 AS bytes")).rows[0].bytes;
  });
}

/** Every twentieth page's rows, one after the other, so that a twentieth of the files' blocks is another. */
const changeTwentieth = ({ place }: Up) =>
  withConnection(place.address, async (client) => {
    await client.query("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 2000 < 100");
    await client.query("UPDATE events SET kind = kind WHERE id % 2000 < 100");
    await client.query("CHECKPOINT");
  });

const bytesOf = async (folder: string) =>
  Number((await docker(["exec", namesFor(STACK).backups, "du", "-sk", folder])).split(/\s/)[0]) * 1024;

/** pg_basebackup of the same server, to the same disk; returns seconds and bytes. */
async function baseBackup({ inServer }: Up, ...how: string[]): Promise<[number, number]> {
  const took = await seconds(() => inServer("pg_basebackup", "-c", "fast", "-X", "fetch", "-D", OTHERS, ...how));
  const bytes = await bytesOf(OTHERS);
  await inServer("rm", "-rf", OTHERS);
  return [took, bytes];
}

/** Asks until there is a first backup: it begins by itself. */
async function firstBackup(): Promise<void> {
  while ((await readReport(STACK)).full.ok === null) await sleep(500);
}

/** One round's seconds, by what was done. */
type Times = Record<string, number[]>;
const note = (times: Times, what: string, value: number) => {
  times[what] = [...(times[what] ?? []), value];
  console.log(`  ${what}: ${value.toFixed(1)} s`);
};

async function measureBackups(up: Up, rounds: number, size: number): Promise<Section> {
  const times: Times = {};
  const sizes: Record<string, number> = {};
  const command = (...args: string[]) => run("node", args, { env: up.stack.env, maxBuffer: 64 * 1024 * 1024 });
  // The server's own rules let nobody replicate; this container is gone soon.
  await docker([
    "exec",
    up.place.container,
    "sh",
    "-c",
    "echo 'local replication postgres peer' >>/etc/postgresql/pg_hba.conf",
  ]);
  await up.inServer("psql", "-X", "-q", "-c", "SELECT pg_reload_conf()");
  const newest = async () => backupsIn(await readReport(STACK)).at(-1);
  for (let round = 0; round < rounds; round += 1) {
    for (const [what, how] of [
      ["plain", []],
      ["zstd", ["-Ft", "--compress=server-zstd:3"]],
    ] as const) {
      const [took, bytes] = await baseBackup(up, ...how);
      note(times, what, took);
      sizes[what] = bytes;
    }
    const full = ["pgbackrest", "--stanza=main", "--type=full", "backup"];
    note(times, "full", await seconds(() => docker(["exec", "-u", "postgres", namesFor(STACK).backups, ...full])));
    sizes.full = (await newest())?.info.repository.delta ?? 0;
    note(times, "command", await seconds(() => runNow(STACK, "full")));
    await changeTwentieth(up);
    note(times, "differential", await seconds(() => runNow(STACK, "diff")));
    sizes.differential = (await newest())?.info.repository.delta ?? 0;
    note(times, "drill", await seconds(() => runNow(STACK, "drill")));
    await sleep(1100);
    const moment = new Date().toISOString();
    await changeTwentieth(up);
    for (const [what, to] of [
      ["latest", "latest"],
      ["time", moment],
    ] as const) {
      let said = "";
      const restore = async () => {
        said = (await command("commands/restore.ts", "--to", to, "--stack", STACK)).stdout;
      };
      note(times, what, await seconds(restore));
      const stamp = /--undo (\w+)/.exec(said)?.[1] ?? "";
      await docker(["exec", up.place.container, "rm", "-rf", `${DATA}/pgdata.before-${stamp}`]);
      // The full backup that follows a restore is not to run beside the next figure.
      while ((await readReport(STACK)).running !== "" || (await wanted())) await sleep(500);
    }
  }
  const row = (what: string, key: string, against = "") => [
    what,
    figure(times[key] ?? []),
    against && `${ratio(times[key] ?? [], times[against] ?? [])}`,
    sizes[key] === undefined ? "" : humanBytes(sizes[key]),
  ];
  return {
    title: "Backups and recovery",
    about:
      `A database of ${humanBytes(size)}, half pgbench's, half jsonb under indexes. Backups are encrypted (AES-256-CBC) and compressed ` +
      "(zstd 3) by two processes; pg_basebackup copies in clear. `npm run backup` also writes down what every table holds. A drill " +
      "verifies, restores, starts, checks with pg_amcheck and compares every table. `npm run restore` does so too and exchanges the data " +
      "under a running stack.",
    table: [
      ["what", "seconds", "against it", "size"],
      row("`pg_basebackup`", "plain"),
      row("`pg_basebackup -Ft --compress=server-zstd:3`", "zstd", "plain"),
      row("full backup, pgBackRest alone", "full", "plain"),
      row("full backup, `npm run backup -- --full`", "command", "plain"),
      row("differential backup after a change of 5 %", "differential", "command"),
      row("drill", "drill"),
      row("restore of the newest state", "latest"),
      row("restore to a point in time", "time"),
    ],
  };
}

const wanted = async () =>
  (await docker(["exec", namesFor(STACK).backups, "ls", "/var/lib/sectorwars-backups/state"])).includes("full.wanted");

/** The ways to keep a database aside: in the server, through its log, or all of its volume while it is stopped. */
async function measureSavePoints({ place, inServer }: Up, rounds: number, size: number): Promise<Section> {
  const times: Times = {};
  const { database } = place.address;
  const server = { ...place.address, database: "postgres" };
  for (let round = 0; round < rounds; round += 1) {
    note(times, "save", await seconds(() => saveSnapshot(place, "bench")));
    note(times, "restore", await seconds(() => restoreSnapshot(place, "bench")));
    await deleteSnapshot(place, "bench");
    await deleteSnapshot(place, "before_restore");
    const logged = `CREATE DATABASE logged TEMPLATE ${ident(database)} STRATEGY wal_log`;
    await withConnection(server, async (client) => {
      note(times, "logged", await seconds(() => client.query(logged)));
      await client.query("DROP DATABASE logged");
      await client.query("CHECKPOINT");
    });
    const copy = async () => {
      await docker(["stop", "-t", "120", place.container]);
      const line = `cp -a ${DATA}/pgdata ${DATA}/copy && sync`;
      const volume = ["--rm", "-v", `${namesFor(STACK).volume}:${DATA}`, "--entrypoint", "sh"];
      await docker(["run", ...volume, `${namesFor(STACK).image}:15`, "-c", line]);
      await docker(["start", place.container]);
      await withConnection(place.address, () => Promise.resolve(), { patienceMs: 60_000 });
    };
    note(times, "volume", await seconds(copy));
    await inServer("rm", "-rf", `${DATA}/copy`);
  }
  const row = (what: string, key: string) => [
    what,
    figure(times[key] ?? []),
    ratio(times[key] ?? [], times.save ?? []),
  ];
  return {
    title: "Save points",
    about:
      `A database of ${humanBytes(size)}. A save point is \`CREATE DATABASE ... STRATEGY file_copy\`; what else could make one is a ` +
      "copy through the write-ahead log, or of the whole volume, for which the server is stopped and started again.",
    table: [
      ["what", "seconds", "against saving"],
      row("save", "save"),
      row("restore", "restore"),
      row("`STRATEGY wal_log`", "logged"),
      row("stop, copy of the volume, start", "volume"),
    ],
  };
}

/** Transactions a second, as pgbench counts them. */
async function transactions({ place, inServer }: Up, duration: number): Promise<number> {
  await inServer("psql", "-X", "-q", "-c", "CHECKPOINT");
  const said = await inServer("pgbench", "-n", "-c", "8", "-j", "2", "-T", String(duration), place.address.database);
  return Number(/tps = ([\d.]+)/.exec(said)?.[1]);
}

async function measureWrites(up: Up, plain: Up, rounds: number, scale: number): Promise<Section> {
  const counts = { on: [] as number[], off: [] as number[] };
  const duration = Math.max(5, Math.round(PGBENCH_SECONDS * Math.min(1, scale)));
  for (let round = 0; round < rounds; round += 1) {
    counts.off.push(await transactions(plain, duration));
    counts.on.push(await transactions(up, duration));
    console.log(`  pgbench: ${counts.off.at(-1)?.toFixed(0)} off, ${counts.on.at(-1)?.toFixed(0)} on`);
  }
  const shown = (values: number[]) =>
    `${median(values).toFixed(0)} (${values.map((value) => value.toFixed(0)).join(", ")})`;
  return {
    title: "Writes while they are archived",
    about: `pgbench, 8 clients, ${duration} s, on two stacks of the same settings and data. Every WAL file is compressed, encrypted and put into the repository.`,
    table: [
      ["archiving", "transactions a second", "against off"],
      ["off", shown(counts.off), "1"],
      ["on", shown(counts.on), ratio(counts.on, counts.off)],
    ],
  };
}

export async function benchBackups({ rounds, scale }: { rounds: number; scale: number }): Promise<Section[]> {
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-bench-"));
  const former = process.env.XDG_CONFIG_HOME;
  // The key is the benchmark's own, and goes with it.
  process.env.XDG_CONFIG_HOME = folder;
  const never = { backupFull: "never", backupDifferential: "never", backupDrill: "never" };
  const stacks: Up[] = [];
  try {
    const up = await bringUp(STACK, { backups: "true", ...never });
    stacks.push(up);
    const size = await fill(up, scale);
    console.log(`  ${humanBytes(size)}`);
    await firstBackup();
    const plain = await bringUp(PLAIN, {});
    stacks.push(plain);
    await fill(plain, scale);
    const writes = await measureWrites(up, plain, rounds, scale);
    await plain.stack.end();
    stacks.pop();
    const savePoints = await measureSavePoints(up, rounds, size);
    return [await measureBackups(up, rounds, size), savePoints, writes];
  } finally {
    for (const { stack } of stacks) await stack.end();
    if (former === undefined) delete process.env.XDG_CONFIG_HOME;
    else process.env.XDG_CONFIG_HOME = former;
    await rm(folder, { recursive: true, force: true });
  }
}
