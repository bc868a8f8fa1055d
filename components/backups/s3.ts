/** pgBackRest's options for a repository in an S3 store. */
import { readFileSync, statSync } from "node:fs";
import { shellWord } from "../../lib/shell-word.ts";
import type { S3Settings } from "./settings.ts";

/** The file into which the image's script copies the authority's certificate from the configuration. */
const AUTHORITY = "/etc/pgbackrest/authority.pem";

/** Credentials for the store. */
export interface S3Access {
  key: string;
  secret: string;
  /** PEM. */
  authority: string | undefined;
}

function read(file: string, what: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new Error(`${what} cannot be read: ${(error as Error).message}`);
  }
}

/**
 * Reads the files that the settings name.
 * @throws {Error} for a file that is missing, readable by other users, or has other content.
 */
export function readAccess({ credentialsFile: file, authorityFile }: S3Settings): S3Access {
  const text = read(file, "The store's access key and secret (two lines, key: ... and secret: ...)");
  if ((statSync(file).mode & 0o077) !== 0)
    throw new Error(`${file} is accessible to other users. Run: chmod 600 ${shellWord(file)}`);
  // The values become lines of pgBackRest's configuration, where other characters would change their meaning.
  const [key, secret] = ["key", "secret"].map((name) => new RegExp(`^${name}:\\s*([!-~]+)\\s*$`, "m").exec(text)?.[1]);
  if (key === undefined || secret === undefined) {
    throw new Error(
      `${file} does not contain the store's access key and its secret. Write two lines: "key: ..." and "secret: ..."`,
    );
  }
  const authority = authorityFile && read(authorityFile, "backupS3Authority");
  if (authority && !/^-----BEGIN CERTIFICATE-----$/m.test(authority)) {
    throw new Error(`backupS3Authority is ${authorityFile}, which contains no certificate in PEM format`);
  }
  return { key, secret, authority: authority || undefined };
}

/** Returns pgBackRest's options. The bucket is part of the path, because all stores support that. */
export const s3Options = (
  { bucket, path, host, port, region }: S3Settings,
  { key, secret, authority }: S3Access,
): Record<string, string | number> => ({
  "repo1-type": "s3",
  "repo1-path": path,
  "repo1-s3-bucket": bucket,
  "repo1-s3-endpoint": host,
  "repo1-s3-region": region,
  "repo1-s3-uri-style": "path",
  "repo1-s3-key": key,
  "repo1-s3-key-secret": secret,
  "repo1-storage-port": port,
  ...(authority ? { "repo1-storage-ca-file": AUTHORITY } : {}),
});

/** Returns the authority's certificate as comment lines of the configuration, so that a container needs only one file. */
export const authorityLines = ({ authority }: S3Access): string =>
  (authority ?? "")
    .split(/\r?\n/)
    .filter(Boolean)
    .map((line) => `# authority: ${line}\n`)
    .join("");
