/** What people use instead of the import. None of it proves anything. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { RELAXED } from "../components/import/session.ts";
import { docker } from "../lib/docker.ts";
import type { Address } from "../lib/postgres.ts";
import { type BenchServer, IMAGE, NETWORK, withPassword } from "./servers.ts";

const run = promisify(execFile);

/** Where a source is, as a container on the benchmark's network sees it. */
export interface FromContainer {
  host: string;
  port: number;
}

/** How pg_dump and pg_restore are run. */
export interface DumpOptions {
  /** More flags for pg_dump. */
  flags?: string;
  /** Gives pg_restore's sessions the settings that the import gives its own. */
  relaxed?: boolean;
  /** Image of a newer version's programs. */
  image?: string;
}

/**
 * pg_dump and pg_restore as people run them: parallel, by way of a folder. A newer pg_restore sets one parameter that version 15 does
 * not know, complains, and goes on.
 */
export async function dumpAndRestore(
  source: FromContainer,
  target: BenchServer,
  { flags = "", relaxed = false, image = IMAGE }: DumpOptions = {},
): Promise<void> {
  const options = relaxed
    ? Object.entries(RELAXED)
        .map(([name, value]) => `-c ${name}=${value}`)
        .join(" ")
    : "";
  await docker([
    ...["run", "--rm", "--network", NETWORK, "-e", "PGPASSWORD", "--entrypoint", "sh", image, "-c"],
    `set -e; psql -q -h ${target.container} -U postgres -c 'CREATE DATABASE restored TEMPLATE template0'
     pg_dump -h ${source.host} -p ${source.port} -U postgres -d source -Fd -j2 ${flags} -f /tmp/dump
     PGOPTIONS='${options}' pg_restore -h ${target.container} -U postgres -d restored -j2 /tmp/dump 2>/tmp/said ||
       { grep -q error: /tmp/said && ! grep error: /tmp/said | grep -v transaction_timeout >&2; }`,
  ]);
}

const url = ({ host, port, user }: Address, database: string) => `postgresql://${user}@${host}:${port}/${database}`;

/** pgcopydb's version, or undefined where it is not installed. */
export async function pgcopydbVersion(): Promise<string | undefined> {
  try {
    const { stdout } = await run("pgcopydb", ["--version"]);
    return /(\d+\.\d+)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

/** pgcopydb's clone as people run it: with the jobs that it takes by itself. */
export async function pgcopydbClone(source: Address, target: Address, folder: string): Promise<void> {
  const urls = ["--source", url(source, "source"), "--target", url(target, "restored")];
  await run("pgcopydb", ["clone", ...urls, "--dir", folder, "--restart"], {
    env: { ...process.env, ...withPassword },
    maxBuffer: 64 * 1024 * 1024,
  });
}
