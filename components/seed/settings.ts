/** Settings of the seed data. */
import { list, notBlank, oneOf, rule, text, type ValuesOf } from "../../lib/setting.ts";
import { isPasswordScheme, PASSWORD_SCHEME_RULE } from "./password-hash.ts";

/** What to seed. */
export interface SeedSettings {
  /** Files and folders in addition to the project's own. */
  readonly files: readonly string[];
  /** Name of the administrator. */
  readonly admin: string;
  /** How the application hashes passwords: a scheme of password-hash.ts. */
  readonly passwordHash: string;
  /** Whether imported data is seeded too. */
  readonly evenImported: boolean;
}

export const SEED_SETTINGS = {
  seed: text(oneOf("auto", "always", "never")),
  seedFiles: list(),
  seedAdmin: text(notBlank("give a name")),
  seedPasswordHash: text(rule(isPasswordScheme, PASSWORD_SCHEME_RULE)),
};

export type SeedValues = ValuesOf<typeof SEED_SETTINGS>;

/** Returns what to seed; undefined for nothing. `auto` seeds a database that was created empty and is migrated by this project. Pure. */
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
