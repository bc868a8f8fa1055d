/** Settings of the further databases in the same server. */
import { each, list, rule, type ValuesOf } from "../../lib/setting.ts";
import { DATABASE_NAME } from "../server/settings.ts";

const RULE =
  "use at most 41 lowercase letters, digits or underscores for a name, starting with a letter; name each once, and none that the stack " +
  "has already";
/** Names of the stack's own databases and roles, whatever the first database is called. */
const TAKEN = new Set(["postgres", "sectorwars", "template0", "template1"]);

export const DATABASES_SETTINGS = {
  databases: list(
    each((name) => DATABASE_NAME.test(name) && !TAKEN.has(name), RULE),
    rule((names) => new Set(names).size === names.length, RULE),
  ),
  droppableDatabases: list(),
};

export type DatabasesValues = ValuesOf<typeof DATABASES_SETTINGS>;

/** Returns what is wrong with the further databases beside the stack's first one. Pure. */
export function databasesProblems({ databases, database }: DatabasesValues & { database: string }): string[] {
  const taken = [database, `${database}_test`];
  return databases.some((name) => taken.includes(name)) ? [`databases is ${JSON.stringify(databases)}: ${RULE}`] : [];
}
