/** The option for a role, and its URL in a stack's outputs. */
import { Option } from "@commander-js/extra-typings";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { UsageError } from "./errors.ts";

/** The option that chooses a role. */
export const roleOption = (otherwise: keyof typeof ROLE_NAMES) =>
  new Option("--role <role>", "the role to connect as")
    .choices([...Object.keys(ROLE_NAMES), "superuser"])
    .default(otherwise as string);

/**
 * Returns the URL of a role.
 * @throws {UsageError} if the database has no such role, with the roles that it has.
 */
export function urlOf(urls: Readonly<Record<string, string>>, role: string): string {
  const url = Object.hasOwn(urls, role) ? urls[role] : undefined;
  if (url !== undefined) return url;
  throw new UsageError(`The database has no role ${role}. Choose one of: ${Object.keys(urls).join(", ")}.`);
}
