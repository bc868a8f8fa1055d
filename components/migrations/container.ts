/** Runs Alembic in a one-off container, and exchanges messages with its runner (images/migrations/runner.py). */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { DockerError, docker, removeContainers } from "../../lib/docker.ts";
import { writeAuthority } from "../../lib/server-tls.ts";

/** Marks messages of the runner; all other lines are the application's output. */
const MARK = "\u001e";
const RUNNER = "images/migrations/runner.py";
const FOLDER = "/migrations";
const LOG_LINES = 30;
/** The authority of the server's certificate inside the container. */
export const AUTHORITY_FILE = "/sectorwars-ca.crt";
/** Files that no migration needs, and that may contain secrets or gigabytes of data. */
const EXCLUDED = [
  ".git",
  ".venv",
  "venv",
  "node_modules",
  "__pycache__",
  ".env",
  ".env.*",
  ".pytest_cache",
  ".mypy_cache",
];

/** One revision, as reported by Alembic. */
export interface Step {
  id: string;
  title: string | null;
}

/** The migration path to the wanted revision, as reported by Alembic. */
export interface Plan {
  heads: string[];
  /** The full id of the wanted revision; null for the state before the first. */
  wanted: string | null;
  /** What the chain does not contain: the database's revision, the wanted one, or a path between them. */
  unknown: "current" | "wanted" | "way" | null;
  /** Alembic's message if it does not know the wanted revision. */
  why: string | null;
  direction: "none" | "up" | "down";
  steps: Step[];
}

/** A variable that the application's settings need. */
export interface VariableProblem {
  name: string;
  /** Why the application rejects its value; null if it is not set. */
  problem: string | null;
}

/** An error inside the container. */
export interface Failure {
  phase: "plan" | "run";
  kind: string;
  message: string;
  statement: string | null;
  /** File and line in the project. */
  place: string | null;
  /** Variables that the application's settings lack or reject; undefined for any other error. */
  variables?: VariableProblem[];
  /** The revision that was running. */
  step?: Step;
}

/** An error of the migrations themselves, with its parts. */
export class MigrationFailure extends Error {
  readonly failure: Failure;
  readonly log: string[];

  constructor(failure: Failure, log: string[]) {
    super(failure.message);
    this.name = "MigrationFailure";
    this.failure = failure;
    this.log = log;
  }
}

/** Input of {@link startRun}. */
export interface ContainerSpec {
  stack: string;
  folder: string;
  image: string;
  network: string;
  /** The owner's connection URL inside the network. */
  url: string;
  /** The database's revision. */
  current: string | null;
  wanted: string;
  arguments: readonly string[];
  /** The application's environment. */
  variables: Readonly<Record<string, string>>;
  /** Values that no message may contain. */
  secrets: readonly string[];
  /** The authority of the server's certificate, PEM; undefined for a server without TLS. */
  authority: string | undefined;
  dockerHost: string | undefined;
}

/** A run that has reported its plan and waits for the command to start. */
export interface WaitingRun {
  plan: Plan;
  /**
   * Runs the migrations.
   * @param onStep is called for each revision when it begins.
   * @throws {MigrationFailure}
   */
  go(onStep: (step: Step) => void): Promise<void>;
  /** Ends the container, if it still runs. */
  end(): Promise<void>;
}

/** Returns the label of the containers of a stack's migrations. */
export const migrationsLabel = (stack: string): string => `sectorwars.migrations=${stack}`;

/** Copies the project into the container. It is not mounted, because the engine may be on another machine. */
async function copyIn(name: string, { folder, stack, authority, dockerHost: host }: ContainerSpec): Promise<void> {
  await docker(["cp", RUNNER, `${name}:/runner.py`], { host });
  if (authority) await docker(["cp", writeAuthority(stack, authority), `${name}:${AUTHORITY_FILE}`], { host });
  const tar = spawn("tar", ["-C", folder, ...EXCLUDED.map((name) => `--exclude=${name}`), "-cf", "-", "."], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said: Buffer[] = [];
  tar.stderr.on("data", (chunk: Buffer) => said.push(chunk));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  tar.on("error", (error) => reject(new Error(`The project cannot be packed: ${error.message}`)));
  // GNU tar exits with 1 if a file changed while tar read it.
  tar.on("close", (code) =>
    code === 0 ? resolve() : reject(new Error(`${folder} cannot be packed: ${Buffer.concat(said).toString().trim()}`)),
  );
  await Promise.all([promise, docker(["cp", "-", `${name}:${FOLDER}`], { host, input: tar.stdout })]);
}

/** Returns the job for runner.py. It is the only place for secrets: ps shows arguments, and docker inspect shows variables. */
function jobOf({ url, current, wanted, variables, secrets, arguments: more }: ContainerSpec): string {
  return `${JSON.stringify({ folder: FOLDER, url, current, wanted, arguments: more, variables, secrets })}\n`;
}

/** What a container says. */
interface Conversation {
  /** The last lines that are no messages, at most {@link LOG_LINES}. */
  log: string[];
  /** Called with the value of a message of that name. */
  listeners: Map<string, (value: unknown) => void>;
  /** Resolves with the exit code. */
  ended: Promise<number | null>;
}

function listenTo(child: ChildProcessWithoutNullStreams): Conversation {
  const log: string[] = [];
  const listeners = new Map<string, (value: unknown) => void>();
  const ended = Promise.withResolvers<number | null>();
  const logLine = (line: string) => {
    if (line.trim() === "") return;
    log.push(line);
    if (log.length > LOG_LINES) log.shift();
  };
  createInterface({ input: child.stderr }).on("line", logLine);
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (!line.startsWith(MARK)) return logLine(line);
    for (const [key, value] of Object.entries(JSON.parse(line.slice(MARK.length)))) listeners.get(key)?.(value);
  });
  child.on("error", (error) => logLine(`docker: ${error.message}`));
  child.on("close", (code) => ended.resolve(code));
  return { log, listeners, ended: ended.promise };
}

/** Starts the container, writes its job to standard input, and waits for its plan. */
export async function startRun(spec: ContainerSpec): Promise<WaitingRun> {
  const { stack, dockerHost: host } = spec;
  const label = migrationsLabel(stack);
  const name = `sectorwars-${stack}-migrations`;
  await removeContainers(label, { host });
  await create(spec, name, label);
  await copyIn(name, spec);

  const env = host ? { ...process.env, DOCKER_HOST: host } : process.env;
  const child = spawn("docker", ["start", "-a", "-i", name], { env, stdio: ["pipe", "pipe", "pipe"] });
  const { log, listeners, ended } = listenTo(child);
  child.stdin.on("error", () => {});
  child.stdin.write(jobOf(spec));

  let running: Step | undefined;
  /** Waits for the message with this name. Rejects if a failure comes first. */
  const waitFor = async <T>(key: string, phase: Failure["phase"]): Promise<T> => {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    listeners.set(key, (value) => resolve(value as T));
    listeners.set("failed", (value) =>
      // Wait for the end of the container: its last lines may not have arrived yet.
      ended.then(() => reject(new MigrationFailure({ ...(value as Failure), step: running }, log))),
    );
    ended.then((code) => {
      const message = `the container ended with exit code ${code ?? "unknown"} before it completed its work`;
      const failure = { phase, kind: "Ended", message, statement: null, place: null, step: running };
      // A reported failure takes precedence.
      setTimeout(() => reject(new MigrationFailure(failure, log)), 50);
    });
    return promise;
  };
  let ending: Promise<void> | undefined;
  const end = () => {
    ending ??= (async () => {
      child.stdin.end();
      await removeContainers(label, { host });
      await ended;
    })();
    return ending;
  };

  try {
    const plan = await waitFor<Plan>("plan", "plan");
    return {
      plan,
      end,
      async go(onStep) {
        listeners.set("step", (value) => {
          running = value as Step;
          onStep(running);
        });
        const done = waitFor<true>("done", "run");
        child.stdin.write("go\n");
        await done;
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

async function create({ image, network, dockerHost: host }: ContainerSpec, name: string, label: string): Promise<void> {
  try {
    await docker(
      [
        "create",
        "--interactive",
        "--name",
        name,
        "--label",
        label,
        "--network",
        network,
        // The copied files belong to root, so the image's own user might not be able to read them.
        "--user",
        "0:0",
        "--workdir",
        FOLDER,
        "--entrypoint",
        "sh",
        image,
        "-c",
        'exec "$(command -v python3 || command -v python)" -u /runner.py',
      ],
      { host },
    );
  } catch (error) {
    if (
      error instanceof DockerError &&
      /no such image|pull access denied|not found|cannot be reached|dial tcp/i.test(error.stderr)
    ) {
      throw new Error(
        `The image ${image} for the migrations does not exist. Build the application's image first, or set alembicImage to auto`,
      );
    }
    throw error;
  }
}
