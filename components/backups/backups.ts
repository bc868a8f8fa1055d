/** Backups: a container beside the server that takes them when they are due, and proves them. */
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { ResourceOnDisk } from "../../lib/dynamic.ts";
import { type Archiving, configurationFile, type DatabaseServer } from "../server/database-server.ts";
import { clearBefore } from "../server/leftovers.ts";
import { namesFor } from "../server/naming.ts";
import type { Settings } from "../settings.ts";
import { configuration } from "./configuration.ts";
import { readIso } from "./exact-moment.ts";
import { BackupKey } from "./key.ts";
import { destroyNotice, OnDestroy } from "./on-destroy.ts";
import { readAccess } from "./s3.ts";

/** Enough for pgBackRest, and for a drill's server with its 64 MB of buffers. */
const MEMORY_MIB = 512;

/** Which server is backed up, and how. */
export interface BackupsArgs {
  settings: Settings;
  archiving: Archiving;
  server: DatabaseServer;
  /** The data must be in, and saved: the first backup is to have it, and would keep a save point waiting. */
  after: pulumi.Resource[];
}

/**
 * How a stack's server is to archive, made before the server: with the key, which exists once and outlives everything.
 * Undefined where the stack takes no backups.
 */
export function archivingFor(settings: Settings, opts?: pulumi.ComponentResourceOptions): Archiving | undefined {
  const { stack, backups, bootstrap, backupRecoverTo } = settings;
  if (backups === undefined) return undefined;
  const { key } = new BackupKey("backup-key", { stack, mustExist: bootstrap === "backup" }, opts);
  const access = backups.s3 && readAccess(backups.s3);
  return {
    configuration: key.apply((known) => configuration(backups, known, access)),
    folder: backups.folder,
    keepOnDestroy: backups.keepOnDestroy,
    giveUpAt: backups.giveUpAt,
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
    const { server, archiving } = args;
    const { stack, database, dockerHost, backups } = args.settings;
    const names = namesFor(stack);
    const repository = backups?.s3 ? `s3://${backups.s3.bucket}${backups.s3.path}` : archiving.folder;
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
          `BACKUP_FULL=${backups?.plans.full ?? ""}`,
          `BACKUP_DIFF=${backups?.plans.diff ?? ""}`,
          `BACKUP_DRILL=${backups?.plans.drill ?? ""}`,
          `BACKUP_GIVE_UP_AT=${archiving.giveUpAt}`,
        ],
        uploads: [configurationFile(archiving.configuration)],
        volumes: [
          { volumeName: server.volume.name, containerPath: "/var/lib/postgresql/data", readOnly: true },
          ...server.shared,
        ],
        // It talks to the server through its socket; the server of a drill listens on nothing but its own.
        ...(backups?.s3
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
      keepsData: args.settings.keepDataOnDestroy,
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
