/** The owner of a stack's database, for commands that load data into a database of its server. */
import type { Target } from "../../components/import/types.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { addressOf } from "../../lib/stack.ts";

/** How the owner logs in, and the roles of the application, which get the settings of a database that is copied. */
export const ownerOf = (urls: Readonly<Record<string, string>>): Pick<Target, "owner" | "ownerPassword" | "roles"> => ({
  owner: ROLE_NAMES.owner,
  ownerPassword: addressOf(urls.owner ?? "").password,
  roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
});
