/** Files of a safety copy: a folder with one encrypted file for each table, and unencrypted instructions for restoring it. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdDecompress } from "node:zlib";
import { AgeError, unseal } from "../../../lib/age.ts";
import { ident } from "../../../lib/postgres.ts";
import type { LargeObjectsDigest, OwnGrants } from "../rows/large-objects.ts";
import type { Setting } from "../schema/database-settings.ts";
import type { Change } from "../schema/restrictions.ts";
import type { Catalog, SequenceState } from "../types.ts";

/** Default folder of the safety copies, relative to the project's folder. */
export const SAFETY_FOLDER = "backups/safety";
/** Suffix of a copy's name while it is written. */
export const PARTIAL = ".partial";
/** Suffix of every encrypted file: compressed, then encrypted. */
export const SEALED = ".zst.age";
/** SHA-256 of every file on disk, in the format of `sha256sum --check`. Not encrypted. */
export const CHECKSUMS = "checksums.txt";
/** Contents of the copy; encrypted like everything that came from the source. */
export const MANIFEST = `manifest.json${SEALED}`;
/** One line for each table, for restore.sh: file, rows, the COPY that loads it. */
export const TABLES = `tables.tsv${SEALED}`;
/** SQL scripts in the order in which they run; the rows are loaded between `before` and `after`. */
export const SCRIPTS = {
  schemas: `1-schemas.sql${SEALED}`,
  extensions: `2-extensions.sql${SEALED}`,
  before: `3-before-rows.sql${SEALED}`,
  after: `4-after-rows.sql${SEALED}`,
  finish: `5-finish.sql${SEALED}`,
} as const;

/** Large objects as SQL; missing if the source has none. */
export const LARGE_OBJECTS_FILE = `large-objects.sql${SEALED}`;

/** The large objects of a copy. */
export interface CopiedLargeObjects extends LargeObjectsDigest {
  file: string;
  /** SHA-256 of the file's SQL. */
  script: string;
  /** Privileges that the source grants the application on single objects. */
  grants: OwnGrants;
}

/** One table of a copy. */
export interface CopiedTable {
  /** Its file, relative to the copy's folder. */
  file: string;
  /** `schema.name`, for messages. */
  table: string;
  /** Quoted, for SQL. */
  sql: string;
  columns: string[];
  /** COPY's format. */
  format: "binary" | "text";
  rows: number;
  /** Bytes of COPY data. */
  bytes: number;
  /** SHA-256 of the COPY data that the source sent. */
  sha256: string;
  /** Description of the selected rows, if not all were copied as they are. */
  selected?: string;
  /** Partitioned: rows are inserted through it and may land in other partitions than on the source, so their order differs. */
  throughRoot?: boolean;
}

/**
 * Returns the COPY that loads a table from its file's data.
 * @param how FREEZE for a table truncated in the same transaction.
 */
export const loadSql = (
  { sql, columns, format }: Pick<CopiedTable, "sql" | "columns" | "format">,
  how?: "FREEZE",
): string => {
  const list = columns.length === 0 ? "" : ` (${columns.map(ident).join(", ")})`;
  return `COPY ${sql}${list} FROM STDIN (FORMAT ${format}${how === undefined ? "" : `, ${how}`})`;
};

/** Contents of a copy. */
export interface Manifest {
  /** Version of the manifest's format. */
  format: 1;
  source: string;
  sourceVersion: string;
  /** Time of the exported snapshot. */
  takenAt: string;
  tables: CopiedTable[];
  sequences: SequenceState[];
  /** Extensions, which are also in a script; missing in copies by older versions of this program. */
  extensions?: Catalog["extensions"];
  /** Settings of the database, which are in no script; missing in copies by older versions of this program. */
  settings?: Setting[];
  /** Privileges that were revoked from the stack's roles; missing in copies by older versions of this program. */
  restrictions?: Change[];
  /**
   * The source's search path and the schemas of its tables. Objects that cannot be restored without a search path are restored with
   * this one.
   */
  searchPath?: string[];
  /** Extensions of the stack that the source replaces by its own objects. */
  displaced?: string[];
  /** Missing if the source has none. */
  largeObjects?: CopiedLargeObjects;
}

/** SHA-256 and length of a stream. */
export interface Digest {
  sha256: string;
  bytes: number;
}

/** Returns a stream that passes all data through, and a function that returns its digest. */
export function measure(): { through: Transform; digest: () => Digest } {
  const hash = createHash("sha256");
  let bytes = 0;
  const through = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  return { through, digest: () => ({ sha256: hash.copy().digest("hex"), bytes }) };
}

/** Returns the digest of a file on disk. */
export async function digestOf(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** Returns the error for a damaged file, with its path. */
export function damaged(path: string, error: unknown): Error {
  const { message, code } = error as { message: string; code?: string };
  if (error instanceof AgeError) return new Error(`${path} cannot be read: ${message}`, { cause: error });
  if (code?.startsWith("ZSTD"))
    return new Error(`${path} cannot be read: its decrypted content is not a complete zstd stream`);
  return new Error(`${path} cannot be read: ${message}`, { cause: error });
}

/**
 * Decrypts and decompresses a file chunk by chunk.
 * @throws {Error} that names the file, if it was changed, truncated, or encrypted for another identity.
 */
export async function readSealed(
  path: string,
  secret: string,
  work: (chunks: AsyncIterable<Buffer>) => Promise<void>,
): Promise<void> {
  let ownFailure: unknown;
  try {
    await pipeline(createReadStream(path), unseal([secret]), createZstdDecompress(), async (chunks) => {
      try {
        await work(chunks as AsyncIterable<Buffer>);
      } catch (error) {
        // The pipeline throws a stream's error into its reader, too.
        if (!(error instanceof AgeError) && !(error as NodeJS.ErrnoException).code?.startsWith("ZSTD"))
          ownFailure = error;
        throw error;
      }
    });
  } catch (error) {
    throw ownFailure === error ? error : damaged(path, error);
  }
}

/** Returns the digest of an encrypted file's content. */
export async function digestOfSealed(path: string, secret: string): Promise<Digest> {
  const hash = createHash("sha256");
  let bytes = 0;
  await readSealed(path, secret, async (chunks) => {
    for await (const chunk of chunks) {
      hash.update(chunk);
      bytes += chunk.length;
    }
  });
  return { sha256: hash.digest("hex"), bytes };
}

/** Returns the text in an encrypted file. */
export async function readSealedText(path: string, secret: string): Promise<string> {
  const parts: Buffer[] = [];
  await readSealed(path, secret, async (chunks) => {
    for await (const chunk of chunks) parts.push(chunk);
  });
  return Buffer.concat(parts).toString();
}

/** Reads a copy's manifest. */
export async function readManifest(folder: string, secret: string): Promise<Manifest> {
  const path = join(folder, MANIFEST);
  const manifest = JSON.parse(await readSealedText(path, secret)) as Manifest;
  if (manifest.format !== 1) throw new Error(`${path} was written by a newer version of this program`);
  return manifest;
}

/** Reads {@link CHECKSUMS}: the SHA-256 of each file. */
export async function readChecksums(folder: string): Promise<Map<string, string>> {
  const text = await readFile(join(folder, CHECKSUMS), "utf8").catch((error) => {
    throw new Error(`${folder} is not a safety copy: ${(error as Error).message}`);
  });
  const sums = new Map<string, string>();
  for (const line of text.split("\n").filter(Boolean)) {
    const [, sum = "", file = ""] = /^([0-9a-f]{64}) {2}(.+)$/.exec(line) ?? [];
    if (file === "") throw new Error(`${join(folder, CHECKSUMS)} has an invalid line: ${line}`);
    sums.set(file, sum);
  }
  return sums;
}

/** A finished copy in a folder. */
export interface FoundCopy {
  name: string;
  path: string;
  bytes: number;
  files: number;
  /** SHA-256 of its checksums. */
  sha256: string;
}

/** Returns the finished copies in a folder, oldest first. */
export async function listCopies(folder: string): Promise<FoundCopy[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const found: FoundCopy[] = [];
  for (const entry of entries) {
    if (!entry.isDirectory() || entry.name.endsWith(PARTIAL)) continue;
    const path = join(folder, entry.name);
    const sums = await readFile(join(path, CHECKSUMS)).catch(() => undefined);
    if (sums === undefined) continue;
    const files = (await readdir(path, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
    let bytes = 0;
    for (const file of files) bytes += (await stat(join(file.parentPath, file.name))).size;
    found.push({
      name: entry.name,
      path,
      bytes,
      files: files.length,
      sha256: createHash("sha256").update(sums).digest("hex"),
    });
  }
  // The name is the stack's name and the time.
  return found.sort((a, b) => (timeOf(a.name) < timeOf(b.name) ? -1 : 1));
}

const timeOf = (name: string) => name.slice(-"20260101T000000Z".length);

/** Flushes a folder's directory entries to disk. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
