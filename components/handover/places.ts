/** Where the application's Compose files lie, and the hand-over's own. */
import { existsSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
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

/** Signs that a value with an apostrophe in it cannot have beside that: readers of .env files take them for different things. */
const NOT_BESIDE_APOSTROPHE = /["\\$`]/;
/**
 * Returns the value of COMPOSE_FILE that names the files.
 * @param own the variables of the hand-over's file; COMPOSE_PATH_SEPARATOR is among them where the application sets it.
 * @throws {Error} for a path that an .env file cannot hold, with the character.
 */
export function composeFileList(files: readonly string[], own: Readonly<Record<string, string>>): string {
  const separator = own.COMPOSE_PATH_SEPARATOR || ":";
  const paths = files.map((file) => resolve(file));
  const refuse = (path: string, why: string) => {
    throw new Error(
      `docker compose cannot be told of ${JSON.stringify(path)}: ${why}. Move or rename that file or folder`,
    );
  };
  for (const path of paths) {
    if (path.includes(separator))
      refuse(path, `its path has a "${separator}", which separates the files in COMPOSE_FILE`);
    if (/\p{Cc}/u.test(path)) refuse(path, "its path has a line break or another control character");
  }
  const quoted = paths.find((path) => path.includes("'"));
  const other = paths.find((path) => NOT_BESIDE_APOSTROPHE.test(path));
  if (quoted !== undefined && other !== undefined) {
    const sign = NOT_BESIDE_APOSTROPHE.exec(other)?.[0];
    const beside = other === quoted ? "" : `that of ${JSON.stringify(other)} `;
    refuse(quoted, `its path has an apostrophe, ${beside}a ${sign}, and no value in an .env file can hold both`);
  }
  return paths.join(separator);
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
