/** Simulates the PATH of another system with links to this machine's programs. */
import { chmodSync, existsSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

/** The commands of POSIX that the scripts use, and those that macOS adds. */
const EVERYWHERE = (
  "sh awk basename cat chmod cmp cp cut date dirname env expr find grep head id kill ln ls mkdir mktemp mv nohup printf rm sed " +
  "sleep sort tail tee touch tr true false uname wc xz"
).split(" ");

/** Options that only GNU programs have, by program. BSD programs reject them, or give them another meaning. */
const ONLY_GNU: Record<string, string> = {
  sort: "*-V*|--version-sort*",
  sed: "-i*|-r*|--in-place*",
  readlink: "-f*|-e*|-m*",
  stat: "-c*|--format*",
  date: "-d*|-I*|--date*",
  grep: "-P*|--perl-regexp*",
  cp: "--*",
  find: "-printf|-regextype",
  xargs: "-r|--no-run-if-empty",
  head: "-n-*|--*",
};

/** Returns the path of a program on this machine, or undefined. */
const whereIs = (name: string): string | undefined =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));

/** Returns whether this machine has a program. */
export const hasProgram = (name: string): boolean => whereIs(name) !== undefined;

/**
 * Creates a folder with the programs that every system has, and more. The caller removes it.
 * @param more names of further programs, and of commands that do nothing.
 */
export function makePath({ programs = [], commands = [] }: { programs?: string[]; commands?: string[] }): string {
  const folder = mkdtempSync(join(tmpdir(), "sectorwars-path-"));
  for (const name of [...EVERYWHERE, ...programs]) {
    const path = whereIs(name);
    if (path === undefined) continue;
    const refused = ONLY_GNU[name];
    if (refused === undefined) symlinkSync(path, join(folder, name));
    else {
      const check = `for a in "$@"; do case $a in ${refused}) echo "${name}: illegal option $a" >&2; exit 64 ;; esac; done`;
      writeFileSync(join(folder, name), `#!/bin/sh\n${check}\nexec ${path} "$@"\n`);
      chmodSync(join(folder, name), 0o755);
    }
  }
  for (const name of commands) {
    writeFileSync(join(folder, name), "#!/bin/sh\n");
    chmodSync(join(folder, name), 0o755);
  }
  return folder;
}
