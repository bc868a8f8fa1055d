/** pgBackRest's configuration file. It is the same in every container that reads or writes the repository. */

import { REPOSITORY } from "../../lib/backup-paths.ts";
import { authorityLines, type S3Access, s3Options } from "./s3.ts";
import type { BackupSettings } from "./settings.ts";

/**
 * Returns the file's text. It contains the key, so all of it is a secret.
 *
 * archive-push-queue-max is deliberately not set: it drops WAL and reports it as archived.
 * @param key the passphrase that encrypts the repository.
 * @param access the credentials of the S3 store, if the repository is in one.
 */
export function configuration(settings: BackupSettings, key: string, access?: S3Access): string {
  const retention =
    settings.keepDays > 0
      ? { "repo1-retention-full-type": "time", "repo1-retention-full": settings.keepDays }
      : { "repo1-retention-full-type": "count", "repo1-retention-full": settings.keepFulls };
  const place = settings.s3 && access ? s3Options(settings.s3, access) : { "repo1-path": REPOSITORY };
  return [
    access ? authorityLines(access) : "",
    section("global", {
      ...place,
      // Bundles small files: a database has thousands, and the repository may be on a slow file system.
      "repo1-bundle": "y",
      "repo1-cipher-type": "aes-256-cbc",
      "repo1-cipher-pass": key,
      ...retention,
      "compress-type": settings.compression,
      // The fastest level of both algorithms. Level 3 of zstd compresses a database no better, and takes a third longer.
      "compress-level": 1,
      // Without it a backup waits for the next scheduled checkpoint, up to 15 minutes.
      "start-fast": "y",
      "archive-async": "y",
      "archive-timeout": 60,
      "spool-path": "/var/spool/pgbackrest",
      "lock-path": "/run/pgbackrest",
      "log-level-file": "off",
      "log-level-console": "warn",
      "process-max": 2,
    }),
    section("global:archive-push", { "process-max": 1 }),
    section("main", {
      "pg1-path": "/var/lib/postgresql/data/pgdata",
      "pg1-socket-path": "/var/run/postgresql",
      "pg1-user": "postgres",
    }),
  ]
    .filter(Boolean)
    .join("\n");
}

const section = (name: string, options: Record<string, string | number>) =>
  `[${name}]\n${Object.entries(options)
    .map(([option, value]) => `${option}=${value}\n`)
    .join("")}`;
