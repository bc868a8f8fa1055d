/** Settings of the read replicas. */
import { number, portNumber, type ValuesOf, whole } from "../../lib/setting.ts";

/** The read replicas of a stack. */
export interface ReplicaSettings {
  /** The number of replicas. */
  readonly count: number;
  /** Port on 127.0.0.1 of the first replica; each further one has the next port. */
  readonly port: number;
}

export const REPLICA_SETTINGS = {
  replicas: number(whole(0, 8, "use a whole number of replicas")),
  replicaPort: portNumber(),
};

export type ReplicaValues = ValuesOf<typeof REPLICA_SETTINGS>;

/** Distance of the first replica's default port from the server's. Ports of other stacks are 4000 numbers apart at most. */
const PORT_DISTANCE = 5000;

/** Returns the settings of the replicas, or undefined if the stack has none. `port` is that of the server. Pure. */
export const replicasOf = ({ replicas, replicaPort }: ReplicaValues, port: number): ReplicaSettings | undefined =>
  replicas > 0 ? Object.freeze({ count: replicas, port: replicaPort || port + PORT_DISTANCE }) : undefined;

/** Returns the problems of the replicas' settings with the server's port. Pure. */
export function replicaProblems({ count, port }: ReplicaSettings, serverPort: number): string[] {
  const last = port + count - 1;
  if (serverPort >= port && serverPort <= last) {
    return [
      `replicaPort is ${port}: the ${count} replicas would have the ports ${port} to ${last}, and ${serverPort} is the server's. ` +
        "Choose another one, or 0 for the default",
    ];
  }
  return last > 65_535 ? [`replicaPort is ${port}: the last replica's port would be ${last}. Choose a lower one`] : [];
}
