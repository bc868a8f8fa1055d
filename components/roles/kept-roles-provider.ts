/** Restores the names of roles that a failed hook left renamed (kept-roles.ts). Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { loginAddress } from "../server/server-access.ts";
import { restoreRoles } from "./kept-roles.ts";
import type { KeptRolesInputs } from "./roles.ts";

/** Runs once, after the roles have been created. */
export const provider: dynamic.ResourceProvider = {
  async diff() {
    return { changes: false };
  },

  async create(inputs: KeptRolesInputs) {
    const taken = await restoreRoles(loginAddress({ ...inputs, database: "postgres" }));
    return { id: "kept-roles", outs: { ...inputs, taken } };
  },
};
