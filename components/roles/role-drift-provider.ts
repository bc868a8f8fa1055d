/** Maintains the stack's roles as role-drift.ts defines them. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { glance } from "../../lib/glance.ts";
import { maintenance } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { loginAddress } from "../server/server-access.ts";
import { repairableDrift, repairRoles, sentence } from "./read-drift.ts";
import { expectedOfStack } from "./role-drift.ts";
import type { RoleDriftInputs } from "./roles.ts";

const PATIENCE_MS = 30_000;

const expectedOf = ({ user, database }: RoleDriftInputs) => expectedOfStack(user, database, ROLE_NAMES);

async function repair(inputs: RoleDriftInputs) {
  for (const drift of await repairRoles(maintenance(loginAddress(inputs)), expectedOf(inputs), PATIENCE_MS)) {
    console.log(`roles: ${sentence(drift)}: repaired`);
  }
  return { ...inputs, fingerprint: inputsFingerprint({ ...inputs }) };
}

export const provider: dynamic.ResourceProvider = {
  /** Connects with the inputs of the last update, because those of a preview may be unknown. */
  async diff(id, olds, news) {
    const diff = await diffByFingerprint(id, olds, news);
    if (diff.changes) return diff;
    const inputs = olds as RoleDriftInputs;
    const drifts = await glance(maintenance(loginAddress(inputs)), (client) =>
      repairableDrift(client, expectedOf(inputs)),
    );
    for (const drift of drifts ?? []) console.log(`roles: ${sentence(drift)}`);
    return { ...diff, changes: drifts !== undefined && drifts.length > 0 };
  },

  async create(inputs: RoleDriftInputs) {
    return { id: "role-drift", outs: await repair(inputs) };
  },

  async update(_id, _olds, inputs: RoleDriftInputs) {
    return { outs: await repair(inputs) };
  },
};
