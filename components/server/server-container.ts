/** The server's container. */
import { readFileSync } from "node:fs";
import type * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";
import { ARCHIVE_SETTINGS, type Archiving, archivingFiles } from "./archiving.ts";
import { type CertificateAuthority, TLS_ENTRYPOINT, TLS_PARAMETERS, tlsFiles } from "./certificates.ts";
import { asArguments, type Limits, type Tuning, tune } from "./tuning.ts";

type ContainerVolume = docker.types.input.ContainerVolume;

/** The port inside the container and the network. */
export const SERVER_PORT = 5432;
/** Where the data volume is mounted. */
export const DATA_PATH = "/var/lib/postgresql/data";
/** Seconds that a stopping server has to write its last checkpoint before Docker kills it. */
export const STOP_SECONDS = 120;
/** Settings in addition to those of the image. */
const PRODUCTION_CONF = "/run/production.conf";
const PRODUCTION_SOURCE = "images/uploads/production.conf";
/** The period of the CPU quota in microseconds. A quota of twice the period is two CPUs. */
const CPU_PERIOD = 100_000;
/** A server that recovers from a crash has a minute before failures count. Six consecutive failures make it unhealthy. */
export const HEALTH_PACE = { timeout: "5s", retries: 6, startPeriod: "1m0s" };

/** Arguments of {@link containerOf}. */
export interface ServerContainerArgs {
  /** The container's name in Docker. */
  container: string;
  /** The id of the image that it runs. */
  image: pulumi.Input<string>;
  /** Name of the database that is created with the cluster. */
  database: string;
  /** The address and the port on which the server's port is published. */
  published: { host: string; port: number };
  /** The network's name, and the server's name inside it. */
  network: { name: pulumi.Input<string>; alias: string };
  /** The container's limits, from which PostgreSQL's settings are derived. */
  limits: Limits;
  /** The volume with the data, and the mounts that the server shares with the backups' container. */
  volumes: { data: pulumi.Input<string>; shared: ContainerVolume[] };
  /** Labels of the container. */
  labels: docker.types.input.ContainerLabel[];
  /** The superuser's password while the cluster is initialised. */
  initialPassword: pulumi.Input<string>;
  /** How WAL is archived; undefined if it is not. */
  archiving: Archiving | undefined;
  /** Whether the server also logs what images/uploads/production.conf adds. */
  logsForProduction: boolean;
  /** The authority of a server with TLS. */
  authority: CertificateAuthority | undefined;
  /** Whether the engine supports a separate health check interval during the start. */
  knowsStartInterval: pulumi.Output<boolean>;
}

/** Returns the arguments of the server's container. */
export function containerOf(args: ServerContainerArgs): docker.ContainerArgs {
  const { archiving, authority, database, limits, logsForProduction, network, published, volumes } = args;
  const tuning = tune(limits);
  return {
    name: args.container,
    image: args.image,
    ...(authority ? { entrypoints: TLS_ENTRYPOINT } : {}),
    command: commandOf(
      {
        ...tuning.settings,
        ...(authority ? TLS_PARAMETERS : {}),
        ...(logsForProduction ? { config_file: PRODUCTION_CONF } : {}),
      },
      archiving,
    ),
    // With init, orphaned processes of the archive command do not become children of the server, which would take their exit for a crash.
    ...(archiving ? { init: true } : {}),
    envs: environmentOf(database, archiving),
    uploads: [
      { file: "/run/initial-password", content: args.initialPassword },
      ...(archiving ? archivingFiles(archiving) : []),
      ...(authority ? tlsFiles(authority) : []),
      ...(logsForProduction ? [{ file: PRODUCTION_CONF, content: readFileSync(PRODUCTION_SOURCE, "utf8") }] : []),
    ],
    volumes: [{ volumeName: volumes.data, containerPath: DATA_PATH }, ...volumes.shared],
    networkMode: "bridge",
    networksAdvanced: [{ name: network.name, aliases: [network.alias] }],
    ports: [{ internal: SERVER_PORT, external: published.port, ip: published.host, protocol: "tcp" }],
    labels: args.labels,
    ...limitsOf(limits, tuning),
    restart: "unless-stopped",
    stopSignal: "SIGINT",
    stopTimeout: STOP_SECONDS,
    destroyGraceSeconds: STOP_SECONDS,
    healthcheck: healthcheckOf(database, args.knowsStartInterval),
    mustRun: true,
    wait: false,
  };
}

/** Returns the container's limits. */
export const limitsOf = ({ memoryMiB, cpus }: Limits, { shmMiB }: Tuning) => ({
  memory: memoryMiB,
  // No swap, which would only hide that the limit is too small.
  memorySwap: memoryMiB,
  // A quota instead of `cpus`, whose value reads back in another notation and would always differ.
  cpuPeriod: CPU_PERIOD,
  cpuQuota: cpus * CPU_PERIOD,
  shmSize: shmMiB,
});

/** Returns the server's command line. */
export const commandOf = (settings: Record<string, string>, archiving: Archiving | undefined): string[] => [
  "postgres",
  ...asArguments({
    config_file: "/etc/postgresql/postgresql.conf",
    hba_file: "/etc/postgresql/pg_hba.conf",
    ...settings,
    ...(archiving ? ARCHIVE_SETTINGS : {}),
  }),
];

const environmentOf = (database: string, archiving: Archiving | undefined): string[] => [
  ...(archiving ? [`BACKUP_WAL_DROP_PERCENT=${archiving.walDropThresholdPercent}`] : []),
  `POSTGRES_DB=${database}`,
  "POSTGRES_PASSWORD_FILE=/run/initial-password",
  "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale-provider=icu --icu-locale=en-US --locale=C.UTF-8 " +
    "--data-checksums --auth-host=scram-sha-256 --auth-local=peer",
];

/** Returns a check over TCP, because the server listens only on its Unix socket while the cluster is initialised. */
const healthcheckOf = (database: string, knowsStartInterval: pulumi.Output<boolean>) => ({
  tests: ["CMD-SHELL", `pg_isready -q -h 127.0.0.1 -U postgres -d ${database}`],
  ...HEALTH_PACE,
  // Engines before 25 (API 1.44) have no start interval, so one interval serves both phases.
  interval: knowsStartInterval.apply((knows) => (knows ? "15s" : "3s")),
  startInterval: knowsStartInterval.apply((knows) => (knows ? "1s" : undefined)),
});
