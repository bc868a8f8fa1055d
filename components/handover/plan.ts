/** Plans the whole hand-over before anything is written: the env file, and the Compose file that overrides the application's. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { isRemoteEngine } from "../../lib/docker.ts";
import type { ComposeCommand } from "../../lib/docker-compose.ts";
import { nearest } from "../../lib/nearest.ts";
import { type PoolBudget, poolBudget, pooledBudget } from "../../lib/pool-budget.ts";
import { MOST_CLIENTS } from "../pooler/configuration.ts";
import { machineTls, serviceTls } from "./authority.ts";
import { composeOverride } from "./compose.ts";
import { readProject, requireCompose } from "./compose-cli.ts";
import { composeFileList, composeFilesIn, overrideFile } from "./compose-paths.ts";
import type { Project } from "./compose-project.ts";
import { addressOf, databaseNames, endpointsAt } from "./database-names.ts";
import { assertOwnBlock, type FileWithoutBlock, insertBlock, removeBlock } from "./env-block.ts";
import { BYTE_ORDER_MARK, valuesOf } from "./env-values.ts";
import { blockVariables } from "./env-variables.ts";
import { clearAbandoned, envFileProblem, envPath, type Found, readReplaceable } from "./files.ts";
import type { HandOverInputs } from "./handover.ts";
import { findLaunchers, type Launcher } from "./launchers.ts";
import { endpointOfUrl, neonUrl, type RemoteUrl } from "./neon-url.ts";
import { activeUsers, profileFor, startCommand } from "./next-command.ts";
import { planRedirects, type Redirects, type ServiceTarget } from "./redirection.ts";

/** The application's Compose project and the changes to it. */
export interface ComposePlan {
  project: Project;
  redirects: Redirects;
  command: ComposeCommand;
  /** The application's own Compose files. */
  files: string[];
  /** The text of the Compose file that overrides them. */
  override: string;
  profile: string | undefined;
  /** The profiles that are active after the next command. */
  profiles: string[];
  launchers: Launcher[];
}

/** The files to write. */
export interface Plan {
  env: string;
  found: Found;
  variables: Record<string, string>;
  /** The current file without its block. */
  taken: FileWithoutBlock;
  /** Undefined if the application has no Compose file. */
  compose: ComposePlan | undefined;
  pools: PoolBudget;
  /** The command for the user to run next; undefined without a Compose file. */
  next: string | undefined;
}

/** Adds the file's path to an error about its block, and says that nothing was written. */
async function withPathInErrors<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { message } = error as Error;
    const subject = /^(has|contains) /.test(message) ? `${path} ` : "";
    throw new Error(`${subject}${message.replace(/\.$/, "")}. Nothing was written.`);
  }
}

/** Returns the file without its block. @throws {Error} for a damaged block, with the file's path. */
export const readWithoutBlock = (path: string, text: string): Promise<FileWithoutBlock> =>
  withPathInErrors(path, async () => removeBlock(text));

/**
 * Reads the application's files and computes what to write.
 * @param root the folder of this project.
 * @throws {Error} if the hand-over is not possible.
 */
export async function planHandOver(inputs: HandOverInputs, root: string): Promise<Plan> {
  const wrong = envFileProblem(inputs);
  if (wrong !== undefined) throw new Error(wrong);
  const path = envPath(inputs);
  const found = await readReplaceable(path);
  return withPathInErrors(path, async () => {
    const taken = removeBlock(found.text ?? "");
    assertOwnBlock(taken, inputs.stack);
    const usual = path === join(inputs.folder, ".env") ? undefined : join(inputs.folder, ".env");
    // A shell that has sourced the file also has the block's values. Hide them, so that only the file counts.
    const urls = ["DATABASE_URL", "DATABASE_URL_DIRECT", "DATABASE_TEST_URL"];
    const hidden = [...urls, ...Object.keys({ ...taken.ours, ...valuesOf(taken.text) })];
    const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !hidden.includes(name)));
    const own = valuesOf(taken.text, environment);
    const files = await composeFilesIn(inputs.folder, inputs.composeFiles, usual, own);
    const allFiles =
      files.length === 0 ? undefined : composeFileList([...files, overrideFile(root, inputs.stack)], own);
    const application = { inputs, root, files, usual, hidden };
    const read = files.length === 0 ? undefined : await readCompose(application, taken, own);
    const remote = inputs.target === "neon" ? remoteOf(taken, own, read?.project) : undefined;
    const target = targetOf(inputs, own, remote, read?.project);
    const compose = read && (await planCompose(application, read, target, own));
    const { usual: always, further } = blockVariables(
      {
        text: taken.text,
        keepsUrl: remote?.isOwn === true,
        environment,
        database: read?.project.services[inputs.service],
      },
      compose?.redirects.names ?? databaseNames(EMPTY, target),
      target,
    );
    Object.assign(always, machineTls(inputs));
    if (allFiles !== undefined) always.COMPOSE_FILE = allFiles;
    const write = (variables: Record<string, string>) => insertBlock(found.text, inputs.stack, variables);
    const variables = compose
      ? await dropHarmful(always, further, (some) => changesOthers(application, compose, taken, write(some)))
      : { ...always, ...further };
    return {
      env: write(variables),
      found,
      variables,
      taken,
      compose,
      pools: budgetOf(inputs, compose),
      next: compose && nextCommand(inputs, compose, path, usual),
    };
  });
}

/** Returns all variables, except further ones that would change a service that does not use the database. */
async function dropHarmful(
  always: Readonly<Record<string, string>>,
  further: Readonly<Record<string, string>>,
  harms: (variables: Record<string, string>) => Promise<boolean>,
): Promise<Record<string, string>> {
  const all = { ...always, ...further };
  if (!(await harms(all)) || Object.keys(further).length === 0) return all;
  let chosen = { ...always };
  for (const [name, value] of Object.entries(further)) {
    const more = { ...chosen, [name]: value };
    if (!(await harms(more))) chosen = more;
  }
  return chosen;
}

const EMPTY: Project = { name: "", services: {}, networks: {}, volumes: {} };

/** The parts of the application that docker compose reads. */
interface Application {
  inputs: HandOverInputs;
  /** The folder of this project. */
  root: string;
  /** Compose files. */
  files: string[];
  /** The .env file, if the hand-over writes to another file. */
  usual: string | undefined;
  /** Variables of this process that are not the application's own. */
  hidden: readonly string[];
}

/** Reads the project with an env file, and with the override if there is one. */
async function readWith(
  { inputs, root, files, usual, hidden }: Application,
  command: ComposeCommand,
  envText: string,
  { override, isStrict = false }: { override?: string; isStrict?: boolean } = {},
): Promise<Project> {
  const folder = dirname(overrideFile(root, inputs.stack));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await clearAbandoned(folder, ".resolve-");
  // A file may already refer to DATABASE_URL, which the block will set. The placeholder has no password, so no value contains one.
  const { user, database } = inputs.logins.main;
  const url = `postgresql://${user}@localhost:${inputs.port}/${database}`;
  const missing = Object.hasOwn(valuesOf(envText), "DATABASE_URL") ? "" : `DATABASE_URL=${url}\n`;
  return readProject(command, {
    files,
    override,
    isStrict,
    envFiles: usual !== undefined && existsSync(usual) ? [usual] : [],
    envText: missing + envText.replace(BYTE_ORDER_MARK, ""),
    envPath: envPath(inputs),
    envOffset: missing === "" ? 0 : 1,
    hidden,
    folder,
  });
}

/** Reads the application's project without the hand-over. */
async function readCompose(
  application: Application,
  { text, ours }: FileWithoutBlock,
  own: Readonly<Record<string, string>>,
): Promise<{ project: Project; command: ComposeCommand }> {
  const command = requireCompose(application.files);
  const project = await readWith(application, command, text);
  assertDatabase(project, application.inputs, application.files);
  // A service with its own env_file has read the block's values from the file on disk.
  for (const { environment } of Object.values(project.services)) {
    for (const [name, value] of Object.entries(ours)) {
      if (environment[name] !== value) continue;
      if (own[name] === undefined) delete environment[name];
      else environment[name] = own[name];
    }
  }
  return { project, command };
}

/**
 * Reads the project with the hand-over, and returns whether services change that do not use the database.
 * @throws {Error} if docker compose accepts the project without the hand-over but not with it.
 */
async function changesOthers(
  application: Application,
  { command, override, project, redirects }: ComposePlan,
  taken: FileWithoutBlock,
  env: string,
): Promise<boolean> {
  const after = await readWith(application, command, env, { override, isStrict: true }).catch(async (error: Error) => {
    const isWhole = await readWith(application, command, taken.text, { isStrict: true }).then(
      () => true,
      () => false,
    );
    if (isWhole)
      throw new Error(`docker compose does not accept the application with the hand-over's file: ${error.message}`);
    return readWith(application, command, env, { override });
  });
  const others = Object.keys(project.services).filter(
    (name) => name !== application.inputs.service && !Object.hasOwn(redirects.services, name),
  );
  return others.some((name) => !isDeepStrictEqual(project.services[name]?.config, after.services[name]?.config));
}

/** @throws {Error} if the database service has another name than the setting composeService says. */
function assertDatabase({ services }: Project, { service }: HandOverInputs, files: readonly string[]): void {
  if (Object.hasOwn(services, service)) return;
  const images = /(^|\/)(postgres|postgis|pgvector|timescaledb)/;
  const others = Object.keys(services).filter((name) => images.test(services[name]?.image ?? ""));
  if (others.length === 0) return;
  throw new Error(
    `${files.join(", ")} has no service "${service}", but ${others.map((name) => `"${name}"`).join(", ")}. Set the name of the ` +
      `application's database service: pulumi config set composeService ${others[0]}`,
  );
}

/** @throws {Error} for a service that does not exist: the one that was meant would connect through the pooler, and lose its locks. */
function assertDirectServices({ services }: Project, { pooled }: HandOverInputs, files: readonly string[]): void {
  const unknown = pooled?.directServices.find((name) => !Object.hasOwn(services, name));
  if (unknown === undefined) return;
  const meant = nearest(unknown, Object.keys(services));
  throw new Error(
    `handoverDirect names "${unknown}", which is not a service of ${files.join(", ")}. ${meant ? `Did you mean ${meant}? ` : ""}` +
      `Its services are ${Object.keys(services).join(", ")}`,
  );
}

/** Returns the remote database's URL, for an application that goes back to it. */
function remoteOf(
  taken: FileWithoutBlock,
  own: Readonly<Record<string, string>>,
  project: Project | undefined,
): RemoteUrl {
  return neonUrl({
    own: own.DATABASE_URL,
    environment: process.env.NEON_DATABASE_URL,
    given: taken.ours.DATABASE_URL,
    services: Object.keys(project?.services ?? {}),
  });
}

/** Returns the database that the services are redirected to. */
function targetOf(
  inputs: HandOverInputs,
  own: Readonly<Record<string, string>>,
  remote: RemoteUrl | undefined,
  project: Project | undefined,
): ServiceTarget {
  const { pools, driver, pooled } = inputs;
  const remoteEndpoint = endpointOfUrl(remote?.url);
  // The stack's database replaces the remote ones that the application has used so far.
  const remotes = [own.DATABASE_URL, process.env.NEON_DATABASE_URL, remote?.url]
    .map(endpointOfUrl)
    .filter((endpoint) => endpoint !== undefined)
    .filter(({ host }) => host.includes(".") && !Object.hasOwn(project?.services ?? {}, host));
  return {
    ...inputs,
    driver: driver === "none" ? "" : `+${driver}`,
    remoteAddresses: remotes.map(({ host, port }) => addressOf(host, port)),
    formerDatabase: endpointOfUrl(own.DATABASE_URL)?.database,
    remoteUrl: remote?.url,
    endpointsFor: endpointsAt(inputs.logins, inputs, remoteEndpoint, remote === undefined ? pooled : undefined),
    pooler:
      pooled && remote === undefined
        ? { ...pooled, directEndpointsFor: endpointsAt(inputs.logins, inputs) }
        : undefined,
    tls: serviceTls(inputs),
    pools: {
      SQLALCHEMY_POOL_SIZE: String(pools.size),
      SQLALCHEMY_MAX_OVERFLOW: String(pools.overflow),
      SQLALCHEMY_POOL_TIMEOUT: String(inputs.poolTimeout),
    },
  };
}

async function planCompose(
  { inputs, files }: Application,
  { project, command }: { project: Project; command: ComposeCommand },
  target: ServiceTarget,
  own: Readonly<Record<string, string>>,
): Promise<ComposePlan> {
  assertDirectServices(project, inputs, files);
  const redirects = planRedirects(project, target);
  if (!Object.values(redirects.services).some(({ isUser }) => isUser)) {
    throw new Error(
      `${files.join(", ")} has no service that uses a database: none depends on "${target.service}", and none has a variable that ` +
        `names it. Its services are ${Object.keys(project.services).join(", ") || "none"}.`,
    );
  }
  const active = (own.COMPOSE_PROFILES ?? "").split(",").filter((name) => name !== "");
  const profile = profileFor(project, redirects, active);
  return {
    project,
    redirects,
    command,
    files,
    override: composeOverride(project, redirects, target),
    profile,
    // --profile on the command line overrides COMPOSE_PROFILES.
    profiles: profile === undefined ? active : [profile],
    launchers: await findLaunchers(inputs.folder),
  };
}

/** Returns the sum of the pools: of the number of services in poolServices, or else of those that were found. */
function budgetOf({ pools, maxConnections, pooled }: HandOverInputs, compose: ComposePlan | undefined): PoolBudget {
  const found = compose === undefined ? 0 : activeUsers(compose.project, compose.redirects, compose.profiles);
  const services = pools.services || Math.max(found, 1);
  const budget = pooled
    ? pooledBudget({ ...pools, services }, maxConnections, {
        direct:
          compose === undefined ? 0 : activeUsers(compose.project, directOnly(compose.redirects), compose.profiles),
        size: pooled.size,
        databases: pooled.databases,
        mostClients: MOST_CLIENTS,
      })
    : poolBudget({ ...pools, services }, maxConnections);
  if (budget.fits) return budget;
  if (pooled) {
    throw new Error(
      `maxConnections is ${maxConnections}: the pooler's and the direct services' connections do not fit. ${budget.sum}. Raise ` +
        "maxConnections, or lower poolerSize, poolSize, poolOverflow or poolWorkers",
    );
  }
  throw new Error(
    `maxConnections is ${maxConnections}: the application's pools do not fit. ${budget.sum}. Raise maxConnections, or lower ` +
      "poolSize, poolOverflow or poolWorkers, or set poolServices to the number of services that have pools",
  );
}

/** Returns the redirects of the services that connect to the server directly. */
const directOnly = ({ services, names }: Redirects): Redirects => ({
  services: Object.fromEntries(Object.entries(services).filter(([, { isPooled }]) => !isPooled)),
  names,
});

function nextCommand(
  { folder, dockerHost }: HandOverInputs,
  { command, profile }: ComposePlan,
  path: string,
  usual: string | undefined,
): string {
  return startCommand({
    folder,
    compose: command.words,
    // docker compose reads .env by default, but not if --env-file is given.
    envFiles: usual === undefined ? [] : [usual, path],
    profile,
    // The services join the stack's network, so they must run on its engine.
    engine: dockerHost !== undefined && isRemoteEngine(dockerHost) ? dockerHost : undefined,
  });
}
