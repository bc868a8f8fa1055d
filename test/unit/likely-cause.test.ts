import { describe, expect, test } from "vitest";
import { likelyCause } from "../../components/server/likely-cause.ts";
import type { ContainerState } from "../../lib/docker.ts";

const exited = (more: Partial<ContainerState> = {}): ContainerState => ({
  status: "exited",
  exitCode: 1,
  restarts: 0,
  oomKilled: false,
  ...more,
});

const DISK = "the disk is full. Free some space (docker system df), then run pulumi up again";
const MEMORY = "the memory limit is too small for the settings. Raise it: pulumi config set memory 4096";
const CONFIGURATION = "the server's configuration has an error. Check images/database/config and its last change";
const KILLED = "it was killed, usually because the memory limit is too small. Raise it: pulumi config set memory 4096";
const HBA = "images/database/config/pg_hba.conf has an error";
const UNKNOWN = "unknown; see the container's last lines below";

describe("the likely cause of a stopped server", () => {
  test.each([
    [
      'FATAL:  could not write lock file "postmaster.pid": No space left on device\nLOG:  database system is shut down',
      DISK,
    ],
    [
      "FATAL: the data in this volume was made on debian 12, this image is alpine: text would be sorted by other\n" +
        "rules than its indexes were. Set baseImage to an image on debian 12, or reset the stack.",
      "the data was made on another operating system than this image. See baseImage",
    ],
    [
      "FATAL:  database files are incompatible with server\n" +
        "DETAIL:  The data directory was initialized by PostgreSQL version 14, which is not compatible with this version 15.14.",
      "the data volume was created by another major version of PostgreSQL. Use that version, or reset the stack",
    ],
    [
      "FATAL:  could not map anonymous shared memory: Cannot allocate memory\n" +
        "HINT:  This error usually means that PostgreSQL's request for a shared memory segment exceeded available memory",
      MEMORY,
    ],
    ["ERROR:  out of memory\nDETAIL:  Failed on request of size 1048576 in memory context", MEMORY],
    [
      'LOG:  unrecognized configuration parameter "shared_bufers" in file "/etc/postgresql/postgresql.conf" line 4\n' +
        'FATAL:  configuration file "/etc/postgresql/postgresql.conf" contains errors',
      CONFIGURATION,
    ],
    ['FATAL:  invalid value for parameter "wal_level": "lots"', CONFIGURATION],
    [
      'LOG:  syntax error in file "/etc/postgresql/postgresql.conf" line 12, near token "MB"\n' +
        'FATAL:  configuration file "/etc/postgresql/postgresql.conf" contains errors',
      CONFIGURATION,
    ],
    [
      'FATAL:  could not open file "/var/lib/postgresql/data/global/pg_control": Permission denied',
      "the data volume does not belong to the user that the server runs as",
    ],
    [
      'LOG:  invalid authentication method "scram"\n' +
        'CONTEXT:  line 5 of configuration file "/etc/postgresql/pg_hba.conf"\nFATAL:  could not load pg_hba.conf',
      HBA,
    ],
    ["FATAL:  could not load /etc/postgresql/pg_hba.conf", HBA],
    [
      'FATAL:  lock file "postmaster.pid" already exists\n' +
        'HINT:  Is another postmaster (PID 1) running in data directory "/var/lib/postgresql/data"?',
      "another server uses the same data volume. Stop it (docker ps --filter volume=...)",
    ],
    [
      "LOG:  invalid primary checkpoint record\nPANIC:  could not locate a valid checkpoint record",
      "the data is damaged. Restore a copy, or reset the stack",
    ],
    ["LOG:  database system is ready to accept connections", UNKNOWN],
    ["", UNKNOWN],
  ])("is read from: %s", (log, cause) => {
    expect(likelyCause(log, exited())).toBe(cause);
    expect(likelyCause(log)).toBe(cause);
  });

  test("is too little memory if the server was killed, whatever its log says", () => {
    expect(likelyCause("No space left on device", exited({ oomKilled: true }))).toBe(KILLED);
    expect(likelyCause("", exited({ exitCode: 137 }))).toBe(KILLED);
  });

  // PostgreSQL's message if another user owns the volume. It does not contain "permission denied".
  test("is the volume's owner if another user owns the data folder", () => {
    const log =
      'FATAL:  data directory "/var/lib/postgresql/data" has wrong ownership\n' +
      "HINT:  The server must be started by the user that owns the data directory.";
    expect(likelyCause(log, exited())).toBe("the data volume does not belong to the user that the server runs as");
  });

  // /dev/shm is full, so free space on the disk would not help.
  test("is not a full disk if shared memory is too small", () => {
    const log =
      'FATAL:  could not resize shared memory segment "/PostgreSQL.1804289383" to 8388608 bytes: No space left on device';
    expect(likelyCause(log, exited())).not.toBe(DISK);
  });

  // Every server with roles logs statements that it refused. They say nothing about the volume.
  test("is not the volume's owner if a statement was refused", () => {
    const log = "ERROR:  permission denied for table admin_credentials\nLOG:  received fast shutdown request";
    expect(likelyCause(log, exited())).toBe(UNKNOWN);
  });
});
