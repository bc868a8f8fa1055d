/** The one-off container in which Alembic runs, and the conversation with what runs in it. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { DockerError, docker, removeContainers } from "../../lib/docker.ts";

/** Sets our messages apart from whatever else the application prints (runner.py). */
const MARK = "\u001e";
const RUNNER = "images/migrations/runner.py";
const FOLDER = "/migrations";
const LOG_LINES = 30;
/** What no migration needs, and what could hold secrets or gigabytes. */
const LEFT_OUT = [
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

/** One revision, as Alembic tells it. */
export interface Step {
  id: string;
  title: string | null;
}

/** What Alembic says about the way to the wanted revision. */
export interface Plan {
  heads: string[];
  /** The wanted revision's whole name; null before the first. */
  wanted: string | null;
  /** What the chain does not know: the database's revision, the wanted one, or a way between them. */
  unknown: "current" | "wanted" | "way" | null;
  /** Alembic's own words for why the wanted one is not known. */
  why: string | null;
  direction: "none" | "up" | "down";
  steps: Step[];
}

/** A variable that the application's settings need. */
export interface VariableProblem {
  name: string;
  /** Why its value is refused; null where it is missing. */
  problem: string | null;
}

/** What went wrong inside. */
export interface Failure {
  phase: "plan" | "run";
  kind: string;
  message: string;
  statement: string | null;
  /** File and line in the project. */
  place: string | null;
  /** What the application's settings lack or refuse; none for any other error. */
  variables?: VariableProblem[];
  /** The revision that was running. */
  step?: Step;
}

/** An error of the migrations themselves, in parts. */
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

/** What runs, where, and as whom. */
export interface ContainerSpec {
  stack: string;
  folder: string;
  image: string;
  network: string;
  /** Connection URL of the owner inside the network. */
  url: string;
  /** The database's revision. */
  current: string | null;
  wanted: string;
  arguments: readonly string[];
  /** The environment that the application gets. */
  variables: Readonly<Record<string, string>>;
  /** Values that no message may contain. */
  secrets: readonly string[];
  dockerHost: string | undefined;
}

/** A run that has told its plan and waits for the word. */
export interface WaitingRun {
  plan: Plan;
  /**
   * Lets Alembic run.
   * @param onStep told of each revision when it begins.
   * @throws {MigrationFailure}
   */
  go(onStep: (step: Step) => void): Promise<void>;
  /** Ends it, if it has not ended by itself. */
  end(): Promise<void>;
}

/** What marks the containers of a stack's migrations. */
export const migrationsLabel = (stack: string): string => `sectorwars.migrations=${stack}`;

/** Copies the project into the container. A copy, not a mount: the engine may be on another machine. */
async function copyIn(name: string, folder: string, host: string | undefined): Promise<void> {
  await docker(["cp", RUNNER, `${name}:/runner.py`], { host });
  const tar = spawn("tar", ["-C", folder, ...LEFT_OUT.map((name) => `--exclude=${name}`), "-cf", "-", "."], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said: Buffer[] = [];
  tar.stderr.on("data", (chunk: Buffer) => said.push(chunk));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  tar.on("error", (error) => reject(new Error(`The project cannot be packed: ${error.message}`)));
  // GNU tar exits with 1 when a file changed while it was read.
  tar.on("close", (code) =>
    code === 0 ? resolve() : reject(new Error(`${folder} cannot be packed: ${Buffer.concat(said).toString().trim()}`)),
  );
  await Promise.all([promise, docker(["cp", "-", `${name}:${FOLDER}`], { host, input: tar.stdout })]);
}

/** What the container is told, as runner.py reads it. Secrets go this way alone: arguments show in ps, variables in docker inspect. */
function jobOf({ url, current, wanted, variables, secrets, arguments: more }: ContainerSpec): string {
  return `${JSON.stringify({ folder: FOLDER, url, current, wanted, arguments: more, variables, secrets })}\n`;
}

/** Starts the container, hands it its job through standard input, and waits for its plan. */
export async function startRun(spec: ContainerSpec): Promise<WaitingRun> {
  const { stack, dockerHost: host } = spec;
  const label = migrationsLabel(stack);
  const name = `sectorwars-${stack}-migrations`;
  await removeContainers(label, { host });
  await create(spec, name, label);
  await copyIn(name, spec.folder, host);

  const env = host ? { ...process.env, DOCKER_HOST: host } : process.env;
  const child = spawn("docker", ["start", "-a", "-i", name], { env, stdio: ["pipe", "pipe", "pipe"] });
  const log: string[] = [];
  const listeners = new Map<string, (value: unknown) => void>();
  const ended = Promise.withResolvers<number | null>();
  const noteLine = (line: string) => {
    if (line.trim() === "") return;
    log.push(line);
    if (log.length > LOG_LINES) log.shift();
  };
  createInterface({ input: child.stderr }).on("line", noteLine);
  createInterface({ input: child.stdout }).on("line", (line) => {
    if (!line.startsWith(MARK)) return noteLine(line);
    for (const [key, value] of Object.entries(JSON.parse(line.slice(MARK.length)))) listeners.get(key)?.(value);
  });
  child.on("error", (error) => noteLine(`docker: ${error.message}`));
  child.on("close", (code) => ended.resolve(code));
  child.stdin.on("error", () => {});
  child.stdin.write(jobOf(spec));

  let running: Step | undefined;
  /** The message of that name, or the failure that came in its place. */
  const waitFor = async <T>(key: string, phase: Failure["phase"]): Promise<T> => {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    listeners.set(key, (value) => resolve(value as T));
    listeners.set("failed", (value) =>
      // Its last lines may still be on their way.
      ended.promise.then(() => reject(new MigrationFailure({ ...(value as Failure), step: running }, log))),
    );
    ended.promise.then((code) => {
      const message = `the container ended with exit code ${code ?? "unknown"} before it had done its work`;
      const failure = { phase, kind: "Ended", message, statement: null, place: null, step: running };
      // A failure that was told comes first.
      setTimeout(() => reject(new MigrationFailure(failure, log)), 50);
    });
    return promise;
  };
  let ending: Promise<void> | undefined;
  const end = () => {
    ending ??= (async () => {
      child.stdin.end();
      await removeContainers(label, { host });
      await ended.promise;
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
        // Whatever user the image has: the copied files belong to root.
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
        `There is no image ${image} to run the migrations in. Build the application's image first, or set alembicImage to auto`,
      );
    }
    throw error;
  }
}
