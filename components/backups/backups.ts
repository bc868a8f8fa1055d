/** The backups' container. It runs beside the server, takes scheduled backups, and verifies them with drills. */
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { childOf } from "../../lib/child.ts";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { namesFor } from "../../lib/naming.ts";
import { type Archiving, configurationFile } from "../server/archiving.ts";
import type { DatabaseServer } from "../server/database-server.ts";
import { clearBefore } from "../server/leftovers.ts";
import { DATA_PATH } from "../server/server-container.ts";
import { configuration } from "./configuration.ts";
import { readIso } from "./iso-time.ts";
import { BackupKey } from "./key.ts";
import { destroyNotice, OnDestroy } from "./on-destroy.ts";
import { readAccess, type S3Access } from "./s3.ts";
import type { BackupSettings } from "./settings.ts";

/** Enough for pgBackRest and for the scratch server of a drill, which has 64 MB of shared buffers. */
const MEMORY_MIB = 512;

/** Arguments of {@link Backups}. */
export interface BackupsArgs {
  /** The server that is backed up. */
  server: DatabaseServer;
  /** How the server archives WAL, from {@link archivingFor}. */
  archiving: Archiving;
  /** Schedules, retention and repository. */
  settings: BackupSettings;
}

/** Arguments of {@link archivingFor}. */
export interface ArchivingArgs {
  /** The stack's name, from which the name of the key file is derived. */
  stack: string;
  /** The source of the data in a new volume. `backup` restores it from the repository. */
  bootstrap: string;
  /** Retention and repository. */
  settings: BackupSettings;
}

/**
 * Returns how a stack's server archives WAL. It also creates the key, because the server's
 * configuration contains it. `pulumi destroy` does not delete the key file.
 * @throws {pulumi.ResourceError} if the files for the S3 store cannot be used.
 */
export function archivingFor(args: ArchivingArgs, opts?: pulumi.CustomResourceOptions): Archiving {
  const { stack, bootstrap, settings } = args;
  const key = new BackupKey("backup-key", { stack, mustExist: bootstrap === "backup" }, opts);
  const access = accessTo(settings, key);
  return {
    configuration: key.key.apply((known) => configuration(settings, known, access)),
    folder: settings.folder,
    keepOnDestroy: settings.keepOnDestroy,
    walDropThresholdPercent: settings.walDropThresholdPercent,
    recover: bootstrap === "backup" ? recoverArguments(settings.recoverTo) : undefined,
  };
}

/** Reads the access to the S3 store, if the backups are in one. */
function accessTo({ s3 }: BackupSettings, resource: pulumi.Resource): S3Access | undefined {
  try {
    return s3 && readAccess(s3);
  } catch (error) {
    throw new pulumi.ResourceError((error as Error).message, resource, true);
  }
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

/**
 * The container that takes the backups, and the repository that they are stored in. `dependsOn` names the data and its snapshot: the first
 * backup must contain the data, and would delay the snapshot if both ran at once. The notice about `pulumi destroy` does not wait for them,
 * so that it is in the state even if the data never arrives.
 */
export class Backups extends pulumi.ComponentResource {
  readonly containerName: string;
  /** What `pulumi destroy` deletes and keeps. */
  readonly onDestroy: string;

  constructor(name: string, args: BackupsArgs, opts: pulumi.ComponentResourceOptions = {}) {
    const { dependsOn, ...ownOptions } = opts;
    super("sectorwars:backups:Backups", name, {}, ownOptions);
    const { server, settings, archiving } = args;
    const names = namesFor(server.stack);
    const repository = settings.s3 ? `s3://${settings.s3.bucket}${settings.s3.path}` : archiving.folder;
    const container = new docker.Container(`${name}-container`, containerOf(names.backups, args), {
      ...childOf(this, "backup-container"),
      deleteBeforeReplace: true,
      dependsOn,
      hooks: clearBefore({
        kind: "container",
        name: names.backups,
        state: server.state,
        dockerHost: server.dockerHost,
      }),
    });
    new BackupRepository(
      `${name}-repository`,
      {
        container: names.backups,
        containerId: container.id,
        server: server.containerName,
        folder: repository,
        keep: archiving.keepOnDestroy,
        dockerHost: server.dockerHost,
      },
      { ...childOf(this, "begun"), dependsOn: container },
    );
    this.containerName = names.backups;
    this.onDestroy = destroyNotice({
      dataVolume: names.volume,
      keepsData: server.keepsData,
      repository: repository ?? names.backupVolume,
      keepsBackups: repository !== undefined || archiving.keepOnDestroy,
    });
    new OnDestroy(this.onDestroy, { parent: this });
    this.registerOutputs({ containerName: this.containerName });
  }
}

/** Returns the arguments of the backups' container. */
function containerOf(container: string, { server, archiving, settings }: BackupsArgs): docker.ContainerArgs {
  return {
    name: container,
    image: server.imageId,
    entrypoints: ["sectorwars-backup"],
    command: ["serve"],
    init: true,
    envs: [
      `BACKUP_DATABASE=${server.database}`,
      `BACKUP_FULL=${settings.schedules.full}`,
      `BACKUP_DIFF=${settings.schedules.diff}`,
      `BACKUP_DRILL=${settings.schedules.drill}`,
      `BACKUP_WAL_DROP_PERCENT=${archiving.walDropThresholdPercent}`,
    ],
    uploads: [configurationFile(archiving.configuration)],
    volumes: [{ volumeName: server.volume.name, containerPath: DATA_PATH, readOnly: true }, ...server.shared],
    // It connects through the server's Unix socket, and a drill's scratch server listens on a Unix socket only. So the container needs the
    // network only to reach an S3 store.
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
  };
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
