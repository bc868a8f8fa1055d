/** The only reader of configuration: checks the settings against each other and freezes them. */
import { createHash } from "node:crypto";
import * as pulumi from "@pulumi/pulumi";
import { baseImage, type KnownImages, newerImage, readImages } from "../lib/images.ts";
import { defaultIdentityFile } from "./import/identity-file.ts";
import { parseSelection, type RawSelection } from "./import/selection-settings.ts";
import type { SafetyCopySettings } from "./import/types.ts";

/** Where the data of a new stack comes from. */
export type Bootstrap = "sample" | "neon" | "empty";

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
}

/** What the settings depend on besides the configuration. */
export interface Surroundings {
  stack: string;
  /** Whether NEON_DATABASE_URL is set. Its value is nobody's business here: only the import reads it. */
  neonUrlIsSet: boolean;
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
];

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
export function resolveSettings(raw: RawSettings, { stack, neonUrlIsSet, images }: Surroundings): Settings {
  const wrong: string[] = [];
  const check = (fine: boolean, key: keyof RawSettings, rule: string) => {
    if (!fine) wrong.push(`${key} is ${JSON.stringify(raw[key])}: ${rule}`);
  };
  const whole = (value: number, min: number, max: number) => Number.isInteger(value) && value >= min && value <= max;

  const chosen = raw.bootstrap !== "auto";
  const bootstrap = chosen ? raw.bootstrap : neonUrlIsSet ? "neon" : "sample";
  if (bootstrap === "backup") {
    wrong.push('bootstrap is "backup": restoring a stack from a backup is not there yet. Use sample, neon or empty');
  } else {
    check(["sample", "neon", "empty"].includes(bootstrap), "bootstrap", "choose sample, neon, empty or auto");
  }
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
    dockerHost: raw.dockerHost === "auto" ? undefined : raw.dockerHost,
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

/** A file that cannot be read is told without a stack trace. */
function knownImages(): KnownImages {
  try {
    return readImages();
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
  };
  return resolveSettings(raw, {
    stack: pulumi.getStack(),
    neonUrlIsSet: Boolean(process.env.NEON_DATABASE_URL),
    images: knownImages(),
  });
}
