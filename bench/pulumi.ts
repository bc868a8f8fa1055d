/** A stack of the benchmark's own, with a state of its own. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { promisify } from "node:util";
import type { SnapshotPlace } from "../components/snapshots/snapshots.ts";
import { docker } from "../lib/docker.ts";
import { namesFor } from "../lib/naming.ts";
import { addressOf } from "../lib/stack.ts";

const run = promisify(execFile);

/** A throw-away stack: its name also names its containers, and decides its port. */
export interface BenchStack {
  name: string;
  /** What a command on it needs to find its state. */
  env: NodeJS.ProcessEnv;
  pulumi: (...args: string[]) => Promise<string>;
  end: () => Promise<void>;
}

/** Makes an empty stack whose database holds nothing but roles and extensions. */
export async function makeStack(name: string): Promise<BenchStack> {
  await mkdir(".local", { recursive: true });
  const state = await mkdtemp(".local/bench-state-");
  const env = {
    ...process.env,
    PULUMI_BACKEND_URL: `file://./${state}`,
    PULUMI_CONFIG_PASSPHRASE: "",
    PULUMI_SKIP_UPDATE_CHECK: "true",
  };
  const pulumi = async (...args: string[]) =>
    (await run("pulumi", [...args, "--non-interactive"], { env, maxBuffer: 64 * 1024 * 1024 })).stdout;
  await pulumi("stack", "init", name);
  await pulumi("config", "set", "bootstrap", "empty", "--stack", name);
  return {
    name,
    env,
    pulumi,
    end: async () => {
      await pulumi("destroy", "--yes", "--skip-preview", "--stack", name);
      await rm(state, { recursive: true, force: true });
      await rm(`Pulumi.${name}.yaml`, { force: true });
    },
  };
}

/** A stack that is up. */
export interface Up {
  stack: BenchStack;
  place: SnapshotPlace;
  /** A command in the server's container, as the server's user. */
  inServer: (...args: string[]) => Promise<string>;
}

/** Makes a stack with these settings, and brings it up. */
export async function bringUp(name: string, settings: Record<string, string>): Promise<Up> {
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
