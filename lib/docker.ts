/** The Docker command line, for what is done beside Pulumi's resources: short-lived containers, logs, health. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import "./pg-environment.ts";
import { currentScope, isOutsideScopes, pause } from "./scope.ts";

/** A docker command that failed: its arguments (never its input, which may hold a password) and what it said. */
export class DockerError extends Error {
  readonly stderr: string;

  constructor(args: readonly string[], stderr: string) {
    super(`docker ${args.slice(0, 3).join(" ")} failed: ${stderr.trim() || "no output"}`);
    this.name = "DockerError";
    this.stderr = stderr;
  }
}

/** How a docker command is run. */
export interface DockerOptions {
  /** Docker engine, as DOCKER_HOST names it; the environment's, or the local one, if left out. */
  host?: string;
  /** Text or a stream for the command's standard input. Secrets go this way: arguments show in ps, variables in docker inspect. */
  input?: string | Readable;
  /** Milliseconds after which the command is killed and fails. */
  timeoutMs?: number;
  /** Keeps standard input open behind the text until the command ends, so that a container sees when this process is gone. */
  holdInput?: boolean;
  /** Told each line of standard error as it comes: what a long command is at. */
  onLine?: (line: string) => void;
}

/** Whether an engine (the environment's, if left out) is reached over a network, so that its ports are not this machine's. */
export const isRemoteEngine = (host: string | undefined): boolean =>
  /^(ssh|tcp|https?):/.test(host ?? process.env.DOCKER_HOST ?? "");

/**
 * The command that makes a port of a remote engine's machine the same port of this one.
 * @param port the port on 127.0.0.1, on both machines.
 * @param host the engine; the environment's, if left out.
 */
export function forwardCommand(port: number, host: string | undefined): string {
  const engine = URL.parse(host ?? process.env.DOCKER_HOST ?? "");
  const machine = engine?.hostname.replace(/^\[(.*)\]$/, "$1") || "HOST";
  const login = engine?.username ? `${decodeURIComponent(engine.username)}@${machine}` : machine;
  // The port of tcp:// is the engine's own, not that of sshd.
  const at = engine?.protocol === "ssh:" && engine.port ? `-p ${engine.port} ` : "";
  return `ssh -N ${at}-L ${port}:127.0.0.1:${port} ${login}`;
}

/**
 * Runs one docker command and returns its standard output.
 * @throws {DockerError} when it exits with another code than 0, runs out of time, or when there is no docker command; the
 * reason, where the surrounding scope was closed.
 */
export async function docker(args: readonly string[], options: DockerOptions = {}): Promise<string> {
  const scope = currentScope();
  scope?.check();
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const env = options.host ? { ...process.env, DOCKER_HOST: options.host } : process.env;
  const child = spawn("docker", args, { env, stdio: ["pipe", "pipe", "pipe"], detached: isOutsideScopes() });
  const forget = scope?.add(() => child.kill("SIGKILL"));
  const timer = options.timeoutMs
    ? setTimeout(() => {
        child.kill("SIGKILL");
        reject(new DockerError(args, `no end within ${options.timeoutMs} ms`));
      }, options.timeoutMs)
    : undefined;
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  if (options.onLine) createInterface({ input: child.stderr }).on("line", options.onLine);
  child.on("error", (cause) => {
    reject(new DockerError(args, `the docker command cannot be run (${cause.message}); install Docker's command line`));
  });
  child.on("close", (code) => {
    const said = Buffer.concat(stderr).toString();
    forget?.();
    if (code === 0) resolve(Buffer.concat(stdout).toString());
    else reject(scope?.reason ?? new DockerError(args, said));
  });
  // A command that ends before it has read its input breaks the pipe; its exit code says what happened.
  child.stdin.on("error", () => {});
  if (options.input instanceof Readable) {
    options.input.pipe(child.stdin);
    // One that broke off would leave the command waiting for more.
    options.input.once("close", () => child.stdin.end());
  } else {
    child.stdin.write(options.input ?? "");
    if (!options.holdInput) child.stdin.end();
  }
  return promise.finally(() => clearTimeout(timer));
}

/** A docker command under way, whose output is too large to be kept. */
export interface DockerStream {
  stdout: Readable;
  /** Fails with a {@link DockerError} where the command does: a stream that ended may still be half of what was wanted. */
  ended: Promise<void>;
}

/** Runs one docker command and hands its standard output out as it comes. */
export function dockerStream(args: readonly string[], { host }: DockerOptions = {}): DockerStream {
  const env = host ? { ...process.env, DOCKER_HOST: host } : process.env;
  const child = spawn("docker", args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  const stderr: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.on("error", (cause) => {
    reject(new DockerError(args, `the docker command cannot be run (${cause.message}); install Docker's command line`));
  });
  child.on("close", (code) => {
    if (code === 0) resolve();
    else reject(new DockerError(args, Buffer.concat(stderr).toString()));
  });
  // Whoever reads waits for it behind the stream's end.
  ended.catch(() => {});
  return { stdout: child.stdout, ended };
}

/** What a container is doing. */
export interface ContainerState {
  status: string;
  health?: string;
  exitCode: number;
  restarts: number;
  oomKilled: boolean;
}

/** A container's state, or undefined when there is no container of that name. */
export async function containerState(
  container: string,
  options: DockerOptions = {},
): Promise<ContainerState | undefined> {
  try {
    const [found] = JSON.parse(await docker(["container", "inspect", container], options));
    return {
      status: found.State.Status,
      health: found.State.Health?.Status,
      exitCode: found.State.ExitCode,
      restarts: found.RestartCount,
      oomKilled: found.State.OOMKilled,
    };
  } catch (error) {
    if (error instanceof DockerError && /no such container/i.test(error.stderr)) return undefined;
    throw error;
  }
}

/** The last lines that a container wrote, both streams, in order of time. */
export async function containerLog(container: string, lines: number, options: DockerOptions = {}): Promise<string> {
  const { host } = options;
  const env = host ? { ...process.env, DOCKER_HOST: host } : process.env;
  const { promise, resolve } = Promise.withResolvers<string>();
  // Standard error joins standard output, or the order of the lines would be lost.
  const child = spawn("sh", ["-c", 'exec docker logs --tail "$0" "$1" 2>&1', String(lines), container], { env });
  const said: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => said.push(chunk));
  child.on("close", () => resolve(Buffer.concat(said).toString().trimEnd()));
  child.on("error", () => resolve(""));
  return promise;
}

/** Removes every container that carries the label, running or not; returns how many there were. */
export async function removeContainers(label: string, options: DockerOptions = {}): Promise<number> {
  const ids = (await docker(["ps", "-aq", "--filter", `label=${label}`], options)).split("\n").filter(Boolean);
  await Promise.all(ids.map((id) => removeContainer(id, options)));
  return ids.length;
}

/** Milliseconds between two looks at a container that somebody else removes, and how long it may take. */
const LOOK_MS = 100;
const REMOVED_WITHIN_MS = 30_000;

/** Removes a container, or waits until it is gone where that has begun already: Docker itself removes one of `--rm` that ends. */
export async function removeContainer(id: string, options: DockerOptions = {}): Promise<void> {
  for (const begun = Date.now(); ; ) {
    try {
      return void (await docker(["rm", "-f", "-v", id], options));
    } catch (error) {
      if (!(error instanceof DockerError)) throw error;
      if (/no such container/i.test(error.stderr)) return;
      if (!/already in progress/i.test(error.stderr) || Date.now() - begun > REMOVED_WITHIN_MS) throw error;
    }
    await pause(LOOK_MS);
  }
}
