/** Checks that a safety copy is unchanged and readable. */
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import {
  CHECKSUMS,
  damaged,
  digestOf,
  digestOfSealed,
  type Manifest,
  readChecksums,
  readManifest,
  SCRIPTS,
  TABLES,
} from "./files.ts";

/** Result of a check. */
export interface CheckedCopy {
  manifest: Manifest;
  rows: number;
  /** Bytes of COPY data that were read. */
  bytes: number;
  files: number;
}

/**
 * Compares every file with its checksum, then decrypts and decompresses everything and compares every table with what the source sent.
 * @param onFile called before each file is read.
 * @throws {Error} that names files that are missing, unexpected, changed, truncated, or encrypted for another identity.
 */
export async function checkCopy(
  folder: string,
  secret: string,
  onFile: (file: string) => void = () => {},
): Promise<CheckedCopy> {
  const sums = await readChecksums(folder);
  const there = await filesOf(folder);
  const missing = [...sums.keys()].filter((file) => !there.has(file));
  if (missing.length > 0) throw new Error(`The safety copy ${folder} is incomplete: ${missing.join(", ")} is missing`);
  const surplus = [...there].filter((file) => !sums.has(file) && file !== CHECKSUMS);
  if (surplus.length > 0) throw new Error(`The safety copy ${folder} contains unexpected files: ${surplus.join(", ")}`);
  for (const [file, sum] of sums) {
    const path = join(folder, file);
    const { sha256 } = await digestOf(path);
    if (sha256 !== sum)
      throw damaged(
        path,
        new Error(`its SHA-256 is ${sha256} and should be ${sum}, so it was changed after it was written`),
      );
  }
  const manifest = await readManifest(folder, secret);
  let bytes = 0;
  for (const { file, table, ...sent } of manifest.tables) {
    onFile(file);
    const held = await digestOfSealed(join(folder, file), secret);
    if (held.sha256 !== sent.sha256 || held.bytes !== sent.bytes) {
      throw new Error(`${join(folder, file)} does not hold what the source sent for ${table}`);
    }
    bytes += held.bytes;
  }
  const { largeObjects } = manifest;
  if (largeObjects) {
    onFile(largeObjects.file);
    const held = await digestOfSealed(join(folder, largeObjects.file), secret);
    if (held.sha256 !== largeObjects.script) {
      throw new Error(`${join(folder, largeObjects.file)} does not hold the large objects that the source sent`);
    }
    bytes += held.bytes;
  }
  for (const file of [...Object.values(SCRIPTS), TABLES]) await digestOfSealed(join(folder, file), secret);
  const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
  return { manifest, rows, bytes, files: there.size };
}

async function filesOf(folder: string): Promise<Set<string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return new Set(
    entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name))),
  );
}

/** Returns the text of {@link CHECKSUMS}, and the digest of a whole copy. */
export function checksumsOf(sums: ReadonlyMap<string, string>): { text: string; sha256: string } {
  const text = [...sums].map(([file, sum]) => `${sum}  ${file}\n`).join("");
  return { text, sha256: createHash("sha256").update(text).digest("hex") };
}
