/** Settings of the backups. */
import { dirname, join } from "node:path";
import { defaultIdentityFile } from "../../lib/identity-file.ts";
import { flag, number, oneOf, rule, text, type ValuesOf, whole } from "../../lib/setting.ts";
import { isExactMoment } from "./exact-moment.ts";
import { PLAN_RULE, planOf } from "./plan.ts";

/** A store that speaks S3. */
export interface S3Settings {
  readonly bucket: string;
  /** The folder in the bucket, absolute. */
  readonly path: string;
  readonly host: string;
  readonly port: number;
  readonly region: string;
  /** File of the authority that has signed its certificate; undefined is one that everybody knows. */
  readonly authorityFile: string | undefined;
  /** File with the access key and its secret. */
  readonly credentialsFile: string;
}

/** What is kept of the data, and where. */
export interface BackupSettings {
  /** The host folder that holds the backups; undefined is a volume of the stack's, unless a store has them. */
  readonly folder: string | undefined;
  readonly s3: S3Settings | undefined;
  /** When backups and drills are due, as the image's due.awk reads it; empty is never. */
  readonly plans: { readonly full: string; readonly diff: string; readonly drill: string };
  readonly compression: "zst" | "lz4";
  /** Days for which any moment can be restored; 0 counts full backups instead. */
  readonly keepDays: number;
  /** Full backups that are kept, where days do not say so. */
  readonly keepFulls: number;
  /** Per cent of the disk in use at which WAL that cannot be archived is given up. */
  readonly giveUpAt: number;
  readonly keepOnDestroy: boolean;
}

/** The bucket's name as Amazon has it, and at least one folder: a bucket's root may hold what is not ours. */
const S3_URL = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(\/[\w./-]*\w)$/;
const S3_ENDPOINT = /^([A-Za-z0-9.-]+)(?::(\d{1,5}))?$/;

const PLAN = rule<string>((expression) => {
  try {
    planOf(expression);
    return true;
  } catch {
    return false;
  }
}, PLAN_RULE);

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
  backupGiveUpAt: number(whole(1, 100, "give per cent, 1 to 100")),
  backupKeepOnDestroy: flag(),
  backupRecoverTo: text(
    rule(
      (moment) => moment === "latest" || isExactMoment(moment, new Date()),
      "choose latest, or a moment that is over, with its zone: 2026-11-22T10:00:00Z",
    ),
  ),
};

export type BackupValues = ValuesOf<typeof BACKUP_SETTINGS>;

/** Rules of the store's settings, which count only where a store is used. */
const STORE_RULES = {
  backupS3Endpoint: rule<string>((host) => S3_ENDPOINT.test(host), "give the store's host, as host or host:port"),
  backupS3Region: rule<string>((region) => /^[\w-]+$/.test(region), "give the store's region"),
  backupS3Credentials: rule<string>((file) => file.trim() !== "", "give the path of a file, or auto"),
};

/** Returns what is wrong with the backups beside the rules of single settings. Pure. */
export function backupProblems(values: BackupValues, bootstrap: string): string[] {
  const problems: string[] = [];
  if (bootstrap === "backup" && values.backups === "false") {
    problems.push(`backups is "false": a stack that begins from a backup goes on with them: true or auto`);
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

/** Returns what is kept of the data, and where. Pure. */
export const backupsOf = (values: BackupValues, stack: string): BackupSettings =>
  Object.freeze({
    folder: values.backupRepository.startsWith("/") ? values.backupRepository : undefined,
    s3: storeOf(values, stack),
    plans: Object.freeze({
      full: planOf(values.backupFull),
      diff: planOf(values.backupDifferential),
      drill: planOf(values.backupDrill),
    }),
    compression: values.backupCompression as BackupSettings["compression"],
    keepDays: values.backupKeepDays,
    keepFulls: values.backupKeepFulls,
    giveUpAt: values.backupGiveUpAt,
    keepOnDestroy: values.backupKeepOnDestroy,
  });
