/** Measures backups, recovery and snapshots against the usual alternatives. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { readReport, runNow } from "../components/backups/backup-container.ts";
import { backupsIn } from "../components/backups/report.ts";
import { deleteSnapshot, restoreSnapshot, saveSnapshot } from "../components/snapshots/snapshots.ts";
import { docker } from "../lib/docker.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import { namesFor } from "../lib/naming.ts";
import { ident } from "../lib/postgres.ts";
import { withConnection } from "../test/support/session.ts";
import { fill } from "./fill.ts";
import { bringUp, type Up } from "./pulumi.ts";
import { figure, ratio, type Section, seconds } from "./results.ts";
import { until } from "./until.ts";
import { measureWrites } from "./writes.ts";

const run = promisify(execFile);
const STACK = "bench";
/** The same server without archiving. */
const PLAIN = "bench-plain";
/** Folder for pg_basebackup in the volume of the backups, so that both write to the same disk. */
const BASE_BACKUP = "/var/lib/sectorwars-backups/others";
const DATA = "/var/lib/postgresql/data";

/** Updates consecutive rows so that 5 % of the files' blocks change. */
const changeTwentieth = ({ place }: Up) =>
  withConnection(place.address, async (client) => {
    await client.query("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 2000 < 100");
    await client.query("UPDATE events SET kind = kind WHERE id % 2000 < 100");
    await client.query("CHECKPOINT");
  });

const bytesOf = async (folder: string) =>
  Number((await docker(["exec", namesFor(STACK).backups, "du", "-sk", folder])).split(/\s/)[0]) * 1024;

/** Runs pg_basebackup of the same server to the same disk. Returns seconds and bytes. */
async function baseBackup({ inServer }: Up, ...options: string[]): Promise<[number, number]> {
  const took = await seconds(() =>
    inServer("pg_basebackup", "-c", "fast", "-X", "fetch", "-D", BASE_BACKUP, ...options),
  );
  const bytes = await bytesOf(BASE_BACKUP);
  await inServer("rm", "-rf", BASE_BACKUP);
  return [took, bytes];
}

/** Seconds of each round, by measured operation. */
type Times = Record<string, number[]>;
const record = (times: Times, what: string, value: number) => {
  times[what] = [...(times[what] ?? []), value];
  console.log(`  ${what}: ${value.toFixed(1)} s`);
};

/** A way to copy the whole cluster; returns the seconds that it took and the bytes that it wrote. */
type Method = [what: string, copy: () => Promise<[number, number]>];

const newestBackup = async () => backupsIn(await readReport(STACK)).at(-1);

const methodsOf = (up: Up): Method[] => [
  ["plain", () => baseBackup(up)],
  ["zstd", () => baseBackup(up, "-Ft", "--compress=server-zstd:1")],
  [
    "full",
    async () => {
      const full = ["pgbackrest", "--stanza=main", "--type=full", "backup"];
      const took = await seconds(() => docker(["exec", "-u", "postgres", namesFor(STACK).backups, ...full]));
      return [took, (await newestBackup())?.info.repository.delta ?? 0];
    },
  ],
];

/** Restores the running stack, and clears what the restore leaves, so that it does not count in the next measurement. */
async function restoreStack(up: Up, to: string): Promise<number> {
  let said = "";
  const restore = async () => {
    const { env } = up.stack;
    const args = ["restore", "--to", to, "--yes", "--stack", STACK];
    said = (await run("./db", args, { env, maxBuffer: 64 * 1024 * 1024 })).stdout;
  };
  const took = await seconds(restore);
  const stamp = /--undo (\w+)/.exec(said)?.[1] ?? "";
  await docker(["exec", up.place.container, "rm", "-rf", `${DATA}/pgdata.before-${stamp}`]);
  await until(
    "the full backup after a restore",
    async () => (await readReport(STACK)).running === "" && !(await isFullBackupRequested()),
  );
  return took;
}

/** Measures every operation once. */
async function measureRound(up: Up, methods: readonly Method[], times: Times, sizes: Record<string, number>) {
  for (const [what, copy] of methods) {
    // Each method starts without unwritten data of the one before.
    await up.inServer("psql", "-X", "-q", "-c", "CHECKPOINT");
    await up.inServer("sync");
    const [took, bytes] = await copy();
    record(times, what, took);
    sizes[what] = bytes;
  }
  record(times, "command", await seconds(() => runNow(STACK, "full")));
  await changeTwentieth(up);
  record(times, "differential", await seconds(() => runNow(STACK, "diff")));
  sizes.differential = (await newestBackup())?.info.repository.delta ?? 0;
  record(times, "drill", await seconds(() => runNow(STACK, "drill")));
  await sleep(1100);
  const recoveryTarget = new Date().toISOString();
  await changeTwentieth(up);
  record(times, "latest", await restoreStack(up, "latest"));
  record(times, "time", await restoreStack(up, recoveryTarget));
}

async function measureBackups(up: Up, rounds: number, size: number): Promise<Section> {
  const times: Times = {};
  const sizes: Record<string, number> = {};
  // The stack's pg_hba.conf allows no replication. The change ends with this container.
  const allow = "echo 'local replication postgres peer' >>/etc/postgresql/pg_hba.conf";
  await docker(["exec", up.place.container, "sh", "-c", allow]);
  await up.inServer("psql", "-X", "-q", "-c", "SELECT pg_reload_conf()");
  const methods = methodsOf(up);
  for (let round = 0; round < rounds; round += 1) {
    await measureRound(up, round % 2 === 0 ? methods : methods.toReversed(), times, sizes);
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
      `A database of ${humanBytes(size)}, half pgbench's tables, half indexed jsonb. Two processes encrypt (AES-256-CBC) and compress ` +
      "(zstd 1) each backup; pg_basebackup does not encrypt. `./db backup` also records a fingerprint of every table. A drill verifies " +
      "and restores a backup, starts a server, runs pg_amcheck and compares every table. `./db restore` does the same and swaps the " +
      "data of the running stack.",
    table: [
      ["what", "seconds", "ratio", "size"],
      row("`pg_basebackup`", "plain"),
      row("`pg_basebackup -Ft --compress=server-zstd:1`", "zstd", "plain"),
      row("full backup, pgBackRest alone", "full", "plain"),
      row("full backup, `./db backup --full`", "command", "plain"),
      row("differential backup after a change of 5 %", "differential", "command"),
      row("drill", "drill"),
      row("restore of the newest state", "latest"),
      row("restore to a point in time", "time"),
    ],
  };
}

const isFullBackupRequested = async () =>
  (await docker(["exec", namesFor(STACK).backups, "ls", "/var/lib/sectorwars-backups/state"])).includes("full.wanted");

/** Measures three ways to copy a database: as files in the server, through the WAL, or with its whole volume while it is stopped. */
async function measureSnapshots({ place, inServer }: Up, rounds: number, size: number): Promise<Section> {
  const times: Times = {};
  const { database } = place.address;
  const server = { ...place.address, database: "postgres" };
  for (let round = 0; round < rounds; round += 1) {
    record(times, "save", await seconds(() => saveSnapshot(place, "bench")));
    record(times, "restore", await seconds(() => restoreSnapshot(place, "bench")));
    await deleteSnapshot(place, "bench");
    await deleteSnapshot(place, "before_restore");
    const logged = `CREATE DATABASE logged TEMPLATE ${ident(database)} STRATEGY wal_log`;
    await withConnection(server, async (client) => {
      record(times, "logged", await seconds(() => client.query(logged)));
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
    record(times, "volume", await seconds(copy));
    await inServer("rm", "-rf", `${DATA}/copy`);
  }
  const row = (what: string, key: string) => [
    what,
    figure(times[key] ?? []),
    ratio(times[key] ?? [], times.save ?? []),
  ];
  return {
    title: "Snapshots",
    about:
      `A database of ${humanBytes(size)}. A snapshot is \`CREATE DATABASE ... STRATEGY file_copy\`. The alternatives are a copy through ` +
      "the WAL, and a copy of the whole volume while the server is stopped.",
    table: [
      ["what", "seconds", "against saving"],
      row("save", "save"),
      row("restore", "restore"),
      row("`STRATEGY wal_log`", "logged"),
      row("stop, copy of the volume, start", "volume"),
    ],
  };
}

export async function benchBackups({ rounds, scale }: { rounds: number; scale: number }): Promise<Section[]> {
  const folder = await mkdtemp(join(tmpdir(), "sectorwars-bench-"));
  const former = process.env.XDG_CONFIG_HOME;
  // The benchmark has its own key, which is removed with the folder.
  process.env.XDG_CONFIG_HOME = folder;
  const never = { backupFull: "never", backupDifferential: "never", backupDrill: "never" };
  const stacks: Up[] = [];
  try {
    const up = await bringUp(STACK, { backups: "true", ...never });
    stacks.push(up);
    const size = await fill(up, scale);
    console.log(`  ${humanBytes(size)}`);
    await until("the automatic first full backup", async () => (await readReport(STACK)).full.ok !== null);
    const plain = await bringUp(PLAIN, {});
    stacks.push(plain);
    await fill(plain, scale);
    const writes = await measureWrites(up, plain, rounds, scale);
    await plain.stack.end();
    stacks.pop();
    const snapshots = await measureSnapshots(up, rounds, size);
    return [await measureBackups(up, rounds, size), snapshots, writes];
  } finally {
    for (const { stack } of stacks) await stack.end();
    if (former === undefined) delete process.env.XDG_CONFIG_HOME;
    else process.env.XDG_CONFIG_HOME = former;
    await rm(folder, { recursive: true, force: true });
  }
}
