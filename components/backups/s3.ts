/** A store that speaks S3, as pgBackRest is told of it. */
import { readFileSync, statSync } from "node:fs";
import { shellWord } from "../../lib/shell-word.ts";
import type { S3Settings } from "./settings.ts";

/** Where the image's script puts the authority's certificate, which comes with the configuration. */
const AUTHORITY = "/etc/pgbackrest/authority.pem";

/** What the store lets in. */
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
 * @throws {Error} for one that is missing, open to others, or holds something else.
 */
export function readAccess({ credentialsFile: file, authorityFile }: S3Settings): S3Access {
  const text = read(file, "The store's access key and secret (two lines, key: ... and secret: ...)");
  if ((statSync(file).mode & 0o077) !== 0)
    throw new Error(`${file} is open to others. Run: chmod 600 ${shellWord(file)}`);
  // pgBackRest's configuration is made of them: whatever is no plain word would be read as something else.
  const [key, secret] = ["key", "secret"].map((name) => new RegExp(`^${name}:\\s*([!-~]+)\\s*$`, "m").exec(text)?.[1]);
  if (key === undefined || secret === undefined) {
    throw new Error(`${file} has no lines "key: ..." and "secret: ..." with the store's access key and its secret.`);
  }
  const authority = authorityFile && read(authorityFile, "backupS3Authority");
  if (authority && !/^-----BEGIN CERTIFICATE-----$/m.test(authority)) {
    throw new Error(`backupS3Authority is ${authorityFile}, which holds no certificate (PEM)`);
  }
  return { key, secret, authority: authority || undefined };
}

/** pgBackRest's options. Buckets are named in the path, which every store understands. */
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

/** The authority's certificate as comments of the configuration, so that one file is all that a container needs. */
export const authorityLines = ({ authority }: S3Access): string =>
  (authority ?? "")
    .split(/\r?\n/)
    .filter(Boolean)
    .map((line) => `# authority: ${line}\n`)
    .join("");
