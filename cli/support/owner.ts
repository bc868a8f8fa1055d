/** The owner of a stack's database, for commands that load data into its server. */
import type { Target } from "../../components/import/types.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { addressOf } from "../../lib/stack.ts";

/** Returns the owner's login, and the application's roles, which get the settings of a copied database. */
export const ownerOf = (urls: Readonly<Record<string, string>>): Pick<Target, "owner" | "ownerPassword" | "roles"> => ({
  owner: ROLE_NAMES.owner,
  ownerPassword: addressOf(urls.owner ?? "").password,
  roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
});
