/** A stack of a test's own: its own name, state, port and Docker objects, all gone at the end. */
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { parseDocument } from "yaml";
import { overrideFile } from "../../components/handover/compose-paths.ts";
import { helperLabel } from "../../components/import/schema.ts";
import { migrationsLabel } from "../../components/migrations/container.ts";
import { docker, removeContainers } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { addressOf } from "../../lib/stack.ts";
import { withConnection } from "../support/session.ts";

/** What a command said, and how it ended. */
export interface Said {
  code: number;
  /** Both streams. */
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

/** Runs a program to its end, whatever that is. */
export function run(program: string, args: string[], env: Record<string, string | undefined> = {}): Promise<Said> {
  const { promise, resolve } = Promise.withResolvers<Said>();
  const options = { env: { ...process.env, ...env }, maxBuffer: 256 * 1024 * 1024 };
  execFile(program, args, options, (error, stdout, stderr) => {
    const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
    resolve({ code, text: stdout + stderr, stdout, stderr });
  });
  return promise;
}

/** An update under way. */
export interface Update {
  pid: number;
  /** What it has said so far. */
  text: string;
  /** Waits until it has said something. */
  until: (line: string) => Promise<void>;
  /** Its exit code. */
  ended: Promise<number>;
}

export type Outputs = Record<string, unknown> & { urls: StackUrls; container: string };

/** A URL of the stack's as an address, read as the commands read it. */
export const urlAddress = addressOf;

/** Everything of a stack that Docker holds. */
export async function leftoversOf(stack: string): Promise<string[]> {
  const filters = ["--filter", `name=${namesFor(stack).container.replace(/-database$/, "")}`];
  const lists = await Promise.all([
    docker(["ps", "-a", ...filters, "--format", "container {{.Names}}"]),
    docker(["volume", "ls", ...filters, "--format", "volume {{.Name}}"]),
    docker(["network", "ls", ...filters, "--format", "network {{.Name}}"]),
  ]);
  return lists.join("").split("\n").filter(Boolean);
}

/** Takes away all of a stack that Docker holds, images too, without Pulumi. */
export async function removeStack(stack: string): Promise<void> {
  for (const label of [helperLabel(stack), migrationsLabel(stack)]) await removeContainers(label);
  for (const thing of await leftoversOf(stack)) {
    const [kind = "", name = ""] = thing.split(" ");
    await docker(kind === "container" ? ["rm", "-f", "-v", name] : [kind, "rm", name]).catch(() => {});
  }
  for (const image of [`${namesFor(stack).image}:15`, `sectorwars-migrations-${stack}:latest`]) {
    await docker(["image", "rm", image]).catch(() => {});
  }
}

export class TestStack {
  readonly name = `t${randomBytes(4).toString("hex")}`;
  readonly names = namesFor(this.name);
  readonly env: Record<string, string | undefined>;
  private readonly settingsFile = `Pulumi.${this.name}.yaml`;
  /** Folder of the state, from the project's folder. */
  readonly stateFolder: string;
  /** Outputs since the last update: asking Pulumi takes a second each time. */
  private known: Promise<Outputs> | undefined;

  private constructor(state: string, env: Record<string, string | undefined>) {
    this.stateFolder = state;
    this.env = {
      NEON_DATABASE_URL: undefined,
      PULUMI_BACKEND_URL: `file://./${state}`,
      PULUMI_CONFIG_PASSPHRASE: "",
      PULUMI_SKIP_UPDATE_CHECK: "true",
      // A key for safety copies is made here, not among the settings of whoever runs the tests.
      XDG_CONFIG_HOME: resolve(state, "settings"),
      ...env,
    };
  }

  /** Makes the stack with the settings given; nothing comes up yet. */
  static async make(
    settings: Record<string, string> = {},
    env: Record<string, string | undefined> = {},
  ): Promise<TestStack> {
    await mkdir(".local", { recursive: true });
    const stack = new TestStack(await mkdtemp(".local/test-state-"), env);
    // A backup beside it would slow down every test that imports, and keep it waiting.
    await stack.settle({ backups: "false", ...settings });
    await stack.succeed("stack", "init", stack.name);
    return stack;
  }

  pulumi(...args: string[]): Promise<Said> {
    if (args[0] === "up") this.known = undefined;
    return run("pulumi", [...args, "--non-interactive", "--color", "never"], this.env);
  }

  /** Runs a subcommand of ./db on this stack, to its end, whatever that is. */
  db(subcommand: string, ...args: readonly string[]): Promise<Said> {
    return run("./db", [subcommand, "--stack", this.name, ...args], this.env);
  }

  async succeed(...args: string[]): Promise<Said> {
    const said = await this.pulumi(...args);
    if (said.code !== 0) throw new Error(`pulumi ${args.join(" ")} failed:\n${said.text}`);
    return said;
  }

  set(key: string, value: string): Promise<void> {
    return this.settle({ [key]: value });
  }

  unset(key: string): Promise<void> {
    return this.settle({ [key]: undefined });
  }

  /** Writes settings as `pulumi config set` would, which takes half a second to start; without a value one is taken out. */
  private async settle(settings: Record<string, string | undefined>): Promise<void> {
    const document = parseDocument(await readFile(this.settingsFile, "utf8").catch(() => ""));
    for (const [key, value] of Object.entries(settings)) {
      const path = ["config", `sectorwars-database:${key}`];
      if (value === undefined) document.deleteIn(path);
      else document.setIn(path, value);
    }
    await writeFile(this.settingsFile, document.toString());
  }

  up(...flags: string[]): Promise<Said> {
    return this.succeed("up", "--yes", "--skip-preview", "--stack", this.name, ...flags);
  }

  /** Begins an update that is to be interrupted. */
  begin(): Update {
    this.known = undefined;
    return this.beginProgram("pulumi", ["up", "--yes", "--skip-preview", "--non-interactive", "--stack", this.name]);
  }

  /** Begins a subcommand of ./db that is to be interrupted. */
  beginDb(subcommand: string, ...args: readonly string[]): Update {
    return this.beginProgram("./db", [subcommand, "--stack", this.name, ...args]);
  }

  /** Begins a program that is to be interrupted. */
  beginProgram(program: string, args: readonly string[]): Update {
    const child = spawn(program, args, {
      env: { ...process.env, ...this.env } as NodeJS.ProcessEnv,
      // As a shell with job control does: a signal meant for the update reaches nobody else.
      detached: true,
    });
    const update: Update = { pid: child.pid ?? 0, text: "", until: async () => {}, ended: Promise.resolve(0) };
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        update.text += chunk.toString();
      });
    }
    update.ended = new Promise((resolve) => child.once("close", (code) => resolve(code ?? -1)));
    update.until = async (line) => {
      let over = false;
      void update.ended.then(() => {
        over = true;
      });
      while (!update.text.includes(line)) {
        if (over) throw new Error(`${program} ended before it said "${line}":\n${update.text}`);
        await sleep(10);
      }
    };
    return update;
  }

  /** Every process that works on this stack: the engine's children have groups of their own. */
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

  /** Kills an update with all of its processes, none of which sees another die: Pulumi would note it as a failure. */
  async killAll(update: Update): Promise<void> {
    const pids = async () => [String(update.pid), ...(await this.processes())];
    await run("kill", ["-STOP", ...(await pids())]);
    await run("kill", ["-KILL", ...(await pids())]);
    await update.ended;
    // A large process takes its time to be gone, and until then it looks alive.
    while ((await this.processes()).length > 0) await sleep(20);
  }

  /** An update that is expected to fail; returns what it said. */
  async upFails(...flags: string[]): Promise<string> {
    const said = await this.pulumi("up", "--yes", "--skip-preview", "--stack", this.name, ...flags);
    if (said.code === 0) throw new Error(`the update should have failed:\n${said.text}`);
    return said.text;
  }

  outputs(): Promise<Outputs> {
    this.known ??= this.succeed("stack", "output", "--json", "--show-secrets", "--stack", this.name).then((said) =>
      JSON.parse(said.stdout),
    );
    return this.known;
  }

  /** After an update that this class has not made. */
  forgetOutputs(): void {
    this.known = undefined;
  }

  /** Works as one of the roles, over TCP, as an application does. */
  async as<T>(role: keyof StackUrls, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const { urls } = await this.outputs();
    return withConnection(urlAddress(urls[role]), work, { patienceMs: 10_000 });
  }

  /** The state's files, as anybody who copies the folder would read them. */
  async stateText(): Promise<string> {
    const files = await readdir(join(this.stateFolder, ".pulumi"), { recursive: true, withFileTypes: true });
    const texts = files
      .filter((file) => file.isFile())
      .map((file) => readFile(join(file.parentPath, file.name), "utf8"));
    return (await Promise.all(texts)).join("\n");
  }

  /** Folders of the safety copies that its imports have made, whole or not. */
  async safetyCopies(): Promise<string[]> {
    const names = await readdir("backups/safety").catch(() => []);
    return names.filter((name) => name.startsWith(`${this.name}-`)).map((name) => join("backups/safety", name));
  }

  /** As after a machine was lost: the same stack again, of which no state knows anything. */
  async loseState(settings: Record<string, string>): Promise<void> {
    this.known = undefined;
    await rm(join(this.stateFolder, ".pulumi"), { recursive: true, force: true });
    await rm(this.settingsFile, { force: true });
    await this.settle(settings);
    await this.succeed("stack", "init", this.name);
  }

  /** Everything of this stack that Docker holds. */
  leftovers(): Promise<string[]> {
    return leftoversOf(this.name);
  }

  /**
   * Takes away all that belongs to the stack, whatever state it is in. By Docker's means: they do not depend on what is
   * tested, and take a fraction of the time. What `pulumi destroy` leaves is tried where that is the question.
   */
  async end(): Promise<void> {
    await removeStack(this.name);
    await rm(this.stateFolder, { recursive: true, force: true });
    await rm(this.settingsFile, { force: true });
    await rm(`.local/up-${this.name}.lock`, { force: true });
    await rm(dirname(overrideFile(".", this.name)), { recursive: true, force: true });
    await rm(`reports/${this.name}`, { recursive: true, force: true });
    for (const copy of await this.safetyCopies()) await rm(copy, { recursive: true, force: true });
  }
}
