/** Finds docker compose, which the hand-over and the migrations ask about the application. */
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import "./pg-environment.ts";

/** How docker compose is called here. */
export interface ComposeCommand {
  /** The program and its first arguments, for instance `docker compose`. */
  words: readonly [program: string, ...first: string[]];
  version: string;
}

/** The oldest Compose that knows `!override`, which the hand-over writes. */
export const OLDEST_COMPOSE = "2.24.4";

/** The program that script/bootstrap builds, for a shell whose PATH does not have it. */
const BUILT = ".local/toolchain/bin/docker-compose";
/** Milliseconds that a program gets to say its version. */
const TIMEOUT_MS = 60_000;

/** Whether a version is {@link OLDEST_COMPOSE} or newer. */
export function isNewEnough(version: string): boolean {
  const parts = version.split(/[.-]/).map(Number);
  const oldest = OLDEST_COMPOSE.split(".").map(Number);
  const at = oldest.findIndex((least, i) => (parts[i] ?? 0) !== least);
  return at === -1 || (parts[at] ?? 0) > (oldest[at] as number);
}

/** The version that a program says it has; undefined where it is not there, or is not Compose. */
function versionOf([program, ...first]: ComposeCommand["words"]): string | undefined {
  const { status, stdout } = spawnSync(program, [...first, "version", "--short"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
    timeout: TIMEOUT_MS,
  });
  const version = status === 0 ? stdout.trim().replace(/^v/, "") : "";
  return /^\d+\./.test(version) ? version : undefined;
}

/** What was found, by PATH: a migration runs Compose several times. */
const found = new Map<string | undefined, ComposeCommand>();

/**
 * Finds docker compose: the plugin, the program on PATH, or the one that script/bootstrap has built. It does not return a promise: the
 * program asks it in a constructor.
 * @returns the first that is new enough for the hand-over, else the first that is there, else undefined.
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

/** The words that call docker compose; where there is none, those of the plugin, whose error says so. */
export const composeWords = (): ComposeCommand["words"] => findCompose()?.words ?? ["docker", "compose"];
