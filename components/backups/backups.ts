/** Backups: a container beside the server that takes them when they are due, and proves them. */
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { namesFor } from "../../lib/naming.ts";
import { type Archiving, configurationFile, type DatabaseServer } from "../server/database-server.ts";
import { clearBefore } from "../server/leftovers.ts";
import { configuration } from "./configuration.ts";
import { readIso } from "./exact-moment.ts";
import { BackupKey } from "./key.ts";
import { destroyNotice, OnDestroy } from "./on-destroy.ts";
import { readAccess } from "./s3.ts";
import type { BackupSettings } from "./settings.ts";

/** Enough for pgBackRest, and for a drill's server with its 64 MB of buffers. */
const MEMORY_MIB = 512;

/** Arguments of {@link Backups}. */
export interface BackupsArgs {
  /** The stack's name; the container's name follows from it. */
  stack: string;
  /** What is kept, and when backups are taken. */
  settings: BackupSettings;
  /** How the server archives: from {@link archivingFor}. */
  archiving: Archiving;
  /** The server that is backed up. */
  server: DatabaseServer;
  /** The server's database that the drill compares. */
  database: string;
  /** Whether `pulumi destroy` keeps the data volume; it decides what {@link Backups.onDestroy} says. */
  keepsData: boolean;
  /** Docker engine, where it is not the environment's. */
  dockerHost: string | undefined;
  /** The data must be in, and saved: the first backup is to have it, and would keep a save point waiting. */
  after: pulumi.Resource[];
}

/** Arguments of {@link archivingFor}. */
export interface ArchivingArgs {
  /** The stack's name; the key's file follows from it. */
  stack: string;
  /** What is kept, and where; undefined where the stack takes no backups. */
  backups: BackupSettings | undefined;
  /** Where the data of a new volume comes from: `backup` restores it from the repository. */
  bootstrap: string;
  /** The recovery target of a stack that begins from a backup: `latest`, or a time with its zone. */
  backupRecoverTo: string;
}

/**
 * Returns how a stack's server archives; undefined where the stack takes no backups. The key is made here, before the server. It exists
 * once, and outlives everything.
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
 * What the image's script reads when it fills a new stack's volume: `latest` or seconds since 1970, then pgBackRest's
 * arguments.
 */
export function recoverArguments(to: string): string[] {
  if (to === "latest") return ["latest", "--type=default"];
  const at = readIso(to)?.at ?? new Date(Number.NaN);
  const target = at.toISOString().replace("T", " ").replace("Z", "+00");
  return [String(at.getTime() / 1000), "--type=time", `--target=${target}`, "--target-action=promote"];
}

/** The container that takes the backups, and the beginning of its work. */
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
          `BACKUP_FULL=${settings.plans.full}`,
          `BACKUP_DIFF=${settings.plans.diff}`,
          `BACKUP_DRILL=${settings.plans.drill}`,
          `BACKUP_WAL_DROP_PERCENT=${archiving.walDropThresholdPercent}`,
        ],
        uploads: [configurationFile(archiving.configuration)],
        volumes: [
          { volumeName: server.volume.name, containerPath: "/var/lib/postgresql/data", readOnly: true },
          ...server.shared,
        ],
        // It talks to the server through its socket; the server of a drill listens on nothing but its own.
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

    new BackupsBegun(
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

/** Inputs of {@link BackupsBegun}. */
export interface BackupsBegunInputs {
  container: string;
  containerId: string;
  /** The database's container. */
  server: string;
  /** Where the repository lies; undefined is a volume of the stack's. */
  folder: string | undefined;
  keep: boolean;
  dockerHost: string | undefined;
}

class BackupsBegun extends ResourceOnDisk {
  constructor(name: string, inputs: pulumi.Inputs, opts: pulumi.CustomResourceOptions) {
    super("backups:BackupsBegun", "components/backups/begun-provider.ts", name, inputs, ["fingerprint"], opts);
  }
}
