/** The PostgreSQL server in Docker: network, data volume, image, container, and the moment it can be used. */
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
/** Where the server is reached from this machine. Nothing is published on other interfaces. */
const LOCAL = "127.0.0.1";
/** Seconds that a stopping server gets to write its last checkpoint before Docker kills it. */
const STOP_SECONDS = 120;
/** Length of the scheduler's period, microseconds; a quota of twice as many is two CPUs. */
const CPU_PERIOD = 100_000;
/** A server that recovers after a crash may take its time; one that fails six times in a row is ill. */
const HEALTH_PACE = { timeout: "5s", retries: 6, startPeriod: "1m0s" };

/**
 * Every change goes to the repository: as soon as 16 MB are full, or after a minute. What is lost with the machine is what
 * was written since then.
 */
const ARCHIVE_SETTINGS = {
  archive_mode: "on",
  archive_command: "sectorwars-backup pgbackrest-push %p",
  archive_timeout: "60s",
};

/** pgBackRest's configuration as a container gets it: root's alone; the image's script hands it to the server's user. */
export const configurationFile = (content: pulumi.Input<string>): ContainerUpload => ({
  file: "/run/pgbackrest.conf",
  content,
  permissions: "0600",
});

type ContainerVolume = docker.types.input.ContainerVolume;
type ContainerLabel = docker.types.input.ContainerLabel;
type ContainerUpload = docker.types.input.ContainerUpload;

/** What the server is to be. */
export interface DatabaseServerArgs {
  /** The stack's name; the Docker objects' names follow from it. */
  stack: string;
  /** PostgreSQL 15 image to build on. */
  baseImage: string;
  /** Name of the database that is made with the cluster. */
  database: string;
  /** Port on 127.0.0.1. */
  port: number;
  /** Memory limit, MiB. */
  memoryMiB: number;
  cpus: number;
  maxConnections: number;
  /** The superuser gets a new password when this number is raised. */
  passwordVersion: number;
  /** Whether destroying the stack leaves the volume with the data. */
  keepData: boolean;
  /** Docker engine, where it is not the environment's. */
  dockerHost: string | undefined;
  /** Whether the settings name the engine; otherwise it is the one that the docker command uses. */
  dockerHostIsSet: boolean;
  /** How its write-ahead log is archived; undefined where it is not. */
  archiving?: Archiving | undefined;
}

/** What the server needs for keeping every change in a repository of pgBackRest's. */
export interface Archiving {
  /** pgBackRest's configuration; it holds the repository's key. */
  configuration: pulumi.Input<string>;
  /** The host folder that holds the repository; undefined is a volume of the stack's. */
  folder: string | undefined;
  /** Whether destroying the stack leaves the volume with the backups. */
  keepOnDestroy: boolean;
  /** Per cent of the disk in use at which WAL that cannot be archived is given up. */
  walDropThresholdPercent: number;
  /** To what an empty volume is recovered, line by line as the image's script reads it; undefined where a new cluster is made. */
  recover: readonly string[] | undefined;
}

/** A PostgreSQL server that can be used: whoever depends on `ready` finds it answering over TCP. */
export class DatabaseServer extends pulumi.ComponentResource {
  readonly host = LOCAL;
  readonly port: number;
  readonly containerName: string;
  readonly networkName: pulumi.Output<string>;
  /** The built image; it has pg_dump and psql of the server's version. */
  readonly imageId: pulumi.Output<string>;
  /** The same image's name, for those who start containers without Pulumi. */
  readonly imageName: string;
  /** The server's name inside the network. */
  readonly alias: string;
  readonly superuser = "postgres";
  readonly superuserPassword: pulumi.Output<string>;
  /** The server's version, for instance 15.14. */
  readonly version: pulumi.Output<string>;
  readonly volume: docker.Volume;
  /** The engine's provider, where it is not the environment's engine. */
  readonly engine: docker.Provider | undefined;
  /** What the backups' container shares with the server's: the repository and the socket. */
  readonly shared: ContainerVolume[];
  /** Labels of what belongs to this stack's state. */
  readonly labels: ContainerLabel[];
  /** The state's identity, a label's value. */
  readonly state: pulumi.Output<string>;
  readonly ready: pulumi.Resource;

  constructor(name: string, args: DatabaseServerArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:server:DatabaseServer", name, {}, opts);
    const names = namesFor(args.stack);
    const own = { parent: this };
    // In the state before anything is made in Docker, and lost with the state: what carries it is recorded there, or a leftover.
    const state = new RandomId("state", { byteLength: 8 }, own).hex;
    const labels = [stackLabel(args.stack), stateLabel(state)];
    const volumeLabels = [stackLabel(args.stack)];
    // Everything of this server lives on one engine, wherever the environment's is.
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

    /** What would make Docker fail half-way, found out first and said in full. */
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
          // Only another engine can lack it: on this one, script/bootstrap has just made or found it.
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
          // Another label is no reason to cut off the application's services that are on it.
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
          // Losing this resource is losing the data: a change of labels is not worth it.
          ignoreChanges: ["labels", "driverOpts"],
        },
      );
    }

    /** The backups' volume also holds what is known of them, so it is there even where they lie in a folder. */
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
        // Where SELinux is enforced, containers may only use host folders with a label of theirs; without SELinux it does nothing.
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
     * The server is born with one password, from a file, which never changes (a container's files cannot change without
     * replacing it). The one in use is set when the server is ready, and may change as often as wanted.
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
          // Whatever archiving leaves behind must not become the server's child: it would take its end for a crash.
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
          // Swapping would only hide that the limit is too small.
          memorySwap: args.memoryMiB,
          // As a quota: `cpus` is a text that reads back in another spelling and would differ for ever.
          cpuPeriod: CPU_PERIOD,
          cpuQuota: args.cpus * CPU_PERIOD,
          shmSize: tuning.shmMiB,
          restart: "unless-stopped",
          stopSignal: "SIGINT",
          stopTimeout: STOP_SECONDS,
          destroyGraceSeconds: STOP_SECONDS,
          // Over TCP: while the cluster is being made, the server listens on its socket only, and is not to be used yet.
          healthcheck: {
            tests: ["CMD-SHELL", `pg_isready -q -h 127.0.0.1 -U postgres -d ${args.database}`],
            ...HEALTH_PACE,
            // Engines before 25 (API 1.44) know one pace only; a middling one serves start and life.
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
  /** The same, where it has to be on the engine, or in a registry; not looked for, if left out. */
  baseImage?: string;
}

class HostCheck extends ResourceOnDisk {
  /** Whether the engine can check a starting container's health at another pace than a running one's. */
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
  /** Whether an empty volume is filled from backups, which takes as long as it takes. */
  recovers?: boolean;
}

class ServerReady extends ResourceOnDisk {
  declare readonly version: pulumi.Output<string>;

  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("server:ServerReady", "components/server/readiness.ts", name, inputs, ["version", "fingerprint"], opts);
  }
}
