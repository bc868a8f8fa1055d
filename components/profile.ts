/** The profiles: they choose the defaults of settings, each of which can also be set by itself. */
import { createDecipheriv, pbkdf2Sync } from "node:crypto";
import { oneOf, text, type ValuesOf } from "../lib/setting.ts";

export const PROFILE_SETTINGS = {
  profile: text(oneOf("development", "production")),
};

type ProfileValues = ValuesOf<typeof PROFILE_SETTINGS>;

/** The defaults of each profile, for settings whose value is auto. Where a profile names none, `auto` keeps its own meaning. */
const DEFAULTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  development: {
    tls: "false",
    keepDataOnDestroy: "false",
    protectData: "false",
    logging: "development",
    statementTimeout: "0",
    lockTimeout: "0",
    idleInTransactionTimeout: "0",
  },
  production: {
    tls: "true",
    keepDataOnDestroy: "true",
    protectData: "true",
    logging: "production",
    statementTimeout: "60",
    lockTimeout: "10",
    idleInTransactionTimeout: "60",
    backups: "true",
  },
};

/** Returns the settings with the profile's defaults in place of `auto`. Pure. */
export function withProfile<Values extends ProfileValues>(values: Values): Values {
  const defaults = Object.entries(DEFAULTS[values.profile] ?? {}).filter(
    ([key]) => (values as Record<string, unknown>)[key] === "auto",
  );
  return { ...values, ...Object.fromEntries(defaults) };
}

/** Parameters of Pulumi's passphrase encryption (pulumi/sdk/go/common/resource/config/crypt.go). */
const ITERATIONS = 1_000_000;
const KEY_BYTES = 32;
const TAG_BYTES = 16;

/**
 * Returns whether a stack's secrets are encrypted with the empty passphrase, by decrypting the sample that Pulumi stores in the stack's
 * settings. A stack with another secrets provider has none. Takes 0.5 s. Pure.
 * @param settings the text of Pulumi.STACK.yaml.
 */
export function hasEmptyPassphrase(settings: string): boolean {
  const [, salt, nonce, sealed] = /^encryptionsalt: v1:([^:\s]+):v1:([^:\s]+):(\S+)$/m.exec(settings) ?? [];
  if (salt === undefined || nonce === undefined || sealed === undefined) return false;
  const [key, bytes] = [pbkdf2Sync("", Buffer.from(salt, "base64"), ITERATIONS, KEY_BYTES, "sha256"), from64(sealed)];
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, from64(nonce));
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    decipher.update(bytes.subarray(0, -TAG_BYTES));
    decipher.final();
    return true;
  } catch {
    return false;
  }
}

const from64 = (text: string) => Buffer.from(text, "base64");

/** Returns the problem of a production stack whose secrets anyone with its state can read. Pure. */
export function passphraseProblems(values: ProfileValues, stack: string, isEmpty: boolean): string[] {
  if (values.profile !== "production" || !isEmpty) return [];
  return [
    `profile is "production", but the passphrase of the stack is empty, so everyone who can read the state can read its passwords and ` +
      `keys. Choose one: unset PULUMI_CONFIG_PASSPHRASE, then pulumi stack change-secrets-provider passphrase --stack ${stack}`,
  ];
}

/** Values of {@link productionWarnings}. */
interface BackupChoice extends ProfileValues {
  backups: string;
  backupRepository: string;
}

/** Returns the warnings about a production stack that could lose its data, each with the remedy. Pure. */
export function productionWarnings(values: BackupChoice): string[] {
  if (values.profile !== "production") return [];
  if (values.backups === "false") {
    return [
      `backups is "false": losing the disk, or one wrong statement, loses the data of this production stack. Switch backups on: ` +
        `pulumi config rm backups`,
    ];
  }
  if (values.backupRepository !== "volume") return [];
  return [
    `backupRepository is "volume", which is on the same disk as the database: losing the disk loses both. Use another disk or a store: ` +
      `pulumi config set backupRepository /mnt/OTHER_DISK/FOLDER, or s3://BUCKET/FOLDER`,
  ];
}
