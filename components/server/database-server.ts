/** The PostgreSQL server in Docker: network, data volume, image, container, and a wait until it accepts connections. */
import { createHash } from "node:crypto";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { RandomId, RandomPassword } from "@pulumi/random";
import { REPOSITORY, STORE } from "../../lib/backup-paths.ts";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { type Names, namesFor } from "../../lib/naming.ts";
import type { Archiving } from "./archiving.ts";
import { CertificateAuthority, CertificateInServer, certificateHosts } from "./certificates.ts";
import { buildOf } from "./image.ts";
import { clearBefore, stackLabel, stateLabel } from "./leftovers.ts";
import type { ServerAccess } from "./server-access.ts";
import { containerOf } from "./server-container.ts";
import { LOOPBACK, reachedAt, type ServerSettings } from "./settings.ts";
import type { Limits } from "./tuning.ts";

const IMAGE_FOLDER = "images/database";

type ContainerVolume = docker.types.input.ContainerVolume;
type ContainerLabel = docker.types.input.ContainerLabel;

/** Arguments of {@link DatabaseServer}. */
export interface DatabaseServerArgs {
  /** The stack's name, from which the names of the Docker objects are derived. */
  stack: string;
  /** Name of the database that is created with the cluster. */
  database: string;
  /** Image, limits, port and engine. */
  settings: ServerSettings;
  /** How WAL is archived; undefined if it is not. */
  archiving?: Archiving | undefined;
  /** Creates a resource that is updated before the container is replaced; undefined if nothing must happen before that. */
  beforeReplace?: BeforeReplace | undefined;
}

/**
 * Creates a resource that is updated before the server's container is replaced, for instance to hold queries.
 * @param madeFrom one value for everything that the container is made from.
 */
export type BeforeReplace = (madeFrom: pulumi.Output<string>, opts: pulumi.CustomResourceOptions) => pulumi.Resource;

/** A PostgreSQL server. Resources that depend on the component can connect to it over TCP. */
export class DatabaseServer extends pulumi.ComponentResource implements ServerAccess {
  readonly stack: string;
  readonly database: string;
  readonly host: string;
  readonly port: number;
  readonly containerName: string;
  readonly containerId: pulumi.Output<string>;
  readonly networkName: pulumi.Output<string>;
  readonly imageId: pulumi.Output<string>;
  readonly imageName: string;
  readonly alias: string;
  readonly superuser = "postgres";
  readonly superuserPassword: pulumi.Output<string>;
  readonly passwordVersion: number;
  readonly authority: pulumi.Output<string> | undefined;
  readonly maxConnections: number;
  /** The container's limits. */
  readonly limits: Limits;
  /** The server's version, for instance 15.14. */
  readonly version: pulumi.Output<string>;
  readonly volume: docker.Volume;
  /** Whether `pulumi destroy` keeps {@link volume}. */
  readonly keepsData: boolean;
  readonly dockerHost: string | undefined;
  readonly dockerHostIsSet: boolean;
  /** The stack's only Docker provider; undefined for the environment's engine. */
  readonly engine: docker.Provider | undefined;
  /** The mounts that the backups' container shares with the server: the repository and the socket. */
  readonly shared: ContainerVolume[];
  /** Labels of the objects that this stack's state records. */
  readonly labels: ContainerLabel[];
  /** The identity of the state, which is the value of a label. */
  readonly state: pulumi.Output<string>;

  constructor(name: string, args: DatabaseServerArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:server:DatabaseServer", name, {}, opts);
    const names = namesFor(args.stack);
    const base: Base = { name, parent: this, args, names, ...identify(name, this, args) };
    const host = checkHost(base);
    const network = createNetwork(base, host);
    const volume = createVolume(base, host);
    const shared = createShared(base, host);
    const image = buildImage(base, host);
    const initialPassword = createInitialPassword(base);
    const password = createPassword(base);
    const authority = createAuthority(base);
    const container = createContainer(base, { host, network, volume, shared, image, initialPassword, authority });
    const certificate = authority && installCertificate(base, { container, volume, authority });
    const ready = waitUntilReady(base, { container, volume, password, authority, certificate });

    this.stack = args.stack;
    this.database = args.database;
    this.host = reachedAt(args.settings.listen);
    this.port = args.settings.port;
    this.authority = authority?.authority;
    this.containerName = names.container;
    this.containerId = container.id;
    this.networkName = network.name;
    this.imageId = image.imageId;
    this.imageName = imageNameOf(names);
    this.alias = names.alias;
    this.superuserPassword = password.result;
    this.passwordVersion = args.settings.passwordVersion;
    this.maxConnections = args.settings.maxConnections;
    this.limits = args.settings;
    this.version = ready.version;
    this.volume = volume;
    this.keepsData = args.settings.keepDataOnDestroy;
    this.dockerHost = args.settings.dockerHost;
    this.dockerHostIsSet = args.settings.dockerHostIsSet;
    this.engine = base.engine;
    this.shared = shared;
    this.labels = base.labels;
    this.state = base.state;
    this.registerOutputs({
      host: this.host,
      port: this.port,
      containerName: this.containerName,
      networkName: this.networkName,
      version: this.version,
    });
  }
}

/** What all children of a server share. */
interface Base extends Identity {
  /** The component's name, with which the children's names begin. */
  name: string;
  parent: pulumi.Resource;
  args: DatabaseServerArgs;
  names: Names;
}

/** Where the server's Docker objects are, and how they are recognised. */
interface Identity {
  engine: docker.Provider | undefined;
  state: pulumi.Output<string>;
  labels: ContainerLabel[];
}

function identify(name: string, parent: pulumi.Resource, { stack, settings }: DatabaseServerArgs): Identity {
  // Pulumi records this id before it creates any Docker object. If the state is lost, so is the id. So an object with this label is
  // either recorded in the state or a leftover of an interrupted update.
  const state = new RandomId(`${name}-state`, { byteLength: 8 }, childOf(parent, "state")).hex;
  const { dockerHost: host } = settings;
  // All objects of this server are on one engine, whatever engine the environment names.
  const engine = host ? new docker.Provider(`${name}-engine`, { host }, childOf(parent, "engine")) : undefined;
  return { engine, state, labels: [stackLabel(stack), stateLabel(state)] };
}

/** Returns the options of a child that is an object of the Docker engine. */
const onEngine = ({ parent, engine }: Base, formerName: string) => ({
  ...childOf(parent, formerName),
  provider: engine,
});

const imageNameOf = ({ image }: Names): string => `${image}:15`;

/** Before anything is created, checks for problems that would make Docker fail half-way. */
function checkHost({ name, parent, args: { stack, settings }, names }: Base): HostCheck {
  return new HostCheck(
    `${name}-host`,
    {
      stack,
      container: names.container,
      volume: names.volume,
      port: settings.port,
      ...elsewhere(settings),
      dockerHost: settings.dockerHost,
      builtOn: settings.baseImage,
      // The local engine has the image since script/bootstrap, unless it was pruned. So only another engine is checked.
      ...(settings.dockerHostIsSet ? { baseImage: settings.baseImage } : {}),
    },
    childOf(parent, "host"),
  );
}

function createNetwork(base: Base, host: HostCheck): docker.Network {
  const { name, args, names, labels, state } = base;
  return new docker.Network(
    `${name}-network`,
    { name: names.network, labels },
    {
      ...onEngine(base, "network"),
      dependsOn: host,
      // Replacing the network for a changed label would disconnect the application's services.
      ignoreChanges: ["labels"],
      hooks: clearBefore({ kind: "network", name: names.network, state, dockerHost: args.settings.dockerHost }),
    },
  );
}

function createVolume(base: Base, host: HostCheck): docker.Volume {
  const { name, args, names } = base;
  return new docker.Volume(
    `${name}-data`,
    { name: names.volume, labels: [stackLabel(args.stack)] },
    {
      ...onEngine(base, "data"),
      dependsOn: host,
      retainOnDelete: args.settings.keepDataOnDestroy,
      ...(args.settings.protectData ? { protect: true } : {}),
      // Replacing the volume for changed labels would delete the data.
      ignoreChanges: ["labels", "driverOpts"],
    },
  );
}

/**
 * Creates the volumes that the server shares with the backups' container, if there is one. The backups' volume also has the records about
 * them, so it exists even if the repository is elsewhere.
 */
function createShared(base: Base, host: HostCheck): ContainerVolume[] {
  const { name, args, names } = base;
  if (args.archiving === undefined) return [];
  const { folder, keepOnDestroy } = args.archiving;
  const labels = [stackLabel(args.stack)];
  const options = { dependsOn: host, ignoreChanges: ["labels", "driverOpts"] };
  const store = new docker.Volume(
    `${name}-backups`,
    { name: names.backupVolume, labels },
    { ...onEngine(base, "backups"), ...options, retainOnDelete: keepOnDestroy },
  );
  const socket = new docker.Volume(
    `${name}-socket`,
    { name: names.socketVolume, labels },
    { ...onEngine(base, "socket"), ...options },
  );
  return [
    { volumeName: store.name, containerPath: STORE },
    // With SELinux, a container can use a host folder only if it has the container's label. Without SELinux this has no effect.
    ...(folder === undefined ? [] : [{ hostPath: folder, containerPath: REPOSITORY, selinuxRelabel: "z" }]),
    { volumeName: socket.name, containerPath: "/var/run/postgresql" },
  ];
}

function buildImage(base: Base, host: HostCheck): docker.RemoteImage {
  const { baseImage, dockerHostIsSet } = base.args.settings;
  const wanted: Record<string, string> = base.args.archiving ? { BACKUPS: "yes" } : {};
  return new docker.RemoteImage(
    `${base.name}-image`,
    {
      name: imageNameOf(base.names),
      ...buildOf(IMAGE_FOLDER, baseImage, dockerHostIsSet, wanted),
      keepLocally: true,
    },
    { ...onEngine(base, "image"), dependsOn: host },
  );
}

const ALPHANUMERIC = { length: 32, special: false };

/**
 * Creates the password with which initdb runs. It reaches the container as a file and never changes, because a changed file replaces the
 * container.
 */
const createInitialPassword = ({ name, parent }: Base): RandomPassword =>
  new RandomPassword(`${name}-initial-password`, ALPHANUMERIC, childOf(parent, "initial-password"));

/** Creates the password that is set once the server is ready. It can change at any time. */
const createPassword = ({ name, parent, args }: Base): RandomPassword =>
  new RandomPassword(
    `${name}-superuser-password`,
    { ...ALPHANUMERIC, keepers: { version: String(args.settings.passwordVersion) } },
    childOf(parent, "superuser-password"),
  );

/** Returns the address of a server that is not published on this machine only. Without it, the inputs are those of earlier versions. */
const elsewhere = ({ listen }: ServerSettings) => (listen === LOOPBACK ? {} : { listen });

function createAuthority({ name, parent, args, names }: Base): CertificateAuthority | undefined {
  const { tls, listen } = args.settings;
  if (tls === undefined) return undefined;
  const hosts = certificateHosts(names, reachedAt(listen), tls);
  return new CertificateAuthority(`${name}-authority`, { stack: args.stack, hosts, days: tls.days }, { parent });
}

/** What the server's certificate depends on. */
interface CertificateParts {
  container: docker.Container;
  volume: docker.Volume;
  authority: CertificateAuthority;
}

/** Puts the present certificate into the container, which begins with the first one. */
function installCertificate(base: Base, { container, volume, authority }: CertificateParts): CertificateInServer {
  const { name, parent, args, names } = base;
  const { tls, listen, port, dockerHost } = args.settings;
  return new CertificateInServer(
    `${name}-certificate`,
    {
      authority: authority.authority,
      authorityKey: authority.authorityKey,
      hosts: tls && certificateHosts(names, reachedAt(listen), tls),
      days: tls?.days,
      container: names.container,
      containerId: container.id,
      host: reachedAt(listen),
      port,
      dockerHost,
    },
    { parent, deletedWith: volume },
  );
}

/** What the server's container is created from. */
interface ContainerParts {
  host: HostCheck;
  network: docker.Network;
  volume: docker.Volume;
  shared: ContainerVolume[];
  image: docker.RemoteImage;
  initialPassword: RandomPassword;
  authority: CertificateAuthority | undefined;
}

function createContainer(base: Base, parts: ContainerParts): docker.Container {
  const { args, names, labels, state } = base;
  const { settings } = args;
  const made = containerOf({
    container: names.container,
    image: parts.image.imageId,
    database: args.database,
    published: { host: settings.listen, port: settings.port },
    network: { name: parts.network.name, alias: names.alias },
    limits: settings,
    volumes: { data: parts.volume.name, shared: parts.shared },
    labels,
    initialPassword: parts.initialPassword.result,
    archiving: args.archiving,
    authority: parts.authority,
    logsForProduction: settings.logsForProduction,
    knowsStartInterval: parts.host.knowsStartInterval,
  });
  const before = args.beforeReplace?.(pulumi.jsonStringify(made).apply(digest), { parent: base.parent });
  return new docker.Container(`${base.name}-server`, made, {
    ...onEngine(base, "server"),
    ...(before && { dependsOn: before }),
    deleteBeforeReplace: true,
    replaceOnChanges: ["healthcheck"],
    hooks: clearBefore({
      kind: "container",
      name: names.container,
      state,
      dockerHost: settings.dockerHost,
      isServer: true,
    }),
  });
}

const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16);

/** What the wait for the server depends on. */
interface ReadyParts {
  container: docker.Container;
  volume: docker.Volume;
  password: RandomPassword;
  authority: CertificateAuthority | undefined;
  certificate: CertificateInServer | undefined;
}

function waitUntilReady({ name, parent, args, names }: Base, parts: ReadyParts): ServerReady {
  const { container, volume, password, authority, certificate } = parts;
  return new ServerReady(
    `${name}-ready`,
    {
      container: names.container,
      containerId: container.id,
      host: reachedAt(args.settings.listen),
      port: args.settings.port,
      ...(authority ? { authority: authority.authority } : {}),
      database: args.database,
      password: password.result,
      passwordVersion: args.settings.passwordVersion,
      dockerHost: args.settings.dockerHost,
      ...(args.archiving?.recover ? { recovers: true } : {}),
    },
    { ...childOf(parent, "ready"), dependsOn: certificate ?? container, deletedWith: volume },
  );
}

/** Inputs of {@link HostCheck}. */
export interface HostCheckInputs {
  stack: string;
  container: string;
  volume: string;
  port: number;
  /** The address on which the port is published; undefined for 127.0.0.1. */
  listen?: string;
  dockerHost: string | undefined;
  /** PostgreSQL image that the server's image is built on. */
  builtOn?: string;
  /** The same image, if the check must verify that the engine has it or can pull it; undefined to skip the check. */
  baseImage?: string;
}

class HostCheck extends ResourceOnDisk {
  /** Whether the engine supports a separate health check interval during the start. */
  declare readonly knowsStartInterval: pulumi.Output<boolean>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super(
      "server:HostCheck",
      "components/server/host-check.ts",
      name,
      inputs,
      ["knowsStartInterval", "fingerprint"],
      opts,
    );
  }
}

/** Inputs of {@link ServerReady}. */
export interface ServerReadyInputs {
  container: string;
  containerId: string;
  host: string;
  port: number;
  database: string;
  password: string;
  passwordVersion: number;
  /** The authority of the server's certificate, PEM; undefined for a server without TLS. */
  authority?: string;
  dockerHost: string | undefined;
  /** Whether an empty volume is restored from backups, which has no time limit. */
  recovers?: boolean;
}

class ServerReady extends ResourceOnDisk {
  declare readonly version: pulumi.Output<string>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("server:ServerReady", "components/server/readiness.ts", name, inputs, ["version", "fingerprint"], opts);
  }
}
