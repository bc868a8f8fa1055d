/** Finds scripts that call docker compose in a way that makes it ignore COMPOSE_FILE of the .env file. */
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join, relative } from "node:path";

/** A line of a script that does so. */
export interface Launcher {
  /** The script, relative to the application's folder. */
  file: string;
  line: number;
  /** The Compose files that the line names, as written there. */
  composeFiles: string[];
}

const NAMES =
  /^(GNUmakefile|makefile|justfile|\.justfile|procfile|taskfile\.ya?ml|package\.json|tasks\.json|devcontainer\.json)$/i;
const EXTENSIONS = /\.(sh|bash|zsh|fish|ps1|bat|cmd|mk)$/i;
/** Folders with dependencies, build output and hidden files. */
const SKIPPED_FOLDERS = /^(\..*|node_modules|venv|env|dist|build|target|vendor|__pycache__)$/;
const SEARCHED_FOLDERS = /^\.(devcontainer|vscode|ci|scripts|bin|make)$/;
const DEEPEST = 3;
const LARGEST = 256 * 1024;

/** Options of docker compose that take a value. */
const WITH_VALUE = /^(-p|--(project-name|profile|env-file|project-directory|ansi|progress|parallel))$/;
const COMPOSE_FILE = /[^\s"'`=,()[\]]*compose[^\s"'`=,()[\]]*\.ya?ml/;

/** Whether the arguments of a docker compose call name files. */
function namesFiles(after: string): boolean {
  const words = after.split(/[\s"'`,]+/).filter((word) => word !== "");
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] as string;
    if (/^(-f|--file)(=|$)/.test(word)) return true;
    if (WITH_VALUE.test(word)) at += 1;
    // Anything else is the subcommand, whose -f has another meaning; a variable may contain options.
    else if (!/^[-$%\\]/.test(word)) return false;
  }
  return false;
}

/** Whether a line makes docker compose read other files than those in COMPOSE_FILE of the .env file. */
function isLauncher(line: string): boolean {
  if (/^\s*(#|\/\/|REM\b|::)/i.test(line)) return false;
  if (/"dockerComposeFile"\s*:/.test(line)) return true;
  if (/(^|[\s;&|])(export\s+|set\s+|\$env:)?COMPOSE_FILE\s*=\s*\S/i.test(line)) return true;
  const calls = line.matchAll(/\bdocker(?:-|["',\s]+)compose\b(.*)/g);
  if ([...calls].some(([, after = ""]) => namesFiles(after))) return true;
  return new RegExp(`(^|[\\s"'=(,])(-f|--file)["',\\s=]+${COMPOSE_FILE.source}`).test(line);
}

/** Returns the lines of a script that do so. */
export function launchersIn(file: string, text: string): Launcher[] {
  return text.split(/\r?\n/).flatMap((line, i) => {
    if (!isLauncher(line)) return [];
    return [{ file, line: i + 1, composeFiles: line.match(new RegExp(COMPOSE_FILE, "g")) ?? [] }];
  });
}

/** Searches an application's folder. Skips what cannot be read. */
export async function findLaunchers(folder: string, at = folder, depth = 0): Promise<Launcher[]> {
  const entries = await readdir(at, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(async (entry): Promise<Launcher[]> => {
        const path = join(at, entry.name);
        if (entry.isDirectory()) {
          const isSearched = !SKIPPED_FOLDERS.test(entry.name) || SEARCHED_FOLDERS.test(entry.name);
          return isSearched && depth < DEEPEST ? findLaunchers(folder, path, depth + 1) : [];
        }
        if (!entry.isFile() || !(NAMES.test(basename(path)) || EXTENSIONS.test(path))) return [];
        const size = await stat(path).then(
          ({ size }) => size,
          () => Number.POSITIVE_INFINITY,
        );
        if (size > LARGEST) return [];
        return launchersIn(relative(folder, path), await readFile(path, "utf8").catch(() => ""));
      }),
  );
  return found.flat();
}
