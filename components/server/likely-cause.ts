/** Recognises causes of failure in a server's last log lines. */
import type { ContainerState } from "../../lib/docker.ts";

/** Patterns of log lines, each with the cause and the remedy. The first match is reported. */
const CAUSES: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /shared memory.*no space left on device/i,
    "/dev/shm is too small for parallel queries. Its size depends on the memory limit. Raise it: pulumi config set memory 4096",
  ],
  [/no space left on device/i, "the disk is full. Free some space (docker system df), then run pulumi up again"],
  [/made on .* this image is/i, "the data was made on another operating system than this image. See baseImage"],
  [
    /database files are incompatible with server|initialized by PostgreSQL version/i,
    "the data volume was created by another major version of PostgreSQL. Use that version, or reset the stack",
  ],
  [
    /could not map anonymous shared memory|cannot allocate memory|out of memory/i,
    "the memory limit is too small for the settings. Raise it: pulumi config set memory 4096",
  ],
  [
    /data could not be restored from the repository|recovery ended before configured recovery target/i,
    "the backups do not reach the recovery target. Check the repository, the key (docs/recovery.md) and backupRecoverTo. The lines " +
      "below are from pgBackRest and PostgreSQL",
  ],
  [
    /unrecognized configuration parameter|invalid value for parameter|syntax error in file/i,
    "the server's configuration has an error. Check images/database/config and its last change",
  ],
  [
    /(FATAL|could not open|cannot|can't).*permission denied|has wrong ownership/i,
    "the data volume does not belong to the user that the server runs as",
  ],
  [/pg_hba\.conf.*(error|failed)|could not load .*pg_hba/i, "images/database/config/pg_hba.conf has an error"],
  [
    /lock file "postmaster\.pid" already exists|is another postmaster/i,
    "another server uses the same data volume. Stop it (docker ps --filter volume=...)",
  ],
  [
    /invalid checkpoint record|could not locate a valid checkpoint/i,
    "the data is damaged. Restore a copy, or reset the stack",
  ],
];

/** Returns the likely reason why the server in the container did not start. */
export function likelyCause(log: string, state?: ContainerState): string {
  if (state?.oomKilled || state?.exitCode === 137) {
    return "it was killed, usually because the memory limit is too small. Raise it: pulumi config set memory 4096";
  }
  return CAUSES.find(([said]) => said.test(log))?.[1] ?? "unknown; see the container's last lines below";
}
