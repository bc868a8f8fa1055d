/** Holds the pooler's queries while the server's container is replaced. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { outsideScopes } from "../../lib/scope.ts";
import type { PoolerHoldInputs } from "./pooler.ts";
import { holdQueries } from "./pooler-container.ts";

const outsOf = (inputs: PoolerHoldInputs) => ({ ...inputs, fingerprint: inputsFingerprint({ ...inputs }) });

export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: PoolerHoldInputs) {
    return { id: "pooler-hold", outs: outsOf(inputs) };
  },

  /** The hold outlives this call. It ends with `sectorwars-pooler resume` (ready-provider.ts), or with this process. */
  async update(_id, _olds, inputs: PoolerHoldInputs) {
    await outsideScopes(() => holdQueries(inputs, { say: (line) => console.log(line) }));
    return { outs: outsOf(inputs) };
  },
};
