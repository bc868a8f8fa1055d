/** Finds scripts that call docker compose in a way by which it does not read COMPOSE_FILE from the .env file. */
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, join, relative } from "node:path";

/** A line of a script. */
export interface Launcher {
  /** The script, from the application's folder. */
  file: string;
  line: number;
  /** Compose files that it names, as it writes them. */
  composeFiles: string[];
}

const NAMES =
  /^(GNUmakefile|makefile|justfile|\.justfile|procfile|taskfile\.ya?ml|package\.json|tasks\.json|devcontainer\.json)$/i;
const EXTENSIONS = /\.(sh|bash|zsh|fish|ps1|bat|cmd|mk)$/i;
/** Folders with what others wrote, or nobody. */
const NOT_LOOKED_INTO = /^(\..*|node_modules|venv|env|dist|build|target|vendor|__pycache__)$/;
const LOOKED_INTO = /^\.(devcontainer|vscode|ci|scripts|bin|make)$/;
const DEEPEST = 3;
const LARGEST = 256 * 1024;

/** Options of docker compose itself that a word follows. */
const WITH_VALUE = /^(-p|--(project-name|profile|env-file|project-directory|ansi|progress|parallel))$/;
const COMPOSE_FILE = /[^\s"'`=,()[\]]*compose[^\s"'`=,()[\]]*\.ya?ml/;

/** Whether a call of docker compose, from behind that word, names files. */
function namesFiles(after: string): boolean {
  const words = after.split(/[\s"'`,]+/).filter((word) => word !== "");
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] as string;
    if (/^(-f|--file)(=|$)/.test(word)) return true;
    if (WITH_VALUE.test(word)) at += 1;
    // Anything else is the subcommand, whose -f means something else; a variable may hold options.
    else if (!/^[-$%\\]/.test(word)) return false;
  }
  return false;
}

/** Whether a line makes docker compose read other files than COMPOSE_FILE of the .env file names. */
function isLauncher(line: string): boolean {
  if (/^\s*(#|\/\/|REM\b|::)/i.test(line)) return false;
  if (/"dockerComposeFile"\s*:/.test(line)) return true;
  if (/(^|[\s;&|])(export\s+|set\s+|\$env:)?COMPOSE_FILE\s*=\s*\S/i.test(line)) return true;
  const calls = line.matchAll(/\bdocker(?:-|["',\s]+)compose\b(.*)/g);
  if ([...calls].some(([, after = ""]) => namesFiles(after))) return true;
  return new RegExp(`(^|[\\s"'=(,])(-f|--file)["',\\s=]+${COMPOSE_FILE.source}`).test(line);
}

/** Finds the lines of a script's text that do so. */
export function launchersIn(file: string, text: string): Launcher[] {
  return text.split(/\r?\n/).flatMap((line, i) => {
    if (!isLauncher(line)) return [];
    return [{ file, line: i + 1, composeFiles: line.match(new RegExp(COMPOSE_FILE, "g")) ?? [] }];
  });
}

/** Looks through an application's folder. What cannot be read is passed over. */
export async function findLaunchers(folder: string, at = folder, depth = 0): Promise<Launcher[]> {
  const entries = await readdir(at, { withFileTypes: true }).catch(() => []);
  const found = await Promise.all(
    entries
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(async (entry): Promise<Launcher[]> => {
        const path = join(at, entry.name);
        if (entry.isDirectory()) {
          const isLookedInto = !NOT_LOOKED_INTO.test(entry.name) || LOOKED_INTO.test(entry.name);
          return isLookedInto && depth < DEEPEST ? findLaunchers(folder, path, depth + 1) : [];
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
