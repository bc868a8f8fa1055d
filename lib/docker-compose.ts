/** Finds docker compose, with which the hand-over and the migrations read the application's Compose files. */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import "./pg-environment.ts";

/** The command that runs docker compose on this machine. */
export interface ComposeCommand {
  /** The program and its first arguments, for example `docker compose`. */
  words: readonly [program: string, ...first: string[]];
  version: string;
}

/** The first version of Compose with `!override`, which the hand-over writes. */
export const OLDEST_COMPOSE = "2.24.4";

/** The program that script/bootstrap builds, for a shell whose PATH does not include it. */
const BUILT = ".local/toolchain/bin/docker-compose";
/** Milliseconds before a program that should print its version is stopped. */
const TIMEOUT_MS = 60_000;

/** Whether a version is {@link OLDEST_COMPOSE} or newer. */
export function isNewEnough(version: string): boolean {
  const parts = version.split(/[.-]/).map(Number);
  const oldest = OLDEST_COMPOSE.split(".").map(Number);
  const at = oldest.findIndex((least, i) => (parts[i] ?? 0) !== least);
  return at === -1 || (parts[at] ?? 0) > (oldest[at] as number);
}

/** Returns the version that a program prints, or undefined if it is not installed or not Compose. */
function versionOf([program, ...first]: ComposeCommand["words"]): string | undefined {
  const { status, stdout } = spawnSync(program, [...first, "version", "--short"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    timeout: TIMEOUT_MS,
  });
  const version = status === 0 ? stdout.trim().replace(/^v/, "") : "";
  return /^\d+\./.test(version) ? version : undefined;
}

/** Results by PATH, because a migration runs Compose several times. */
const found = new Map<string | undefined, ComposeCommand>();

/**
 * Finds docker compose: the plugin, the program on PATH, or the one that script/bootstrap has built. Synchronous, because a constructor
 * of the program calls it.
 * @returns the first that is new enough for the hand-over, else the first that is installed, else undefined.
 */
export function findCompose(): ComposeCommand | undefined {
  const { PATH } = process.env;
  const known = found.get(PATH);
  if (known) return known;
  let old: ComposeCommand | undefined;
  for (const words of [["docker", "compose"], ["docker-compose"], [resolve(BUILT)]] as const) {
    const version = versionOf([...words]);
    if (version === undefined) continue;
    const command: ComposeCommand = { words: [...words], version };
    if (isNewEnough(version)) {
      found.set(PATH, command);
      return command;
    }
    old ??= command;
  }
  return old;
}

/** Returns the words of the command; those of the plugin if docker compose is not installed, whose error says so. */
export const composeWords = (): ComposeCommand["words"] => findCompose()?.words ?? ["docker", "compose"];
