/** Settings of the further databases in the same server. */
import { each, list, rule, type ValuesOf } from "../../lib/setting.ts";
import { DATABASE_NAME } from "../server/settings.ts";

/** The further databases in the same server. */
export interface DatabasesSettings {
  /** The databases' names. */
  readonly names: readonly string[];
  /** Databases that may be dropped once they are no longer among {@link names}. */
  readonly droppable: readonly string[];
}

const RULE =
  "use at most 41 lowercase letters, digits or underscores for a name, starting with a letter; give each name once, and no name that " +
  "the stack already uses";
/** Names of databases and roles that exist in every stack. */
const TAKEN = new Set(["postgres", "sectorwars", "template0", "template1"]);

export const DATABASES_SETTINGS = {
  databases: list(
    each((name) => DATABASE_NAME.test(name) && !TAKEN.has(name), RULE),
    rule((names) => new Set(names).size === names.length, RULE),
  ),
  droppableDatabases: list(),
};

export type DatabasesValues = ValuesOf<typeof DATABASES_SETTINGS>;

/** Returns an error if a further database has a name of the stack's first database. Pure. */
export function databasesProblems({ databases, database }: DatabasesValues & { database: string }): string[] {
  const taken = [database, `${database}_test`];
  return databases.some((name) => taken.includes(name)) ? [`databases is ${JSON.stringify(databases)}: ${RULE}`] : [];
}

export const databasesOf = ({ databases, droppableDatabases }: DatabasesValues): DatabasesSettings =>
  Object.freeze({
    names: Object.freeze([...databases]),
    droppable: Object.freeze([...droppableDatabases]),
  });
