/** What the server needs to archive WAL. */
import type * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";

type ContainerUpload = docker.types.input.ContainerUpload;

/** How a server archives WAL to a pgBackRest repository. */
export interface Archiving {
  /** pgBackRest's configuration, which contains the repository's key. */
  readonly configuration: pulumi.Input<string>;
  /** The host folder of the repository; undefined for a volume of the stack. */
  readonly folder: string | undefined;
  /** Whether `pulumi destroy` keeps the volume with the backups. */
  readonly keepOnDestroy: boolean;
  /** Disk usage in per cent at which the server drops WAL that it cannot archive. */
  readonly walDropThresholdPercent: number;
  /** The recovery of an empty volume, in the lines that the image's script reads; undefined to create a new cluster. */
  readonly recover: readonly string[] | undefined;
}

/**
 * A WAL file is archived when its 16 MB are full, and after a minute at the latest. So the loss of the machine costs at most the changes
 * of the last minute.
 */
export const ARCHIVE_SETTINGS = {
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

/** Returns the files that a server needs to archive WAL, and to restore an empty volume. */
export function archivingFiles({ configuration, recover }: Archiving): ContainerUpload[] {
  const files = [configurationFile(configuration)];
  if (recover) files.push({ file: "/run/recover", content: `${recover.join("\n")}\n` });
  return files;
}
