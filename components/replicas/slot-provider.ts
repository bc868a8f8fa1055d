/** Drops a replica's slot when the replica is removed. Runs inside Pulumi's dynamic provider. */
import type { dynamic } from "@pulumi/pulumi";
import { diffByFingerprint, inputsFingerprint } from "../../lib/dynamic.ts";
import { withConnection } from "../../lib/postgres.ts";
import { loginAddress } from "../server/server-access.ts";
import type { ReplicaSlotInputs } from "./replicas.ts";

/** Ends the stream that still uses the slot, for instance of a container whose machine is gone, and drops the slot. */
const DROP = `
  SELECT pg_catalog.pg_terminate_backend(active_pid, 5000) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active`;

const stateOf = (inputs: ReplicaSlotInputs) => ({ ...inputs, fingerprint: inputsFingerprint({ ...inputs }) });

export const provider: dynamic.ResourceProvider = {
  diff: diffByFingerprint,
  /** The replica's start creates the slot (images/database/replica.sh). */
  create: async (inputs: ReplicaSlotInputs) => ({ id: inputs.slot, outs: stateOf(inputs) }),
  update: async (_id, _olds, news: ReplicaSlotInputs) => ({ outs: stateOf(news) }),

  /** A server that does not answer must not prevent the removal; ./db doctor finds a slot without a replica. */
  async delete(_id, inputs: ReplicaSlotInputs) {
    const drop = withConnection({ ...loginAddress({ ...inputs, database: "postgres" }) }, async (client) => {
      await client.query(DROP, [inputs.slot]);
      await client.query(
        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
        [inputs.slot],
      );
    });
    await drop.catch((error: Error) =>
      console.log(`the replication slot ${inputs.slot} could not be dropped: ${error.message}`),
    );
  },
};
