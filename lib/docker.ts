/** Runs the docker command, for tasks outside of Pulumi's resources: short-lived containers, logs, health. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import "./pg-environment.ts";
import { currentScope, isOutsideScopes, pause } from "./scope.ts";

/** A docker command that failed, with its arguments (not its input, which may contain a password) and its standard error. */
export class DockerError extends Error {
  readonly stderr: string;

  constructor(args: readonly string[], stderr: string) {
    super(`docker ${args.slice(0, 3).join(" ")} failed: ${stderr.trim() || "no output"}`);
    this.name = "DockerError";
    this.stderr = stderr;
  }
}

/** Options of a docker command. */
export interface DockerOptions {
  /** The Docker engine, in the form of DOCKER_HOST; by default that of the environment, or the local one. */
  host?: string;
  /** Standard input. Use it for secrets, because ps shows arguments, and docker inspect shows variables. */
  input?: string | Readable;
  /** Milliseconds after which the command is killed and fails. */
  timeoutMs?: number;
  /** Keeps standard input open after the text until the command ends, so that a container notices when this process ends. */
  holdInput?: boolean;
  /** Is called for each line of standard error, to report the progress of a long command. */
  onLine?: (line: string) => void;
}

/** Whether an engine (by default that of the environment) is on another machine, so that its ports are not those of this one. */
export const isRemoteEngine = (host: string | undefined): boolean =>
  /^(ssh|tcp|https?):/.test(host ?? process.env.DOCKER_HOST ?? "");

/**
 * Returns the command that forwards a port of this machine to the same port of a remote engine's machine.
 * @param port the port on 127.0.0.1, on both machines.
 * @param host the engine; by default that of the environment.
 */
export function forwardCommand(port: number, host: string | undefined): string {
  const engine = URL.parse(host ?? process.env.DOCKER_HOST ?? "");
  const machine = engine?.hostname.replace(/^\[(.*)\]$/, "$1") || "HOST";
  const login = engine?.username ? `${decodeURIComponent(engine.username)}@${machine}` : machine;
  // The port of tcp:// is that of the engine, not of sshd.
  const at = engine?.protocol === "ssh:" && engine.port ? `-p ${engine.port} ` : "";
  return `ssh -N ${at}-L ${port}:127.0.0.1:${port} ${login}`;
}

/**
 * Runs one docker command and returns its standard output.
 * @throws {DockerError} if it exits with a code other than 0 or times out, or if the docker command is not installed; the reason, if the
 * surrounding scope was closed.
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
        reject(new DockerError(args, `it did not end within ${options.timeoutMs} ms`));
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
  // A command that ends before it has read its input breaks the pipe; its exit code reports the failure.
  child.stdin.on("error", () => {});
  if (options.input instanceof Readable) {
    options.input.pipe(child.stdin);
    // Without this, the command would wait for more input after the stream failed.
    options.input.once("close", () => child.stdin.end());
  } else {
    child.stdin.write(options.input ?? "");
    if (!options.holdInput) child.stdin.end();
  }
  return promise.finally(() => clearTimeout(timer));
}

/** A running docker command whose output is too large for memory. */
export interface DockerStream {
  stdout: Readable;
  /** Rejects with a {@link DockerError} if the command fails: a stream that has ended may still be incomplete. */
  ended: Promise<void>;
}

/** Runs one docker command and returns its standard output as a stream. */
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
  // The reader awaits it only after the end of the stream; until then, a rejection must not count as unhandled.
  ended.catch(() => {});
  return { stdout: child.stdout, ended };
}

/** The state of a container. */
export interface ContainerState {
  status: string;
  health?: string;
  exitCode: number;
  restarts: number;
  oomKilled: boolean;
}

/** Returns a container's state, or undefined if it does not exist. */
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

/** Returns lines of a log as an error shows them, set apart from its own words. */
export const quotedLines = (log: string): string[] => log.split("\n").map((line) => `  | ${line}`);

/** Returns the last lines of a container's log, of both streams, in chronological order. */
export async function containerLog(container: string, lines: number, options: DockerOptions = {}): Promise<string> {
  const { host } = options;
  const env = host ? { ...process.env, DOCKER_HOST: host } : process.env;
  const { promise, resolve } = Promise.withResolvers<string>();
  // Standard error is merged into standard output, to keep the order of the lines.
  const child = spawn("sh", ["-c", 'exec docker logs --tail "$0" "$1" 2>&1', String(lines), container], { env });
  const said: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => said.push(chunk));
  child.on("close", () => resolve(Buffer.concat(said).toString().trimEnd()));
  child.on("error", () => resolve(""));
  return promise;
}

/** Removes every container that has the label, running or not. Returns their number. */
export async function removeContainers(label: string, options: DockerOptions = {}): Promise<number> {
  const ids = (await docker(["ps", "-aq", "--filter", `label=${label}`], options)).split("\n").filter(Boolean);
  await Promise.all(ids.map((id) => removeContainer(id, options)));
  return ids.length;
}

/** Milliseconds between two attempts to remove a container that Docker is already removing, and the time limit. */
const POLL_MS = 100;
const REMOVED_WITHIN_MS = 30_000;

/** Removes a container. If Docker is already removing it, as after the end of one with `--rm`, waits until it is gone. */
export async function removeContainer(id: string, options: DockerOptions = {}): Promise<void> {
  for (const begun = Date.now(); ; ) {
    try {
      return void (await docker(["rm", "-f", "-v", id], options));
    } catch (error) {
      if (!(error instanceof DockerError)) throw error;
      if (/no such container/i.test(error.stderr)) return;
      if (!/already in progress/i.test(error.stderr) || Date.now() - begun > REMOVED_WITHIN_MS) throw error;
    }
    await pause(POLL_MS);
  }
}
