/** The SQL that prepares a database, filled in for one stack. The import runs it in the database it loads aside. */
import { readFileSync } from "node:fs";
import { fillIn } from "../../lib/postgres.ts";
import { ROLE_NAMES, type RoleKey } from "../../lib/role-names.ts";

/** A LIKE pattern for a name in which * stands for any characters; `_` and `%` stand for themselves. */
export function likePattern(name: string): string {
  return name.replaceAll(/[\\%_]/g, (sign) => `\\${sign}`).replaceAll("*", "%");
}

/** A PostgreSQL array literal of texts. */
const arrayLiteral = (texts: readonly string[]) =>
  `{${texts.map((text) => `"${text.replaceAll(/["\\]/g, (sign) => `\\${sign}`)}"`).join(",")}}`;

/** Reads a file of sql/ and fills in its variables. */
const script = (file: string, variables: Record<string, string>) => fillIn(readFileSync(file, "utf8"), variables);

/** Returns the script that lets only one of the stack's roles create large objects in a database. */
export const largeObjectsScript = (owner: string): string => script("sql/large-objects.sql", { ...ROLE_NAMES, owner });

/** Returns the script for the database `postgres`: who may do what in PostgreSQL's own databases. */
export const serverScript = (): string => script("sql/server.sql", ROLE_NAMES);

/**
 * Extensions, then privileges, as one script for the superuser. It must run in a transaction, which the message of several
 * statements that a client sends at once is.
 * @param denyList tables that readonly must not read, with * for any characters.
 * @param roles the database's own roles, where they are not the stack's.
 */
export function preparationScript(
  database: string,
  denyList: readonly string[],
  roles: Readonly<Record<RoleKey, string>> = ROLE_NAMES,
): string {
  // In one order, wherever the list comes from: a function in the database holds it, and is compared with the one that is wanted.
  const denied = [...new Set(denyList.map(likePattern))].toSorted();
  const variables = { database, ...roles, denied: arrayLiteral(denied) };
  return ["sql/extensions.sql", "sql/privileges.sql", "sql/large-objects.sql"]
    .map((file) => script(file, variables))
    .join("\n");
}
