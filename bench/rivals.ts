/** The alternatives to the import. None of them proves the copy. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { RELAXED } from "../components/import/session/session.ts";
import { docker } from "../lib/docker.ts";
import type { Address } from "../lib/postgres.ts";
import { type BenchServer, IMAGE, NETWORK, withPassword } from "./servers.ts";

const run = promisify(execFile);

/** A source's address in the benchmark's network. */
export interface FromContainer {
  host: string;
  port: number;
}

/** Options for pg_dump and pg_restore. */
export interface DumpOptions {
  /** More flags for pg_dump. */
  flags?: string;
  /** Gives pg_restore's sessions the import's session settings. */
  relaxed?: boolean;
  /** Image with the programs of a newer version. */
  image?: string;
}

/**
 * Runs pg_dump and pg_restore as usual: in parallel, through a folder. A newer pg_restore sets a parameter that version 15 does not have
 * (transaction_timeout), reports an error, and continues.
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

/** Returns pgcopydb's version, or undefined if it is not installed. */
export async function pgcopydbVersion(): Promise<string | undefined> {
  try {
    const { stdout } = await run("pgcopydb", ["--version"]);
    return /(\d+\.\d+)/.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

/** Runs pgcopydb clone with its default number of jobs. */
export async function pgcopydbClone(source: Address, target: Address, folder: string): Promise<void> {
  const urls = ["--source", url(source, "source"), "--target", url(target, "restored")];
  await run("pgcopydb", ["clone", ...urls, "--dir", folder, "--restart"], {
    env: { ...process.env, ...withPassword },
    maxBuffer: 64 * 1024 * 1024,
  });
}
