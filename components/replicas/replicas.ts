/** Read replicas: copies of the server that follow it by streaming replication. */
import * as docker from "@pulumi/docker";
import type * as postgresql from "@pulumi/postgresql";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { namesFor, replicaNames } from "../../lib/naming.ts";
import { REPLICATOR } from "../../lib/role-names.ts";
import { createRole } from "../roles/create-role.ts";
import type { RoleAccess } from "../roles/roles.ts";
import type { DatabaseServer } from "../server/database-server.ts";
import { clearBefore, stackLabel } from "../server/leftovers.ts";
import { type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { replicaContainerOf } from "./replica-container.ts";
import type { ReplicaSettings } from "./settings.ts";

/** Arguments of {@link Replicas}. */
export interface ReplicasArgs {
  /** The primary. */
  server: DatabaseServer;
  /** Creates the replicator's role as the superuser. */
  superuser: postgresql.Provider;
  /** How many replicas, and their ports. */
  settings: ReplicaSettings;
}

/** A replica, as commands and the hand-over see it. */
export interface ReplicaAddress {
  /** The name of the replica, of its replication slot, and of its connection to the primary. */
  name: string;
  container: string;
  host: string;
  port: number;
}

/** Replicas that only read. Each has a volume, a replication slot on the primary, and a port of its own. */
export class Replicas extends pulumi.ComponentResource {
  readonly addresses: readonly ReplicaAddress[];
  /** The name under which services in the stack's network reach any of the replicas. */
  readonly alias: string;
  /** The URL of the role that replicates; secret. A restore gives the role this password again. */
  readonly replicatorUrl: pulumi.Output<string>;

  constructor(name: string, { server, superuser, settings }: ReplicasArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:replicas:Replicas", name, {}, opts);
    const { access, resource: role } = createRole({
      parent: this,
      parentName: name,
      key: "replicator",
      role: REPLICATOR,
      server,
      provider: superuser,
      previous: undefined,
      replication: true,
    });
    const all = Array.from({ length: settings.count }, (_, index) => ({
      ...replicaNames(server.stack, index + 1),
      host: server.host,
      port: settings.port + index,
    }));
    for (const replica of all) createReplica({ parent: this, parentName: name, server, access, role, replica });
    this.addresses = all.map(({ name: replica, container, host, port }) => ({ name: replica, container, host, port }));
    this.alias = namesFor(server.stack).replicaAlias;
    this.replicatorUrl = pulumi.secret(
      pulumi.interpolate`postgresql://${access.name}:${access.password}@${server.host}:${server.port}/postgres`,
    );
    this.registerOutputs({ addresses: this.addresses });
  }
}

/** What one replica is created from. */
interface ReplicaParts {
  /** The component, and its name. */
  parent: Replicas;
  parentName: string;
  server: DatabaseServer;
  /** The replicator, and the resource that creates it. */
  access: RoleAccess;
  role: pulumi.Resource;
  replica: ReplicaAddress & { volume: string };
}

function createReplica(parts: ReplicaParts): void {
  const { parent, parentName, server, access, role, replica } = parts;
  const key = `${parentName}-${replica.name}`;
  // The replica's start creates the slot. Removed after the container, so that no replica creates it again.
  const slot = new ReplicaSlot(
    `${key}-slot`,
    { ...superuserLogin(server), slot: replica.name },
    // If the data is kept, a slot that stayed would keep WAL for a replica that no longer exists.
    { parent, dependsOn: role, ...(server.keepsData ? {} : { deletedWith: server.volume }) },
  );
  const volume = new docker.Volume(
    `${key}-data`,
    { name: replica.volume, labels: [stackLabel(server.stack)] },
    { parent, ignoreChanges: ["labels", "driverOpts"] },
  );
  const { container: containerName, state, dockerHost } = { ...replica, ...server };
  const container = new docker.Container(
    `${key}-server`,
    replicaContainerOf({
      name: replica.name,
      container: containerName,
      stack: server.stack,
      image: server.imageId,
      published: { host: replica.host, port: replica.port },
      network: { name: server.networkName, primary: server.alias, replicas: namesFor(server.stack).replicaAlias },
      limits: server.limits,
      volume: volume.name,
      labels: server.labels,
      password: access.password,
    }),
    {
      parent,
      dependsOn: [role, slot],
      deleteBeforeReplace: true,
      replaceOnChanges: ["healthcheck"],
      hooks: clearBefore({ kind: "container", name: containerName, state, dockerHost, isServer: true }),
    },
  );
  new ReplicaReady(
    `${key}-ready`,
    {
      ...superuserLogin(server),
      replica: replica.name,
      container: containerName,
      containerId: container.id,
      dockerHost,
    },
    { parent, dependsOn: container, deletedWith: volume },
  );
}

/** Inputs of {@link ReplicaSlot}. */
export interface ReplicaSlotInputs extends SuperuserLogin {
  /** Name of the replication slot on the primary. */
  slot: string;
}

/** Drops the replication slot of a replica that is removed. */
class ReplicaSlot extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("replicas:ReplicaSlot", "components/replicas/slot-provider.ts", name, inputs, ["fingerprint"], opts);
  }
}

/** Inputs of {@link ReplicaReady}. */
export interface ReplicaReadyInputs extends SuperuserLogin {
  /** The replica's name. */
  replica: string;
  container: string;
  containerId: string;
  dockerHost: string | undefined;
}

/** Waits until a replica streams. */
class ReplicaReady extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("replicas:ReplicaReady", "components/replicas/ready-provider.ts", name, inputs, ["fingerprint"], opts);
  }
}
