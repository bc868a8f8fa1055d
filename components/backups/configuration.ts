/** pgBackRest's configuration file, the same in every container that reads or writes the repository. */

import { REPOSITORY } from "../../lib/backup-paths.ts";
import { authorityLines, type S3Access, s3Options } from "./s3.ts";
import type { BackupSettings } from "./settings.ts";

/**
 * The file's text. It holds the key, so it is a secret as a whole.
 *
 * archive-push-queue-max is left out on purpose: it drops WAL and counts it as archived.
 * @param key what the repository is encrypted by.
 * @param access to the store, where one has the repository.
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
      // Small files together: a database has thousands, and a folder may lie on a slow file system.
      "repo1-bundle": "y",
      "repo1-cipher-type": "aes-256-cbc",
      "repo1-cipher-pass": key,
      ...retention,
      "compress-type": settings.compression,
      // The fastest of both. Of zstd's levels, the third makes what is in a database no smaller, and takes a third longer.
      "compress-level": 1,
      // A backup that waits for the next checkpoint may wait a quarter of an hour.
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
