/**
 * Definitions that PostgreSQL rewords. It stores an expression as a tree and prints the tree when asked. The printed text, read
 * again, may become a tree that prints differently: `kind IN ('a', 'b')` on a varchar column is cast as a whole in the first tree
 * and element by element in the second. Servers of different versions also print the same tree differently. So a different text does
 * not prove a different meaning.
 *
 * To compare the meaning, the import restores the source's dump a second time, with pg_restore, in an empty scratch database on the
 * target's server. The same pg_dump reads it there. Both texts then come from one server that has read the definition once:
 * - If scratch database and copy agree, the copy has the definition that `pg_dump | pg_restore` makes of this source.
 * - If they do not, the copy has something else: it was created differently, or changed later.
 *
 * The scratch database does not depend on the import's own code, which made the copy. pg_restore reads pg_dump's archive, finds the statements in
 * it by itself, and runs them in pg_dump's order, in one session with the archive's settings. If the import left out an entry, cut
 * one off, or read a value under another setting, the two would differ. (The comparison with the source's dump finds missing
 * entries in any case.) An object that pg_restore cannot create is missing in the scratch database and remains a difference.
 */
import type pg from "pg";
import { type Address, authorityOf, ident, maintenance, withConnection } from "../../../lib/postgres.ts";
import { currentScope } from "../../../lib/scope.ts";
import type { Baseline } from "../rows/baseline.ts";
import { isUsers } from "../schema/catalog.ts";
import { copySettings, type Setting } from "../schema/database-settings.ts";
import { describeEntry, entryKey, schemaStates } from "../schema/dump-entries.ts";
import { type Dump, type DumpOptions, dumpSchema, extensionsSql, type Schema } from "../schema/schema.ts";
import type { StateDifference, States } from "../schema/states.ts";
import { asOwner, openTarget } from "../session/session.ts";
import { clearStaging, createImportDatabase, lockServer, scratchName } from "../staging/swap.ts";
import type { Catalog, Target } from "../types.ts";

/** The server on which definitions are restored. */
export interface DefinitionServer extends Pick<DumpOptions, "stack" | "dockerHost"> {
  /** A superuser's session in the maintenance database. It holds the import's lock. */
  lockSession: pg.Client;
  /** The scratch database is named after the target's, and has the same owner. */
  target: Pick<Target, "address" | "owner" | "ownerPassword" | "roles" | "preparation" | "fromContainer">;
}

/**
 * Runs work with a server for restoring definitions, and holds the import's lock meanwhile.
 * @throws {Error} if an import, or other work with the lock, is running on the server.
 */
export const withDefinitionServer = <T>(
  server: Omit<DefinitionServer, "lockSession">,
  work: (server: DefinitionServer) => Promise<T>,
): Promise<T> =>
  withConnection(maintenance(server.target.address), async (lockSession) => {
    // After a cancellation, this session must stay open for the clean-up.
    currentScope()?.release(lockSession);
    await lockServer(lockSession);
    await clearStaging(lockSession, server.target.address.database);
    return work({ ...server, lockSession });
  });

/** A database's definitions, and the extensions and settings that they need. */
export interface Restorable {
  dump: Dump;
  catalog: Pick<Catalog, "extensions">;
  settings: readonly Setting[];
}

/** A dump that was restored and read again. */
export interface Restored {
  states: States;
  /** pg_restore's errors. */
  refused: string;
}

/**
 * Restores definitions with pg_restore in a scratch database, reads them there with pg_dump, and drops the database. A killed run
 * leaves the database, marked as made by the import; the next run drops it.
 * @param image the image whose pg_dump wrote the archive.
 * @throws {Error} if the scratch database cannot be created or read.
 */
export async function restoreDefinitions(server: DefinitionServer, image: string, from: Restorable): Promise<Restored> {
  const { lockSession, target, stack, dockerHost } = server;
  const name = scratchName(target.address.database);
  try {
    const scratch = await createImportDatabase(lockSession, { target }, name);
    await prepare(scratch, target, from);
    const { database, user, password } = asOwner(scratch, target);
    const access = { ...target.fromContainer, database, user, password, rootCertificates: authorityOf(target.address) };
    const dump = await dumpSchema(access, { image, stack, dockerHost, restoring: from.dump.archive });
    return { states: statesOf(dump), refused: dump.refused };
  } finally {
    // If this fails, the next run drops the database, which has the import's comment.
    await lockSession.query(`DROP DATABASE IF EXISTS ${ident(name)} WITH (FORCE)`).catch(() => {});
  }
}

/** Does the superuser's part before anything of the source is in the database, as for a staging database. */
async function prepare(scratch: Address, target: DefinitionServer["target"], { catalog, settings }: Restorable) {
  const superuser = await openTarget(scratch);
  try {
    await superuser.query(target.preparation(scratch.database));
    await superuser.query(extensionsSql(catalog, target.owner));
  } finally {
    await superuser.end().catch(() => {});
  }
  await copySettings(settings, scratch, target.roles);
}

/** Returns the states of a dump's objects by name; the state of an object is its definition. */
export const statesOf = ({ before, after }: Schema): States => schemaStates([...before, ...after]);

/** Types of entries that may have columns. */
const WITH_COLUMNS = new Set(["TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "TYPE"]);

const COLUMNS = `
  SELECT n.nspname AS schema, c.relname AS name, string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
      a.attnotnull, a.attidentity, a.attgenerated, a.atthasdef), ', ' ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND ${isUsers("n.nspname")}
  GROUP BY 1, 2`;

/** Reads the columns of all relations from the catalog: names, types and properties, in order. */
async function readColumns(client: pg.Client): Promise<Map<string, string>> {
  const { rows } = await client.query<{ schema: string; name: string; columns: string }>(COLUMNS);
  return new Map(rows.map(({ schema, name, columns }) => [entryKey(schema, name), columns]));
}

/**
 * Returns relations whose columns differ. pg_restore does not always keep the column order of a table that inherits, so a restored
 * definition proves too little about columns.
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

/** Two databases that define some objects with different texts, and the server on which the meanings are compared. */
export interface DefinitionPair {
  server: DefinitionServer;
  image: string;
  source: Restorable & { session: pg.Client };
  target: { states: States; session: pg.Client };
  /**
   * The target's definitions, if they may have been changed after the import and so may be in their first wording, too. Then both
   * are restored, and the restored texts are compared.
   */
  changed?: Restorable;
}

/** Result for definitions with different texts. */
export interface Rewordings {
  /** Objects with the same meaning on source and target. */
  proven: ReadonlySet<string>;
  /** Errors of pg_restore about the others. */
  refused: string[];
}

/** Returns the objects that source and target have with different texts. */
export const differentTexts = (differences: readonly StateDifference[]): string[] =>
  differences.filter(({ how }) => how === "different").map(({ object }) => object);

/** Returns the objects that both have with the same text. */
const wordedAlike = (objects: readonly string[], a: States, b: States): string[] =>
  objects.filter((object) => a.has(object) && a.get(object) === b.get(object));

/** An error of pg_restore, with the entry that it is about. */
const REFUSAL =
  /^pg_restore: from TOC entry \d+; \d+ \d+ (?<type>[A-Z ]+) (?<name>.*) \S+\npg_restore: error: (?<error>.*)$/gm;

/** Returns pg_restore's errors about some objects. They name objects without their schemas. */
export function refusalsOf(objects: readonly string[], said: string): string[] {
  return [...said.matchAll(REFUSAL)].flatMap(({ groups }) => {
    const { type = "", name = "", error = "" } = groups ?? {};
    const object = objects.find((key) => key.startsWith(`${type.toLowerCase()} `) && key.endsWith(name));
    return object === undefined ? [] : [`${object}: pg_restore cannot create it: ${error}`];
  });
}

/**
 * Separates definitions that PostgreSQL has reworded from those that were changed. Restores nothing if there are no objects.
 * @param objects objects that source and target have with different texts.
 */
export async function findRewordings(objects: readonly string[], reworded: DefinitionPair): Promise<Rewordings> {
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

/** Marks the reworded definitions in the baseline, so that a later comparison need not restore them again. */
export const markRewordings = (baseline: Baseline, { proven }: Rewordings): Baseline =>
  new Map([...baseline].map(([object, entry]) => [object, proven.has(object) ? { ...entry, reworded: true } : entry]));
