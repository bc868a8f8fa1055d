/** Python clients of a database, with the drivers that applications use. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { docker } from "../../lib/docker.ts";
import { folderHash } from "../../lib/folder-hash.ts";
import { pythonImage, readImages } from "../../lib/images.ts";

/** What one client saw until it was stopped. */
export interface Seen {
  driver: string;
  queries: number;
  failures: string[];
  /** Seconds of the longest query. */
  longest: number;
  /** Seconds from its last failure to the end; null without a failure. */
  sinceFailure: number | null;
}

/** What the clients do (test/pooler/clients.py). */
export interface ClientsJob {
  /** A URL inside the network, without a driver. */
  url: string;
  /** The number of clients of each driver: psycopg2, psycopg and asyncpg through SQLAlchemy, and asyncpg-pool without it. */
  clients: Record<string, number>;
  statement: string;
  /** Seconds between two queries of a client. */
  pause: number;
}

/** Builds the clients' image. It is kept as a cache for this base. */
export async function clientsImage(): Promise<string> {
  const base = pythonImage(readImages());
  const digest = createHash("sha256")
    .update(`${base} ${folderHash("test/pooler")}`)
    .digest("hex")
    .slice(0, 8);
  const image = `sectorwars-test-clients:${digest}`;
  await docker(["build", "-q", "-t", image, "--build-arg", `BASE=${base}`, "test/pooler"], { timeoutMs: 300_000 });
  return image;
}

/** Running clients. */
export interface PooledClients {
  /** Stops them, and returns what each of them saw. */
  stop(): Promise<Seen[]>;
}

/** Starts clients in a network, and waits until each of them has had its first answer. */
export async function startClients(image: string, network: string, job: ClientsJob): Promise<PooledClients> {
  const child = spawn("docker", ["run", "--rm", "-i", "--network", network, image], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  const said: string[] = [];
  const { promise: started, resolve, reject } = Promise.withResolvers<void>();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on("line", (line) => (line === "started" ? resolve() : said.push(line)));
  const errors: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => errors.push(line));
  child.on("close", () => {
    reject(new Error(`the clients ended: ${errors.join("\n")}`));
    end();
  });
  child.stdin.on("error", () => {});
  child.stdin.write(`${JSON.stringify(job)}\n`);
  await started;
  return {
    async stop() {
      child.stdin.end();
      await ended;
      const last = said.at(-1);
      if (last === undefined) throw new Error(`the clients printed no result: ${errors.join("\n")}`);
      return JSON.parse(last);
    },
  };
}

/** Returns the failures of all clients, each with its driver. */
export const failuresOf = (seen: readonly Seen[]): string[] =>
  seen.flatMap(({ driver, failures }) => failures.map((failure) => `${driver}: ${failure}`));

/** Returns the drivers of the clients that still failed in the last second. */
export const brokenOf = (seen: readonly Seen[]): string[] =>
  seen.filter(({ sinceFailure }) => sinceFailure !== null && sinceFailure < 1).map(({ driver }) => driver);

/** Returns the number of failures of all clients with a driver. */
export const failureCount = (seen: readonly Seen[], driver: string): number =>
  seen.filter((client) => client.driver === driver).reduce((sum, { failures }) => sum + failures.length, 0);
