/** Lets docker compose merge an application's files: only Compose itself resolves extends, include, anchors and variables. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { type ComposeCommand, findCompose, isNewEnough, OLDEST_COMPOSE } from "../../lib/docker-compose.ts";
import { type Project, projectOf } from "./compose-project.ts";
import { valuesOf } from "./env-values.ts";

const run = promisify(execFile);
const MAX_OUTPUT = 64 * 1024 * 1024;
/** Milliseconds before docker compose is stopped. It may have to fetch files that the project includes. */
const TIMEOUT_MS = 60_000;

/**
 * Returns a docker compose that can read the override.
 * @throws {Error} if docker compose is not installed, or is too old.
 */
export function requireCompose(files: readonly string[]): ComposeCommand {
  const found = findCompose();
  if (found === undefined) {
    throw new Error(
      `The application has ${files.join(", ")}, but docker compose is not installed. Install it, or run: script/bootstrap compose`,
    );
  }
  if (!isNewEnough(found.version)) {
    throw new Error(
      `${found.words.join(" ")} is version ${found.version}; the hand-over needs ${OLDEST_COMPOSE} or newer. Update Docker Compose`,
    );
  }
  return found;
}

/** The files that make up the project. */
export interface ComposeSources {
  /** Compose files, in the order in which docker compose reads them. */
  files: readonly string[];
  /** The text of one more Compose file, read last. */
  override?: string;
  /** Whether an incomplete project is an error. */
  isStrict: boolean;
  /** Env files that are read before `envText`. */
  envFiles: readonly string[];
  /** The text of the env file, which may differ from the file on disk. */
  envText: string;
  /** The env file's path, for messages, and the number of lines of `envText` before its first line. */
  envPath: string;
  envOffset: number;
  /** Variables of this process that docker compose must not see. */
  hidden: readonly string[];
  /** A private folder for temporary files. */
  folder: string;
}

/** The number of missing required variables after which reading fails. */
const MOST_MISSING = 50;

/**
 * Reads the project with the services of every profile. Required variables that only a launcher script sets get a placeholder.
 * @throws {Error} with the message of docker compose, without values from the env file.
 */
export async function readProject(command: ComposeCommand, sources: ComposeSources): Promise<Project> {
  const scratch = await mkdtemp(join(sources.folder, ".resolve-"));
  try {
    for (let missing = ""; ; ) {
      const envText = missing + sources.envText;
      try {
        return await readOnce(command, { ...sources, envText }, scratch);
      } catch (error) {
        const name = /required variable (\w+) is missing a value/.exec((error as Error).message)?.[1];
        const count = missing.split("\n").length - 1;
        if (name !== undefined && count < MOST_MISSING) missing += `${name}=1\n`;
        else
          throw new Error(
            withoutValues((error as Error).message, { ...sources, envOffset: sources.envOffset + count }),
          );
      }
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function readOnce(command: ComposeCommand, sources: ComposeSources, scratch: string): Promise<Project> {
  const env = join(scratch, "variables");
  await writeFile(env, sources.envText, { mode: 0o600 });
  const envArguments = [...sources.envFiles, env].flatMap((file) => ["--env-file", file]);
  const config = (files: readonly string[], ...options: string[]) =>
    runConfig(command, [...files.flatMap((file) => ["--file", file]), ...envArguments], options, sources.hidden);
  const files = [...sources.files];
  if (sources.override !== undefined) {
    files.push(join(scratch, "override.yaml"));
    await writeFile(join(scratch, "override.yaml"), sources.override, { mode: 0o600 });
  }
  // Without the variables of its launcher script, a project may be incomplete.
  const options = sources.isStrict ? [] : ["--no-consistency"];
  try {
    return projectOf(JSON.parse(await config(files, ...options)));
  } catch (error) {
    // The env file may be one that the hand-over will create.
    if (!(error as Error).message.includes(`env file ${sources.envPath} not found`)) throw error;
    // An older docker compose lacks --no-env-resolution; then the file must exist.
    const text = await config(files, "--no-interpolate", "--no-env-resolution", "--no-consistency").catch(() => {
      throw error;
    });
    const raw = JSON.parse(text);
    const without = join(scratch, "without.yaml");
    await writeFile(without, withoutEnvFile(raw, sources.envPath, dirname(sources.files[0] ?? "")));
    const project = projectOf(JSON.parse(await config([...files, without], ...options)));
    return withVariables(project, readers(raw, sources.envPath), valuesOf(sources.envText));
  }
}

async function runConfig(
  { words }: ComposeCommand,
  before: readonly string[],
  options: readonly string[],
  hidden: readonly string[],
): Promise<string> {
  const [program, ...first] = words;
  const environment = Object.entries(process.env).filter(
    ([name]) => !hidden.includes(name) && !/^COMPOSE_(FILE|PROFILES|ENV_FILES|PROJECT_NAME|PATH_SEPARATOR)$/.test(name),
  );
  const all = [...first, ...before, "--profile", "*", "config", "--format", "json", ...options];
  try {
    const { stdout } = await run(program, all, {
      env: Object.fromEntries(environment),
      maxBuffer: MAX_OUTPUT,
      timeout: TIMEOUT_MS,
    });
    return stdout;
  } catch (error) {
    const { stderr = "" } = error as { stderr?: string };
    const said = stderr.split("\n").filter((line) => line.trim() !== "" && !/level=(warning|info)/.test(line));
    throw new Error(said.join("; ") || (error as Error).message.split("\n")[0]);
  }
}

type Raw = { services?: Record<string, { env_file?: { path?: string }[] | null }> };

/** Returns the services that read an env file. */
const readers = ({ services = {} }: Raw, path: string): string[] =>
  Object.entries(services)
    .filter(([, service]) => service.env_file?.some((file) => file.path === path))
    .map(([name]) => name);

/**
 * Returns a Compose file that stops every service from reading an env file.
 * @param folder the project's folder. A $ in it is escaped, because it is literal; a $ in the rest of a path is a reference.
 */
function withoutEnvFile(raw: Raw, path: string, folder: string): string {
  const literal = (file: string) =>
    file.startsWith(folder) ? folder.replaceAll("$", "$$$$") + file.slice(folder.length) : file;
  const lines = readers(raw, path).flatMap((name) => {
    const files = raw.services?.[name]?.env_file?.filter((file) => file.path !== path) ?? [];
    const others = files.map((file) => ({ ...file, ...(file.path !== undefined && { path: literal(file.path) }) }));
    const value = others.length === 0 ? "!reset null" : `!override ${JSON.stringify(others)}`;
    return [`  ${JSON.stringify(name)}:`, `    env_file: ${value}`];
  });
  return ["services:", ...lines, ""].join("\n");
}

function withVariables(project: Project, names: readonly string[], values: Readonly<Record<string, string>>): Project {
  const services = Object.entries(project.services).map(([name, service]) => {
    if (!names.includes(name)) return [name, service];
    return [name, { ...service, environment: { ...values, ...service.environment } }];
  });
  return { ...project, services: Object.fromEntries(services) };
}

/** Returns the message of docker compose without values that may be secrets. */
function withoutValues(said: string, { envText, envPath, envOffset, folder }: ComposeSources): string {
  // Compose quotes the faulty line of an env file, which may hold a secret.
  const line = /failed to read [^;]*?line (\d+)/.exec(said)?.[1];
  if (line !== undefined)
    return `docker compose cannot read ${envPath}: line ${Number(line) - envOffset}, or a quote before it`;
  if (/failed to read/.test(said) && said.includes(folder)) return `docker compose cannot read ${envPath}`;
  const secrets = Object.values(valuesOf(envText)).filter((value) => value.length > 3);
  return secrets.reduce((text, secret) => text.replaceAll(secret, "***"), said);
}
