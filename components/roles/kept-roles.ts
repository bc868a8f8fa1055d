/**
 * Roles on a data volume that outlived its stack (keepDataOnDestroy). They own the tables and hold the grants, but a new
 * stack's roles are made by CREATE ROLE, which refuses a name that is taken. So the old ones step aside under another name,
 * the new ones are made, and then each old one takes its name back together with the new one's password.
 */
import { type Address, ident, literal, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "./names.ts";

const SUFFIX = "__kept";

const STACK_ROLES: readonly string[] = Object.values(ROLE_NAMES);

/** Renames the roles that a former stack left on the volume. Does nothing on a new cluster. */
export async function setAside(address: Address, names: readonly string[] = STACK_ROLES): Promise<void> {
  await withConnection(address, async (client) => {
    for (const name of names) {
      const { rows } = await client.query<{ rolname: string }>(
        "SELECT rolname FROM pg_roles WHERE rolname IN ($1, $2)",
        [name, name + SUFFIX],
      );
      // Both there: a former run was cut short after the new one was made, and takeBack goes on from there.
      if (rows.length !== 1 || rows[0]?.rolname !== name) continue;
      await client.query(`ALTER ROLE ${ident(name)} RENAME TO ${ident(name + SUFFIX)}`);
    }
  });
}

/** Gives the roles that were set aside their names back, with the passwords of the new ones. Returns which they were. */
export async function takeBack(address: Address, names: readonly string[] = STACK_ROLES): Promise<string[]> {
  return withConnection(address, async (client) => {
    const taken: string[] = [];
    for (const name of names) {
      const { rows } = await client.query<{ rolname: string; rolpassword: string }>(
        "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY ($1)",
        [[name, name + SUFFIX]],
      );
      const made = rows.find((role) => role.rolname === name);
      if (made === undefined || rows.length !== 2) continue;
      // One transaction: at no moment is the name free. The password moves as the verifier that the server keeps.
      await client.query(`
        BEGIN;
        DROP ROLE ${ident(name)};
        ALTER ROLE ${ident(name + SUFFIX)} RENAME TO ${ident(name)};
        ALTER ROLE ${ident(name)} PASSWORD ${literal(made.rolpassword)};
        COMMIT`);
      taken.push(name);
    }
    return taken;
  });
}
