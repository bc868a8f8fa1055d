/** A role's URL among a stack's outputs. */
import { UsageError } from "./errors.ts";

/**
 * The URL of a role.
 * @throws {UsageError} that names the roles there are.
 */
export function urlOf(urls: Readonly<Record<string, string>>, role: string): string {
  const url = Object.hasOwn(urls, role) ? urls[role] : undefined;
  if (url !== undefined) return url;
  throw new UsageError(`There is no role ${role}. Choose ${Object.keys(urls).join(", ")}.`);
}
