/** Settings of the backups. */
import { dirname, join } from "node:path";
import { defaultIdentityFile } from "../../lib/identity-file.ts";
import { flag, number, oneOf, rule, text, type ValuesOf, whole } from "../../lib/setting.ts";
import { isExactTime } from "./iso-time.ts";
import { SCHEDULE_RULE, scheduleOf } from "./schedule.ts";

/** An S3-compatible store. */
export interface S3Settings {
  readonly bucket: string;
  /** The folder in the bucket, absolute. */
  readonly path: string;
  readonly host: string;
  readonly port: number;
  readonly region: string;
  /** File with the certificate of the authority that signed the store's; undefined for a public authority. */
  readonly authorityFile: string | undefined;
  /** File with the access key and its secret. */
  readonly credentialsFile: string;
}

/** Repository, schedules and retention. */
export interface BackupSettings {
  /** The host folder of the repository; undefined for a store or a volume of the stack. */
  readonly folder: string | undefined;
  /** The store of the repository; undefined for a folder or a volume. */
  readonly s3: S3Settings | undefined;
  /** Schedules of backups and drills, in the form that the image's due.awk reads; empty for never. */
  readonly schedules: { readonly full: string; readonly diff: string; readonly drill: string };
  /** How backups are compressed. */
  readonly compression: "zst" | "lz4";
  /** Days within which any point in time can be restored; with 0, {@link keepFulls} counts instead. */
  readonly keepDays: number;
  /** The number of full backups to keep, if keepDays is 0. */
  readonly keepFulls: number;
  /** Disk usage in per cent at which the server drops WAL that it cannot archive. */
  readonly walDropThresholdPercent: number;
  /** Whether `pulumi destroy` keeps the volume with the backups. */
  readonly keepOnDestroy: boolean;
  /** The recovery target of a stack that is created from a backup: `latest`, or a time with its zone. */
  readonly recoverTo: string;
}

/** A bucket's name by Amazon's rules, and at least one folder, because the bucket's root may contain other files. */
const S3_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/[\w./-]*\w)$/;
const S3_ENDPOINT = /^([A-Za-z0-9.-]+)(?::(\d{1,5}))?$/;

const PLAN = rule<string>((expression) => {
  try {
    scheduleOf(expression);
    return true;
  } catch {
    return false;
  }
}, SCHEDULE_RULE);

export const BACKUP_SETTINGS = {
  backups: text(oneOf("auto", "true", "false")),
  backupRepository: text(
    rule(
      (place) => place === "volume" || /^\/[^:,\s]+$/.test(place) || S3_URL.test(place),
      "choose volume, or give the absolute path of a folder on Docker's machine, or s3://BUCKET/FOLDER",
    ),
  ),
  backupS3Endpoint: text(),
  backupS3Region: text(),
  backupS3Authority: text(),
  backupS3Credentials: text(),
  backupFull: text(PLAN),
  backupDifferential: text(PLAN),
  backupDrill: text(PLAN),
  backupCompression: text(oneOf("zst", "lz4")),
  backupKeepDays: number(whole(0, 3650)),
  backupKeepFulls: number(whole(1, 1000)),
  backupGiveUpAt: number(whole(1, 100, "give a percentage from 1 to 100")),
  backupKeepOnDestroy: flag(),
  backupRecoverTo: text(
    rule(
      (target) => target === "latest" || isExactTime(target, new Date()),
      "choose latest, or give a time in the past with its zone: 2026-11-22T10:00:00Z",
    ),
  ),
};

export type BackupValues = ValuesOf<typeof BACKUP_SETTINGS>;

/** Rules of the store's settings, which apply only if the repository is in a store. */
const STORE_RULES = {
  backupS3Endpoint: rule<string>((host) => S3_ENDPOINT.test(host), "give the store's host, as host or host:port"),
  backupS3Region: rule<string>((region) => /^[\w-]+$/.test(region), "give the store's region"),
  backupS3Credentials: rule<string>((file) => file.trim() !== "", "give the path of a file, or auto"),
};

/** Returns the problems of the backups' settings that involve more than one setting. Pure. */
export function backupProblems(values: BackupValues, bootstrap: string): string[] {
  const problems: string[] = [];
  if (bootstrap === "backup" && values.backups === "false") {
    problems.push(`backups is "false", but bootstrap is "backup": choose true or auto`);
  }
  if (!S3_URL.test(values.backupRepository)) return problems;
  for (const key of Object.keys(STORE_RULES) as (keyof typeof STORE_RULES)[]) {
    const { isValid, remedy } = STORE_RULES[key];
    if (!isValid(values[key])) problems.push(`${key} is ${JSON.stringify(values[key])}: ${remedy}`);
  }
  return problems;
}

function storeOf(values: BackupValues, stack: string): S3Settings | undefined {
  const [, bucket, path] = S3_URL.exec(values.backupRepository) ?? [];
  if (bucket === undefined || path === undefined) return undefined;
  const [, host = "", port = "443"] = S3_ENDPOINT.exec(values.backupS3Endpoint) ?? [];
  const auto = join(dirname(defaultIdentityFile()), `s3-${stack}.txt`);
  return Object.freeze({
    bucket,
    path,
    host,
    port: Number(port),
    region: values.backupS3Region,
    authorityFile: values.backupS3Authority || undefined,
    credentialsFile: values.backupS3Credentials === "auto" ? auto : values.backupS3Credentials,
  });
}

/** Returns the settings of the backups. Pure. */
export const backupsOf = (values: BackupValues, stack: string): BackupSettings =>
  Object.freeze({
    folder: values.backupRepository.startsWith("/") ? values.backupRepository : undefined,
    s3: storeOf(values, stack),
    schedules: Object.freeze({
      full: scheduleOf(values.backupFull),
      diff: scheduleOf(values.backupDifferential),
      drill: scheduleOf(values.backupDrill),
    }),
    compression: values.backupCompression as BackupSettings["compression"],
    keepDays: values.backupKeepDays,
    keepFulls: values.backupKeepFulls,
    walDropThresholdPercent: values.backupGiveUpAt,
    keepOnDestroy: values.backupKeepOnDestroy,
    recoverTo: values.backupRecoverTo,
  });
