/** The SQL that prepares a database, filled in for one stack. The import runs it in its staging database. */
import { readFileSync } from "node:fs";
import { fillIn } from "../../lib/postgres.ts";
import { ROLE_NAMES, type RoleKey } from "../../lib/role-names.ts";

/** Returns the LIKE pattern for a name in which only * is a wildcard. */
export function likePattern(name: string): string {
  return name.replaceAll(/[\\%_]/g, (sign) => `\\${sign}`).replaceAll("*", "%");
}

/** Returns an array literal of texts. */
const arrayLiteral = (texts: readonly string[]) =>
  `{${texts.map((text) => `"${text.replaceAll(/["\\]/g, (sign) => `\\${sign}`)}"`).join(",")}}`;

/** Reads a file of sql/ and fills in its variables. */
const script = (file: string, variables: Record<string, string>) => fillIn(readFileSync(file, "utf8"), variables);

/** Returns the script that lets only one of the stack's roles create large objects in a database. */
export const largeObjectsScript = (owner: string): string => script("sql/large-objects.sql", { ...ROLE_NAMES, owner });

/** Returns the script for the database `postgres`, which sets the privileges on PostgreSQL's own databases. */
export const serverScript = (): string => script("sql/server.sql", ROLE_NAMES);

/**
 * Returns the script for extensions and privileges, for the superuser. It must run in one transaction, as several statements in one
 * message do.
 * @param denyList tables that readonly must not read, with * for any characters.
 * @param roles the database's roles; by default those of the stack.
 */
export function preparationScript(
  database: string,
  denyList: readonly string[],
  roles: Readonly<Record<RoleKey, string>> = ROLE_NAMES,
): string {
  // Sorted, because a function in the database contains the list and is compared as text.
  const denied = [...new Set(denyList.map(likePattern))].toSorted();
  const variables = { database, ...roles, denied: arrayLiteral(denied) };
  return ["sql/extensions.sql", "sql/privileges.sql", "sql/large-objects.sql"]
    .map((file) => script(file, variables))
    .join("\n");
}
