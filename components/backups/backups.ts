/** The backups' container. It runs beside the server, takes scheduled backups, and verifies them with drills. */
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { namesFor } from "../../lib/naming.ts";
import { type Archiving, configurationFile, type DatabaseServer } from "../server/database-server.ts";
import { clearBefore } from "../server/leftovers.ts";
import { configuration } from "./configuration.ts";
import { readIso } from "./iso-time.ts";
import { BackupKey } from "./key.ts";
import { destroyNotice, OnDestroy } from "./on-destroy.ts";
import { readAccess } from "./s3.ts";
import type { BackupSettings } from "./settings.ts";

/** Enough for pgBackRest and for the scratch server of a drill, which has 64 MB of shared buffers. */
const MEMORY_MIB = 512;

/** Arguments of {@link Backups}. */
export interface BackupsArgs {
  /** The stack's name, from which the container's name is derived. */
  stack: string;
  /** Schedules, retention and repository. */
  settings: BackupSettings;
  /** How the server archives WAL, from {@link archivingFor}. */
  archiving: Archiving;
  /** The server that is backed up. */
  server: DatabaseServer;
  /** The database whose rows a drill compares. */
  database: string;
  /** Whether `pulumi destroy` keeps the data volume. {@link Backups.onDestroy} reports it. */
  keepsData: boolean;
  /** Docker engine; undefined for the environment's. */
  dockerHost: string | undefined;
  /** The data and its snapshot. The first backup must contain the data, and would delay the snapshot if both ran at once. */
  after: pulumi.Resource[];
}

/** Arguments of {@link archivingFor}. */
export interface ArchivingArgs {
  /** The stack's name, from which the name of the key file is derived. */
  stack: string;
  /** Retention and repository; undefined if the stack takes no backups. */
  backups: BackupSettings | undefined;
  /** The source of the data in a new volume. `backup` restores it from the repository. */
  bootstrap: string;
  /** The recovery target of a stack that is created from a backup: `latest`, or a time with its zone. */
  backupRecoverTo: string;
}

/**
 * Returns how a stack's server archives WAL; undefined if the stack takes no backups. It also creates the key, because the server's
 * configuration contains it. `pulumi destroy` does not delete the key file.
 */
export function archivingFor(args: ArchivingArgs, opts?: pulumi.ComponentResourceOptions): Archiving | undefined {
  const { stack, backups, bootstrap, backupRecoverTo } = args;
  if (backups === undefined) return undefined;
  const { key } = new BackupKey("backup-key", { stack, mustExist: bootstrap === "backup" }, opts);
  const access = backups.s3 && readAccess(backups.s3);
  return {
    configuration: key.apply((known) => configuration(backups, known, access)),
    folder: backups.folder,
    keepOnDestroy: backups.keepOnDestroy,
    walDropThresholdPercent: backups.walDropThresholdPercent,
    recover: bootstrap === "backup" ? recoverArguments(backupRecoverTo) : undefined,
  };
}

/**
 * Returns the arguments with which the image's script restores into a new stack's volume: `latest` or seconds since 1970, then the
 * arguments of pgBackRest.
 */
export function recoverArguments(to: string): string[] {
  if (to === "latest") return ["latest", "--type=default"];
  const at = readIso(to)?.at ?? new Date(Number.NaN);
  const target = at.toISOString().replace("T", " ").replace("Z", "+00");
  return [String(at.getTime() / 1000), "--type=time", `--target=${target}`, "--target-action=promote"];
}

/** The container that takes the backups, and the repository that they are stored in. */
export class Backups extends pulumi.ComponentResource {
  readonly containerName: string;
  /** What `pulumi destroy` deletes and keeps. */
  readonly onDestroy: string;

  constructor(name: string, args: BackupsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("sectorwars:backups:Backups", name, {}, opts);
    const { stack, settings, server, archiving, database, dockerHost } = args;
    const names = namesFor(stack);
    const repository = settings.s3 ? `s3://${settings.s3.bucket}${settings.s3.path}` : archiving.folder;
    const own = { parent: this };
    const engine = dockerHost ? new docker.Provider("backups-engine", { host: dockerHost }, own) : undefined;

    const container = new docker.Container(
      "backup-container",
      {
        name: names.backups,
        image: server.imageId,
        entrypoints: ["sectorwars-backup"],
        command: ["serve"],
        init: true,
        envs: [
          `BACKUP_DATABASE=${database}`,
          `BACKUP_FULL=${settings.schedules.full}`,
          `BACKUP_DIFF=${settings.schedules.diff}`,
          `BACKUP_DRILL=${settings.schedules.drill}`,
          `BACKUP_WAL_DROP_PERCENT=${archiving.walDropThresholdPercent}`,
        ],
        uploads: [configurationFile(archiving.configuration)],
        volumes: [
          { volumeName: server.volume.name, containerPath: "/var/lib/postgresql/data", readOnly: true },
          ...server.shared,
        ],
        // It connects through the server's Unix socket, and a drill's scratch server listens on a Unix socket only. So the container
        // needs the network only to reach an S3 store.
        ...(settings.s3
          ? { networkMode: "bridge", networksAdvanced: [{ name: server.networkName }] }
          : { networkMode: "none" }),
        labels: server.labels,
        memory: MEMORY_MIB,
        memorySwap: MEMORY_MIB,
        restart: "unless-stopped",
        destroyGraceSeconds: 10,
        mustRun: true,
        wait: false,
      },
      {
        ...own,
        provider: engine,
        deleteBeforeReplace: true,
        dependsOn: args.after,
        hooks: clearBefore({ kind: "container", name: names.backups, state: server.state, dockerHost }),
      },
    );

    new BackupRepository(
      "begun",
      {
        container: names.backups,
        containerId: container.id,
        server: server.containerName,
        folder: repository,
        keep: archiving.keepOnDestroy,
        dockerHost,
      },
      { ...own, dependsOn: container },
    );
    this.containerName = names.backups;
    this.onDestroy = destroyNotice({
      dataVolume: names.volume,
      keepsData: args.keepsData,
      repository: repository ?? names.backupVolume,
      keepsBackups: repository !== undefined || archiving.keepOnDestroy,
    });
    new OnDestroy(this.onDestroy, own);
    this.registerOutputs({ containerName: this.containerName });
  }
}

/** Inputs of {@link BackupRepository}. */
export interface BackupRepositoryInputs {
  container: string;
  containerId: string;
  /** The database's container. */
  server: string;
  /** The repository's folder or S3 URL; undefined for a volume of the stack. */
  folder: string | undefined;
  keep: boolean;
  dockerHost: string | undefined;
}

/** The backups' repository. Stacks have the type and the module's path in their state, so both keep their former names. */
class BackupRepository extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("backups:BackupsBegun", "components/backups/begun-provider.ts", name, inputs, ["fingerprint"], opts);
  }
}
