/** The files and folders of a stack that contain secrets. The program makes them private when it starts, and `doctor` checks them. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { backendPath, PULUMI_FOLDER } from "../lib/backend.ts";
import { defaultIdentityFile } from "../lib/identity-file.ts";
import { type Exposed, exposedIn, makePrivate, modeText, type PrivatePlace } from "../lib/private-files.ts";
import { shellWord } from "../lib/shell-word.ts";
import { readConfig } from "../lib/stack.ts";
import { BLOCK_BEGIN } from "./handover/env-block.ts";
import type { Settings } from "./settings.ts";

/** The paths that a stack's settings name. */
interface NamedPaths {
  stack: string;
  identityFile?: string;
  credentialsFile?: string;
  /** The application's environment file. */
  envFile?: string;
  copiesFolder?: string;
}

/** The maximum number of exposed paths that a message names. The remedy names all. */
const NAMED = 5;

/**
 * Returns the folder of Pulumi's state; undefined if the state is not in a folder. The environment takes precedence over Pulumi.yaml, as
 * in Pulumi. The passphrase that encrypts the secrets in the state may be empty.
 */
export function stateFolder(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const path = backendPath(environment);
  return path === undefined ? undefined : join(path, PULUMI_FOLDER);
}

const readOr = (file: string, otherwise: string): string => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return otherwise;
  }
};

/** Returns the folders of the stack's encrypted copies. */
function copiesIn(folder: string, stack: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.startsWith(`${stack}-`))
    .map((name) => join(folder, name));
}

/** Returns all places with secrets. They need not exist. */
function placesOf({ stack, identityFile, credentialsFile, envFile, copiesFolder }: NamedPaths): PrivatePlace[] {
  const state = stateFolder();
  const configuration = `Pulumi.${stack}.yaml`;
  // Files without our secrets keep their modes: the application's file before it has our block, and settings without secrets.
  const env = envFile !== undefined && readOr(envFile, "").includes(BLOCK_BEGIN) ? [envFile] : [];
  const settings = /^\s+(- )?secure:/m.test(readOr(configuration, "")) ? [configuration] : [];
  const named = [identityFile, credentialsFile].filter((file) => file !== undefined);
  const copies = [copiesFolder, "backups/portable"].filter((folder) => folder !== undefined);
  const alone = [".local", ".local/state", "backups", ...copies.flatMap((folder) => copiesIn(folder, stack))];
  const whole = [...(state ? [state] : []), dirname(defaultIdentityFile()), ...named, ...env, ...settings];
  return [...alone.map((path) => ({ path, whole: false })), ...whole.map((path) => ({ path, whole: true }))];
}

/** Returns the outermost exposed paths, which contain the others. */
const outermost = (exposed: readonly Exposed[]): Exposed[] =>
  exposed.filter(({ path }) => !exposed.some((other) => path.startsWith(`${other.path}/`)));

function listed(exposed: readonly Exposed[]): string {
  const outer = outermost(exposed);
  const names = outer.slice(0, NAMED).map(({ path, mode }) => `${path} (${modeText(mode)})`);
  return names.join(", ") + (outer.length > NAMED ? ` and ${outer.length - NAMED} more` : "");
}

/** Whether an update has run with this state. Before that, the folders of a new clone are open but empty. */
const hasHistory = () => existsSync(join(stateFolder() ?? "", "history"));

/**
 * Makes everything with a secret private before the program does anything else. Warns of secrets that other users could read until now,
 * and of modes that cannot be changed.
 */
export function keepSecretsPrivate({ stack, import: { safetyCopy }, backups, handover }: Settings): void {
  const places = placesOf({
    stack,
    identityFile: safetyCopy?.identityFile,
    credentialsFile: backups?.s3?.credentialsFile,
    envFile: handover && join(handover.folder, handover.file),
    copiesFolder: safetyCopy?.folder,
  });
  const open = exposedIn(places);
  makePrivate(places);
  const left = exposedIn(places);
  const closed = open.filter(({ path }) => !left.some((other) => other.path === path));
  if (closed.length > 0 && hasHistory()) {
    console.warn(
      `Other users of this machine could open ${listed(closed)}; now only you can. If you do not trust them, replace the passwords: ` +
        `raise passwordVersion, then pulumi up`,
    );
  }
  if (left.length > 0) console.warn(`Other users of this machine can open ${listed(left)}. ${remedyFor(left)}`);
}

/** Returns the command that makes paths private. */
function remedyFor(exposed: readonly Exposed[]): string {
  const paths = outermost(exposed).map(({ path }) => shellWord(path));
  return `Run as the owner: chmod -R go= ${paths.join(" ")}`;
}

/** Returns the paths in the stack's settings, read with `pulumi config`. */
async function namedPaths(stack: string): Promise<NamedPaths> {
  const config = await readConfig(stack).catch(() => new Map<string, string>());
  const file = (key: string) => {
    const value = config.get(key);
    return value === undefined || value === "" || value === "auto" ? undefined : value;
  };
  const application = file("handoverFolder");
  return {
    stack,
    identityFile: file("safetyCopyIdentity"),
    credentialsFile: file("backupS3Credentials"),
    envFile: application && join(application, file("handoverFile") ?? ".env"),
    copiesFolder: file("safetyCopyFolder"),
  };
}

/** A finding of `doctor`. */
interface Finding {
  what: string;
  fine: boolean;
  seen: string;
  remedy?: string;
}

/** Checks whether other users of the machine can open files with secrets, or change the program. */
export async function checkPrivateFiles(stack: string): Promise<Finding[]> {
  if (process.platform === "win32") return [];
  const findings: Finding[] = [];
  const open = exposedIn(placesOf(await namedPaths(stack)));
  const what = "Files with secrets";
  if (open.length === 0) findings.push({ what, fine: true, seen: "only you can open them" });
  else {
    const seen = `other users of this machine can open ${listed(open)}`;
    findings.push({ what, fine: false, seen, remedy: `${remedyFor(open)}, or: pulumi up` });
  }
  const { mode } = statSync(".");
  if ((mode & 0o002) !== 0) {
    const seen = `every user of this machine can change it (${modeText(mode & 0o7777)})`;
    findings.push({
      what: "The project's folder",
      fine: false,
      seen,
      remedy: `Run as the owner: chmod -R go-w ${shellWord(process.cwd())}`,
    });
  }
  return findings;
}
