/**
 * Writes the safety copy from the bytes that the import loads anyway, so they cross the wire once. Each table has its own file, because
 * several tables arrive at the same time: a single archive would have to delay one, or buffer it unencrypted.
 */
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { seal } from "../../../lib/age.ts";
import { aboutNewIdentity, type Identity, readIdentity, readOrMakeIdentity } from "../../../lib/identity.ts";
import { ident, literal } from "../../../lib/postgres.ts";
import {
  COMMENTS_AT_ONCE,
  commentScript,
  type LargeObjectsDigest,
  type LargeObjectsObserver,
  NEXT_TRANSACTION,
  type OwnGrants,
  pieceScript,
  SCRIPT_PRELUDE,
} from "../rows/large-objects.ts";
import type { RowsObserver } from "../rows/rows.ts";
import type { Setting } from "../schema/database-settings.ts";
import type { Change } from "../schema/restrictions.ts";
import type { Schema } from "../schema/schema.ts";
import type { Catalog, SafetyCopyFacts, SafetyCopySettings, SequenceState, Table } from "../types.ts";
import { checksumsOf } from "./check.ts";
import {
  CHECKSUMS,
  type CopiedLargeObjects,
  type CopiedTable,
  type Digest,
  digestOf,
  digestOfSealed,
  LARGE_OBJECTS_FILE,
  loadSql,
  MANIFEST,
  type Manifest,
  measure,
  PARTIAL,
  SCRIPTS,
  SEALED,
  syncFolder,
  TABLES,
} from "./files.ts";
import { README, RESTORE_SCRIPT } from "./texts.ts";

/** zstd's default level: a third of the size, in a tenth of the time of higher levels. */
const COMPRESSION = { params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 } };

/** What the copy needs besides the rows, known once all rows are loaded. */
export interface RestOfCopy {
  source: string;
  catalog: Catalog;
  schema: Schema;
  sequences: readonly SequenceState[];
  /** SQL names of the materialized views that have rows, in the order in which they can be filled. */
  views: readonly string[];
  takenAt: string;
  /** Settings that a restore sets on the database. */
  settings: readonly Setting[];
  /** Privileges that a restore revokes, or grants in place of revoked ones. */
  restrictions: readonly Change[];
  /** Extensions of the stack that a restore drops. */
  displaced: readonly string[];
  /** The source's search path and the schemas of its tables. */
  searchPath: readonly string[];
  /** Privileges that the source grants the application on single large objects. */
  largeObjects: OwnGrants;
}

/** A file whose content is compressed and encrypted while it is written. */
class SealedFile {
  private readonly input = createZstdCompress(COMPRESSION);
  private readonly output = measure();
  private readonly done: Promise<void>;
  private waiting: PromiseWithResolvers<void> | undefined;
  private failure: { error: unknown } | undefined;

  constructor(path: string, recipient: string) {
    const file = createWriteStream(path, { mode: 0o600, flush: true });
    this.done = pipeline(this.input, seal(recipient), this.output.through, file);
    this.input.on("drain", () => this.waiting?.resolve());
    // A waiting or the next write() reports the failure.
    this.done.catch((error) => {
      this.failure = { error };
      this.waiting?.reject(error);
    });
  }

  /** Writes bytes. Returns undefined if the next bytes may follow at once. */
  write(bytes: Buffer): Promise<void> | undefined {
    if (this.failure) return Promise.reject(this.failure.error);
    if (this.input.write(bytes)) return undefined;
    this.waiting = Promise.withResolvers();
    return this.waiting.promise;
  }

  /** Closes the file, waits until it is on disk, and returns the digest of its bytes on disk. */
  async end(): Promise<Digest> {
    this.input.end();
    await this.done;
    return this.output.digest();
  }

  async destroy(): Promise<void> {
    this.input.destroy(new Error("the safety copy was cancelled"));
    await this.done.catch(() => {});
  }
}

/** Writes one safety copy: {@link begin}, tables in any order and at the same time, then {@link finish} or {@link discard}. */
export class SafetyCopy {
  private readonly folder: string;
  private readonly name: string;
  private readonly partial: string;
  private readonly recipient: string;
  private readonly identity: Identity | undefined;
  private readonly sums = new Map<string, string>();
  private readonly tables: CopiedTable[] = [];
  private largeObjects: Omit<CopiedLargeObjects, "grants"> | undefined;
  private readonly open = new Set<SealedFile>();
  /** Verifies finished files one after the other while others are still written. */
  private checking: Promise<void> = Promise.resolve();
  private begun = 0;
  private bytes = 0;

  private constructor(folder: string, name: string, recipient: string, identity: Identity | undefined) {
    this.folder = folder;
    this.name = name;
    this.partial = join(folder, `${name}${PARTIAL}`);
    this.recipient = recipient;
    this.identity = identity;
  }

  /**
   * Creates the folder, and removes partial copies that killed runs of this stack have left.
   * @throws {Error} if the folder cannot be written or the identity cannot be used, with the remedy.
   */
  static async begin(settings: SafetyCopySettings, stack: string, say: (line: string) => void): Promise<SafetyCopy> {
    const folder = resolve(settings.folder);
    const { recipient: chosen, identityFile } = settings;
    const identity =
      chosen === undefined
        ? await readOrMakeIdentity(identityFile, () => say(`import: ${aboutNewIdentity(identityFile)}`))
        : await readIdentity(identityFile);
    const recipient = chosen ?? (identity as Identity).recipient;
    const moment = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "");
    const opens = identity?.recipient === recipient ? identity : undefined;
    const copy = new SafetyCopy(folder, `${stack}-${moment}`, recipient, opens);
    await copy.explained(async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      for (const name of await readdir(folder)) {
        if (isPartialOf(stack, name)) await rm(join(folder, name), { recursive: true, force: true });
      }
      await mkdir(join(copy.partial, "tables"), { recursive: true, mode: 0o700 });
    });
    return copy;
  }

  /** Returns an observer that writes a table's rows into its file. */
  readonly observe = (table: Table): RowsObserver => {
    this.begun += 1;
    const file = `tables/${String(this.begun).padStart(4, "0")}.copy${SEALED}`;
    const sealed = this.start(file);
    return {
      abandon: async () => {
        await sealed.destroy();
        this.open.delete(sealed);
        await rm(join(this.partial, file), { force: true });
      },
      chunk: (bytes) => {
        const wait = sealed.write(bytes);
        return wait && this.explained(() => wait);
      },
      end: async (transfer) => {
        await this.endFile(file, sealed, transfer.sha256);
        this.tables.push({
          file,
          table: `${table.schema}.${table.name}`,
          sql: table.sql,
          columns: table.columns.filter(({ generated }) => !generated).map(({ name }) => name),
          format: table.format,
          rows: transfer.rows,
          bytes: transfer.bytes,
          sha256: transfer.sha256,
          ...(table.throughRoot && { throughRoot: true }),
          ...(table.selected && { selected: `${table.selected.verdict}: ${table.selected.what}` }),
        });
      },
    };
  };

  /** Returns an observer that writes the large objects into their file; `end` stores their digest. */
  observeLargeObjects(): LargeObjectsObserver & { end: (digest: LargeObjectsDigest) => Promise<void> } {
    const file = LARGE_OBJECTS_FILE;
    const sealed = this.start(file);
    const hash = createHash("sha256");
    const write = (text: string) => {
      const bytes = Buffer.from(text);
      hash.update(bytes);
      const wait = sealed.write(bytes);
      return wait && this.explained(() => wait);
    };
    let comments = 0;
    const begun = write(SCRIPT_PRELUDE);
    begun?.catch(() => {});
    return {
      piece: (piece) => write(pieceScript(piece)),
      comment: (oid, text) => {
        const first = comments % COMMENTS_AT_ONCE === 0;
        comments += 1;
        return write(`${first ? NEXT_TRANSACTION : ""}${commentScript(oid, text)}`);
      },
      end: async (digest) => {
        await begun;
        const script = hash.digest("hex");
        await this.endFile(file, sealed, script);
        this.largeObjects = { file, script, ...digest };
      },
    };
  }

  /**
   * Writes the other files, waits until every file has been read back and compared, and gives the copy its final name.
   * @throws {Error} if a file differs from what was written, or cannot be written.
   */
  async finish(rest: RestOfCopy): Promise<SafetyCopyFacts> {
    return this.explained(async () => {
      const tables = this.tables.toSorted((a, b) => (a.file < b.file ? -1 : 1));
      const manifest: Manifest = {
        format: 1,
        source: rest.source,
        sourceVersion: rest.catalog.version,
        takenAt: rest.takenAt,
        tables,
        sequences: [...rest.sequences],
        extensions: rest.catalog.extensions,
        settings: [...rest.settings],
        restrictions: [...rest.restrictions],
        displaced: [...rest.displaced],
        searchPath: [...rest.searchPath],
        ...(this.largeObjects && { largeObjects: { ...this.largeObjects, grants: rest.largeObjects } }),
      };
      const texts = {
        ...scriptsOf(rest),
        [TABLES]: tables.map((table) => `${table.file}\t${table.rows}\t${loadSql(table)}\n`).join(""),
        [MANIFEST]: JSON.stringify(manifest, null, 2),
      };
      for (const [file, text] of Object.entries(texts)) {
        const sealed = this.start(file);
        await sealed.write(Buffer.from(text));
        await this.endFile(file, sealed, createHash("sha256").update(text).digest("hex"));
      }
      for (const [file, text] of Object.entries({ "README.txt": README, "restore.sh": RESTORE_SCRIPT })) {
        await this.writeClear(file, text);
        const { sha256, bytes } = await digestOf(join(this.partial, file));
        this.sums.set(file, sha256);
        this.bytes += bytes;
      }
      await this.checking;
      const { text, sha256 } = checksumsOf(new Map([...this.sums].sort(([a], [b]) => (a < b ? -1 : 1))));
      await this.writeClear(CHECKSUMS, text);
      await syncFolder(join(this.partial, "tables"));
      await syncFolder(this.partial);
      const path = join(this.folder, this.name);
      await rename(this.partial, path);
      await syncFolder(this.folder);
      return {
        name: this.name,
        path,
        bytes: this.bytes + Buffer.byteLength(text),
        files: this.sums.size + 1,
        sha256,
        recipient: this.recipient,
        verified: this.identity ? "decrypted" : "as written",
        partial: tables.some((table) => table.selected !== undefined),
      };
    });
  }

  /** Removes the copy, finished or not. A failed import leaves no copy, because each attempt would use disk space. */
  async discard(): Promise<void> {
    await Promise.all([...this.open].map((file) => file.destroy()));
    await this.checking.catch(() => {});
    for (const path of [this.partial, join(this.folder, this.name)]) await rm(path, { recursive: true, force: true });
  }

  private start(file: string): SealedFile {
    const sealed = new SealedFile(join(this.partial, file), this.recipient);
    this.open.add(sealed);
    return sealed;
  }

  /** @param held SHA-256 of the file's content before compression. */
  private async endFile(file: string, sealed: SealedFile, held: string): Promise<void> {
    const onDisk = await this.explained(() => sealed.end());
    this.open.delete(sealed);
    this.sums.set(file, onDisk.sha256);
    this.bytes += onDisk.bytes;
    this.checking = this.checking.then(() => this.check(file, held, onDisk.sha256));
    this.checking.catch(() => {});
  }

  /** Reads a whole file back; with the identity, decrypts and decompresses it. */
  private async check(file: string, held: string, onDisk: string): Promise<void> {
    const path = join(this.partial, file);
    const same = this.identity
      ? (await digestOfSealed(path, this.identity.secret)).sha256 === held
      : (await digestOf(path)).sha256 === onDisk;
    if (!same) throw new Error(`${path} does not contain the bytes that were written`);
  }

  private writeClear(file: string, text: string): Promise<void> {
    const mode = file.endsWith(".sh") ? 0o700 : 0o600;
    return writeFile(join(this.partial, file), text, { mode, flush: true });
  }

  /** Runs work on the disk, and adds the remedy to its error. */
  private async explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if ((error as Error).message.startsWith("The safety copy")) throw error;
      throw explainWriting(error as NodeJS.ErrnoException, this.folder);
    }
  }
}

/** Returns whether a folder is a partial copy that a killed run of the stack has left. Another stack's name may begin with this one's. */
export const isPartialOf = (stack: string, name: string): boolean =>
  name.startsWith(`${stack}-`) && /^\d{8}T\d{6}Z\.partial$/.test(name.slice(stack.length + 1));

/** Returns the error for a copy that cannot be written, with the reason and the remedy. */
export function explainWriting(error: NodeJS.ErrnoException, folder: string): Error {
  const why: Record<string, string> = {
    ENOSPC: "its disk is full",
    EDQUOT: "the disk quota is used up",
    EACCES: "this user may not write to the folder",
    EPERM: "this user may not write to the folder",
    EROFS: "its disk is read-only",
    ENOTDIR: "part of its path is a file",
    EEXIST: "part of its path is a file",
  };
  return new Error(
    `The safety copy cannot be written to ${folder}: ${why[error.code ?? ""] ?? error.message}. Nothing was changed. Fix that, set ` +
      `another folder (pulumi config set safetyCopyFolder PATH), or make no safety copy (pulumi config set safetyCopy false); then run ` +
      `pulumi up again.`,
    { cause: error },
  );
}

/** Settings that the statements' meaning depends on. */
const PRELUDE = `SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET check_function_bodies = off;
SET client_min_messages = warning;
SET row_security = off;
SET search_path = '';
`;

/** Returns the schema and the sequences as SQL for any psql of the source's version or newer. */
function scriptsOf({ schema, catalog, sequences, views }: RestOfCopy): Record<string, string> {
  const sql = (statements: readonly string[]) => `${PRELUDE}\n${statements.join("\n\n")}\n`;
  const isSchema = ({ type }: { type: string }) => type === "SCHEMA";
  return {
    [SCRIPTS.schemas]: sql(schema.before.filter(isSchema).map((entry) => entry.sql)),
    [SCRIPTS.extensions]: sql(
      catalog.extensions.map(
        ({ name, schema: own }) =>
          `CREATE SCHEMA IF NOT EXISTS ${ident(own)};\nCREATE EXTENSION IF NOT EXISTS ${ident(name)} SCHEMA ${ident(own)};`,
      ),
    ),
    [SCRIPTS.before]: sql(schema.before.filter((entry) => !isSchema(entry)).map((entry) => entry.made ?? entry.sql)),
    [SCRIPTS.after]: sql(schema.after.map((entry) => entry.sql)),
    [SCRIPTS.finish]: sql([
      ...sequences.map(
        ({ name, lastValue, isCalled }) => `SELECT pg_catalog.setval(${literal(name)}, ${lastValue}, ${isCalled});`,
      ),
      ...views.map((view) => `REFRESH MATERIALIZED VIEW ${view};`),
    ]),
  };
}
