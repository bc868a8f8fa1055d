/** A replica's container. */
import type * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";
import { REPLICATOR } from "../../lib/role-names.ts";
import { replicaLabel } from "../server/leftovers.ts";
import { commandOf, DATA_PATH, HEALTH_PACE, limitsOf, SERVER_PORT, STOP_SECONDS } from "../server/server-container.ts";
import { type Limits, tune } from "../server/tuning.ts";

/** Arguments of {@link replicaContainerOf}. */
export interface ReplicaContainerArgs {
  /** The replica's name, for instance replica1, also in the network. */
  name: string;
  /** The container's name in Docker. */
  container: string;
  /** The stack that it belongs to. */
  stack: string;
  /** The id of the server's image. */
  image: pulumi.Input<string>;
  /** The address and the port on which the replica's port is published. */
  published: { host: string; port: number };
  /** The network's name, and the names of the primary and of all replicas inside it. */
  network: { name: pulumi.Input<string>; primary: string; replicas: string };
  /** The server's limits, which a replica has as well: it can then serve the same queries. */
  limits: Limits;
  /** Name of the volume with the copy. */
  volume: pulumi.Input<string>;
  /** Labels of the server's objects. */
  labels: docker.types.input.ContainerLabel[];
  /** The replicator's password. */
  password: pulumi.Input<string>;
}

/** Returns the arguments of a replica's container. images/database/replica.sh clones the data, and starts the server. */
export function replicaContainerOf(args: ReplicaContainerArgs): docker.ContainerArgs {
  const { name, limits, network, published } = args;
  const tuning = tune(limits);
  return {
    name: args.container,
    image: args.image,
    entrypoints: ["sectorwars-replica"],
    command: commandOf(tuning.settings, undefined),
    // The process that compares the copy with the primary is not the server's child.
    init: true,
    envs: [`REPLICA_NAME=${name}`, `PRIMARY_HOST=${network.primary}`, `PRIMARY_ROLE=${REPLICATOR}`],
    uploads: [{ file: "/run/primary-password", content: args.password, permissions: "0600" }],
    volumes: [{ volumeName: args.volume, containerPath: DATA_PATH }],
    networkMode: "bridge",
    networksAdvanced: [{ name: network.name, aliases: [name, network.replicas] }],
    ports: [{ internal: SERVER_PORT, external: published.port, ip: published.host, protocol: "tcp" }],
    labels: [...args.labels, replicaLabel(args.stack)],
    ...limitsOf(limits, tuning),
    restart: "unless-stopped",
    stopSignal: "SIGINT",
    stopTimeout: STOP_SECONDS,
    destroyGraceSeconds: STOP_SECONDS,
    // A replica whose stream has ended serves old rows, and pg_isready would call it ready.
    healthcheck: { tests: ["CMD", "sectorwars-replica", "healthy"], ...HEALTH_PACE, interval: "15s" },
    mustRun: true,
    wait: false,
  };
}
