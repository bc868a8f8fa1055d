/** Servers for the benchmarks: configured like a stack's, in containers on this machine. */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { directAddress } from "../components/import/session/direct.ts";
import { asArguments, tune } from "../components/server/tuning.ts";
import { docker } from "../lib/docker.ts";
import type { Address } from "../lib/postgres.ts";
import { withConnection } from "../test/support/session.ts";

/** The stack's database image, under the benchmark's own name. */
export const IMAGE = "sectorwars-bench-database:15";
export const NETWORK = "sectorwars-bench-import";
const LABEL = "sectorwars.bench=import";
/** A stack's default limits. */
const LIMITS = { memoryMiB: 2048, cpus: 2, maxConnections: 100 };
const STARTS_WITHIN_MS = 60_000;

/** A server: its container and its address. */
export interface BenchServer {
  container: string;
  /** Address that avoids Docker's userland proxy. */
  address: Address;
}

const password = randomBytes(16).toString("hex");

/** Environment variables with the servers' password. */
export const withPassword = { POSTGRES_PASSWORD: password, PGPASSWORD: password };

/** Returns the image of a newer PostgreSQL, whose pg_dump sends fewer queries to a distant source. */
export const newerImage = async (): Promise<string> =>
  JSON.parse(await readFile(".local/images.json", "utf8")).newerPostgres;

/** Builds the image and creates the network. */
export async function prepare(): Promise<void> {
  const { databaseBase } = JSON.parse(await readFile(".local/images.json", "utf8"));
  Object.assign(process.env, withPassword);
  await docker(["build", "-q", "-t", IMAGE, "--build-arg", `BASE=${databaseBase}`, "images/database"]);
  await docker(["network", "create", "--label", LABEL, NETWORK]);
}

/** Starts a server and waits until it answers. */
export async function startServer(container: string): Promise<BenchServer> {
  const { settings, shmMiB } = tune(LIMITS);
  const configuration = { config_file: "/etc/postgresql/postgresql.conf", hba_file: "/etc/postgresql/pg_hba.conf" };
  await docker([
    "run",
    "-d",
    ...["--name", container, "--label", LABEL, "--network", NETWORK, "-p", "127.0.0.1::5432"],
    ...["--memory", `${LIMITS.memoryMiB}m`, "--shm-size", `${shmMiB}m`],
    ...["-e", "POSTGRES_PASSWORD", "-e", "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C.UTF-8 --data-checksums"],
    ...[IMAGE, "postgres", ...asArguments({ ...configuration, ...settings })],
  ]);
  const port = Number((await docker(["port", container, "5432/tcp"])).trim().split(":").pop());
  const published = { host: "127.0.0.1", port, database: "postgres", user: "postgres", password };
  await withConnection(published, (client) => client.query("SELECT 1"), { patienceMs: STARTS_WITHIN_MS });
  return { container, address: await directAddress(container, published, undefined) };
}

/** Returns the CPU seconds that a container has used since it started. */
export async function cpuSeconds({ container }: { container: string }): Promise<number> {
  const said = await docker([
    ...["exec", container, "sh", "-c"],
    "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpuacct/cpuacct.usage",
  ]);
  const unified = /usage_usec (\d+)/.exec(said)?.[1];
  return unified === undefined ? Number(said) / 1e9 : Number(unified) / 1e6;
}

/** Removes the servers and the network. */
export async function removeServers(...containers: string[]): Promise<void> {
  await docker(["rm", "-f", "-v", ...containers]).catch(() => {});
  await docker(["network", "rm", NETWORK]).catch(() => {});
}
