/** What a safety copy consists of: one folder, in it one encrypted file a table, and how to restore it in clear. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createZstdDecompress } from "node:zlib";
import { AgeError, unseal } from "../../lib/age.ts";
import { ident } from "../../lib/postgres.ts";
import type { Setting } from "./database-settings.ts";
import type { LargeObjectsDigest, OwnGrants } from "./large-objects.ts";
import type { Change } from "./restrictions.ts";
import type { Catalog, SequenceState } from "./types.ts";

/** Folder of the safety copies, from the project's folder, unless a setting says otherwise. */
export const SAFETY_FOLDER = "backups/safety";
/** At the end of a copy's name while it is being written. */
export const PARTIAL = ".partial";
/** At the end of every encrypted file: compressed, then encrypted. */
export const SEALED = ".zst.age";
/** SHA-256 of every file as it lies there, in the form that `sha256sum --check` reads. In clear. */
export const CHECKSUMS = "checksums.txt";
/** What the copy holds; encrypted as all that came from the source is. */
export const MANIFEST = `manifest.json${SEALED}`;
/** A line a table for restore.sh: file, rows, the COPY that loads it. */
export const TABLES = `tables.tsv${SEALED}`;
/** SQL in the order in which it is run; the rows come between the two halves. */
export const SCRIPTS = {
  schemas: `1-schemas.sql${SEALED}`,
  extensions: `2-extensions.sql${SEALED}`,
  before: `3-before-rows.sql${SEALED}`,
  after: `4-after-rows.sql${SEALED}`,
  finish: `5-finish.sql${SEALED}`,
} as const;

/** Large objects as SQL; not there where the source has none. */
export const LARGE_OBJECTS_FILE = `large-objects.sql${SEALED}`;

/** The large objects of a copy. */
export interface CopiedLargeObjects extends LargeObjectsDigest {
  file: string;
  /** SHA-256 of the file's SQL. */
  script: string;
  /** What the application may do with objects about which the source says something. */
  grants: OwnGrants;
}

/** One table of a copy. */
export interface CopiedTable {
  /** Its file, from the copy's folder. */
  file: string;
  /** Schema and name with a dot between, for people. */
  table: string;
  /** Quoted, for SQL. */
  sql: string;
  columns: string[];
  /** COPY's format. */
  format: "binary" | "text";
  rows: number;
  /** Bytes of COPY's data. */
  bytes: number;
  /** SHA-256 of COPY's data, as the source sent it. */
  sha256: string;
  /** What came of a table that a selection made smaller or masked. */
  selected?: string;
  /** Partitioned: its rows go through it, into partitions that may be others than on the source, so their order differs. */
  throughRoot?: boolean;
}

/**
 * Loads a table from its file's data.
 * @param how FREEZE for a table that was emptied in the same transaction.
 */
export const loadSql = (
  { sql, columns, format }: Pick<CopiedTable, "sql" | "columns" | "format">,
  how?: "FREEZE",
): string => {
  const list = columns.length === 0 ? "" : ` (${columns.map(ident).join(", ")})`;
  return `COPY ${sql}${list} FROM STDIN (FORMAT ${format}${how === undefined ? "" : `, ${how}`})`;
};

/** What a copy holds. */
export interface Manifest {
  /** Of this description. */
  format: 1;
  source: string;
  sourceVersion: string;
  /** Moment of the snapshot. */
  takenAt: string;
  tables: CopiedTable[];
  sequences: SequenceState[];
  /** Extensions, likewise in a script; not there in copies of older versions of this program. */
  extensions?: Catalog["extensions"];
  /** Settings of the database, which are in none of the scripts; not there in copies of older versions of this program. */
  settings?: Setting[];
  /** What was revoked from the stack's roles, likewise. */
  restrictions?: Change[];
  /**
   * Schemas in which functions of the source find names: its search path, and those of its tables. What cannot be restored without
   * them is restored with them.
   */
  searchPath?: string[];
  /** Extensions of the stack in whose place the source has objects of its own. */
  displaced?: string[];
  /** Not there where the source has none. */
  largeObjects?: CopiedLargeObjects;
}

/** SHA-256 and length of a stream. */
export interface Digest {
  sha256: string;
  bytes: number;
}

/** Passes everything on; afterwards knows its digest. */
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

/** Digest of a file as it lies there. */
export async function digestOf(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** A copy's file that is not what it was, by its name. */
export function damaged(path: string, error: unknown): Error {
  const { message, code } = error as { message: string; code?: string };
  if (error instanceof AgeError) return new Error(`${path} cannot be read: ${message}`, { cause: error });
  if (code?.startsWith("ZSTD")) return new Error(`${path} cannot be read: what was encrypted is no whole zstd stream`);
  return new Error(`${path} cannot be read: ${message}`, { cause: error });
}

/**
 * Reads an encrypted file, part by part: what was put in before compression and encryption.
 * @throws {Error} that names the file, for one that was changed, cut short, or encrypted for somebody else.
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
        // A stream that broke is thrown into its reader, too.
        if (!(error instanceof AgeError) && !(error as NodeJS.ErrnoException).code?.startsWith("ZSTD"))
          ownFailure = error;
        throw error;
      }
    });
  } catch (error) {
    throw ownFailure === error ? error : damaged(path, error);
  }
}

/** Digest of what an encrypted file holds. */
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

/** An encrypted text. */
export async function readSealedText(path: string, secret: string): Promise<string> {
  const parts: Buffer[] = [];
  await readSealed(path, secret, async (chunks) => {
    for await (const chunk of chunks) parts.push(chunk);
  });
  return Buffer.concat(parts).toString();
}

/** A copy's description. */
export async function readManifest(folder: string, secret: string): Promise<Manifest> {
  const path = join(folder, MANIFEST);
  const manifest = JSON.parse(await readSealedText(path, secret)) as Manifest;
  if (manifest.format !== 1) throw new Error(`${path} was written by a newer version of this program`);
  return manifest;
}

/** Lines of {@link CHECKSUMS}, by file. */
export async function readChecksums(folder: string): Promise<Map<string, string>> {
  const text = await readFile(join(folder, CHECKSUMS), "utf8").catch((error) => {
    throw new Error(`${folder} is no safety copy: ${(error as Error).message}`);
  });
  const sums = new Map<string, string>();
  for (const line of text.split("\n").filter(Boolean)) {
    const [, sum = "", file = ""] = /^([0-9a-f]{64}) {2}(.+)$/.exec(line) ?? [];
    if (file === "") throw new Error(`${join(folder, CHECKSUMS)} has a line that is none of its own: ${line}`);
    sums.set(file, sum);
  }
  return sums;
}

/** A copy that lies in a folder. */
export interface FoundCopy {
  name: string;
  path: string;
  bytes: number;
  files: number;
  /** SHA-256 of its checksums. */
  sha256: string;
}

/** The finished copies in a folder, oldest first. */
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
  // The moment is at the end of the name, behind the stack's.
  return found.sort((a, b) => (momentOf(a.name) < momentOf(b.name) ? -1 : 1));
}

const momentOf = (name: string) => name.slice(-"20260101T000000Z".length);

/** Makes sure that a folder's list of names is on disk, too. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
