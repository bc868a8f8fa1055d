/** The only reader of the configuration: combines the settings of all components, checks them against each other, and freezes them. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import * as pulumi from "@pulumi/pulumi";
import { contextEndpoint } from "../lib/docker-context.ts";
import { baseImage, type KnownImages, newerImage, poolerBase, pythonImage, readImages } from "../lib/images.ts";
import { nearest } from "../lib/nearest.ts";
import { ownResources } from "../lib/own-state.ts";
import { brokenRules, readValues, type ValuesOf } from "../lib/setting.ts";
import { type RecordedData, recordedData, takesBackups } from "./backups/auto.ts";
import { BACKUP_SETTINGS, type BackupSettings, backupProblems, backupsOf } from "./backups/settings.ts";
import { DATABASES_SETTINGS, type DatabasesSettings, databasesOf, databasesProblems } from "./databases/settings.ts";
import { sourceVariable } from "./databases/source-variable.ts";
import {
  HANDOVER_SETTINGS,
  type HandOverSettings,
  handoverOf,
  pooledProblems,
  poolProblems,
} from "./handover/settings.ts";
import type { ImportSettings } from "./import/neon-import.ts";
import {
  type Bootstrap,
  bootstrapOf,
  IMPORT_SETTINGS,
  safetyCopyOf,
  selectionOf,
  selectionProblems,
} from "./import/settings.ts";
import {
  environmentProblems,
  MIGRATIONS_SETTINGS,
  type MigrationsSettings,
  migrationsOf,
} from "./migrations/settings.ts";
import { POOLER_SETTINGS, type PoolerSettings, poolerOf, poolerProblems } from "./pooler/settings.ts";
import { PRIVILEGES_SETTINGS } from "./privileges/settings.ts";
import {
  hasEmptyPassphrase,
  PROFILE_SETTINGS,
  passphraseProblems,
  productionWarnings,
  withProfile,
} from "./profile.ts";
import { REPLICA_SETTINGS, type ReplicaSettings, replicaProblems, replicasOf } from "./replicas/settings.ts";
import { ROLES_SETTINGS, type RoleTimeouts, timeoutsOf } from "./roles/settings.ts";
import { SEED_SETTINGS, type SeedSettings, seedOf } from "./seed/settings.ts";
import { listenProblems, SERVER_SETTINGS, type ServerSettings, tlsOf } from "./server/settings.ts";

/** Every setting, in the order of Pulumi.yaml. */
export const SETTINGS = {
  ...PROFILE_SETTINGS,
  ...IMPORT_SETTINGS,
  ...SERVER_SETTINGS,
  ...ROLES_SETTINGS,
  ...PRIVILEGES_SETTINGS,
  ...MIGRATIONS_SETTINGS,
  ...SEED_SETTINGS,
  ...HANDOVER_SETTINGS,
  ...DATABASES_SETTINGS,
  ...POOLER_SETTINGS,
  ...BACKUP_SETTINGS,
  ...REPLICA_SETTINGS,
};

/** The settings as written: the keys of Pulumi.yaml's `config`, with its defaults filled in. */
export type RawSettings = ValuesOf<typeof SETTINGS>;

/** Former keys, each with its present name. */
const RENAMED: Readonly<Record<string, keyof typeof SETTINGS>> = {
  application: "handoverFolder",
  keepBackupsOnDestroy: "backupKeepOnDestroy",
  recoverTo: "backupRecoverTo",
  safetyIdentity: "safetyCopyIdentity",
  safetyRecipient: "safetyCopyRecipient",
};

/** The settings of a stack. */
export interface Settings {
  /** The stack's name. */
  readonly stack: string;
  /** Name of the stack's database. */
  readonly database: string;
  /** Tables that readonly must not read; * stands for any characters. */
  readonly denyList: readonly string[];
  readonly server: ServerSettings;
  /** Limits of the app and readonly roles. */
  readonly timeouts: RoleTimeouts;
  readonly import: ImportSettings;
  readonly databases: DatabasesSettings;
  /** Undefined if no Alembic project is named. */
  readonly migrations: MigrationsSettings | undefined;
  /** Undefined if nothing is seeded. */
  readonly seed: SeedSettings | undefined;
  /** Undefined if no application is named. */
  readonly handover: HandOverSettings | undefined;
  /** Undefined if the stack has no pooler. */
  readonly pooler: PoolerSettings | undefined;
  /** Undefined if the stack takes no backups. */
  readonly backups: BackupSettings | undefined;
  /** Undefined if the stack has no read replicas. */
  readonly replicas: ReplicaSettings | undefined;
  /** What the user should know about the settings, each with the remedy. */
  readonly warnings: readonly string[];
}

/** What the settings depend on besides the configuration. */
export interface Surroundings {
  stack: string;
  /** Whether NEON_DATABASE_URL is set. The settings do not read its value. */
  neonUrlIsSet: boolean;
  /** The sources of the further databases, if they were created now. */
  furtherSources: readonly ("neon" | "empty")[];
  /** What the stack's state says about its data. */
  recorded: RecordedData;
  /** The engine of Docker's current context, unless it is the default one. */
  contextEndpoint?: string | undefined;
  /** Whether the stack's passphrase is empty. Read only for the profile production. */
  hasEmptyPassphrase?: boolean;
  /** Images that script/bootstrap found or built. */
  images: KnownImages;
}

/** The oldest supported version of Node: major, minor. */
const OLDEST_NODE = [24, 7] as const;
/** The stack with the names and the port that the application's own files use. */
const MAIN_STACK = "dev";
const MAIN_PORT = 5433;
/** The pooler's port of the main stack is PgBouncer's usual one. */
const MAIN_POOLER_PORT = 6432;
/** Other stacks' ports begin here, and there are this many. */
const FIRST_PORT = 15433;
const PORTS = 4000;

/**
 * Returns a stack's default port: 5433 for `dev`; for others a port from 15433 to 19432 that is derived from the name, so that a stack
 * keeps its port and two stacks rarely have the same. It is below the ephemeral ports of Linux (from 32768) and macOS (from 49152).
 */
export function defaultPort(stack: string): number {
  if (stack === MAIN_STACK) return MAIN_PORT;
  return FIRST_PORT + (createHash("sha256").update(stack).digest().readUInt32BE() % PORTS);
}

/** Returns the default port of a stack's pooler: 6432 for `dev`; for others a port from 19433 to 23432. */
export const defaultPoolerPort = (stack: string): number =>
  stack === MAIN_STACK ? MAIN_POOLER_PORT : defaultPort(stack) + PORTS;

/**
 * Checks the settings and fills in computed ones.
 * @throws {pulumi.RunError} that names every wrong setting, its value and the remedy.
 */
export function resolveSettings(given: RawSettings, surroundings: Surroundings): Settings {
  const { stack, images } = surroundings;
  const raw = withProfile(given);
  const bootstrap = bootstrapOf(raw, surroundings.neonUrlIsSet);
  const server = serverOf(raw, surroundings);
  const replicas = replicasOf(raw, server.port);
  const poolerPort = raw.poolerPort || defaultPoolerPort(stack);
  const problems = [
    ...brokenRules(SETTINGS, raw),
    ...passphraseProblems(raw, stack, surroundings.hasEmptyPassphrase === true),
    ...listenProblems(raw),
    ...selectionProblems(raw),
    ...environmentProblems(raw),
    ...poolProblems(raw),
    ...pooledProblems(raw),
    ...databasesProblems(raw),
    ...poolerProblems(raw, raw.port || defaultPort(stack), poolerPort),
    ...backupProblems(raw, bootstrap),
    ...(replicas ? replicaProblems(replicas, server.port) : []),
    ...companionProblems(server, raw),
  ];
  if (problems.length > 0) throw new pulumi.RunError(`Settings of the stack "${stack}":\n  ${problems.join("\n  ")}`);

  const sources = [bootstrap, ...surroundings.furtherSources];
  return Object.freeze({
    stack,
    database: raw.database,
    denyList: Object.freeze([...raw.readonlyDenyList]),
    server,
    timeouts: timeoutsOf(raw),
    import: importOf(raw, bootstrap, newerImage(images)),
    databases: databasesOf(raw),
    seed: seedOf(raw, bootstrap),
    handover: handoverOf(raw),
    migrations: migrationsOf(raw, pythonImage(images)),
    pooler: poolerOf(raw, poolerPort, poolerBase(images)),
    backups: takesBackups(raw.backups, sources, surroundings.recorded) ? backupsOf(raw, stack) : undefined,
    replicas,
    warnings: Object.freeze(productionWarnings(raw)),
  });
}

/** Returns the problems of settings that do not work together yet: the pooler's and the replicas' connections are not encrypted. */
const companionProblems = ({ tls }: ServerSettings, { pooler, replicas }: RawSettings): string[] =>
  tls === undefined
    ? []
    : [
        ...(pooler
          ? ["pooler is true and the server accepts only TLS, which the pooler does not use yet: set pooler to false"]
          : []),
        ...(replicas > 0
          ? [
              `replicas is ${replicas} and the server accepts only TLS, which replicas do not use yet: set replicas to 0`,
            ]
          : []),
      ];

const serverOf = (raw: RawSettings, { stack, images, contextEndpoint }: Surroundings): ServerSettings =>
  Object.freeze({
    baseImage: raw.baseImage === "auto" ? baseImage(images) : raw.baseImage,
    listen: raw.listen,
    port: raw.port || defaultPort(stack),
    tls: tlsOf(raw),
    memoryMiB: raw.memory,
    cpus: raw.cpus,
    maxConnections: raw.maxConnections,
    passwordVersion: raw.passwordVersion,
    keepDataOnDestroy: raw.keepDataOnDestroy === "true",
    protectData: raw.protectData === "true",
    logsForProduction: raw.logging === "production",
    dockerHost: raw.dockerHost === "auto" ? contextEndpoint : raw.dockerHost,
    dockerHostIsSet: raw.dockerHost !== "auto",
  });

const importOf = (raw: RawSettings, bootstrap: Bootstrap, image: string): ImportSettings =>
  Object.freeze({
    bootstrap,
    bootstrapChosen: raw.bootstrap !== "auto",
    jobs: raw.importJobs,
    newerImage: image,
    safetyCopy: safetyCopyOf(raw, bootstrap),
    selection: selectionOf(raw),
  });

/**
 * Returns the keys of a project's configuration that are not settings, because a misspelt setting must not be ignored.
 * @param given full keys, `project:key`. Keys of other projects and of providers are not checked.
 */
export function unknownKeys(project: string, given: readonly string[]): string[] {
  return given
    .filter((key) => key.startsWith(`${project}:`))
    .map((key) => key.slice(project.length + 1))
    .filter((key) => !Object.hasOwn(SETTINGS, key));
}

/** Returns the text of a stack's settings; empty if they are in another place. */
function ownSettings(stack: string): string {
  try {
    return readFileSync(`Pulumi.${stack}.yaml`, "utf8");
  } catch {
    return "";
  }
}

/** Runs a lookup on this machine, and converts its error so that Pulumi prints it without a stack trace. */
function lookup<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new pulumi.RunError((error as Error).message);
  }
}

/** @throws {pulumi.RunError} if a version of Node is too old. */
export function refuseOldNode(version: string): void {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new pulumi.RunError(
    `This program needs Node ${OLDEST_NODE.join(".")} or newer, but Node ${version} runs it. Use the project's own Node: . script/env ` +
      `puts it first on PATH`,
  );
}

/** Returns the new name of a former key, or the most similar one, with the command that corrects the configuration. */
function remedyFor(key: string): string {
  const renamed = Object.hasOwn(RENAMED, key) ? RENAMED[key] : undefined;
  const remove = `pulumi config rm ${key}`;
  if (renamed) return `${key} was renamed to ${renamed}: pulumi config set ${renamed} VALUE, then ${remove}`;
  const meant = nearest(key, Object.keys(SETTINGS));
  return `${key} is not a setting.${meant ? ` Did you mean ${meant}?` : ""} Remove it: ${remove}`;
}

function refuseUnknown(config: pulumi.Config): void {
  const unknown = unknownKeys(config.name, Object.keys(pulumi.runtime.allConfig()));
  if (unknown.length === 0) return;
  const lines = [...unknown.map(remedyFor), "docs/settings.md lists all settings"];
  throw new pulumi.RunError(`Settings of the stack "${pulumi.getStack()}":\n  ${lines.join("\n  ")}`);
}

/**
 * Reads the settings of the stack that is being updated or previewed.
 * @throws {pulumi.RunError} for unknown keys and invalid values.
 */
export async function readSettings(): Promise<Settings> {
  refuseOldNode(process.versions.node);
  const config = new pulumi.Config();
  refuseUnknown(config);
  const raw = readValues(SETTINGS, config);
  return resolveSettings(raw, {
    stack: pulumi.getStack(),
    neonUrlIsSet: Boolean(process.env.NEON_DATABASE_URL),
    furtherSources: raw.databases.map((name) => (process.env[sourceVariable(name)] ? "neon" : "empty")),
    // The state is read only for `auto`, so that with true or false an unreadable state does not make the update fail.
    recorded: recordedData(raw.backups === "auto" ? await ownResources(pulumi.getProject(), pulumi.getStack()) : []),
    hasEmptyPassphrase: raw.profile === "production" && hasEmptyPassphrase(ownSettings(pulumi.getStack())),
    images: lookup(readImages),
    contextEndpoint: raw.dockerHost === "auto" ? lookup(contextEndpoint) : undefined,
  });
}
