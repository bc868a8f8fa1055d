/** Which files and folders of a stack hold secrets. The program makes them private at its start, and `doctor` looks at them. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
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
  /** The application's file with variables. */
  envFile?: string;
  copiesFolder?: string;
}

/** How many exposed paths a message names; the remedy names all. */
const NAMED = 5;

/**
 * The folder of Pulumi's state, or undefined where the state is not in a folder. The environment wins over Pulumi.yaml, as it does for
 * Pulumi. The secrets in the state are encrypted by the passphrase, and that may be empty.
 */
export function stateFolder(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const url = environment.PULUMI_BACKEND_URL || /^backend:\s+url:\s*["']?([^\s"']+)/m.exec(projectFile())?.[1];
  const path = /^file:\/\/([^?]*)/.exec(url ?? "")?.[1];
  return path === undefined ? undefined : join(path.replace(/^~(?=\/|$)/, homedir()), ".pulumi");
}

const readOr = (file: string, otherwise: string): string => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return otherwise;
  }
};

const projectFile = () => readOr("Pulumi.yaml", "");

/** Folders of the stack's encrypted copies. */
function copiesIn(folder: string, stack: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((name) => name.startsWith(`${stack}-`))
    .map((name) => join(folder, name));
}

/** All places with secrets. What does not exist is no problem. */
function placesOf({ stack, identityFile, credentialsFile, envFile, copiesFolder }: NamedPaths): PrivatePlace[] {
  const state = stateFolder();
  const configuration = `Pulumi.${stack}.yaml`;
  // Ones that are not ours keep their modes: the application's file before it has our block, settings without secrets.
  const env = envFile !== undefined && readOr(envFile, "").includes(BLOCK_BEGIN) ? [envFile] : [];
  const settings = /^\s+(- )?secure:/m.test(readOr(configuration, "")) ? [configuration] : [];
  const named = [identityFile, credentialsFile].filter((file) => file !== undefined);
  const copies = [copiesFolder, "backups/portable"].filter((folder) => folder !== undefined);
  const alone = [".local", ".local/state", "backups", ...copies.flatMap((folder) => copiesIn(folder, stack))];
  const whole = [...(state ? [state] : []), dirname(defaultIdentityFile()), ...named, ...env, ...settings];
  return [...alone.map((path) => ({ path, whole: false })), ...whole.map((path) => ({ path, whole: true }))];
}

/** The outermost of the exposed paths: the rest lies in them. */
const outermost = (exposed: readonly Exposed[]): Exposed[] =>
  exposed.filter(({ path }) => !exposed.some((other) => path.startsWith(`${other.path}/`)));

function listed(exposed: readonly Exposed[]): string {
  const outer = outermost(exposed);
  const names = outer.slice(0, NAMED).map(({ path, mode }) => `${path} (${modeText(mode)})`);
  return names.join(", ") + (outer.length > NAMED ? ` and ${outer.length - NAMED} more` : "");
}

/** Whether an update has run with this state: before that, a new clone's folders are open and empty. */
const hasHistory = () => existsSync(join(stateFolder() ?? "", "history"));

/**
 * Makes everything with a secret private before the program does anything else, however it was started. Warns where a secret was open
 * until now, and where that cannot be changed.
 */
export function keepSecretsPrivate({ stack, safetyCopy, backups, handover }: Settings): void {
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

/** The command that closes what is open. */
function remedyFor(exposed: readonly Exposed[]): string {
  const paths = outermost(exposed).map(({ path }) => shellWord(path));
  return `Run as the owner: chmod -R go= ${paths.join(" ")}`;
}

/** The settings' paths, as `pulumi config` tells them. */
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

/** Looks for files with secrets that other users of the machine can open, and for a program that they can change. */
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
