/** The connection pooler: PgBouncer in a container beside the server. docs/pooler.md says what it changes for clients. */
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { RandomPassword } from "@pulumi/random";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { namesFor } from "../../lib/naming.ts";
import { PASSWORD } from "../roles/create-role.ts";
import type { BeforeReplace, DatabaseServer } from "../server/database-server.ts";
import { buildOf } from "../server/image.ts";
import { clearBefore } from "../server/leftovers.ts";
import { PortCheck } from "../server/port-check-resource.ts";
import { type SuperuserLogin, superuserLogin } from "../server/server-access.ts";
import { POOLER_PORT } from "./configuration.ts";
import type { PoolerSettings } from "./settings.ts";

const IMAGE_FOLDER = "images/pooler";
/** The only interface on which the pooler's port is published. */
const LOCAL = "127.0.0.1";
/** PgBouncer takes a few MB, and psql, with which it is controlled, about ten more for each call. */
const MEMORY_MIB = 128;
/** Seconds that running transactions have to end when the container stops. */
const STOP_SECONDS = 10;

/** Arguments of {@link Pooler}. */
export interface PoolerArgs {
  /** The server that the pooler connects to. */
  server: DatabaseServer;
  /** The databases that clients can connect to. */
  databases: readonly string[];
  /** Whether the stack has read replicas, which the pooler then offers as further databases. */
  hasReplicas: boolean;
  /** Port, number of server connections, and the image to build on. */
  settings: PoolerSettings;
}

/** What `./db` needs to know about a pooler. */
export interface PoolerSummary {
  container: string;
  /** The port on 127.0.0.1. */
  port: number;
}

/**
 * PgBouncer in transaction mode. Clients log in with the roles' own passwords. `dependsOn` names the roles: the container does not wait
 * for them, but its login in the server does.
 */
export class Pooler extends pulumi.ComponentResource {
  readonly port: number;
  /** The pooler's name inside the network. */
  readonly alias: string;
  /** The largest number of server connections to each database. */
  readonly size: number;
  /** The number of databases. */
  readonly databases: number;
  readonly summary: PoolerSummary;

  constructor(name: string, args: PoolerArgs, opts: pulumi.ComponentResourceOptions = {}) {
    const { dependsOn, ...ownOptions } = opts;
    super("sectorwars:pooler:Pooler", name, {}, ownOptions);
    const { server, databases, hasReplicas, settings } = args;
    const names = namesFor(server.stack);
    const container = createContainer(name, this, args);
    new PoolerReady(
      `${name}-ready`,
      {
        ...superuserLogin(server),
        stack: server.stack,
        poolerPassword: new RandomPassword(
          `${name}-password`,
          { ...PASSWORD, keepers: { version: String(server.passwordVersion) } },
          { parent: this },
        ).result,
        databases: [...databases],
        size: settings.size,
        alias: server.alias,
        ...(hasReplicas ? { replicas: names.replicaAlias } : {}),
        containerId: container.id,
        serverId: server.containerId,
        dockerHost: server.dockerHost,
      },
      { parent: this, dependsOn, deletedWith: server.volume },
    );
    this.port = settings.port;
    this.alias = names.poolerAlias;
    this.size = settings.size;
    this.databases = databases.length;
    this.summary = { container: names.pooler, port: settings.port };
    this.registerOutputs(this.summary);
  }
}

function createContainer(name: string, parent: pulumi.Resource, { server, settings }: PoolerArgs): docker.Container {
  const names = namesFor(server.stack);
  const image = new docker.RemoteImage(
    `${name}-image`,
    {
      name: `${names.poolerImage}:latest`,
      ...buildOf(IMAGE_FOLDER, settings.baseImage, server.dockerHostIsSet),
      keepLocally: true,
    },
    { parent },
  );
  const { state, dockerHost } = server;
  // Before the container is replaced, because a port in use must not cost the pooler that runs.
  const port = new PortCheck(
    `${name}-port`,
    { port: settings.port, setting: "poolerPort", container: names.pooler, dockerHost },
    { parent },
  );
  return new docker.Container(`${name}-container`, containerOf(server, settings, image.imageId), {
    parent,
    deleteBeforeReplace: true,
    replaceOnChanges: ["healthcheck"],
    dependsOn: port,
    hooks: clearBefore({ kind: "container", name: names.pooler, state, dockerHost }),
  });
}

/**
 * Returns the container. Its configuration is not among its files: a container is replaced if one of them changes, and all clients would
 * lose their connections whenever a database is added or a password is rotated. {@link PoolerReady} writes the configuration.
 */
function containerOf(
  server: DatabaseServer,
  { port }: PoolerSettings,
  image: pulumi.Input<string>,
): docker.ContainerArgs {
  const names = namesFor(server.stack);
  return {
    name: names.pooler,
    image,
    // Reaps the processes that outlive a docker exec.
    init: true,
    networkMode: "bridge",
    networksAdvanced: [{ name: server.networkName, aliases: [names.poolerAlias] }],
    ports: [{ internal: POOLER_PORT, external: port, ip: LOCAL, protocol: "tcp" }],
    labels: server.labels,
    memory: MEMORY_MIB,
    memorySwap: MEMORY_MIB,
    restart: "unless-stopped",
    stopSignal: "SIGINT",
    stopTimeout: STOP_SECONDS,
    destroyGraceSeconds: STOP_SECONDS,
    healthcheck: {
      tests: ["CMD", "sectorwars-pooler", "healthy"],
      interval: "15s",
      timeout: "5s",
      retries: 3,
      startPeriod: "30s",
    },
    mustRun: true,
    wait: false,
  };
}

/** Inputs of {@link PoolerReady}. */
export interface PoolerReadyInputs extends SuperuserLogin {
  stack: string;
  /** The password of the pooler's role. Its changes come with those of passwordVersion. */
  poolerPassword: string;
  databases: string[];
  size: number;
  /** The server's name inside the network. */
  alias: string;
  /** The replicas' name; missing if the stack has none. */
  replicas?: string;
  /** The ids of the pooler's container, which a new one needs its configuration for, and of the server's. */
  containerId: string;
  serverId: string;
  dockerHost: string | undefined;
}

/** The pooler's login in the server, and its configuration. */
class PoolerReady extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("pooler:PoolerReady", "components/pooler/ready-provider.ts", name, inputs, ["function", "fingerprint"], opts);
  }
}

/** Inputs of {@link PoolerHold}. */
export interface PoolerHoldInputs {
  stack: string;
  dockerHost: string | undefined;
  /** What the server's container is made from. */
  madeFrom: string;
}

/**
 * Holds the queries before an update replaces the server's container, which must depend on it. {@link Pooler} lets them run again once the
 * new server is ready; if the update ends before that, they run when its processes end.
 */
class PoolerHold extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("pooler:PoolerHold", "components/pooler/hold-provider.ts", name, inputs, ["fingerprint"], opts);
  }
}

/** Returns what {@link DatabaseServer} calls to hold the pooler's queries before its container is replaced. */
export const holdBeforeReplace =
  (place: Omit<PoolerHoldInputs, "madeFrom">): BeforeReplace =>
  (madeFrom, opts) =>
    new PoolerHold("pooler-hold", { ...place, madeFrom }, opts);
