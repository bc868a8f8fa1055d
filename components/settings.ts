/** The only reader of configuration: checks the settings against each other and freezes them. */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { contextEndpoint } from "../lib/docker-context.ts";
import { baseImage, type KnownImages, newerImage, pythonImage, readImages } from "../lib/images.ts";
import { isExactMoment } from "./backups/exact-moment.ts";
import { planOf } from "./backups/plan.ts";
import type { Driver } from "./handover/handover.ts";
import { type Pools, poolBudget } from "./handover/pool-budget.ts";
import { defaultIdentityFile } from "./import/identity-file.ts";
import { parseSelection, type RawSelection } from "./import/selection-settings.ts";
import type { SafetyCopySettings } from "./import/types.ts";
import { isPasswordScheme, PASSWORD_SCHEME_RULE } from "./seed/password-hash.ts";

/** Where the data of a new stack comes from. */
export type Bootstrap = "sample" | "neon" | "empty" | "backup";

/** A store that speaks S3. */
export interface S3Settings {
  readonly bucket: string;
  /** The folder in the bucket, absolute. */
  readonly path: string;
  readonly host: string;
  readonly port: number;
  readonly region: string;
  /** File of the authority that has signed its certificate; undefined is one that everybody knows. */
  readonly authorityFile: string | undefined;
  /** File with the access key and its secret. */
  readonly credentialsFile: string;
}

/** What is kept of the data, and where. */
export interface BackupSettings {
  /** The host folder that holds the backups; undefined is a volume of the stack's, unless a store has them. */
  readonly folder: string | undefined;
  readonly s3: S3Settings | undefined;
  /** When backups and drills are due, as the image's due.awk reads it; empty is never. */
  readonly plans: { readonly full: string; readonly diff: string; readonly drill: string };
  readonly compression: "zst" | "lz4";
  /** Days for which any moment can be restored; 0 counts full backups instead. */
  readonly keepDays: number;
  /** Full backups that are kept, where days do not say so. */
  readonly keepFulls: number;
  /** Per cent of the disk in use at which WAL that cannot be archived is given up. */
  readonly giveUpAt: number;
  readonly keepOnDestroy: boolean;
}

/** What a stack is asked to be. */
export interface Settings {
  readonly stack: string;
  readonly bootstrap: Bootstrap;
  /** Whether somebody chose `bootstrap`, or it follows from the environment of the moment. */
  readonly bootstrapChosen: boolean;
  readonly database: string;
  /** Port on 127.0.0.1. */
  readonly port: number;
  /** Memory limit of the database container, MiB. */
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly maxConnections: number;
  readonly passwordVersion: number;
  readonly readonlyDenyList: readonly string[];
  readonly keepDataOnDestroy: boolean;
  readonly importJobs: number;
  /** Where an encrypted copy of the source is kept; undefined for none. */
  readonly safetyCopy: SafetyCopySettings | undefined;
  /** What of the source comes along, as it was written. */
  readonly selection: RawSelection;
  /** PostgreSQL 15 image that the database image is built on. */
  readonly baseImage: string;
  /** Image with a newer pg_dump, for sources newer than 15. */
  readonly newerPostgres: string;
  /** Docker engine; undefined is the environment's, or the local one. */
  readonly dockerHost: string | undefined;
  /** Whether the setting names it; otherwise it is the one that the docker command uses as well. */
  readonly dockerHostIsSet: boolean;
  /** Further databases in the same server. */
  readonly databases: readonly string[];
  /** Those that may be dropped when they are no longer among them. */
  readonly droppableDatabases: readonly string[];
  /** Undefined where no Alembic project is named. */
  readonly migrations: MigrationsSettings | undefined;
  /** Undefined where nothing is seeded. */
  readonly seed: SeedSettings | undefined;
  /** Undefined where no application is named. */
  readonly handover: HandOverSettings | undefined;
  /** Undefined where the stack takes no backups. */
  readonly backups: BackupSettings | undefined;
  /** What a stack that begins from a backup is brought to: `latest`, or a time with its zone. */
  readonly recoverTo: string;
}

/** How the application's schema is kept at a revision. */
export interface MigrationsSettings {
  /** Folder of the Alembic project. */
  readonly folder: string;
  /** Image to run in: its name, `generic` for this project's own, or `auto` for the Compose service's, else the generic one. */
  readonly image: string;
  /** The application's folder; undefined for the nearest one above `folder` with a Compose file. */
  readonly application: string | undefined;
  /** The file of variables in it that the hand-over writes. */
  readonly envFile: string;
  /** The Compose service whose environment and image the migrations have; undefined for the one that builds `folder`. */
  readonly service: string | undefined;
  /** Further variables for the migrations: NAME=VALUE, or NAME for the value in the environment. */
  readonly environment: readonly string[];
  readonly arguments: readonly string[];
  /** The wanted revision, or `head`. */
  readonly revision: string;
  readonly allowDowngrade: boolean;
  /** Python image that the project's own migrations image is built on. */
  readonly pythonImage: string;
}

/** The essential rows. */
export interface SeedSettings {
  /** Files and folders beside the project's own. */
  readonly files: readonly string[];
  /** Name of the administrator. */
  readonly admin: string;
  /** How the application hashes passwords: a scheme of components/seed/password-hash.ts. */
  readonly passwordHash: string;
  /** Whether data that was imported is seeded, too. */
  readonly evenImported: boolean;
}

/** How the application gets the database. */
export interface HandOverSettings {
  /** The application's folder. */
  readonly folder: string;
  /** The file of variables in it. */
  readonly file: string;
  readonly target: "local" | "neon";
  /** Whom the services log in as. */
  readonly role: "app" | "owner";
  /** The application's Compose files; none are those that docker compose finds by itself. */
  readonly composeFiles: readonly string[];
  /** What the application's Compose file calls its database, and the network. */
  readonly service: string;
  readonly networkKey: string;
  /** Services of it that get the superuser's variables. */
  readonly superuserServices: readonly string[];
  readonly pools: Pools;
  /** Seconds. */
  readonly poolTimeout: number;
  readonly driver: Driver;
}

/** The settings as they are written: the keys of Pulumi.yaml's `config`, with its defaults filled in. */
export interface RawSettings {
  bootstrap: string;
  database: string;
  port: number;
  memory: number;
  cpus: number;
  maxConnections: number;
  passwordVersion: number;
  readonlyDenyList: string[];
  keepDataOnDestroy: boolean;
  importJobs: number;
  safetyCopy: string;
  safetyCopyFolder: string;
  safetyRecipient: string;
  safetyIdentity: string;
  importExclude: string[];
  importSchemaOnly: boolean;
  importSubset: string[];
  importMasks: string[];
  baseImage: string;
  dockerHost: string;
  alembic: string;
  alembicImage: string;
  alembicService: string;
  alembicEnvironment: string[];
  alembicArguments: string[];
  alembicRevision: string;
  alembicDowngrade: boolean;
  seed: string;
  seedFiles: string[];
  seedAdmin: string;
  seedPasswordHash: string;
  application: string;
  handoverFile: string;
  handoverTarget: string;
  handoverRole: string;
  handoverDriver: string;
  composeFiles: string[];
  composeService: string;
  composeNetwork: string;
  composeSuperusers: string[];
  poolServices: number;
  poolWorkers: number;
  poolSize: number;
  poolOverflow: number;
  poolTimeout: number;
  databases: string[];
  droppableDatabases: string[];
  backups: boolean;
  backupRepository: string;
  backupS3Endpoint: string;
  backupS3Region: string;
  backupS3Authority: string;
  backupS3Credentials: string;
  backupFull: string;
  backupDifferential: string;
  backupDrill: string;
  backupCompression: string;
  backupKeepDays: number;
  backupKeepFulls: number;
  backupGiveUpAt: number;
  keepBackupsOnDestroy: boolean;
  recoverTo: string;
}

/** What the settings depend on besides the configuration. */
export interface Surroundings {
  stack: string;
  /** Whether NEON_DATABASE_URL is set. Its value is nobody's business here: only the import reads it. */
  neonUrlIsSet: boolean;
  /** The engine of Docker's current context, where that is not the usual one. */
  contextEndpoint?: string | undefined;
  /** Images that script/bootstrap found or built. */
  images: KnownImages;
}

const KEYS: ReadonlyArray<keyof RawSettings> = [
  "bootstrap",
  "database",
  "port",
  "memory",
  "cpus",
  "maxConnections",
  "passwordVersion",
  "readonlyDenyList",
  "keepDataOnDestroy",
  "importJobs",
  "safetyCopy",
  "safetyCopyFolder",
  "safetyRecipient",
  "safetyIdentity",
  "importExclude",
  "importSchemaOnly",
  "importSubset",
  "importMasks",
  "baseImage",
  "dockerHost",
  "alembic",
  "alembicImage",
  "alembicService",
  "alembicEnvironment",
  "alembicArguments",
  "alembicRevision",
  "alembicDowngrade",
  "seed",
  "seedFiles",
  "seedAdmin",
  "seedPasswordHash",
  "application",
  "handoverFile",
  "handoverTarget",
  "handoverRole",
  "handoverDriver",
  "composeFiles",
  "composeService",
  "composeNetwork",
  "composeSuperusers",
  "poolServices",
  "poolWorkers",
  "poolSize",
  "poolOverflow",
  "poolTimeout",
  "databases",
  "droppableDatabases",
  "backups",
  "backupRepository",
  "backupS3Endpoint",
  "backupS3Region",
  "backupS3Authority",
  "backupS3Credentials",
  "backupFull",
  "backupDifferential",
  "backupDrill",
  "backupCompression",
  "backupKeepDays",
  "backupKeepFulls",
  "backupGiveUpAt",
  "keepBackupsOnDestroy",
  "recoverTo",
];

const DRIVERS: readonly string[] = ["none", "psycopg2", "psycopg", "asyncpg"] satisfies Driver[];

/** Major version of Node from which on all that the program uses is there. */
const OLDEST_NODE = 24;
/** The stack that has the names and the port that the application's own files know. */
const MAIN_STACK = "dev";
const MAIN_PORT = 5433;

/**
 * A port for a stack that was given none: 5433 for `dev`; for others one of 15433 to 19432 that follows from the name, so
 * that a stack keeps its port and two rarely want the same. Below Linux's and macOS's ephemeral ports (32768, 49152).
 */
export function defaultPort(stack: string): number {
  if (stack === MAIN_STACK) return MAIN_PORT;
  return 15433 + (createHash("sha256").update(stack).digest().readUInt32BE() % 4000);
}

/**
 * Checks and completes the settings.
 * @throws {pulumi.RunError} that names every wrong setting, its value and what it may be.
 */
export function resolveSettings(raw: RawSettings, surroundings: Surroundings): Settings {
  const { stack, neonUrlIsSet, images } = surroundings;
  const wrong: string[] = [];
  const check = (fine: boolean, key: keyof RawSettings, rule: string) => {
    if (!fine) wrong.push(`${key} is ${JSON.stringify(raw[key])}: ${rule}`);
  };
  const whole = (value: number, min: number, max: number) => Number.isInteger(value) && value >= min && value <= max;

  const chosen = raw.bootstrap !== "auto";
  const bootstrap = chosen ? raw.bootstrap : neonUrlIsSet ? "neon" : "sample";
  check(
    ["sample", "neon", "empty", "backup"].includes(bootstrap),
    "bootstrap",
    "choose sample, neon, empty, backup or auto",
  );
  check(
    /^[a-z][a-z0-9_]{0,40}$/.test(raw.database),
    "database",
    "use up to 41 small letters, digits and _, a letter first",
  );
  check(
    raw.database !== "postgres" && !raw.database.startsWith("template"),
    "database",
    "that name is PostgreSQL's own",
  );
  check(raw.port === 0 || whole(raw.port, 1024, 65535), "port", "choose 1024 to 65535, or 0 for the default");
  check(whole(raw.memory, 256, 4_194_304), "memory", "give MiB, at least 256");
  check(whole(raw.cpus, 1, 1024), "cpus", "give a whole number, at least 1");
  check(whole(raw.maxConnections, 10, 10_000), "maxConnections", "choose 10 to 10000");
  check(whole(raw.passwordVersion, 1, 1e9), "passwordVersion", "give a whole number, at least 1");
  check(whole(raw.importJobs, 1, 16), "importJobs", "choose 1 to 16");
  check(["auto", "true", "false"].includes(raw.safetyCopy), "safetyCopy", "choose auto, true or false");
  check(raw.safetyCopyFolder.trim() !== "", "safetyCopyFolder", "give a folder");
  check(
    raw.safetyRecipient === "auto" || /^age1[02-9ac-hj-np-z]{58}$/.test(raw.safetyRecipient),
    "safetyRecipient",
    "give a public key of age's (age1 and 58 more characters; age-keygen prints one), or auto",
  );
  check(raw.safetyIdentity.trim() !== "", "safetyIdentity", "give the path of a file, or auto");
  const { importExclude, importSchemaOnly, importSubset, importMasks } = raw;
  const selection = { importExclude, importSchemaOnly, importSubset, importMasks };
  wrong.push(...parseSelection(selection).problems.map(({ key, problem }) => `${key}: ${problem}`));
  check(
    raw.readonlyDenyList.every((name) => /^[\w*]+$/.test(name)),
    "readonlyDenyList",
    "give names of tables, with * for any characters",
  );
  // A role's name is the database's and a few letters more, and one of each belongs to the stack.
  const taken = new Set([raw.database, `${raw.database}_test`, "postgres", "sectorwars", "template0", "template1"]);
  check(
    raw.databases.every((name) => /^[a-z][a-z0-9_]{0,40}$/.test(name) && !taken.has(name)) &&
      new Set(raw.databases).size === raw.databases.length,
    "databases",
    "give names of up to 41 small letters, digits and _, a letter first, each once, and none that the stack has already",
  );
  check(["auto", "always", "never"].includes(raw.seed), "seed", "choose auto, always or never");
  check(raw.seedAdmin.trim() !== "", "seedAdmin", "give a name");
  check(isPasswordScheme(raw.seedPasswordHash), "seedPasswordHash", PASSWORD_SCHEME_RULE);
  check(
    raw.alembicService === "auto" || /^[a-zA-Z0-9._-]+$/.test(raw.alembicService),
    "alembicService",
    "give a service's name as the Compose file has it, or auto",
  );
  const wrongEntry = raw.alembicEnvironment.findIndex(
    (entry) => !/^(?!DATABASE_URL(?:=|$))[A-Za-z_]\w*(?:=[\s\S]*)?$/.test(entry),
  );
  // Its value may be a secret.
  if (wrongEntry >= 0) {
    wrong.push(
      `alembicEnvironment[${wrongEntry}]: give NAME=VALUE, or NAME for the value in the environment of pulumi up; DATABASE_URL is the ` +
        "stack's own",
    );
  }
  check(["local", "neon"].includes(raw.handoverTarget), "handoverTarget", "choose local or neon");
  check(["app", "owner"].includes(raw.handoverRole), "handoverRole", "choose app or owner");
  check(DRIVERS.includes(raw.handoverDriver), "handoverDriver", `choose ${DRIVERS.join(", ")}`);
  check(raw.handoverFile.trim() !== "", "handoverFile", "name a file, for instance .env");
  for (const key of ["composeService", "composeNetwork"] as const) {
    check(/^[a-zA-Z0-9._-]+$/.test(raw[key]), key, "give the name that the Compose file has");
  }
  check(whole(raw.poolServices, 0, 10_000), "poolServices", "give a whole number, or 0 for as many as are found");
  for (const key of ["poolWorkers", "poolSize", "poolTimeout"] as const) {
    check(whole(raw[key], 1, 10_000), key, "give a whole number, at least 1");
  }
  check(whole(raw.poolOverflow, 0, 10_000), "poolOverflow", "give a whole number, 0 or more");
  // Services that are not named are counted, and the sum is done, where the Compose files are read.
  if (raw.application && raw.poolServices > 0) {
    const budget = poolBudget(poolsOf(raw), raw.maxConnections);
    if (!budget.fits) {
      wrong.push(
        `maxConnections is ${raw.maxConnections}: the application's pools do not fit. ${budget.sum}. Raise maxConnections, or lower ` +
          `poolSize, poolOverflow or poolWorkers`,
      );
    }
  }
  // An imported database has its rows.
  const seeds = raw.seed === "always" || (raw.seed === "auto" && bootstrap === "empty" && raw.alembic !== "");
  check(/^[\w.@+-]+$/.test(raw.alembicRevision), "alembicRevision", "give a revision's id, head or base");
  check(bootstrap !== "backup" || raw.backups, "backups", "a stack that begins from a backup goes on with them: true");
  check(
    raw.backupRepository === "volume" || /^\/[^:,\s]+$/.test(raw.backupRepository) || S3_URL.test(raw.backupRepository),
    "backupRepository",
    "choose volume, or give the absolute path of a folder on Docker's machine, or s3://BUCKET/FOLDER",
  );
  if (S3_URL.test(raw.backupRepository)) {
    check(S3_ENDPOINT.test(raw.backupS3Endpoint), "backupS3Endpoint", "give the store's host, as host or host:port");
    check(/^[\w-]+$/.test(raw.backupS3Region), "backupS3Region", "give the store's region");
    check(raw.backupS3Credentials.trim() !== "", "backupS3Credentials", "give the path of a file, or auto");
  }
  const plans = { full: "", diff: "", drill: "" };
  for (const [plan, key] of [
    ["full", "backupFull"],
    ["diff", "backupDifferential"],
    ["drill", "backupDrill"],
  ] as const) {
    try {
      plans[plan] = planOf(raw[key]);
    } catch (error) {
      check(false, key, (error as Error).message);
    }
  }
  check(["zst", "lz4"].includes(raw.backupCompression), "backupCompression", "choose zst or lz4");
  check(whole(raw.backupKeepDays, 0, 3650), "backupKeepDays", "choose 0 to 3650");
  check(whole(raw.backupKeepFulls, 1, 1000), "backupKeepFulls", "choose 1 to 1000");
  check(whole(raw.backupGiveUpAt, 1, 100), "backupGiveUpAt", "give per cent, 1 to 100");
  check(
    raw.recoverTo === "latest" || isExactMoment(raw.recoverTo, new Date()),
    "recoverTo",
    "choose latest, or a moment that is over, with its zone: 2026-11-22T10:00:00Z",
  );
  if (wrong.length > 0) throw new pulumi.RunError(`Settings of the stack "${stack}":\n  ${wrong.join("\n  ")}`);

  return Object.freeze({
    stack,
    bootstrap: bootstrap as Bootstrap,
    bootstrapChosen: chosen,
    database: raw.database,
    port: raw.port || defaultPort(stack),
    memoryMiB: raw.memory,
    cpus: raw.cpus,
    maxConnections: raw.maxConnections,
    passwordVersion: raw.passwordVersion,
    readonlyDenyList: Object.freeze([...raw.readonlyDenyList]),
    keepDataOnDestroy: raw.keepDataOnDestroy,
    importJobs: raw.importJobs,
    safetyCopy: safetyCopyOf(raw, bootstrap),
    selection,
    baseImage: raw.baseImage === "auto" ? baseImage(images) : raw.baseImage,
    newerPostgres: newerImage(images),
    dockerHost: raw.dockerHost === "auto" ? surroundings.contextEndpoint : raw.dockerHost,
    dockerHostIsSet: raw.dockerHost !== "auto",
    databases: Object.freeze([...raw.databases]),
    droppableDatabases: Object.freeze([...raw.droppableDatabases]),
    seed: seeds ? seedOf(raw) : undefined,
    handover: raw.application ? handoverOf(raw) : undefined,
    migrations: raw.alembic ? migrationsOf(raw, pythonImage(images)) : undefined,
    backups: raw.backups
      ? Object.freeze({
          folder: raw.backupRepository.startsWith("/") ? raw.backupRepository : undefined,
          s3: s3Of(raw, stack),
          plans: Object.freeze(plans),
          compression: raw.backupCompression as "zst" | "lz4",
          keepDays: raw.backupKeepDays,
          keepFulls: raw.backupKeepFulls,
          giveUpAt: raw.backupGiveUpAt,
          keepOnDestroy: raw.keepBackupsOnDestroy,
        })
      : undefined,
    recoverTo: raw.recoverTo,
  });
}

/** The bucket's name as Amazon has it, and at least one folder: a bucket's root may hold what is not ours. */
const S3_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/[\w./-]*\w)$/;
const S3_ENDPOINT = /^([A-Za-z0-9.-]+)(?::(\d{1,5}))?$/;

function s3Of(raw: RawSettings, stack: string): S3Settings | undefined {
  const [, bucket, path] = S3_URL.exec(raw.backupRepository) ?? [];
  if (bucket === undefined || path === undefined) return undefined;
  const [, host = "", port = "443"] = S3_ENDPOINT.exec(raw.backupS3Endpoint) ?? [];
  const auto = join(dirname(defaultIdentityFile()), `s3-${stack}.txt`);
  return Object.freeze({
    bucket,
    path,
    host,
    port: Number(port),
    region: raw.backupS3Region,
    authorityFile: raw.backupS3Authority || undefined,
    credentialsFile: raw.backupS3Credentials === "auto" ? auto : raw.backupS3Credentials,
  });
}

/** Data that exists nowhere else gets a copy, unless somebody says otherwise; the sample can be made again. */
function safetyCopyOf(raw: RawSettings, bootstrap: string): SafetyCopySettings | undefined {
  const wanted = raw.safetyCopy === "auto" ? bootstrap === "neon" : raw.safetyCopy === "true";
  if (!wanted || bootstrap === "empty") return undefined;
  return Object.freeze({
    folder: raw.safetyCopyFolder,
    identityFile: raw.safetyIdentity === "auto" ? defaultIdentityFile() : raw.safetyIdentity,
    recipient: raw.safetyRecipient === "auto" ? undefined : raw.safetyRecipient,
  });
}

const poolsOf = (raw: RawSettings): Pools =>
  Object.freeze({
    services: raw.poolServices,
    workers: raw.poolWorkers,
    size: raw.poolSize,
    overflow: raw.poolOverflow,
  });

const seedOf = (raw: RawSettings): SeedSettings =>
  Object.freeze({
    files: Object.freeze([...raw.seedFiles]),
    admin: raw.seedAdmin,
    passwordHash: raw.seedPasswordHash,
    evenImported: raw.seed === "always",
  });

const handoverOf = (raw: RawSettings): HandOverSettings =>
  Object.freeze({
    folder: raw.application,
    file: raw.handoverFile,
    target: raw.handoverTarget as HandOverSettings["target"],
    role: raw.handoverRole as HandOverSettings["role"],
    driver: raw.handoverDriver as Driver,
    composeFiles: Object.freeze([...raw.composeFiles]),
    service: raw.composeService,
    networkKey: raw.composeNetwork,
    superuserServices: Object.freeze([...raw.composeSuperusers]),
    pools: poolsOf(raw),
    poolTimeout: raw.poolTimeout,
  });

const migrationsOf = (raw: RawSettings, python: string): MigrationsSettings =>
  Object.freeze({
    folder: raw.alembic,
    image: raw.alembicImage,
    application: raw.application || undefined,
    envFile: raw.handoverFile,
    service: raw.alembicService === "auto" ? undefined : raw.alembicService,
    environment: Object.freeze([...raw.alembicEnvironment]),
    arguments: Object.freeze([...raw.alembicArguments]),
    revision: raw.alembicRevision,
    allowDowngrade: raw.alembicDowngrade,
    pythonImage: python,
  });

/**
 * Says which keys of the configuration nobody knows, so that a slip of the pen is not a setting silently ignored.
 * @param given full keys, `project:key`; other projects' and providers' keys are theirs.
 */
export function unknownKeys(project: string, given: readonly string[]): string[] {
  return given
    .filter((key) => key.startsWith(`${project}:`))
    .map((key) => key.slice(project.length + 1))
    .filter((key) => !(KEYS as readonly string[]).includes(key));
}

/** Runs what looks around on this machine; its error is told without a stack trace. */
function lookup<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new pulumi.RunError((error as Error).message);
  }
}

/**
 * The settings of the stack at hand.
 * @throws {pulumi.RunError} for unknown keys and for values that do not fit.
 */
export function readSettings(): Settings {
  const [major = 0] = process.versions.node.split(".").map(Number);
  if (major < OLDEST_NODE) {
    throw new pulumi.RunError(
      `Node ${process.versions.node} runs this program, which needs ${OLDEST_NODE} or newer. The project brings one: . script/env ` +
        `puts it first on PATH`,
    );
  }
  const config = new pulumi.Config();
  const unknown = unknownKeys(config.name, Object.keys(pulumi.runtime.allConfig()));
  if (unknown.length > 0) {
    throw new pulumi.RunError(
      `Unknown setting${unknown.length > 1 ? "s" : ""}: ${unknown.join(", ")}. Known: ${KEYS.join(", ")}. ` +
        `Remove one with: pulumi config rm ${unknown[0]}`,
    );
  }
  const raw: RawSettings = {
    bootstrap: config.require("bootstrap"),
    database: config.require("database"),
    port: config.requireNumber("port"),
    memory: config.requireNumber("memory"),
    cpus: config.requireNumber("cpus"),
    maxConnections: config.requireNumber("maxConnections"),
    passwordVersion: config.requireNumber("passwordVersion"),
    readonlyDenyList: config.requireObject<string[]>("readonlyDenyList"),
    keepDataOnDestroy: config.requireBoolean("keepDataOnDestroy"),
    importJobs: config.requireNumber("importJobs"),
    safetyCopy: config.require("safetyCopy"),
    safetyCopyFolder: config.require("safetyCopyFolder"),
    safetyRecipient: config.require("safetyRecipient"),
    safetyIdentity: config.require("safetyIdentity"),
    importExclude: config.requireObject<string[]>("importExclude"),
    importSchemaOnly: config.requireBoolean("importSchemaOnly"),
    importSubset: config.requireObject<string[]>("importSubset"),
    importMasks: config.requireObject<string[]>("importMasks"),
    baseImage: config.require("baseImage"),
    dockerHost: config.require("dockerHost"),
    alembic: config.require("alembic"),
    alembicImage: config.require("alembicImage"),
    alembicService: config.require("alembicService"),
    // Its entries may be secrets, which requireObject warns of; the resource encrypts all of them.
    alembicEnvironment: JSON.parse(pulumi.runtime.allConfig()[`${config.name}:alembicEnvironment`] ?? "[]"),
    alembicArguments: config.requireObject<string[]>("alembicArguments"),
    alembicRevision: config.require("alembicRevision"),
    alembicDowngrade: config.requireBoolean("alembicDowngrade"),
    seed: config.require("seed"),
    seedFiles: config.requireObject<string[]>("seedFiles"),
    seedAdmin: config.require("seedAdmin"),
    seedPasswordHash: config.require("seedPasswordHash"),
    application: config.require("application"),
    handoverFile: config.require("handoverFile"),
    handoverTarget: config.require("handoverTarget"),
    handoverRole: config.require("handoverRole"),
    handoverDriver: config.require("handoverDriver"),
    composeFiles: config.requireObject<string[]>("composeFiles"),
    composeService: config.require("composeService"),
    composeNetwork: config.require("composeNetwork"),
    composeSuperusers: config.requireObject<string[]>("composeSuperusers"),
    poolServices: config.requireNumber("poolServices"),
    poolWorkers: config.requireNumber("poolWorkers"),
    poolSize: config.requireNumber("poolSize"),
    poolOverflow: config.requireNumber("poolOverflow"),
    poolTimeout: config.requireNumber("poolTimeout"),
    databases: config.requireObject<string[]>("databases"),
    droppableDatabases: config.requireObject<string[]>("droppableDatabases"),
    backups: config.requireBoolean("backups"),
    backupRepository: config.require("backupRepository"),
    backupS3Endpoint: config.get("backupS3Endpoint") ?? "",
    backupS3Region: config.require("backupS3Region"),
    backupS3Authority: config.get("backupS3Authority") ?? "",
    backupS3Credentials: config.require("backupS3Credentials"),
    backupFull: config.require("backupFull"),
    backupDifferential: config.require("backupDifferential"),
    backupDrill: config.require("backupDrill"),
    backupCompression: config.require("backupCompression"),
    backupKeepDays: config.requireNumber("backupKeepDays"),
    backupKeepFulls: config.requireNumber("backupKeepFulls"),
    backupGiveUpAt: config.requireNumber("backupGiveUpAt"),
    keepBackupsOnDestroy: config.requireBoolean("keepBackupsOnDestroy"),
    recoverTo: config.require("recoverTo"),
  };
  return resolveSettings(raw, {
    stack: pulumi.getStack(),
    neonUrlIsSet: Boolean(process.env.NEON_DATABASE_URL),
    images: lookup(readImages),
    contextEndpoint: raw.dockerHost === "auto" ? lookup(contextEndpoint) : undefined,
  });
}
