/** The PostgreSQL server in Docker: network, data volume, image, container, and a wait until it accepts connections. */
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { RandomId, RandomPassword } from "@pulumi/random";
import { REPOSITORY, STORE } from "../../lib/backup-paths.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { namesFor } from "../../lib/naming.ts";
import { buildOf } from "./image.ts";
import { clearBefore, stackLabel, stateLabel } from "./leftovers.ts";
import { asArguments, tune } from "./tuning.ts";

/** The port inside the container and the network. */
const SERVER_PORT = 5432;
const IMAGE_FOLDER = "images/database";
/** The only interface on which the server's port is published. */
const LOCAL = "127.0.0.1";
/** Seconds that a stopping server has to write its last checkpoint before Docker kills it. */
const STOP_SECONDS = 120;
/** The period of the CPU quota in microseconds. A quota of twice the period is two CPUs. */
const CPU_PERIOD = 100_000;
/** A server that recovers from a crash has a minute before failures count. Six consecutive failures make it unhealthy. */
const HEALTH_PACE = { timeout: "5s", retries: 6, startPeriod: "1m0s" };

/**
 * A WAL file is archived when its 16 MB are full, and after a minute at the latest. So the loss of the machine costs at most the changes
 * of the last minute.
 */
const ARCHIVE_SETTINGS = {
  archive_mode: "on",
  archive_command: "sectorwars-backup pgbackrest-push %p",
  archive_timeout: "60s",
};

/** Returns pgBackRest's configuration as an upload that only root can read. The image's script gives it to the server's user. */
export const configurationFile = (content: pulumi.Input<string>): ContainerUpload => ({
  file: "/run/pgbackrest.conf",
  content,
  permissions: "0600",
});

type ContainerVolume = docker.types.input.ContainerVolume;
type ContainerLabel = docker.types.input.ContainerLabel;
type ContainerUpload = docker.types.input.ContainerUpload;

/** Arguments of {@link DatabaseServer}. */
export interface DatabaseServerArgs {
  /** The stack's name, from which the names of the Docker objects are derived. */
  stack: string;
  /** PostgreSQL 15 image to build on. */
  baseImage: string;
  /** Name of the database that is created with the cluster. */
  database: string;
  /** Port on 127.0.0.1. */
  port: number;
  /** Memory limit, MiB. */
  memoryMiB: number;
  cpus: number;
  maxConnections: number;
  /** Raising this number gives the superuser a new password. */
  passwordVersion: number;
  /** Whether `pulumi destroy` keeps the data volume. */
  keepData: boolean;
  /** Docker engine; undefined for the environment's. */
  dockerHost: string | undefined;
  /** Whether the settings name the engine; otherwise it is the docker command's. */
  dockerHostIsSet: boolean;
  /** How WAL is archived; undefined if it is not. */
  archiving?: Archiving | undefined;
}

/** What the server needs to archive WAL to a pgBackRest repository. */
export interface Archiving {
  /** pgBackRest's configuration, which contains the repository's key. */
  configuration: pulumi.Input<string>;
  /** The host folder of the repository; undefined for a volume of the stack. */
  folder: string | undefined;
  /** Whether `pulumi destroy` keeps the volume with the backups. */
  keepOnDestroy: boolean;
  /** Disk usage in per cent at which the server drops WAL that it cannot archive. */
  walDropThresholdPercent: number;
  /** The recovery of an empty volume, in the lines that the image's script reads; undefined to create a new cluster. */
  recover: readonly string[] | undefined;
}

/** A PostgreSQL server. Resources that depend on `ready` can connect to it over TCP. */
export class DatabaseServer extends pulumi.ComponentResource {
  readonly host = LOCAL;
  readonly port: number;
  readonly containerName: string;
  readonly networkName: pulumi.Output<string>;
  /** The built image, which has pg_dump and psql of the server's version. */
  readonly imageId: pulumi.Output<string>;
  /** The image's name, for commands that start containers without Pulumi. */
  readonly imageName: string;
  /** The server's name inside the network. */
  readonly alias: string;
  readonly superuser = "postgres";
  readonly superuserPassword: pulumi.Output<string>;
  /** The server's version, for instance 15.14. */
  readonly version: pulumi.Output<string>;
  readonly volume: docker.Volume;
  /** The provider of the engine; undefined for the environment's engine. */
  readonly engine: docker.Provider | undefined;
  /** The mounts that the backups' container shares with the server: the repository and the socket. */
  readonly shared: ContainerVolume[];
  /** Labels of the objects that this stack's state records. */
  readonly labels: ContainerLabel[];
  /** The identity of the state, which is the value of a label. */
  readonly state: pulumi.Output<string>;
  readonly ready: pulumi.Resource;

  constructor(name: string, args: DatabaseServerArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:server:DatabaseServer", name, {}, opts);
    const names = namesFor(args.stack);
    const own = { parent: this };
    // Recorded in the state before any Docker object is created, and lost with the state. So a Docker object with this label is either
    // recorded in the state or a leftover of an interrupted update.
    const state = new RandomId("state", { byteLength: 8 }, own).hex;
    const labels = [stackLabel(args.stack), stateLabel(state)];
    const volumeLabels = [stackLabel(args.stack)];
    // All objects of this server are on one engine, whatever engine the environment names.
    const engine = args.dockerHost ? new docker.Provider("engine", { host: args.dockerHost }, own) : undefined;
    const onEngine = { ...own, provider: engine };
    const tuning = tune(args);
    const imageName = `${names.image}:15`;

    const host = checkHost();
    const network = createNetwork();
    const volume = createVolume();
    const { archiving } = args;
    const shared = archiving ? createShared(archiving) : [];
    const image = buildImage();
    const { initialPassword, password } = createPasswords();
    const container = createContainer();
    const ready = waitUntilReady();

    this.port = args.port;
    this.containerName = names.container;
    this.alias = names.alias;
    this.networkName = network.name;
    this.imageId = image.imageId;
    this.imageName = imageName;
    this.superuserPassword = password.result;
    this.version = ready.version;
    this.volume = volume;
    this.engine = engine;
    this.shared = shared;
    this.labels = labels;
    this.state = state;
    this.ready = ready;
    this.registerOutputs({
      host: this.host,
      port: this.port,
      containerName: this.containerName,
      networkName: this.networkName,
      version: this.version,
    });

    /** Finds problems that would make Docker fail half-way, before anything is created. */
    function checkHost() {
      return new HostCheck(
        "host",
        {
          stack: args.stack,
          container: names.container,
          volume: names.volume,
          port: args.port,
          dockerHost: args.dockerHost,
          builtOn: args.baseImage,
          // Only another engine can lack the image: on this one, script/bootstrap has found or built it.
          ...(args.dockerHostIsSet ? { baseImage: args.baseImage } : {}),
        },
        own,
      );
    }

    function createNetwork() {
      return new docker.Network(
        "network",
        { name: names.network, labels },
        {
          ...onEngine,
          dependsOn: host,
          // Replacing the network for a changed label would disconnect the application's services.
          ignoreChanges: ["labels"],
          hooks: clearBefore({ kind: "network", name: names.network, state, dockerHost: args.dockerHost }),
        },
      );
    }

    function createVolume() {
      return new docker.Volume(
        "data",
        { name: names.volume, labels: volumeLabels },
        {
          ...onEngine,
          dependsOn: host,
          retainOnDelete: args.keepData,
          // Replacing the volume for changed labels would delete the data.
          ignoreChanges: ["labels", "driverOpts"],
        },
      );
    }

    /** Creates the shared volumes. The backups' volume also has the records about them, so it exists even if the repository is elsewhere. */
    function createShared({ folder, keepOnDestroy }: Archiving): ContainerVolume[] {
      const options = { ...onEngine, dependsOn: host, ignoreChanges: ["labels", "driverOpts"] };
      const store = new docker.Volume(
        "backups",
        { name: names.backupVolume, labels: volumeLabels },
        { ...options, retainOnDelete: keepOnDestroy },
      );
      const socket = new docker.Volume("socket", { name: names.socketVolume, labels: volumeLabels }, options);
      return [
        { volumeName: store.name, containerPath: STORE },
        // With SELinux, a container can use a host folder only if it has the container's label. Without SELinux this has no effect.
        ...(folder === undefined ? [] : [{ hostPath: folder, containerPath: REPOSITORY, selinuxRelabel: "z" }]),
        { volumeName: socket.name, containerPath: "/var/run/postgresql" },
      ];
    }

    function buildImage() {
      const wanted: Record<string, string> = archiving ? { BACKUPS: "yes" } : {};
      return new docker.RemoteImage(
        "image",
        {
          name: imageName,
          ...buildOf(IMAGE_FOLDER, args.baseImage, args.dockerHostIsSet, wanted),
          keepLocally: true,
        },
        { ...onEngine, dependsOn: host },
      );
    }

    /**
     * Creates two passwords. The cluster is initialised with the first one, from a file; it never changes, because changing a container's
     * file replaces the container. The second one is set once the server is ready, and can change at any time.
     */
    function createPasswords() {
      const alphanumeric = { length: 32, special: false };
      return {
        initialPassword: new RandomPassword("initial-password", alphanumeric, own),
        password: new RandomPassword(
          "superuser-password",
          { ...alphanumeric, keepers: { version: String(args.passwordVersion) } },
          own,
        ),
      };
    }

    function createContainer() {
      return new docker.Container(
        "server",
        {
          name: names.container,
          image: image.imageId,
          command: [
            "postgres",
            ...asArguments({
              config_file: "/etc/postgresql/postgresql.conf",
              hba_file: "/etc/postgresql/pg_hba.conf",
              ...tuning.settings,
              ...(archiving ? ARCHIVE_SETTINGS : {}),
            }),
          ],
          // With init, orphaned processes of the archive command do not become children of the server, which would take their exit for a
          // crash.
          ...(archiving ? { init: true } : {}),
          envs: [
            ...(archiving ? [`BACKUP_WAL_DROP_PERCENT=${archiving.walDropThresholdPercent}`] : []),
            `POSTGRES_DB=${args.database}`,
            "POSTGRES_PASSWORD_FILE=/run/initial-password",
            "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale-provider=icu --icu-locale=en-US --locale=C.UTF-8 " +
              "--data-checksums --auth-host=scram-sha-256 --auth-local=peer",
          ],
          uploads: [{ file: "/run/initial-password", content: initialPassword.result }, ...archivingFiles()],
          volumes: [{ volumeName: volume.name, containerPath: "/var/lib/postgresql/data" }, ...shared],
          networkMode: "bridge",
          networksAdvanced: [{ name: network.name, aliases: [names.alias] }],
          ports: [{ internal: SERVER_PORT, external: args.port, ip: LOCAL, protocol: "tcp" }],
          labels,
          memory: args.memoryMiB,
          // No swap, which would only hide that the limit is too small.
          memorySwap: args.memoryMiB,
          // A quota instead of `cpus`, whose value reads back in another notation and would always differ.
          cpuPeriod: CPU_PERIOD,
          cpuQuota: args.cpus * CPU_PERIOD,
          shmSize: tuning.shmMiB,
          restart: "unless-stopped",
          stopSignal: "SIGINT",
          stopTimeout: STOP_SECONDS,
          destroyGraceSeconds: STOP_SECONDS,
          // Over TCP, because the server listens only on its Unix socket while the cluster is initialised.
          healthcheck: {
            tests: ["CMD-SHELL", `pg_isready -q -h 127.0.0.1 -U postgres -d ${args.database}`],
            ...HEALTH_PACE,
            // Engines before 25 (API 1.44) have no start interval, so one interval serves both phases.
            interval: host.knowsStartInterval.apply((knows) => (knows ? "15s" : "3s")),
            startInterval: host.knowsStartInterval.apply((knows) => (knows ? "1s" : undefined)),
          },
          mustRun: true,
          wait: false,
        },
        {
          ...onEngine,
          deleteBeforeReplace: true,
          replaceOnChanges: ["healthcheck"],
          hooks: clearBefore({
            kind: "container",
            name: names.container,
            state,
            dockerHost: args.dockerHost,
            isServer: true,
          }),
        },
      );
    }

    function archivingFiles() {
      if (!archiving) return [];
      const files = [configurationFile(archiving.configuration)];
      if (archiving.recover) files.push({ file: "/run/recover", content: `${archiving.recover.join("\n")}\n` });
      return files;
    }

    function waitUntilReady() {
      return new ServerReady(
        "ready",
        {
          container: names.container,
          containerId: container.id,
          host: LOCAL,
          port: args.port,
          database: args.database,
          password: password.result,
          passwordVersion: args.passwordVersion,
          dockerHost: args.dockerHost,
          ...(archiving?.recover ? { recovers: true } : {}),
        },
        { ...own, dependsOn: container, deletedWith: volume },
      );
    }
  }
}

/** Inputs of {@link HostCheck}. */
export interface HostCheckInputs {
  stack: string;
  container: string;
  volume: string;
  port: number;
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
