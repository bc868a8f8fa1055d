/**
 * Roles that exist and that Pulumi's state does not know: on a data volume that outlived its stack (keepDataOnDestroy), or made by
 * an update that was killed before it recorded them. They may own tables and hold grants, but Pulumi makes roles by CREATE ROLE, which
 * refuses a name that is taken. So an old role steps aside under another name, the new one is made, and then the old one takes its
 * name back together with the new one's password and memberships.
 */
import * as pulumi from "@pulumi/pulumi";
import { type Address, ident, literal, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import type { ServerAccess } from "../server/server-access.ts";

const SUFFIX = "__kept";

const STACK_ROLES: readonly string[] = Object.values(ROLE_NAMES);

/**
 * The hooks for a role's options that take over a role of that name. They run when the state holds none, and the engine records the
 * new role after the second hook: a kill in between leaves both roles, and the next update begins again from there.
 */
export function takeOver({ host, port, superuser: user, superuserPassword }: ServerAccess, name: string) {
  const address = async (): Promise<Address> => {
    const { promise, resolve } = Promise.withResolvers<string>();
    pulumi.output(superuserPassword).apply(resolve);
    return { host, port, database: "postgres", user, password: await promise };
  };
  return {
    beforeCreate: [async () => setAside(await address(), name)],
    afterCreate: [async () => void (await takeBack(await address(), [name]))],
  };
}

/** Makes room for a role that is about to be made. Does nothing where there is none of that name. */
async function setAside(address: Address, name: string): Promise<void> {
  await withConnection(address, async (client) => {
    const kept = name + SUFFIX;
    const { rows } = await client.query<{ rolname: string }>("SELECT rolname FROM pg_roles WHERE rolname IN ($1, $2)", [
      name,
      kept,
    ]);
    const names = rows.map(({ rolname }) => rolname);
    if (!names.includes(name)) return;
    // Both exist: a killed update had made the new one already, which nobody has used.
    if (names.includes(kept)) await client.query(`DROP ROLE ${ident(name)}`);
    else await client.query(`ALTER ROLE ${ident(name)} RENAME TO ${ident(kept)}`);
  });
}

/** Gives the roles that were set aside their names back, with the passwords of the new ones. Returns which they were. */
export async function takeBack(address: Address, names: readonly string[] = STACK_ROLES): Promise<string[]> {
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
      // One transaction: at no moment is the name free. The password moves as the verifier that the server keeps.
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
