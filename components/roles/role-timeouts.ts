/** Time limits of roles, as settings of the roles (ALTER ROLE ... SET). */
import type * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { type ServerAccess, type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import type { RoleTimeouts } from "./settings.ts";

/** Inputs of {@link LimitedRoles}. */
export interface LimitedRolesInputs extends SuperuserLogin, RoleTimeouts {
  /** The names of the roles. */
  roles: string[];
}

class LimitedRoles extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("roles:LimitedRoles", "components/roles/role-timeouts-provider.ts", name, inputs, ["fingerprint"], opts);
  }
}

/** Limits the roles, if there is a limit. Returns the resource. */
export function limitRoles(
  name: string,
  { server, roles, timeouts }: { server: ServerAccess; roles: string[]; timeouts: RoleTimeouts },
  opts: pulumi.CustomResourceOptions,
): pulumi.Resource | undefined {
  if (Object.values(timeouts).every((seconds) => seconds === 0)) return undefined;
  const inputs = { ...superuserLogin(server), roles, ...timeouts };
  return new LimitedRoles(name, inputs, { ...opts, deletedWith: server.volume });
}
