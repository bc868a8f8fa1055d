/** Reads an Alembic project's files without running them: enough to say what would run, and when it must run again. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, resolve } from "node:path";

/** One revision, as its file declares it. */
export interface Revision {
  id: string;
  /** The revisions it builds on: none for the first, several for a merge. */
  down: string[];
  /** First line of its docstring. */
  title: string;
}

/** An Alembic project on disk. */
export interface Chain {
  /** The folder that holds alembic.ini, absolute. */
  folder: string;
  revisions: Revision[];
  /** Changes whenever a file of the versions folders does. */
  fingerprint: string;
}

/** Whether there is a folder at a path. */
const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** The value of a key in an ini file's [alembic] section, or undefined. */
export function iniValue(text: string, key: string): string | undefined {
  const section = /^\[alembic\]\s*$([\s\S]*?)(?=^\[|$(?![\s\S]))/m.exec(text)?.[1] ?? "";
  return new RegExp(`^${key}[ \\t]*=[ \\t]*(.+?)[ \\t]*\\r?$`, "m").exec(section)?.[1];
}

/** What a revision's file declares, or undefined where it declares none in the usual way. */
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

/** Where the versions lie, by alembic.ini. */
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
 * @throws {Error} that names what is missing: the folder, alembic.ini, or the versions.
 */
export function readChain(path: string): Chain {
  const folder = resolve(path);
  if (!isFolder(folder)) throw new Error(`alembic is "${path}", but there is no folder ${folder}`);
  let ini: string;
  try {
    ini = readFileSync(join(folder, "alembic.ini"), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new Error(`alembic is "${path}", but ${folder} has no alembic.ini. Name the folder that has it`);
  }
  const hash = createHash("sha256");
  const revisions: Revision[] = [];
  for (const versions of versionsFolders(folder, ini)) {
    if (!isFolder(versions))
      throw new Error(`${join(folder, "alembic.ini")} names ${versions}, where there is no folder`);
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

/** The revisions that nothing builds on. */
export function headsOf(revisions: readonly Revision[]): string[] {
  const builtOn = new Set(revisions.flatMap(({ down }) => down));
  return revisions.map(({ id }) => id).filter((id) => !builtOn.has(id));
}

/** A revision and all that it builds on, each before what builds on it. */
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

/** What would run, in order. */
export interface Way {
  direction: "up" | "down";
  steps: Revision[];
}

/** Why the files do not tell the way. */
export interface Unclear {
  unclear: string;
}

/** The revision that is meant by a whole name or its beginning; null is the chain's own beginning. */
function meant(revisions: readonly Revision[], wanted: string): Revision | null | Unclear {
  if (wanted === "base") return null;
  if (wanted === "head" || wanted === "heads") {
    const heads = headsOf(revisions);
    const head = revisions.find(({ id }) => id === heads[0]);
    return heads.length === 1 && head ? head : { unclear: `the chain's heads are ${heads.join(", ") || "none"}` };
  }
  const whole = revisions.find(({ id }) => id === wanted);
  const begun = revisions.filter(({ id }) => id.startsWith(wanted));
  return (
    whole ??
    (begun.length === 1 && begun[0]
      ? begun[0]
      : { unclear: `${wanted} is not the name, or the beginning of the name, of one revision` })
  );
}

/**
 * The way from the database's revision to the wanted one, as far as the files tell it.
 * @param from the database's revision; null before the first.
 * @param wanted a revision, `head` or `base`.
 */
export function wayBetween(revisions: readonly Revision[], from: string | null, wanted: string): Way | Unclear {
  const target = meant(revisions, wanted);
  if (target && "unclear" in target) return target;
  const up = target === null ? [] : lineage(revisions, target.id);
  if (from === null) return { direction: "up", steps: up };
  const past = lineage(revisions, from);
  if (past.length === 0) return { unclear: `${from}, where the database stands, is no revision of the chain` };
  const ids = (steps: Revision[]) => new Set(steps.map(({ id }) => id));
  if (ids(up).has(from)) return { direction: "up", steps: up.filter(({ id }) => !ids(past).has(id)) };
  if (target === null || ids(past).has(target.id))
    return { direction: "down", steps: past.filter(({ id }) => !ids(up).has(id)).reverse() };
  return { unclear: `${from} and ${target.id} are on two branches` };
}
