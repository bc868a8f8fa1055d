/** Reads a server's last lines as somebody who has seen them before. */
import type { ContainerState } from "../../lib/docker.ts";

/** What the log says, and what it means with the way out. The first that fits is told. */
const CAUSES: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /shared memory.*no space left on device/i,
    "/dev/shm is too small for parallel work; it follows the memory limit. Raise it: pulumi config set memory 4096",
  ],
  [/no space left on device/i, "the disk is full. Free some space (docker system df), then run pulumi up again"],
  [/made on .* this image is/i, "the data was made on another operating system than this image. See baseImage"],
  [
    /database files are incompatible with server|initialized by PostgreSQL version/i,
    "the data volume was made by another major version of PostgreSQL. Go back to that version, or reset the stack",
  ],
  [
    /could not map anonymous shared memory|cannot allocate memory|out of memory/i,
    "there is too little memory for the settings. Raise it: pulumi config set memory 4096",
  ],
  [
    /data could not be restored from the repository|recovery ended before configured recovery target/i,
    "the backups do not lead to what was asked for: is it the right repository, key (docs/recovery.md) and backupRecoverTo? " +
      "The lines below tell what pgBackRest and PostgreSQL found",
  ],
  [
    /unrecognized configuration parameter|invalid value for parameter|syntax error in file/i,
    "the configuration has an error. Look at images/database/config and the last change to it",
  ],
  [
    /(FATAL|could not open|cannot|can't).*permission denied|has wrong ownership/i,
    "the data volume belongs to another user than the server runs as",
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

/** A sentence for people: why the server in the container did not come up. */
export function likelyCause(log: string, state?: ContainerState): string {
  if (state?.oomKilled || state?.exitCode === 137) {
    return "it was killed, most often for lack of memory. Raise the limit: pulumi config set memory 4096";
  }
  return CAUSES.find(([said]) => said.test(log))?.[1] ?? "not known; the container's lines below may tell";
}
