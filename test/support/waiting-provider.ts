/** A resource whose creation takes one minute. */
import type { dynamic } from "@pulumi/pulumi";
import { pause } from "../../lib/scope.ts";

export const provider: dynamic.ResourceProvider = {
  async create() {
    await pause(60_000);
    return { id: "made", outs: {} };
  },
};
