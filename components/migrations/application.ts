/**
 * Reads the application of an Alembic project: its env files, and its Compose project as Compose resolves it. Runs no code of the
 * application.
 */
import { existsSync, realpathSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { parseEnv } from "node:util";
import { docker } from "../../lib/docker.ts";
import { findCompose } from "../../lib/docker-compose.ts";
import { COMPOSE_NAMES } from "../handover/compose-paths.ts";
import { valuesOf } from "../handover/env-block.ts";
import { buildCommandOf, buildService, compose, withPassword } from "./compose-command.ts";
import { type ComposeProject, type FoundService, serviceNamed, serviceOfFolder } from "./compose-service.ts";
import { type EnvFile, envFlags, readEnvFile, withoutBlocks } from "./env-files.ts";
import type { OwnerConnection } from "./environment.ts";
import { masked, secretValues } from "./masking.ts";

/** A placeholder for the image of the application's service in the resource's inputs: it is resolved when the migrations run. */
export const SERVICE_IMAGE = "the service's";
/** The location of the application. */
export interface ApplicationSpec {
  /** The Alembic project's folder, absolute. */
  alembic: string;
  /** The application's folder, absolute; undefined for the nearest one above the Alembic project that has a Compose file. */
  folder: string | undefined;
  /** The file that the hand-over writes, in the application's folder. */
  envFile: string;
  /** The name of the Compose service; undefined for the one that builds the Alembic project. */
  service: string | undefined;
}

/** The contents of an application's folder. */
interface ApplicationFolder {
  folder: string | undefined;
  hasCompose: boolean;
  /** The env files that Compose reads. */
  composeEnv: EnvFile[];
  /** All env files, in ascending order of precedence. */
  envFiles: EnvFile[];
  /** Removes their values from messages of Compose. */
  hide: (text: string) => string;
}

/** The application's part of the migrations' environment, and the image that its service runs in. */
export interface ApplicationEnvironment {
  files: Record<string, string>;
  service: FoundService | undefined;
  /** The command that rebuilds the service's image; undefined if Compose does not build it. */
  buildCommand: string | undefined;
  /** The variables that the hand-over's blocks in those files set. */
  blocks: Record<string, string>[];
  /** The sources of the variables, for messages. */
  sources: string[];
  /** The reason why an existing Compose file was not used; undefined if it was used, or there is no Compose file. */
  problem: string | undefined;
}

/** Returns the nearest folder above the Alembic project, in the same git repository, that has a Compose file. */
function composeFolderAbove(alembic: string): string | undefined {
  const above: string[] = [];
  for (let at = alembic; ; at = dirname(at)) {
    above.push(at);
    if (existsSync(join(at, ".git"))) break;
    // Outside a repository, the application's root is not known.
    if (dirname(at) === at) return undefined;
  }
  return above.find((folder) => COMPOSE_NAMES.some((name) => existsSync(join(folder, name))));
}

function readFolder({ alembic, folder: named, envFile }: ApplicationSpec): ApplicationFolder {
  const folder = named ?? composeFolderAbove(alembic);
  const read = (paths: readonly string[]) => [...new Set(paths)].flatMap((path) => readEnvFile(path) ?? []);
  const composeEnv =
    folder === undefined ? [] : read([join(folder, ".env"), isAbsolute(envFile) ? envFile : join(folder, envFile)]);
  const ofProject = folder === alembic ? [] : read([join(alembic, ".env")]);
  const namesFiles = composeEnv.some(({ text }) => valuesOf(text).COMPOSE_FILE !== undefined);
  const hasCompose =
    folder !== undefined && (namesFiles || COMPOSE_NAMES.some((name) => existsSync(join(folder, name))));
  const envFiles = [...ofProject, ...composeEnv];
  const values = secretValues(Object.assign({}, ...envFiles.map(({ text }) => valuesOf(text))));
  // Compose quotes the line or value that it cannot read, which may be a secret.
  const hide = (text: string) =>
    masked(/failed to read|unterminated|template/i.test(text) ? text.replace(/ ["'].*$/s, " ...") : text, values);
  return { folder, hasCompose, composeEnv, envFiles, hide };
}

function readProject(at: ApplicationFolder & { folder: string }, connection?: OwnerConnection): ComposeProject {
  return withoutBlocks(at.composeEnv, (paths) =>
    JSON.parse(
      compose(at.folder, {
        args: [...envFlags(paths), "--profile", "*", "config", "--format", "json"],
        connection,
        hide: at.hide,
      }),
    ),
  );
}

/** Returns the variables of the env files as Compose reads them. Compose gets a project with one service that names the files. */
function readVariables(at: ApplicationFolder, connection: OwnerConnection): Record<string, string> {
  const { envFiles, composeEnv } = at;
  if (envFiles.length === 0) return {};
  if (findCompose() === undefined)
    return Object.assign({}, ...envFiles.map(({ text }) => parseEnv(text))) as Record<string, string>;
  return withoutBlocks(envFiles, (paths) => {
    const names = ["--project-name", "sectorwars-variables", "--project-directory", dirname(envFiles[0]?.path ?? ".")];
    const env = paths.slice(envFiles.length - composeEnv.length);
    // Compose reads a $ as a variable, in paths too.
    const service = { image: "none", env_file: paths.map((path) => path.replaceAll("$", "$$$$")) };
    const text = compose(resolve("."), {
      args: [...names, ...envFlags(env), "--file", "-", "config", "--format", "json"],
      connection,
      hide: at.hide,
      input: JSON.stringify({ services: { variables: service } }),
    });
    return serviceNamed(JSON.parse(text), "variables").environment;
  });
}

const real = (path: string): string => {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
};

/** A service, or the reason why none was found. */
interface ServiceResult {
  service: FoundService | undefined;
  problem: string | undefined;
}

/**
 * Finds the application's service.
 * @throws {Error} if `spec.service` names one that does not exist, or that cannot be looked up.
 */
function findService(at: ApplicationFolder, spec: ApplicationSpec, connection?: OwnerConnection): ServiceResult {
  const without = (problem: string): ServiceResult => {
    if (spec.service === undefined) return { service: undefined, problem };
    throw new Error(`alembicService is "${spec.service}", but ${problem}`);
  };
  const { folder } = at;
  if (folder === undefined || !at.hasCompose) {
    const where = folder ?? `the folders above ${spec.alembic}`;
    return spec.service === undefined
      ? { service: undefined, problem: undefined }
      : without(`there is no Compose file in ${where}: pulumi config set handoverFolder FOLDER`);
  }
  if (findCompose() === undefined)
    return without("docker compose is not installed on this machine. Install it: script/bootstrap compose");
  let project: ComposeProject;
  try {
    project = readProject({ ...at, folder }, connection);
  } catch (error) {
    return without(`docker compose cannot read the files in ${folder}: ${(error as Error).message}`);
  }
  if (spec.service !== undefined) return { service: serviceNamed(project, spec.service), problem: undefined };
  const { service, others } = serviceOfFolder(project, real(spec.alembic), real);
  const choose = `to choose: pulumi config set alembicService ${others[0] ?? "NAME"}`;
  if (service !== undefined && others.length > 0)
    return { service, problem: `${[service.name, ...others].join(", ")} build the Alembic project; ${choose}` };
  if (others.length > 0) return without(`${others.join(", ")} may all be the Alembic project's service; ${choose}`);
  return service ? { service, problem: undefined } : without(`no service in ${folder} builds ${spec.alembic}`);
}

/**
 * Returns the service whose image the migrations can run in, according to the application's current files.
 * @throws {Error} if `spec.service` names one that does not exist.
 */
export const composeServiceOf = (spec: ApplicationSpec): FoundService | undefined =>
  findService(readFolder(spec), spec).service;

/**
 * Reads the application's environment.
 * @param connection the owner's connection; references to DATABASE_URL resolve to it.
 * @throws {Error} if `spec.service` names one that does not exist, or an env file cannot be read.
 */
export function readApplication(spec: ApplicationSpec, connection: OwnerConnection): ApplicationEnvironment {
  const at = readFolder(spec);
  const { service, problem } = findService(at, spec, connection);
  let files: Record<string, string>;
  try {
    files = readVariables(at, connection);
  } catch (error) {
    throw new Error(`${at.envFiles.map(({ path }) => path).join(" or ")} cannot be read: ${(error as Error).message}`);
  }
  return {
    files: withPassword(files, connection),
    service: service && { ...service, environment: withPassword(service.environment, connection) },
    buildCommand: service?.isBuilt ? buildCommandOf(at.folder, service.name) : undefined,
    blocks: at.envFiles.flatMap(({ block }) => (block === undefined ? [] : [block])),
    sources: [
      ...at.envFiles.map(({ path }) => path),
      ...(service ? [`the service ${service.name} of docker compose in ${at.folder}`] : []),
    ],
    problem,
  };
}

/**
 * Builds the image of a service if Compose builds it and it is missing. Docker pulls any other image when it creates the container.
 * @throws {Error} with the last lines of the build.
 */
export async function ensureServiceImage(
  spec: ApplicationSpec,
  service: FoundService,
  dockerHost: string | undefined,
  say: (line: string) => void,
): Promise<void> {
  if (!service.isBuilt) return;
  const isThere = await docker(["image", "inspect", service.image], { host: dockerHost }).then(
    () => true,
    () => false,
  );
  if (isThere) return;
  const at = readFolder(spec);
  say(`migrations: building ${service.image}, the image of the service ${service.name}`);
  await withoutBlocks(at.composeEnv, (paths) => buildService(at, service, envFlags(paths), dockerHost));
}
