/** Takes back the roles of a kept volume that a failing hook left aside. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { takeBack } from "./kept-roles.ts";
import type { KeptRolesInputs } from "./roles.ts";

/** Acts once, when the roles have been made. */
export const provider: dynamic.ResourceProvider = {
  async diff() {
    return { changes: false };
  },

  async create(inputs: KeptRolesInputs) {
    const taken = await takeBack({ ...inputs, database: "postgres" });
    return { id: "kept-roles", outs: { ...inputs, taken } };
  },
};
