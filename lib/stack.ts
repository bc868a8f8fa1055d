/** Reads a stack for the commands of ./db, through the Pulumi CLI. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import type { ImportSummary } from "./import-summary.ts";
import { namesFor } from "./naming.ts";
import type { PoolBudget } from "./pool-budget.ts";
import type { Address } from "./postgres.ts";
import type { RecordedServer, StateResource } from "./stack-state.ts";
import { verifiedTls } from "./verified-tls.ts";

const run = promisify(execFile);

/** A stack's outputs. The URLs contain passwords, so never print them. */
export interface StackOutputs {
  stack: string;
  container: string;
  network: string;
  postgresVersion: string;
  address: string;
  imported: ImportSummary | null;
  /** The schema's revision; missing if no migrations are configured. */
  revision?: string | null;
  /** Missing if no hand-over is configured. */
  handedOver?: { file: string; target: string; pools: PoolBudget; services?: string[]; next?: string };
  /** The pooler's container, and its port on 127.0.0.1; missing if the stack has none. */
  pooler?: { container: string; port: number };
  /** The backup container; missing if backups are off. */
  backups?: string;
  /** What `pulumi destroy` deletes and keeps; missing if backups are off. */
  onDestroy?: string;
  /** The read replicas; missing if there are none. */
  replicas?: { name: string; container: string; host: string; port: number }[];
  /** The URL of the role that replicates; missing without replicas. */
  replicatorUrl?: string;
  urls: Record<string, string>;
  /** The authority of the server's certificate, PEM; missing for a server without TLS. */
  authority?: string;
  /** The URLs of further databases, by their names. */
  databaseUrls?: Record<string, Record<string, string>>;
  /** True if the first update failed after the server was up; the rest of the stack does not exist yet. */
  unfinished?: true;
}

/** Thrown for a stack that cannot be read, with the remedy. */
export class StackError extends Error {
  override readonly name: string = "StackError";
}

/** Thrown for a stack that does not exist. */
export class NoSuchStackError extends StackError {
  override readonly name = "NoSuchStackError";

  constructor(stack: string) {
    super(`The stack ${stack} does not exist. Create it: script/up --stack ${stack}`);
  }
}

/** Runs the Pulumi CLI with the project's own settings. A passphrase in the environment overrides the empty default. */
async function pulumi(args: string[], more: Readonly<Record<string, string>> = {}): Promise<string> {
  const env = { PULUMI_CONFIG_PASSPHRASE: "", PULUMI_SKIP_UPDATE_CHECK: "true", ...process.env, ...more };
  try {
    return (await run("pulumi", [...args, "--non-interactive"], { env, maxBuffer: 64 * 1024 * 1024 })).stdout;
  } catch (error) {
    const { code, stderr, message } = error as { code?: string; stderr?: string; message: string };
    if (code === "ENOENT") throw new StackError("Pulumi is not installed. Run: script/bootstrap base");
    throw new StackError((stderr || message).trim().replace(/^error: /, ""));
  }
}

/**
 * Returns the stack that is selected in Pulumi, or `dev` if none is.
 * @throws {StackError} if Pulumi fails otherwise: the command must not run on another stack than the selected one.
 */
export async function selectedStack(): Promise<string> {
  try {
    return (await pulumi(["stack", "--show-name"])).trim();
  } catch (error) {
    if (/no stack selected/.test((error as Error).message)) return "dev";
    throw error;
  }
}

/** Converts Pulumi's error for a stack that does not exist. */
const explainUnknown = (stack: string) => (error: Error) => {
  if (/no stack named/.test(error.message)) throw new NoSuchStackError(stack);
  throw error;
};

/**
 * Reads a stack's outputs.
 * @throws {StackError} if the stack does not exist, or is not up yet.
 */
export async function readStack(stack: string): Promise<StackOutputs> {
  const text = await pulumi(["stack", "output", "--json", "--show-secrets", "--stack", stack]).catch(
    explainUnknown(stack),
  );
  const outputs = JSON.parse(text);
  const network = namesFor(stack).network;
  const found: StackOutputs = { stack, network, ...(outputs.urls ? outputs : await readUnfinished(stack)) };
  trustAuthority(found);
  return found;
}

/** The authorities of the stacks' servers, by host and port, so that every address of a URL verifies its server. */
const authorities = new Map<string, string>();

/** Makes {@link addressOf} verify the server of a stack with TLS. */
export function trustAuthority({ urls, authority }: Pick<StackOutputs, "urls" | "authority">): void {
  for (const { host } of Object.values(urls).map((url) => new URL(url))) {
    if (authority === undefined) authorities.delete(host);
    else authorities.set(host, authority);
  }
}

/**
 * Reads the server of a stack whose first update failed.
 * @throws {StackError} if its server or its roles do not exist.
 */
async function readUnfinished(stack: string): Promise<RecordedServer & Pick<StackOutputs, "imported" | "unfinished">> {
  const [resources, settings] = await Promise.all([exportResources(stack, "--show-secrets"), readConfig(stack)]);
  const { recordedServer } = await import("./stack-state.ts");
  const server = recordedServer(resources, settings.get("database") ?? "");
  if (!server) throw new StackError(`The stack ${stack} is not up. Run: script/up --stack ${stack}`);
  return { ...server, imported: null, unfinished: true };
}

/**
 * Reads the resources of a stack's state, through the Pulumi CLI.
 * @param flags `--show-secrets` decrypts the secrets.
 * @throws {StackError} if the stack does not exist.
 */
export async function exportResources(stack: string, ...flags: "--show-secrets"[]): Promise<StateResource[]> {
  const text = await pulumi(["stack", "export", ...flags, "--stack", stack]).catch(explainUnknown(stack));
  // Loaded on demand, because most commands need only the outputs.
  const { stateResources } = await import("./stack-state.ts");
  return stateResources(text);
}

/** A resource of a stack. */
export interface StackResource {
  urn: string;
  /** The inputs of the last update. Most contain secrets, so never print them. */
  inputs: Record<string, unknown>;
}

/**
 * Reads a stack's dynamic resources from the state of its last update.
 * @returns the resources by type, for example `import:ImportOnce`; the last one, if there are several of a type.
 * @throws {StackError} if the stack does not exist.
 */
export async function readDynamicResources(stack: string): Promise<ReadonlyMap<string, StackResource>> {
  const kind = "pulumi-nodejs:dynamic/";
  const resources = (await exportResources(stack, "--show-secrets")).filter(({ type }) => type.startsWith(kind));
  return new Map(resources.map(({ urn, type, inputs = {} }) => [type.slice(kind.length), { urn, inputs }]));
}

/**
 * Refreshes resources in Pulumi's state. Changes nothing but the state.
 * @throws {StackError} if Pulumi fails, for example because an update is running.
 */
export async function refreshState(stack: string, urns: readonly string[]): Promise<void> {
  const targets = urns.flatMap((urn) => ["--target", urn]);
  await pulumi(["refresh", "--yes", "--skip-preview", "--stack", stack, ...targets]);
}

/**
 * Updates only these resources of a stack.
 * @param environment variables for the providers.
 * @throws {StackError} if the update fails, for example because another one is running.
 */
export async function updateStack(
  stack: string,
  urns: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<void> {
  const targets = urns.flatMap((urn) => ["--target", urn]);
  await pulumi(["up", "--yes", "--skip-preview", "--stack", stack, ...targets], environment);
}

/**
 * Returns a stack's settings by key, including defaults; lists are JSON. Returns an empty map for a stack that does not exist, whose
 * settings all have their defaults.
 */
export async function readConfig(stack: string): Promise<ReadonlyMap<string, string>> {
  const text = await pulumi(["config", "--json", "--stack", stack]).catch((error: Error) => {
    if (/no stack named/.test(error.message)) return "{}";
    throw error;
  });
  const settings = Object.entries<{ value?: string }>(JSON.parse(text));
  // The part before the colon is the name of the project or of a provider.
  return new Map(settings.map(([key, { value = "" }]) => [key.replace(/^.*:/, ""), value]));
}

/**
 * Returns the Docker engine in a stack's settings, or undefined if they leave it to the environment. Reads the file directly, because
 * every command needs it, and the Pulumi CLI takes 1 s.
 * @throws {StackError} if the settings cannot be read.
 */
export async function dockerHostOf(stack: string): Promise<string | undefined> {
  // A stack's full name is organization/project/name; the name of its file contains only the last part.
  const file = `Pulumi.${stack.split("/").at(-1)}.yaml`;
  try {
    const text = await readFile(file, "utf8");
    // Loaded on demand, because ./db --help and completion do not need it.
    const { parse } = await import("yaml");
    const host = parse(text)?.config?.["sectorwars-database:dockerHost"];
    return typeof host === "string" && host !== "auto" && host !== "" ? host : undefined;
  } catch (error) {
    // A stack without settings has no file.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new StackError(`${file} cannot be read: ${(error as Error).message}`);
  }
}

/** Converts a URL to an address for a connection, which verifies the server if {@link readStack} has read its authority. */
export function addressOf(url: string): Address {
  const { host, hostname, port, pathname, username, password } = new URL(url);
  const authority = authorities.get(host);
  return {
    host: hostname,
    port: Number(port),
    database: decodeURIComponent(pathname.slice(1)),
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
    ...(authority === undefined ? {} : { tls: verifiedTls(authority, hostname) }),
  };
}
