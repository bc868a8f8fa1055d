/**
 * Adopts roles that exist but are not in Pulumi's state: on a data volume that outlived its stack (keepDataOnDestroy), or created by an
 * update that was killed before it recorded them. They may own tables and hold grants, but Pulumi creates roles by CREATE ROLE, which
 * fails if the name is taken. So the old role is renamed, the new one is created, and then the old one gets its name back, with the new
 * one's password and memberships.
 */
import * as pulumi from "@pulumi/pulumi";
import { type Address, ident, literal, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { loginAddress, type SuperuserAccess } from "../server/server-access.ts";

const SUFFIX = "__kept";

const STACK_ROLES: readonly string[] = Object.values(ROLE_NAMES);

/**
 * Returns the hooks for a role's resource options that adopt an existing role of that name. They run only if the state has no such role.
 * The engine records the new role after the second hook, so a kill between the hooks leaves both roles, and the next update continues.
 */
export function takeOver(
  { host, port, superuser: user, superuserPassword, authority: ofServer }: SuperuserAccess,
  name: string,
) {
  const address = async (): Promise<Address> => {
    const { promise, resolve } = Promise.withResolvers<[string, string | undefined]>();
    pulumi.all([superuserPassword, ofServer]).apply(resolve);
    const [password, authority] = await promise;
    return loginAddress({ host, port, database: "postgres", user, password, authority });
  };
  return {
    beforeCreate: [async () => renameAway(await address(), name)],
    afterCreate: [async () => void (await restoreRoles(await address(), [name]))],
  };
}

/** Renames an existing role, so that a role with its name can be created. */
async function renameAway(address: Address, name: string): Promise<void> {
  await withConnection(address, async (client) => {
    const kept = name + SUFFIX;
    const { rows } = await client.query<{ rolname: string }>("SELECT rolname FROM pg_roles WHERE rolname IN ($1, $2)", [
      name,
      kept,
    ]);
    const names = rows.map(({ rolname }) => rolname);
    if (!names.includes(name)) return;
    // If both exist, a killed update has already created the new role, which is still unused.
    if (names.includes(kept)) await client.query(`DROP ROLE ${ident(name)}`);
    else await client.query(`ALTER ROLE ${ident(name)} RENAME TO ${ident(kept)}`);
  });
}

/** Gives renamed roles their names back, with the passwords of the new roles. Returns their names. */
export async function restoreRoles(address: Address, names: readonly string[] = STACK_ROLES): Promise<string[]> {
  return withConnection(address, async (client) => {
    const taken: string[] = [];
    for (const name of names) {
      const { rows } = await client.query<{ rolname: string; rolpassword: string; groups: string[] }>(
        `SELECT rolname, rolpassword,
           ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = pg_authid.oid) AS groups
         FROM pg_authid WHERE rolname = ANY ($1)`,
        [[name, name + SUFFIX]],
      );
      const made = rows.find((role) => role.rolname === name);
      if (made === undefined || rows.length !== 2) continue;
      // One transaction, so that the name is never free. The password is copied as the verifier that the server stores.
      await client.query(`
        BEGIN;
        DROP ROLE ${ident(name)};
        ALTER ROLE ${ident(name + SUFFIX)} RENAME TO ${ident(name)};
        ALTER ROLE ${ident(name)} PASSWORD ${literal(made.rolpassword)};
        ${made.groups.map((group) => `GRANT ${ident(group)} TO ${ident(name)};`).join("\n")}
        COMMIT`);
      taken.push(name);
    }
    return taken;
  });
}
