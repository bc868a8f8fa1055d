/**
 * Definitions that PostgreSQL words anew. It keeps an expression as a tree and prints it when asked; what it prints, read in
 * again, may make a tree that prints otherwise: `kind IN ('a', 'b')` on a varchar column is cast as a whole in the first tree and
 * element by element in the second. Servers of different versions print the same tree differently, too. So a text that differs
 * does not prove another meaning.
 *
 * What proves the meaning is a fixed point. pg_restore makes the source's dump once more, in an empty scratch database of the
 * target's server, and the same pg_dump reads it there. Both wordings are then one server's wording of what it has understood:
 * - Where scratch and copy agree, the copy has the definition that `pg_dump | pg_restore` makes of this source. PostgreSQL
 *   understood its own text; no program relies on more.
 * - Where they do not, the copy has something else: it was made otherwise, or changed since.
 *
 * The scratch database owes nothing to the code that made the copy. pg_restore reads pg_dump's own archive, in which it finds the
 * statements by itself, and runs them in pg_dump's order, in one session that is set up by what the archive says. Should the
 * import leave out an entry, cut one off, or read a value under another setting, the two differ. (Entries that are missing are
 * errors in any case: they are found by the comparison with the source's own dump.) Whatever pg_restore cannot make is missing
 * in the scratch database, agrees with nothing, and remains a difference.
 */
import type pg from "pg";
import { type Address, ident, maintenance, withConnection } from "../../lib/postgres.ts";
import { currentScope } from "../../lib/scope.ts";
import { isUsers } from "./catalog.ts";
import { copySettings, type Setting } from "./database-settings.ts";
import { describeEntry, schemaStates } from "./dump-entries.ts";
import { entryKey } from "./load.ts";
import type { ImportRecord } from "./record.ts";
import { type Dump, type DumpOptions, dumpSchema, extensionsSql, type Schema } from "./schema.ts";
import { asOwner, openTarget } from "./session.ts";
import type { StateDifference, States } from "./states.ts";
import { clearAside, lockServer, makeAside, scratchName } from "./swap.ts";
import type { Catalog, Target } from "./types.ts";

/** The server in which definitions are restored. */
export interface ScratchServer extends Pick<DumpOptions, "stack" | "dockerHost"> {
  /** A superuser's session in the server's own database. It holds the import's lock. */
  keeper: pg.Client;
  /** The scratch database is called after the target's, and belongs to its owner. */
  target: Pick<Target, "address" | "owner" | "ownerPassword" | "roles" | "preparation" | "fromContainer">;
}

/**
 * Lends a server for restoring definitions to work that holds no lock on it yet.
 * @throws {Error} when an import, or another such piece of work, goes on in the server.
 */
export const withScratchServer = <T>(
  server: Omit<ScratchServer, "keeper">,
  work: (server: ScratchServer) => Promise<T>,
): Promise<T> =>
  withConnection(maintenance(server.target.address), async (keeper) => {
    // Stopped half-way, it is this session that clears up.
    currentScope()?.release(keeper);
    await lockServer(keeper);
    await clearAside(keeper, server.target.address.database);
    return work({ ...server, keeper });
  });

/** A database's definitions, and what they need that is not among them. */
export interface Restorable {
  dump: Dump;
  catalog: Pick<Catalog, "extensions">;
  settings: readonly Setting[];
}

/** A dump that was restored and read again. */
export interface Restored {
  states: States;
  /** What pg_restore could not make, in its own words. */
  refused: string;
}

/**
 * Restores definitions with pg_restore in a scratch database, reads them there with pg_dump, and drops the database. A run that
 * is killed meanwhile leaves it, marked as the import's own; the next run drops it.
 * @param image with the pg_dump that wrote the archive.
 * @throws {Error} when the scratch database cannot be made or read.
 */
export async function restoreDefinitions(server: ScratchServer, image: string, from: Restorable): Promise<Restored> {
  const { keeper, target, stack, dockerHost } = server;
  const name = scratchName(target.address.database);
  try {
    const scratch = await makeAside(keeper, { target }, name);
    await prepare(scratch, target, from);
    const { database, user, password } = asOwner(scratch, target);
    const access = { ...target.fromContainer, database, user, password, rootCertificates: undefined };
    const dump = await dumpSchema(access, { image, stack, dockerHost, restoring: from.dump.archive });
    return { states: statesOf(dump), refused: dump.refused };
  } finally {
    // What cannot be dropped now carries the import's mark, and the next run drops it.
    await keeper.query(`DROP DATABASE IF EXISTS ${ident(name)} WITH (FORCE)`).catch(() => {});
  }
}

/** What takes a superuser, done before anything of the source is there: as in a staging database. */
async function prepare(scratch: Address, target: ScratchServer["target"], { catalog, settings }: Restorable) {
  const superuser = await openTarget(scratch);
  try {
    await superuser.query(target.preparation(scratch.database));
    await superuser.query(extensionsSql(catalog, target.owner));
  } finally {
    await superuser.end().catch(() => {});
  }
  await copySettings(settings, scratch, target.roles);
}

/** The definitions of a dump, by what they are called. */
export const statesOf = ({ before, after }: Schema): States => schemaStates([...before, ...after]);

/** Entries of relations that have columns, or whose header is that of one. */
const WITH_COLUMNS = new Set(["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "TYPE"]);

const COLUMNS = `
  SELECT n.nspname AS schema, c.relname AS name, string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
      a.attnotnull, a.attidentity, a.attgenerated, a.atthasdef), ', ' ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND ${isUsers("n.nspname")}
  GROUP BY 1, 2`;

/** The columns of all relations, as the catalog has them: names, types and properties, in their order. */
async function readColumns(client: pg.Client): Promise<Map<string, string>> {
  const { rows } = await client.query<{ schema: string; name: string; columns: string }>(COLUMNS);
  return new Map(rows.map(({ schema, name, columns }) => [entryKey(schema, name), columns]));
}

/**
 * Relations whose columns are not the same. pg_restore itself does not keep the order of a child table's columns in every case
 * (inheritance), so its agreement would say too little of them.
 * @param client a session on either side.
 */
export async function findOtherColumns(schema: Schema, source: pg.Client, target: pg.Client): Promise<Set<string>> {
  const [theirs, ours] = await Promise.all([readColumns(source), readColumns(target)]);
  const relations = [...schema.before, ...schema.after].filter(({ type }) => WITH_COLUMNS.has(type));
  const others = relations.filter(({ schema: own, name }) => {
    const key = entryKey(own, name);
    return theirs.get(key) !== ours.get(key);
  });
  return new Set(others.map(describeEntry));
}

/** Two databases whose definitions differ in their text, and where to find out whether that is all. */
export interface Reworded {
  server: ScratchServer;
  image: string;
  source: Restorable & { session: pg.Client };
  target: { states: States; session: pg.Client };
  /**
   * The target's definitions, where they may be in their first wording, too, because somebody changed them after the import: then
   * both sides are restored, and their wordings compared behind that.
   */
  changed?: Restorable;
}

/** What came of definitions that differ in their text. */
export interface Rewordings {
  /** Objects that mean the same on both sides. */
  proven: ReadonlySet<string>;
  /** Errors of pg_restore, where it could not make one of the others. */
  refused: string[];
}

/** Objects that both sides have and that differ in their text. */
export const differentTexts = (differences: readonly StateDifference[]): string[] =>
  differences.filter(({ how }) => how === "different").map(({ object }) => object);

/** Of some objects those that both have, worded alike. */
const wordedAlike = (objects: readonly string[], a: States, b: States): string[] =>
  objects.filter((object) => a.has(object) && a.get(object) === b.get(object));

/** What pg_restore says of an entry: which one it was at, and the error. */
const REFUSAL =
  /^pg_restore: from TOC entry \d+; \d+ \d+ (?<type>[A-Z ]+) (?<name>.*) \S+\npg_restore: error: (?<error>.*)$/gm;

/** The errors of pg_restore about some objects. It says names without their schemas. */
export function refusalsOf(objects: readonly string[], said: string): string[] {
  return [...said.matchAll(REFUSAL)].flatMap(({ groups }) => {
    const { type = "", name = "", error = "" } = groups ?? {};
    const object = objects.find((key) => key.startsWith(`${type.toLowerCase()} `) && key.endsWith(name));
    return object === undefined ? [] : [`${object}: pg_restore cannot make it: ${error}`];
  });
}

/**
 * Tells definitions that PostgreSQL words anew from those that were changed. Nothing is restored where there is nothing to tell.
 * @param objects both sides have them, in different words.
 */
export async function findRewordings(objects: readonly string[], reworded: Reworded): Promise<Rewordings> {
  if (objects.length === 0) return { proven: new Set(), refused: [] };
  const { server, image, source, target, changed } = reworded;
  const theirs = await restoreDefinitions(server, image, source);
  const others = await findOtherColumns(source.dump, source.session, target.session);
  const candidates = objects.filter((object) => !others.has(object));
  const proven = new Set(wordedAlike(candidates, theirs.states, target.states));
  const left = candidates.filter((object) => !proven.has(object));
  if (changed && left.length > 0) {
    const ours = await restoreDefinitions(server, image, changed);
    for (const object of wordedAlike(left, theirs.states, ours.states)) proven.add(object);
  }
  const missing = objects.filter((object) => !proven.has(object) && !theirs.states.has(object));
  return { proven, refused: refusalsOf(missing, theirs.refused) };
}

/** Marks what the import has found to mean the same on both sides, so that a later comparison need not find out again. */
export const noteRewordings = (record: ImportRecord, { proven }: Rewordings): ImportRecord =>
  new Map([...record].map(([object, noted]) => [object, proven.has(object) ? { ...noted, reworded: true } : noted]));
