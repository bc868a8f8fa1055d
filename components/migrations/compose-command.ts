/** Runs docker compose in the application's folder, without showing secrets in `ps` or in messages of Compose. */
import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { composeWords } from "../../lib/docker-compose.ts";
import { currentScope } from "../../lib/scope.ts";
import { shellWord } from "../../lib/shell-word.ts";
import type { FoundService } from "./compose-service.ts";
import { bareUrlOf, type OwnerConnection } from "./environment.ts";

/** A placeholder for the owner's password while Compose resolves the files, because `ps` shows the environment of a process. */
const PASSWORD = `password${randomBytes(12).toString("hex")}`;
const COMPOSE_TIMEOUT_MS = 60_000;
const MAX_OUTPUT_BYTES = 64 * 1024 ** 2;
/** The number of last lines of a failed build that the error shows. */
const BUILD_LINES = 15;

/** Options of {@link compose}. */
export interface ComposeRun {
  args: readonly string[];
  connection: OwnerConnection | undefined;
  /** Removes secrets from messages of Compose. */
  hide: (text: string) => string;
  /** The standard input. */
  input?: string;
}

/** Returns the environment for Compose. Its DATABASE_URL names this database and overrides that of any file. */
function composeProcess(connection: OwnerConnection | undefined): NodeJS.ProcessEnv {
  const { COMPOSE_FILE: _, COMPOSE_PROFILES: __, COMPOSE_ENV_FILES: ___, ...rest } = process.env;
  const kept = Object.entries(rest).filter(([name]) => !/^(NEON_DATABASE_URL|PULUMI_)/.test(name));
  const url = connection && bareUrlOf({ ...connection, password: PASSWORD });
  return { ...Object.fromEntries(kept), ...(url === undefined ? {} : { DATABASE_URL: url }) };
}

/** Runs Compose and returns its output, without warnings. */
export function compose(folder: string, { args, connection, hide, input }: ComposeRun): string {
  const [program, ...first] = composeWords();
  const { status, stdout, stderr, error } = spawnSync(program, [...first, ...args], {
    cwd: folder,
    env: composeProcess(connection),
    input: input ?? "",
    encoding: "utf8",
    maxBuffer: MAX_OUTPUT_BYTES,
    timeout: COMPOSE_TIMEOUT_MS,
  });
  if (status === 0) return stdout;
  const said = (stderr || error?.message || "no output")
    .trim()
    .split("\n")
    .filter((line) => !/level=warning/.test(line));
  throw new Error(hide(said[0] ?? "no output"));
}

/** Replaces the placeholder in the variables by the owner's password. */
export function withPassword(variables: Record<string, string>, connection: OwnerConnection | undefined) {
  if (connection === undefined) return variables;
  return Object.fromEntries(
    Object.entries(variables).map(([name, value]) => [name, value.replaceAll(PASSWORD, connection.password)]),
  );
}

/** Returns the command that builds a service's image, for messages. */
export const buildCommandOf = (folder = ".", service: string): string =>
  `cd ${shellWord(folder)} && docker compose build ${service}`;

/**
 * Builds a service's image.
 * @param flags global flags of Compose.
 * @throws {Error} with the last lines of the build.
 */
export async function buildService(
  { folder = ".", hide }: { folder: string | undefined; hide: (text: string) => string },
  { name, image }: FoundService,
  flags: readonly string[],
  dockerHost: string | undefined,
): Promise<void> {
  const scope = currentScope();
  scope?.check();
  const [program, ...first] = composeWords();
  const child = spawn(program, [...first, ...flags, "--profile", "*", "build", name], {
    cwd: folder,
    env: {
      ...composeProcess(undefined),
      BUILDKIT_PROGRESS: "plain",
      ...(dockerHost ? { DOCKER_HOST: dockerHost } : {}),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const forget = scope?.add(() => child.kill());
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    createInterface({ input: stream }).on("line", (line) => void (line.trim() !== "" && said.push(line)));
  const { promise, resolve: settle } = Promise.withResolvers<number | null>();
  child.on("error", (error) => {
    said.push(error.message);
    settle(1);
  });
  child.on("close", settle);
  const code = await promise;
  forget?.();
  scope?.check();
  if (code === 0) return;
  throw new Error(
    [
      `Building the image ${image} of the service ${name} failed. The last lines of the build:`,
      ...said.slice(-BUILD_LINES).map((line) => `  | ${hide(line)}`),
      `Build it (${buildCommandOf(folder, name)}), or run the migrations in another image: ` +
        `pulumi config set alembicImage IMAGE, where generic is an image with only Alembic and the drivers. The database is untouched.`,
    ].join("\n"),
  );
}
