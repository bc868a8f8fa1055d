/** Creates a role with a generated password, as the superuser. */
import * as postgresql from "@pulumi/postgresql";
import type * as pulumi from "@pulumi/pulumi";
import { RandomPassword } from "@pulumi/random";
import { childOf } from "../../lib/child.ts";
import { passwordVerifier } from "../../lib/scram.ts";
import type { ServerAccess } from "../server/server-access.ts";
import { takeOver } from "./kept-roles.ts";
import type { RoleAccess } from "./roles.ts";

/** Alphanumeric, because `%` breaks Alembic's configuration, and other characters break URLs. 32 characters are 190 bits. */
export const PASSWORD = { length: 32, special: false };

/** A role to create. */
export interface RoleSpec {
  /** The component that creates the role, and its name. */
  parent: pulumi.Resource;
  parentName: string;
  /** The resource's name, without the component's. */
  key: string;
  /** The role's name in the server. */
  role: string;
  /** The server, whose passwordVersion replaces the password when it is raised. */
  server: ServerAccess;
  /** Creates roles as the superuser. */
  provider: postgresql.Provider;
  /**
   * The resource to wait for. Roles are created one after another, because they are rows of one shared catalog, and concurrent writers to
   * it conflict.
   */
  previous: pulumi.Resource | undefined;
  /** The roles that it is a member of. */
  memberOf?: string[];
  /** Whether the role may replicate the whole server. */
  replication?: boolean;
}

/** Creates the role. Returns its access, and the resource for the next role to wait for. */
export function createRole(spec: RoleSpec): { access: RoleAccess; resource: pulumi.Resource } {
  const { parent, parentName, key, role, server, provider, previous, memberOf, replication } = spec;
  const password = new RandomPassword(
    `${parentName}-${key}-password`,
    { ...PASSWORD, keepers: { version: String(server.passwordVersion) } },
    childOf(parent, `${key}-password`),
  ).result;
  const resource = new postgresql.Role(
    `${parentName}-${key}`,
    {
      name: role,
      login: true,
      password: password.apply((clear) => passwordVerifier(role, clear)),
      ...(memberOf ? { roles: memberOf } : {}),
      ...(replication ? { replication } : {}),
    },
    {
      ...childOf(parent, key),
      provider,
      dependsOn: previous,
      // role-timeouts.ts sets them, with the one that the provider does not know. Without this, the provider would reset them.
      ignoreChanges: ["statementTimeout", "idleInTransactionSessionTimeout"],
      deletedWith: server.volume,
      hooks: takeOver(server, role),
    },
  );
  return { access: { name: role, password }, resource };
}
