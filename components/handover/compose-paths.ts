/** The paths of the application's Compose files, and of the one that the hand-over writes. */
import { existsSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { valuesOf } from "./env-values.ts";
import { readReplaceable } from "./files.ts";

/** The default file names of docker compose, in the order in which it looks for them. */
export const COMPOSE_NAMES = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"] as const;
/** The default names of the override file. */
export const OVERRIDE_NAMES = [
  "compose.override.yml",
  "compose.override.yaml",
  "docker-compose.override.yml",
  "docker-compose.override.yaml",
] as const;

/** Returns the path of the Compose file that the hand-over writes. It is in this project, so the application's folder stays clean. */
export const overrideFile = (project: string, stack: string): string =>
  join(project, ".local", "handover", stack, "compose.yaml");

/**
 * Returns the Compose files that the application starts with: those of the setting composeFiles, else those of COMPOSE_FILE, else
 * the default ones.
 * @param usual the .env file, if the hand-over writes to another file.
 * @param own the variables of the file that the hand-over writes to.
 * @throws {Error} if a file that is named does not exist.
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
    throw new Error(
      `${configured.length > 0 ? "composeFiles" : "COMPOSE_FILE"} names ${missing}, which does not exist`,
    );
  }
  return files;
}

/** Characters that a value with an apostrophe must not contain, because readers of .env files disagree on how to quote both. */
const NOT_BESIDE_APOSTROPHE = /["\\$`]/;
/**
 * Returns the value of COMPOSE_FILE for these files.
 * @param own the variables of the file that the hand-over writes to; the application may set COMPOSE_PATH_SEPARATOR there.
 * @throws {Error} for a path that an .env file cannot hold; the message names the character.
 */
export function composeFileList(files: readonly string[], own: Readonly<Record<string, string>>): string {
  const separator = own.COMPOSE_PATH_SEPARATOR || ":";
  const paths = files.map((file) => resolve(file));
  const refuse = (path: string, why: string) => {
    throw new Error(`COMPOSE_FILE cannot name ${JSON.stringify(path)}: ${why}. Move or rename that file or folder`);
  };
  for (const path of paths) {
    if (path.includes(separator))
      refuse(path, `the path contains "${separator}", which separates the files in COMPOSE_FILE`);
    if (/\p{Cc}/u.test(path)) refuse(path, "the path contains a line break or another control character");
  }
  const quoted = paths.find((path) => path.includes("'"));
  const other = paths.find((path) => NOT_BESIDE_APOSTROPHE.test(path));
  if (quoted !== undefined && other !== undefined) {
    const sign = NOT_BESIDE_APOSTROPHE.exec(other)?.[0];
    const where = other === quoted ? "" : `${JSON.stringify(other)} contains `;
    refuse(quoted, `the path contains an apostrophe and ${where}${sign}, and no value in an .env file can hold both`);
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
