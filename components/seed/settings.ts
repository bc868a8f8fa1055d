/** Settings of the essential rows. */
import { list, notBlank, oneOf, rule, text, type ValuesOf } from "../../lib/setting.ts";
import { isPasswordScheme, PASSWORD_SCHEME_RULE } from "./password-hash.ts";

/** The essential rows. */
export interface SeedSettings {
  /** Files and folders beside the project's own. */
  readonly files: readonly string[];
  /** Name of the administrator. */
  readonly admin: string;
  /** How the application hashes passwords: a scheme of password-hash.ts. */
  readonly passwordHash: string;
  /** Whether data that was imported is seeded, too. */
  readonly evenImported: boolean;
}

export const SEED_SETTINGS = {
  seed: text(oneOf("auto", "always", "never")),
  seedFiles: list(),
  seedAdmin: text(notBlank("give a name")),
  seedPasswordHash: text(rule(isPasswordScheme, PASSWORD_SCHEME_RULE)),
};

export type SeedValues = ValuesOf<typeof SEED_SETTINGS>;

/** Returns what is seeded; undefined for nothing. By default that is a database that began empty and is migrated here. Pure. */
export function seedOf(values: SeedValues & { alembic: string }, bootstrap: string): SeedSettings | undefined {
  const isAutomatic = values.seed === "auto" && bootstrap === "empty" && values.alembic !== "";
  if (values.seed !== "always" && !isAutomatic) return undefined;
  return Object.freeze({
    files: Object.freeze([...values.seedFiles]),
    admin: values.seedAdmin,
    passwordHash: values.seedPasswordHash,
    evenImported: values.seed === "always",
  });
}
