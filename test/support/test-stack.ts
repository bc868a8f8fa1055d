/** A stack of its own for a test: name, state, port and Docker objects. All of it is removed at the end. */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { parseDocument } from "yaml";
import { overrideFile } from "../../components/handover/compose-paths.ts";
import { helperLabel } from "../../components/import/schema/schema.ts";
import { migrationsLabel } from "../../components/migrations/container.ts";
import { docker, removeContainers } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { authorityPath } from "../../lib/server-tls.ts";
import { addressOf, trustAuthority } from "../../lib/stack.ts";
import { withConnection } from "./session.ts";

/** A command's output and exit code. */
export interface CommandResult {
  code: number;
  /** stdout, then stderr. */
  text: string;
  stdout: string;
  stderr: string;
}

export interface StackUrls {
  superuser: string;
  owner: string;
  app: string;
  readonly: string;
  monitor: string;
}

/** Runs a program and returns its output and exit code, even if it fails. */
export function run(
  program: string,
  args: string[],
  env: Record<string, string | undefined> = {},
): Promise<CommandResult> {
  const { promise, resolve } = Promise.withResolvers<CommandResult>();
  const options = { env: { ...process.env, ...env }, maxBuffer: 256 * 1024 * 1024 };
  execFile(program, args, options, (error, stdout, stderr) => {
    const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
    resolve({ code, text: stdout + stderr, stdout, stderr });
  });
  return promise;
}

/** A running program: an update, or a subcommand of ./db. */
export interface RunningProgram {
  pid: number;
  /** Its output so far. */
  text: string;
  /** Waits until its output contains this text. */
  until: (line: string) => Promise<void>;
  /** Resolves to its exit code. */
  ended: Promise<number>;
}

export type Outputs = Record<string, unknown> & { urls: StackUrls; container: string };

/** Parses a connection URL of the stack as the commands do. */
export const urlAddress = addressOf;

/** Lists the containers, volumes and networks of a stack. */
export async function leftoversOf(stack: string): Promise<string[]> {
  const filters = ["--filter", `name=${namesFor(stack).container.replace(/-database$/, "")}`];
  const lists = await Promise.all([
    docker(["ps", "-a", ...filters, "--format", "container {{.Names}}"]),
    docker(["volume", "ls", ...filters, "--format", "volume {{.Name}}"]),
    docker(["network", "ls", ...filters, "--format", "network {{.Name}}"]),
  ]);
  return lists.join("").split("\n").filter(Boolean);
}

/** Removes a stack's containers, volumes, networks and images without Pulumi. */
export async function removeStack(stack: string): Promise<void> {
  for (const label of [helperLabel(stack), migrationsLabel(stack)]) await removeContainers(label);
  for (const leftover of await leftoversOf(stack)) {
    const [kind = "", name = ""] = leftover.split(" ");
    await docker(kind === "container" ? ["rm", "-f", "-v", name] : [kind, "rm", name]).catch(() => {});
  }
  const { image: server, poolerImage } = namesFor(stack);
  for (const image of [`${server}:15`, `${poolerImage}:latest`, `sectorwars-migrations-${stack}:latest`]) {
    await docker(["image", "rm", image]).catch(() => {});
  }
}

export class TestStack {
  readonly name = `t${randomBytes(4).toString("hex")}`;
  readonly names = namesFor(this.name);
  readonly env: Record<string, string | undefined>;
  private readonly settingsFile = `Pulumi.${this.name}.yaml`;
  /** Folder of the Pulumi state, relative to the project's folder. */
  readonly stateFolder: string;
  /** Outputs since the last update. Cached because asking Pulumi takes a second. */
  private cachedOutputs: Promise<Outputs> | undefined;

  private constructor(state: string, env: Record<string, string | undefined>) {
    this.stateFolder = state;
    this.env = {
      NEON_DATABASE_URL: undefined,
      PULUMI_BACKEND_URL: `file://./${state}`,
      PULUMI_CONFIG_PASSPHRASE: "",
      PULUMI_SKIP_UPDATE_CHECK: "true",
      // The test's keys for safety copies go here, not among the settings of the user who runs the tests.
      XDG_CONFIG_HOME: resolve(state, "settings"),
      ...env,
    };
  }

  /** Creates the stack with these settings, without an update. */
  static async make(
    settings: Record<string, string> = {},
    env: Record<string, string | undefined> = {},
  ): Promise<TestStack> {
    await mkdir(".local", { recursive: true });
    const stack = new TestStack(await mkdtemp(".local/test-state-"), env);
    // A concurrent backup would slow down every test that imports.
    await stack.writeSettings({ backups: "false", ...settings });
    await stack.succeed("stack", "init", stack.name);
    return stack;
  }

  pulumi(...args: string[]): Promise<CommandResult> {
    if (args[0] === "up") this.cachedOutputs = undefined;
    return run("pulumi", [...args, "--non-interactive", "--color", "never"], this.env);
  }

  /** Runs a subcommand of ./db on this stack and returns its output and exit code, even if it fails. */
  db(subcommand: string, ...args: readonly string[]): Promise<CommandResult> {
    return run("./db", [subcommand, "--stack", this.name, ...args], this.env);
  }

  async succeed(...args: string[]): Promise<CommandResult> {
    const said = await this.pulumi(...args);
    if (said.code !== 0) throw new Error(`pulumi ${args.join(" ")} failed:\n${said.text}`);
    return said;
  }

  set(key: string, value: string): Promise<void> {
    return this.writeSettings({ [key]: value });
  }

  unset(key: string): Promise<void> {
    return this.writeSettings({ [key]: undefined });
  }

  /** Writes settings as `pulumi config set` would, without its half second of start-up. Removes settings whose value is undefined. */
  private async writeSettings(settings: Record<string, string | undefined>): Promise<void> {
    const document = parseDocument(await readFile(this.settingsFile, "utf8").catch(() => ""));
    for (const [key, value] of Object.entries(settings)) {
      const path = ["config", `sectorwars-database:${key}`];
      if (value === undefined) document.deleteIn(path);
      else document.setIn(path, value);
    }
    await writeFile(this.settingsFile, document.toString());
  }

  up(...flags: string[]): Promise<CommandResult> {
    return this.succeed("up", "--yes", "--skip-preview", "--stack", this.name, ...flags);
  }

  /** Starts an update that the test will interrupt. */
  begin(): RunningProgram {
    this.cachedOutputs = undefined;
    return this.beginProgram("pulumi", ["up", "--yes", "--skip-preview", "--non-interactive", "--stack", this.name]);
  }

  /** Starts a subcommand of ./db that the test will interrupt. */
  beginDb(subcommand: string, ...args: readonly string[]): RunningProgram {
    return this.beginProgram("./db", [subcommand, "--stack", this.name, ...args]);
  }

  /** Starts a program that the test will interrupt. */
  beginProgram(program: string, args: readonly string[]): RunningProgram {
    const child = spawn(program, args, {
      env: { ...process.env, ...this.env } as NodeJS.ProcessEnv,
      // A process group of its own, as a shell with job control makes: a signal to the program reaches no other process.
      detached: true,
    });
    const running: RunningProgram = { pid: child.pid ?? 0, text: "", until: async () => {}, ended: Promise.resolve(0) };
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        running.text += chunk.toString();
      });
    }
    running.ended = new Promise((resolve) => child.once("close", (code) => resolve(code ?? -1)));
    running.until = async (line) => {
      let over = false;
      void running.ended.then(() => {
        over = true;
      });
      while (!running.text.includes(line)) {
        if (over) throw new Error(`${program} ended before it printed "${line}":\n${running.text}`);
        await sleep(10);
      }
    };
    return running;
  }

  /** Lists the processes that work on this stack. Pulumi's plugins have process groups of their own, so the environment decides. */
  async processes(program?: string): Promise<string[]> {
    const ours = `PULUMI_BACKEND_URL=${this.env.PULUMI_BACKEND_URL}`;
    const found: string[] = [];
    for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
      const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
      if (!environment.split("\0").includes(ours)) continue;
      const runs = await readlink(`/proc/${pid}/exe`).catch(() => "");
      if (program === undefined || basename(runs) === program) found.push(pid);
    }
    return found;
  }

  /** Kills a program with all of its processes. They are stopped first: Pulumi would record the death of a plugin as a failure. */
  async killAll(program: RunningProgram): Promise<void> {
    const pids = async () => [String(program.pid), ...(await this.processes())];
    await run("kill", ["-STOP", ...(await pids())]);
    await run("kill", ["-KILL", ...(await pids())]);
    await program.ended;
    // A large process still looks alive for a while after SIGKILL.
    while ((await this.processes()).length > 0) await sleep(20);
  }

  /** Runs an update that must fail, and returns its output. */
  async upFails(...flags: string[]): Promise<string> {
    const said = await this.pulumi("up", "--yes", "--skip-preview", "--stack", this.name, ...flags);
    if (said.code === 0) throw new Error(`The update succeeded, but should have failed:\n${said.text}`);
    return said.text;
  }

  outputs(): Promise<Outputs> {
    this.cachedOutputs ??= this.succeed("stack", "output", "--json", "--show-secrets", "--stack", this.name).then(
      (said) => {
        const outputs = JSON.parse(said.stdout);
        trustAuthority(outputs);
        return outputs;
      },
    );
    return this.cachedOutputs;
  }

  /** Call this after an update that was not run through this class. */
  forgetOutputs(): void {
    this.cachedOutputs = undefined;
  }

  /** Connects over TCP as one of the roles, as an application does. */
  async as<T>(role: keyof StackUrls, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const { urls } = await this.outputs();
    return withConnection(urlAddress(urls[role]), work, { patienceMs: 10_000 });
  }

  /** Returns the text of all state files, as a copy of the folder would hold it. */
  async stateText(): Promise<string> {
    const files = await readdir(join(this.stateFolder, ".pulumi"), { recursive: true, withFileTypes: true });
    const texts = files
      .filter((file) => file.isFile())
      .map((file) => readFile(join(file.parentPath, file.name), "utf8"));
    return (await Promise.all(texts)).join("\n");
  }

  /** Lists the folders of the safety copies that the stack's imports have made, complete or not. */
  async safetyCopies(): Promise<string[]> {
    const names = await readdir("backups/safety").catch(() => []);
    return names.filter((name) => name.startsWith(`${this.name}-`)).map((name) => join("backups/safety", name));
  }

  /** Loses the Pulumi state, as when a machine is lost, and creates the same stack again with an empty state. */
  async loseState(settings: Record<string, string>): Promise<void> {
    this.cachedOutputs = undefined;
    await rm(join(this.stateFolder, ".pulumi"), { recursive: true, force: true });
    await rm(this.settingsFile, { force: true });
    await this.writeSettings(settings);
    await this.succeed("stack", "init", this.name);
  }

  /** Lists the containers, volumes and networks of this stack. */
  leftovers(): Promise<string[]> {
    return leftoversOf(this.name);
  }

  /**
   * Removes everything that belongs to the stack, in whatever state it is. It uses Docker, which does not depend on the code under test
   * and is faster than `pulumi destroy`. Separate tests check what `pulumi destroy` leaves.
   */
  async end(): Promise<void> {
    await removeStack(this.name);
    await rm(this.stateFolder, { recursive: true, force: true });
    await rm(this.settingsFile, { force: true });
    await rm(`.local/up-${this.name}.lock`, { force: true });
    await rm(dirname(overrideFile(".", this.name)), { recursive: true, force: true });
    await rm(dirname(authorityPath(this.name)), { recursive: true, force: true });
    await rm(`reports/${this.name}`, { recursive: true, force: true });
    for (const copy of await this.safetyCopies()) await rm(copy, { recursive: true, force: true });
  }
}
