/** Where the application's Compose files lie, and the hand-over's own. */
import { existsSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { valuesOf } from "./env-values.ts";
import { readReplaceable } from "./files.ts";

/** Names that docker compose looks for by itself, in its order. */
export const COMPOSE_NAMES = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"] as const;
/** Names of the override that it adds by itself. */
export const OVERRIDE_NAMES = [
  "compose.override.yml",
  "compose.override.yaml",
  "docker-compose.override.yml",
  "docker-compose.override.yaml",
] as const;

/** The Compose file that a stack lays over the application's. It lies with the stack: the application's folder stays as it is. */
export const overrideFile = (project: string, stack: string): string =>
  join(project, ".local", "handover", stack, "compose.yaml");

/**
 * Finds the Compose files that the application starts with: those of the setting, of COMPOSE_FILE in its variables, or those
 * that docker compose finds by itself.
 * @param usual the .env file, where the hand-over writes another.
 * @param own the variables of the hand-over's file.
 * @throws {Error} for a file that is named and not there.
 */
export async function composeFilesIn(
  folder: string,
  configured: readonly string[],
  usual: string | undefined,
  own: Readonly<Record<string, string>>,
): Promise<string[]> {
  const text = usual === undefined ? undefined : (await readReplaceable(usual).catch(() => undefined))?.text;
  const { COMPOSE_FILE, COMPOSE_PATH_SEPARATOR = ":" } = { ...valuesOf(text ?? ""), ...own };
  const named = configured.length > 0 ? configured : (COMPOSE_FILE ?? "").split(COMPOSE_PATH_SEPARATOR).filter(Boolean);
  if (named.length === 0) return defaultFiles(folder);
  const files = named.map((file) => (isAbsolute(file) ? file : join(folder, file)));
  const missing = files.find((file) => !existsSync(file));
  if (missing !== undefined) {
    throw new Error(`${configured.length > 0 ? "composeFiles" : "COMPOSE_FILE"} names ${missing}, which is not there`);
  }
  return files;
}

function defaultFiles(folder: string): string[] {
  const first = (names: readonly string[]) =>
    names
      .map((name) => join(folder, name))
      .filter(existsSync)
      .slice(0, 1);
  const base = first(COMPOSE_NAMES);
  return base.length === 0 ? [] : [...base, ...first(OVERRIDE_NAMES)];
}
