/** What the commands know of a stack: its outputs, read through the Pulumi CLI. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import type { ImportSummary } from "./import-summary.ts";
import { namesFor } from "./naming.ts";
import type { PoolBudget } from "./pool-budget.ts";
import type { Address } from "./postgres.ts";
import type { RecordedServer, StateResource } from "./stack-state.ts";

const run = promisify(execFile);

/** A stack's outputs. The URLs hold passwords: they are for connecting, not for showing. */
export interface StackOutputs {
  stack: string;
  container: string;
  network: string;
  postgresVersion: string;
  address: string;
  imported: ImportSummary | null;
  /** The schema's revision; not there where no migrations run. */
  revision?: string | null;
  /** Not there where nothing is handed over. */
  handedOver?: { file: string; target: string; pools: PoolBudget; services?: string[]; next?: string };
  /** The container that takes the backups; not there where none are taken. */
  backups?: string;
  /** What `pulumi destroy` deletes and keeps; not there where no backups are taken. */
  onDestroy?: string;
  urls: Record<string, string>;
  /** Of further databases, by their names. */
  databaseUrls?: Record<string, Record<string, string>>;
  /** True where the first update failed after the server was up: the rest of the stack is not there yet. */
  unfinished?: true;
}

/** A stack that cannot be read, with the remedy. */
export class StackError extends Error {
  override readonly name: string = "StackError";
}

/** A stack of a name that Pulumi does not know. */
export class NoSuchStackError extends StackError {
  override readonly name = "NoSuchStackError";

  constructor(stack: string) {
    super(`There is no stack ${stack}. Make it with: script/up --stack ${stack}`);
  }
}

/** Runs the Pulumi CLI with the project's own settings; whoever has a passphrase has it in the environment. */
async function pulumi(args: string[]): Promise<string> {
  const env = { PULUMI_CONFIG_PASSPHRASE: "", PULUMI_SKIP_UPDATE_CHECK: "true", ...process.env };
  try {
    return (await run("pulumi", [...args, "--non-interactive"], { env, maxBuffer: 64 * 1024 * 1024 })).stdout;
  } catch (error) {
    const { code, stderr, message } = error as { code?: string; stderr?: string; message: string };
    if (code === "ENOENT") throw new StackError("Pulumi is not installed. Run: script/bootstrap base");
    throw new StackError((stderr || message).trim().replace(/^error: /, ""));
  }
}

/**
 * The stack that Pulumi has selected, or `dev` where none is.
 * @throws {StackError} when that cannot be told: whoever means another stack must not be given this one.
 */
export async function selectedStack(): Promise<string> {
  try {
    return (await pulumi(["stack", "--show-name"])).trim();
  } catch (error) {
    if (/no stack selected/.test((error as Error).message)) return "dev";
    throw error;
  }
}

/** Says what is wrong where there is no stack of that name. */
const refuseUnknown = (stack: string) => (error: Error) => {
  if (/no stack named/.test(error.message)) throw new NoSuchStackError(stack);
  throw error;
};

/**
 * Reads a stack's outputs.
 * @throws {StackError} when there is no such stack, or it has not come up yet.
 */
export async function readStack(stack: string): Promise<StackOutputs> {
  const text = await pulumi(["stack", "output", "--json", "--show-secrets", "--stack", stack]).catch(
    refuseUnknown(stack),
  );
  const outputs = JSON.parse(text);
  const network = namesFor(stack).network;
  return { stack, network, ...(outputs.urls ? outputs : await readUnfinished(stack)) };
}

/**
 * Reads what there is of a stack whose first update failed.
 * @throws {StackError} when its server or its roles are not there.
 */
async function readUnfinished(stack: string): Promise<RecordedServer & Pick<StackOutputs, "imported" | "unfinished">> {
  const [resources, settings] = await Promise.all([exportResources(stack), readConfig(stack)]);
  const { recordedServer } = await import("./stack-state.ts");
  const server = recordedServer(resources, settings.get("database") ?? "");
  if (!server) throw new StackError(`The stack ${stack} is not up. Run: script/up --stack ${stack}`);
  return { ...server, imported: null, unfinished: true };
}

/**
 * Reads the resources of a stack's state, with its secrets in clear.
 * @throws {StackError} when there is no such stack.
 */
async function exportResources(stack: string): Promise<StateResource[]> {
  const text = await pulumi(["stack", "export", "--show-secrets", "--stack", stack]).catch(refuseUnknown(stack));
  // Most commands need outputs alone.
  const { stateResources } = await import("./stack-state.ts");
  return stateResources(text);
}

/** A resource of a stack. */
export interface StackResource {
  urn: string;
  /** What the last update wanted of it. The inputs of most hold secrets: they are for work, not for showing. */
  inputs: Record<string, unknown>;
}

/**
 * Reads a stack's dynamic resources, as its last update left them.
 * @returns them by their kind, for instance `import:ImportOnce`; of several of a kind, the last.
 * @throws {StackError} when there is no such stack.
 */
export async function readDynamicResources(stack: string): Promise<ReadonlyMap<string, StackResource>> {
  const kind = "pulumi-nodejs:dynamic/";
  const resources = (await exportResources(stack)).filter(({ type }) => type.startsWith(kind));
  return new Map(resources.map(({ urn, type, inputs = {} }) => [type.slice(kind.length), { urn, inputs }]));
}

/**
 * Lets Pulumi read resources again, so that its state has what is there now. Nothing is changed but the state.
 * @throws {StackError} when Pulumi cannot, for instance while an update runs.
 */
export async function refreshState(stack: string, urns: readonly string[]): Promise<void> {
  const targets = urns.flatMap((urn) => ["--target", urn]);
  await pulumi(["refresh", "--yes", "--skip-preview", "--stack", stack, ...targets]);
}

/**
 * A stack's settings by their keys, defaults included; a list stands as JSON. None for a stack that there is not: then every setting
 * has its default.
 */
export async function readConfig(stack: string): Promise<ReadonlyMap<string, string>> {
  const text = await pulumi(["config", "--json", "--stack", stack]).catch((error: Error) => {
    if (/no stack named/.test(error.message)) return "{}";
    throw error;
  });
  const settings = Object.entries<{ value?: string }>(JSON.parse(text));
  // What stands before the colon is the project's name, or a provider's.
  return new Map(settings.map(([key, { value = "" }]) => [key.replace(/^.*:/, ""), value]));
}

/**
 * The Docker engine that a stack's settings name; undefined where they leave it to the environment. Read from the file itself: asking
 * Pulumi takes a second, and every command needs it.
 * @throws {StackError} for settings that cannot be read.
 */
export async function dockerHostOf(stack: string): Promise<string | undefined> {
  // A stack's full name is organization/project/name; its file has the name alone.
  const file = `Pulumi.${stack.split("/").at(-1)}.yaml`;
  try {
    const text = await readFile(file, "utf8");
    // Loaded only when it is needed: ./db --help and completion do without.
    const { parse } = await import("yaml");
    const host = parse(text)?.config?.["sectorwars-database:dockerHost"];
    return typeof host === "string" && host !== "auto" && host !== "" ? host : undefined;
  } catch (error) {
    // A stack without settings has no file.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new StackError(`${file} cannot be read: ${(error as Error).message}`);
  }
}

/** A URL's parts, as connections want them. */
export function addressOf(url: string): Address {
  const { hostname, port, pathname, username, password } = new URL(url);
  return {
    host: hostname,
    port: Number(port),
    database: decodeURIComponent(pathname.slice(1)),
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
  };
}
