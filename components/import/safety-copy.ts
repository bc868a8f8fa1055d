/**
 * An encrypted copy of the source, made from the bytes that the import loads anyway: they cross the wire once. Each table is a
 * file of its own, because tables arrive side by side: an archive of one file would have to hold one back, or spool it in clear.
 */
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { seal } from "../../lib/age.ts";
import { aboutNewIdentity, type Identity, readIdentity, readOrMakeIdentity } from "../../lib/identity.ts";
import { ident, literal } from "../../lib/postgres.ts";
import type { Setting } from "./database-settings.ts";
import {
  COMMENTS_AT_ONCE,
  commentScript,
  type LargeObjectsDigest,
  type LargeObjectsObserver,
  NEXT_TRANSACTION,
  type OwnGrants,
  pieceScript,
  SCRIPT_PRELUDE,
} from "./large-objects.ts";
import type { Change } from "./restrictions.ts";
import type { RowsObserver } from "./rows.ts";
import { checksumsOf } from "./safety-copy-check.ts";
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
} from "./safety-copy-files.ts";
import { README, RESTORE_SCRIPT } from "./safety-copy-texts.ts";
import type { Schema } from "./schema.ts";
import type { Catalog, SafetyCopyFacts, SafetyCopySettings, SequenceState, Table } from "./types.ts";

/** zstd's own default: three times smaller for a tenth of the time that more would take. */
const COMPRESSION = { params: { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 } };

/** What is known when all rows are in. */
export interface RestOfCopy {
  source: string;
  catalog: Catalog;
  schema: Schema;
  sequences: readonly SequenceState[];
  /** SQL names of the materialised views that have rows, in the order in which they can be filled. */
  views: readonly string[];
  takenAt: string;
  /** Settings of the database that the copy gets when it is restored. */
  settings: readonly Setting[];
  /** Privileges that it is to be without, or to have in place of others. */
  restrictions: readonly Change[];
  /** Extensions of the stack that it is to be without. */
  displaced: readonly string[];
  /** Schemas in which functions of the source find names. */
  searchPath: readonly string[];
  /** What the application may do with large objects about which the source says something. */
  largeObjects: OwnGrants;
}

/** A file that is compressed and encrypted while it is written. */
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
    // Whoever waits or writes next is told.
    this.done.catch((error) => {
      this.failure = { error };
      this.waiting?.reject(error);
    });
  }

  /** Undefined where the next bytes may follow at once. */
  write(bytes: Buffer): Promise<void> | undefined {
    if (this.failure) return Promise.reject(this.failure.error);
    if (this.input.write(bytes)) return undefined;
    this.waiting = Promise.withResolvers();
    return this.waiting.promise;
  }

  /** The file's digest as it lies there, when the last byte is on the disk. */
  async end(): Promise<Digest> {
    this.input.end();
    await this.done;
    return this.output.digest();
  }

  async destroy(): Promise<void> {
    this.input.destroy(new Error("the safety copy was given up"));
    await this.done.catch(() => {});
  }
}

/** Makes one safety copy: {@link begin}, tables in any order and at the same time, then {@link finish} or {@link discard}. */
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
  /** One file after the other is read again while others are still written. */
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
   * Makes the folder, and clears what runs that died have left of this stack's copies.
   * @throws {Error} for a folder that cannot be written and for an identity that cannot be used, each with the remedy.
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

  /** Takes a table's rows as they cross the wire. */
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

  /** Begins the file of the large objects, which takes them as they cross the wire, and ends with their digest. */
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
   * Writes all else, waits until everything was read again and compared, and gives the copy its name.
   * @throws {Error} when a file does not hold what was put into it, or cannot be written.
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

  /** Removes all of it, finished or not: an import that failed leaves no copy, or each attempt would cost a disk's space. */
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

  /** @param held SHA-256 of what the file was given. */
  private async endFile(file: string, sealed: SealedFile, held: string): Promise<void> {
    const lying = await this.explained(() => sealed.end());
    this.open.delete(sealed);
    this.sums.set(file, lying.sha256);
    this.bytes += lying.bytes;
    this.checking = this.checking.then(() => this.check(file, held, lying.sha256));
    this.checking.catch(() => {});
  }

  /** Reads a file again: all of it, through decryption and decompression where there is an identity. */
  private async check(file: string, held: string, lying: string): Promise<void> {
    const path = join(this.partial, file);
    const same = this.identity
      ? (await digestOfSealed(path, this.identity.secret)).sha256 === held
      : (await digestOf(path)).sha256 === lying;
    if (!same) throw new Error(`${path} gives back other bytes than were written`);
  }

  private writeClear(file: string, text: string): Promise<void> {
    const mode = file.endsWith(".sh") ? 0o700 : 0o600;
    return writeFile(join(this.partial, file), text, { mode, flush: true });
  }

  /** Runs work on the disk; what goes wrong with it is told with the remedy. */
  private async explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if ((error as Error).message.startsWith("The safety copy")) throw error;
      throw explainWriting(error as NodeJS.ErrnoException, this.folder);
    }
  }
}

/** Whether a folder is what a dead run of the stack has left. Another stack's name may begin with this one's. */
export const isPartialOf = (stack: string, name: string): boolean =>
  name.startsWith(`${stack}-`) && /^\d{8}T\d{6}Z\.partial$/.test(name.slice(stack.length + 1));

/** The error for a copy that could not be made, in words and with what to do. */
export function explainWriting(error: NodeJS.ErrnoException, folder: string): Error {
  const why: Record<string, string> = {
    ENOSPC: "its disk is full",
    EDQUOT: "the disk quota is used up",
    EACCES: "the folder is not this user's to write",
    EPERM: "the folder is not this user's to write",
    EROFS: "its disk is read-only",
    ENOTDIR: "a part of its path is a file",
    EEXIST: "a part of its path is a file",
  };
  return new Error(
    `The safety copy cannot be made in ${folder}: ${why[error.code ?? ""] ?? error.message}. Make room there, name another ` +
      `folder (pulumi config set safetyCopyFolder PATH), or go without one (pulumi config set safetyCopy false); then run pulumi ` +
      `up again. Nothing was changed.`,
    { cause: error },
  );
}

/** Settings without which some statements mean something else. */
const PRELUDE = `SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET check_function_bodies = off;
SET client_min_messages = warning;
SET row_security = off;
SET search_path = '';
`;

/** The schema and what belongs to it as SQL that any psql runs, of the source's version or of a newer one. */
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
