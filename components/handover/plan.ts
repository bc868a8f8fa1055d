/** Works out the whole hand-over before anything is written: the file of variables, and the Compose file over the application's. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { isRemoteEngine } from "../../lib/docker.ts";
import type { ComposeCommand } from "../../lib/docker-compose.ts";
import { type PoolBudget, poolBudget } from "../../lib/pool-budget.ts";
import { composeOverride } from "./compose.ts";
import { needCompose, readProject } from "./compose-cli.ts";
import type { Project } from "./compose-project.ts";
import { databaseNames, endpointsAt, placeOf } from "./database-names.ts";
import { putIn, refuseOther, type Taken, takeOut } from "./env-block.ts";
import { BYTE_ORDER_MARK, valuesOf } from "./env-values.ts";
import { fileVariables } from "./env-variables.ts";
import { clearAbandoned, envFileProblem, envPath, type Found, readReplaceable } from "./files.ts";
import type { HandOverInputs } from "./handover.ts";
import { findLaunchers, type Launcher } from "./launchers.ts";
import { endpointOfUrl, neonUrl, type RemoteUrl } from "./neon-url.ts";
import { activeUsers, profileFor, startCommand } from "./next-command.ts";
import { composeFileList, composeFilesIn, overrideFile } from "./places.ts";
import { planRedirects, type Redirects, type ServiceTarget } from "./redirection.ts";

/** The application's Compose project with what changes in it. */
export interface ComposePlan {
  project: Project;
  redirects: Redirects;
  command: ComposeCommand;
  /** Its own files. */
  files: string[];
  /** The file over them. */
  override: string;
  profile: string | undefined;
  /** The profiles that are active then. */
  profiles: string[];
  launchers: Launcher[];
}

/** What is to be written. */
export interface Plan {
  env: string;
  found: Found;
  variables: Record<string, string>;
  /** The block that is there now. */
  taken: Taken;
  /** Undefined where the application has no Compose file. */
  compose: ComposePlan | undefined;
  pools: PoolBudget;
  /** What the user runs next; undefined without a Compose file. */
  next: string | undefined;
}

/** Adds to an error about the file's block whose block it is, and that all is as it was. */
async function explaining<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { message } = error as Error;
    const whose = message.startsWith("has ") ? `${path} ` : "";
    throw new Error(`${whose}${message.replace(/\.$/, "")}. Nothing was written.`);
  }
}

/** The file without its block. @throws {Error} that names the file, for a damaged block. */
export const takenFrom = (path: string, text: string): Promise<Taken> => explaining(path, async () => takeOut(text));

/**
 * Looks at everything, and works out what to write.
 * @param root the project's folder.
 * @throws {Error} for what is in the way.
 */
export async function planHandOver(inputs: HandOverInputs, root: string): Promise<Plan> {
  const wrong = envFileProblem(inputs);
  if (wrong !== undefined) throw new Error(wrong);
  const path = envPath(inputs);
  const found = await readReplaceable(path);
  return explaining(path, async () => {
    const taken = takeOut(found.text ?? "");
    refuseOther(taken, inputs.stack);
    const usual = path === join(inputs.folder, ".env") ? undefined : join(inputs.folder, ".env");
    // A shell that has read the file has the block's values too. The file is what counts, with and without such a shell.
    const hidden = ["DATABASE_URL", "DATABASE_TEST_URL", ...Object.keys({ ...taken.ours, ...valuesOf(taken.text) })];
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
    const { usual: always, further } = fileVariables(
      {
        text: taken.text,
        keepsUrl: remote?.isOwn === true,
        environment,
        database: read?.project.services[inputs.service],
      },
      compose?.redirects.names ?? databaseNames(EMPTY, target),
      target,
    );
    if (allFiles !== undefined) always.COMPOSE_FILE = allFiles;
    const write = (variables: Record<string, string>) => putIn(found.text, inputs.stack, variables);
    const variables = compose
      ? await withoutHarm(always, further, (some) => changesOthers(application, compose, taken, write(some)))
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

/** All variables, but for those of the further ones that would change a service which does not use the database. */
async function withoutHarm(
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

/** The application, as far as docker compose reads it. */
interface Application {
  inputs: HandOverInputs;
  /** This project's folder. */
  root: string;
  /** Compose files. */
  files: string[];
  /** The .env file, where the hand-over writes another. */
  usual: string | undefined;
  /** Variables of this process that are not the application's own. */
  hidden: readonly string[];
}

/** Reads the project by a file of variables, and by the override where there is one. */
async function readWith(
  { inputs, root, files, usual, hidden }: Application,
  command: ComposeCommand,
  envText: string,
  { override, isStrict = false }: { override?: string; isStrict?: boolean } = {},
): Promise<Project> {
  const folder = dirname(overrideFile(root, inputs.stack));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await clearAbandoned(folder, ".resolve-");
  // What the block will set, a file may ask for already. References find it above; nobody takes it for the block's own value.
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

/** The application's project as it is without the hand-over. */
async function readCompose(
  application: Application,
  { text, ours }: Taken,
  own: Readonly<Record<string, string>>,
): Promise<{ project: Project; command: ComposeCommand }> {
  const command = needCompose(application.files);
  const project = await readWith(application, command, text);
  assertDatabase(project, application.inputs, application.files);
  // A service that reads the file by itself has seen the block in it.
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
 * Reads the project as it will be, and tells whether services change that do not use the database.
 * @throws {Error} where docker compose would refuse it, and does not refuse it as it is.
 */
async function changesOthers(
  application: Application,
  { command, override, project, redirects }: ComposePlan,
  taken: Taken,
  env: string,
): Promise<boolean> {
  const after = await readWith(application, command, env, { override, isStrict: true }).catch(async (error: Error) => {
    const isWhole = await readWith(application, command, taken.text, { isStrict: true }).then(
      () => true,
      () => false,
    );
    if (isWhole)
      throw new Error(`docker compose would refuse the application with the hand-over's file: ${error.message}`);
    return readWith(application, command, env, { override });
  });
  const others = Object.keys(project.services).filter(
    (name) => name !== application.inputs.service && !Object.hasOwn(redirects.services, name),
  );
  return others.some((name) => !isDeepStrictEqual(project.services[name]?.told, after.services[name]?.told));
}

/** @throws {Error} where the application's database service has another name than the setting says. */
function assertDatabase({ services }: Project, { service }: HandOverInputs, files: readonly string[]): void {
  if (Object.hasOwn(services, service)) return;
  const images = /(^|\/)(postgres|postgis|pgvector|timescaledb)/;
  const others = Object.keys(services).filter((name) => images.test(services[name]?.image ?? ""));
  if (others.length === 0) return;
  throw new Error(
    `${files.join(", ")} has no service "${service}", but ${others.map((name) => `"${name}"`).join(", ")}. Say which is the ` +
      `application's database: pulumi config set composeService ${others[0]}`,
  );
}

/** The remote database's URL, where the application goes back to that. */
function remoteOf(taken: Taken, own: Readonly<Record<string, string>>, project: Project | undefined): RemoteUrl {
  return neonUrl({
    own: own.DATABASE_URL,
    environment: process.env.NEON_DATABASE_URL,
    given: taken.ours.DATABASE_URL,
    services: Object.keys(project?.services ?? {}),
  });
}

/** What the services are led to. */
function targetOf(
  inputs: HandOverInputs,
  own: Readonly<Record<string, string>>,
  remote: RemoteUrl | undefined,
  project: Project | undefined,
): ServiceTarget {
  const { pools, driver } = inputs;
  const remoteEndpoint = endpointOfUrl(remote?.url);
  // The remote databases that the application used so far are this one.
  const remotes = [own.DATABASE_URL, process.env.NEON_DATABASE_URL, remote?.url]
    .map(endpointOfUrl)
    .filter((endpoint) => endpoint !== undefined)
    .filter(({ host }) => host.includes(".") && !Object.hasOwn(project?.services ?? {}, host));
  return {
    ...inputs,
    driver: driver === "none" ? "" : `+${driver}`,
    remotePlaces: remotes.map(({ host, port }) => placeOf(host, port)),
    formerDatabase: endpointOfUrl(own.DATABASE_URL)?.database,
    remoteUrl: remote?.url,
    endpointsFor: endpointsAt(inputs.logins, inputs, remoteEndpoint),
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
  const redirects = planRedirects(project, target);
  if (!Object.values(redirects.services).some(({ isUser }) => isUser)) {
    throw new Error(
      `${files.join(", ")} has no service that uses a database: none depends on "${target.service}", none has a variable that ` +
        `leads to it. Its services are ${Object.keys(project.services).join(", ") || "none"}.`,
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
    // Of a profile that is named, those of the variables are none.
    profiles: profile === undefined ? active : [profile],
    launchers: await findLaunchers(inputs.folder),
  };
}

/** The sum of the pools: of the services that are set, or else of those that were found. */
function budgetOf({ pools, maxConnections }: HandOverInputs, compose: ComposePlan | undefined): PoolBudget {
  const found = compose === undefined ? 0 : activeUsers(compose.project, compose.redirects, compose.profiles);
  const budget = poolBudget({ ...pools, services: pools.services || Math.max(found, 1) }, maxConnections);
  if (budget.fits) return budget;
  throw new Error(
    `maxConnections is ${maxConnections}: the application's pools do not fit. ${budget.sum}. Raise maxConnections, or lower ` +
      "poolSize, poolOverflow or poolWorkers, or say in poolServices how many services have pools",
  );
}

function nextCommand(
  { folder, dockerHost }: HandOverInputs,
  { command, profile }: ComposePlan,
  path: string,
  usual: string | undefined,
): string {
  return startCommand({
    folder,
    compose: command.words,
    // docker compose reads .env by itself, and not beside another.
    envFiles: usual === undefined ? [] : [usual, path],
    profile,
    // The services join the stack's network, which is on its engine.
    engine: dockerHost !== undefined && isRemoteEngine(dockerHost) ? dockerHost : undefined,
  });
}
