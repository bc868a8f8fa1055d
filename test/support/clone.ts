/** A clone of the project, ready to run: a program that takes names from its folder, or writes there, is tried in one. */
import { existsSync } from "node:fs";
import { cp, mkdir, rm, symlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { run } from "./test-stack.ts";

/** Clones the project into a folder that is not there yet. Changes that are not committed are part of the clone. */
export async function cloneProject(folder: string, umask = "022"): Promise<void> {
  await run("sh", ["-c", `umask ${umask}; exec git clone --quiet --shared . "$0"`, folder]);
  // Files that are deleted and not committed make tar complain, and go on.
  const list = "git ls-files -z --modified --others --exclude-standard";
  const copy = `${list} | tar -c --ignore-failed-read --null -T - | tar -x -C "$0"`;
  const copied = await run("sh", ["-c", copy, folder]);
  if (copied.code !== 0) throw new Error(`The changes could not be copied to ${folder}: ${copied.text}`);
}

/** Commits all of a clone, as nobody in particular. */
export async function commitAll(clone: string): Promise<void> {
  const git = ["-C", clone, "-c", "user.name=test", "-c", "user.email=test@example.org"];
  await run("git", [...git, "add", "-A"]);
  await run("git", [...git, "commit", "--quiet", "--allow-empty", "--message", "base"]);
}

/** Gives a clone the Node packages of this folder. */
export const shareNodePackages = (clone: string): Promise<void> =>
  symlink(resolve("node_modules"), join(clone, "node_modules"));

/**
 * Gives a clone Node packages that it may replace: script/bootstrap runs `npm ci` where they are not those of package-lock.json,
 * which would empty a folder that is only linked to.
 */
async function copyNodePackages(clone: string): Promise<void> {
  const note = "node_modules/.installed-from";
  // Not every system's cp makes hard links, and no link leads to another file system.
  await run("sh", [
    "-c",
    'cp -al node_modules "$0" 2>/dev/null || cp -R node_modules "$0"',
    join(clone, "node_modules"),
  ]);
  await rm(join(clone, note), { force: true });
  await cp(note, join(clone, note));
}

/** Gives a clone all that script/bootstrap has obtained in this folder, so that it finds it there. */
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
