/** Stacks for benchmarks, each with its own state. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { promisify } from "node:util";
import type { SnapshotPlace } from "../components/snapshots/snapshots.ts";
import { docker } from "../lib/docker.ts";
import { namesFor } from "../lib/naming.ts";
import { addressOf } from "../lib/stack.ts";

const run = promisify(execFile);

/** A temporary stack. Its containers and its port follow from its name. */
export interface BenchStack {
  name: string;
  /** Environment with which commands find the stack's state. */
  env: NodeJS.ProcessEnv;
  pulumi: (...args: string[]) => Promise<string>;
  end: () => Promise<void>;
}

/** Creates a stack, without an update, whose database will have only roles and extensions. */
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

/** A running stack. */
export interface Up {
  stack: BenchStack;
  place: SnapshotPlace;
  /** Runs a command in the server's container, as the server's user. */
  inServer: (...args: string[]) => Promise<string>;
}

/** Creates a stack with these settings and runs its first update. */
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
