/** Reads the files of an Alembic project without running them, to tell which revisions would run, and whether they must run again. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

/** One revision, as its file declares it. */
export interface Revision {
  id: string;
  /** The revisions that it depends on: none for the first, several for a merge. */
  down: string[];
  /** The first line of its docstring. */
  title: string;
}

/** An Alembic project on disk. */
export interface Chain {
  /** The folder that contains alembic.ini, absolute. */
  folder: string;
  revisions: Revision[];
  /** A hash of the files in the versions folders. */
  fingerprint: string;
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** Returns the value of a key in an ini file's [alembic] section, or undefined. */
export function iniValue(text: string, key: string): string | undefined {
  const section = /^\[alembic\]\s*$([\s\S]*?)(?=^\[|$(?![\s\S]))/m.exec(text)?.[1] ?? "";
  return new RegExp(`^${key}[ \\t]*=[ \\t]*(.+?)[ \\t]*\\r?$`, "m").exec(section)?.[1];
}

/** Returns the revision that a file declares, or undefined if it declares none in the usual form. */
export function parseRevision(text: string): Revision | undefined {
  const assigned = (name: string) =>
    new RegExp(`^${name}\\s*(?::[^=\\n]*)?=\\s*(\\([^)]*\\)|[^\\n#]+)`, "m").exec(text)?.[1];
  const texts = (value: string | undefined) =>
    [...(value ?? "").matchAll(/["']([^"']+)["']/g)].map(([, id]) => id as string);
  const [id] = texts(assigned("revision"));
  if (id === undefined) return undefined;
  const title = /^\s*(?:#[^\n]*\n\s*)*[rR]?("""|''')\s*([^\n]*?)\s*(?:\1|\n)/.exec(text)?.[2] ?? "";
  return { id, down: texts(assigned("down_revision")), title };
}

/** Returns the folders of the versions according to alembic.ini. */
function versionsFolders(folder: string, ini: string): string[] {
  const at = (path: string) => resolve(folder, path.replaceAll("%(here)s", folder));
  const locations = iniValue(ini, "version_locations");
  if (locations !== undefined)
    return locations
      .split(/[\s,:;]+/)
      .filter(Boolean)
      .map(at);
  return [join(at(iniValue(ini, "script_location") ?? "alembic"), "versions")];
}

/**
 * Reads the project in a folder.
 * @throws {Error} if the folder, alembic.ini or a versions folder is missing.
 */
export function readChain(path: string): Chain {
  const folder = resolve(path);
  if (!isFolder(folder)) throw new Error(`alembic is "${path}", but the folder ${folder} does not exist`);
  let ini: string;
  try {
    ini = readFileSync(join(folder, "alembic.ini"), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new Error(
      `alembic is "${path}", but ${folder} has no alembic.ini. Set alembic to the folder that contains it`,
    );
  }
  const hash = createHash("sha256");
  const revisions: Revision[] = [];
  for (const versions of versionsFolders(folder, ini)) {
    if (!isFolder(versions))
      throw new Error(`${join(folder, "alembic.ini")} names the folder ${versions}, which does not exist`);
    for (const name of readdirSync(versions)
      .filter((file) => file.endsWith(".py"))
      .sort()) {
      const content = readFileSync(join(versions, name));
      hash.update(`${name}\0${content.length}\0`).update(content);
      const revision = parseRevision(content.toString("utf8"));
      if (revision !== undefined) revisions.push(revision);
    }
  }
  return { folder, revisions, fingerprint: hash.digest("hex").slice(0, 16) };
}

/** Returns the revisions that no other revision depends on. */
export function headsOf(revisions: readonly Revision[]): string[] {
  const builtOn = new Set(revisions.flatMap(({ down }) => down));
  return revisions.map(({ id }) => id).filter((id) => !builtOn.has(id));
}

/** Returns a revision and all its ancestors, each before its dependents. */
function lineage(revisions: readonly Revision[], id: string): Revision[] {
  const known = new Map(revisions.map((revision) => [revision.id, revision]));
  const line = new Map<string, Revision>();
  const visit = (at: string) => {
    const stack: [string, boolean][] = [[at, false]];
    for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
      const [name, isDone] = top;
      const revision = known.get(name);
      if (revision === undefined || line.has(name)) continue;
      if (isDone) line.set(name, revision);
      else stack.push([name, true], ...revision.down.map((down): [string, boolean] => [down, false]));
    }
  };
  visit(id);
  return [...line.values()];
}

/** The revisions to run, in order. */
export interface MigrationPath {
  direction: "up" | "down";
  steps: Revision[];
}

/** The reason why the files do not determine the migration path. */
export interface UnknownPath {
  unclear: string;
}

/** Finds a revision by its id or the beginning of its id; null is the state before the first revision. */
function findRevision(revisions: readonly Revision[], wanted: string): Revision | null | UnknownPath {
  if (wanted === "base") return null;
  if (wanted === "head" || wanted === "heads") {
    const heads = headsOf(revisions);
    const head = revisions.find(({ id }) => id === heads[0]);
    return heads.length === 1 && head
      ? head
      : { unclear: heads.length === 0 ? "the chain has no head" : `the chain has several heads: ${heads.join(", ")}` };
  }
  const whole = revisions.find(({ id }) => id === wanted);
  const begun = revisions.filter(({ id }) => id.startsWith(wanted));
  return (
    whole ??
    (begun.length === 1 && begun[0]
      ? begun[0]
      : { unclear: `${wanted} is not the id, or the beginning of the id, of exactly one revision` })
  );
}

/**
 * Returns the migration path from the database's revision to the wanted one, as far as the files determine it.
 * @param from the database's revision; null before the first.
 * @param wanted a revision, `head` or `base`.
 */
export function migrationPath(
  revisions: readonly Revision[],
  from: string | null,
  wanted: string,
): MigrationPath | UnknownPath {
  const target = findRevision(revisions, wanted);
  if (target && "unclear" in target) return target;
  const up = target === null ? [] : lineage(revisions, target.id);
  if (from === null) return { direction: "up", steps: up };
  const past = lineage(revisions, from);
  if (past.length === 0) return { unclear: `the chain does not contain ${from}, the database's revision` };
  const ids = (steps: Revision[]) => new Set(steps.map(({ id }) => id));
  if (ids(up).has(from)) return { direction: "up", steps: up.filter(({ id }) => !ids(past).has(id)) };
  if (target === null || ids(past).has(target.id))
    return { direction: "down", steps: past.filter(({ id }) => !ids(up).has(id)).reverse() };
  return { unclear: `${from} and ${target.id} are on different branches` };
}
