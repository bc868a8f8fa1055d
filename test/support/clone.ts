/** Clones of the project, for tests of programs that take names from the project's folder or write there. */
import { existsSync } from "node:fs";
import { cp, mkdir, rm, symlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { run } from "./test-stack.ts";

/** Clones the project, with its uncommitted changes, into a folder that must not exist. */
export async function cloneProject(folder: string, umask = "022"): Promise<void> {
  await run("sh", ["-c", `umask ${umask}; exec git clone --quiet --shared . "$0"`, folder]);
  // tar only warns about files that are deleted and not committed.
  const list = "git ls-files -z --modified --others --exclude-standard";
  const copy = `${list} | tar -c --ignore-failed-read --null -T - | tar -x -C "$0"`;
  const copied = await run("sh", ["-c", copy, folder]);
  if (copied.code !== 0) throw new Error(`Cannot copy the uncommitted changes to ${folder}: ${copied.text}`);
}

/** Commits everything in a clone, under the name of a test user. */
export async function commitAll(clone: string): Promise<void> {
  const git = ["-C", clone, "-c", "user.name=test", "-c", "user.email=test@example.org"];
  await run("git", [...git, "add", "-A"]);
  await run("git", [...git, "commit", "--quiet", "--allow-empty", "--message", "base"]);
}

/** Links the Node packages of this folder into a clone. */
export const shareNodePackages = (clone: string): Promise<void> =>
  symlink(resolve("node_modules"), join(clone, "node_modules"));

/**
 * Gives a clone Node packages that it may replace: script/bootstrap runs `npm ci` if the packages differ from package-lock.json, and
 * that would empty this folder's packages through a link.
 */
async function copyNodePackages(clone: string): Promise<void> {
  const note = "node_modules/.installed-from";
  // Hard links save time and space; not every cp can make them, and they cannot cross file systems.
  await run("sh", [
    "-c",
    'cp -al node_modules "$0" 2>/dev/null || cp -R node_modules "$0"',
    join(clone, "node_modules"),
  ]);
  await rm(join(clone, note), { force: true });
  await cp(note, join(clone, note));
}

/** Gives a clone everything that script/bootstrap has obtained in this folder. */
export async function shareObtained(clone: string): Promise<void> {
  await copyNodePackages(clone);
  const local = (path: string) => join(clone, ".local", path);
  for (const path of ["images.json", "probes"]) {
    const options = { recursive: true, preserveTimestamps: true };
    if (existsSync(join(".local", path))) await cp(join(".local", path), local(path), options);
  }
  const plugins = resolve(process.env.PULUMI_HOME ?? ".local/pulumi", "plugins");
  await mkdir(dirname(local("pulumi/plugins")), { recursive: true });
  await symlink(plugins, local("pulumi/plugins"));
  if (existsSync(".local/toolchain")) await symlink(resolve(".local/toolchain"), local("toolchain"));
}
