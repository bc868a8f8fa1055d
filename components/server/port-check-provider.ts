/** Checks a port. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { checkPort, type WantedPort } from "./port-check.ts";

async function outsOf(inputs: WantedPort) {
  await checkPort(inputs);
  return { ...inputs, fingerprint: inputsFingerprint({ ...inputs }) };
}

export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,

  async create(inputs: WantedPort) {
    return { id: `${inputs.container}-port`, outs: await outsOf(inputs) };
  },

  async update(_id, _olds, inputs: WantedPort) {
    return { outs: await outsOf(inputs) };
  },
};
