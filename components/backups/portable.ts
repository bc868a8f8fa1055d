/**
 * Portable copies: pg_dump's archives and the roles, encrypted to an age public key. Restoring one needs neither this program nor
 * pgBackRest nor the same operating system. They can be made of any stack, with or without backups.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { PassThrough, type Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { AgeError, seal, unseal } from "../../lib/age.ts";
import { DockerError, type DockerStream, docker, dockerStream } from "../../lib/docker.ts";
import { type Identity, readIdentity, readOrMakeIdentity } from "../../lib/identity.ts";
import { type Address, ident, maintenance, withConnection } from "../../lib/postgres.ts";
import { serverProgram } from "../../lib/server-programs.ts";
import { checksumsOf } from "../import/safety-copy/check.ts";
import {
  CHECKSUMS,
  damaged,
  digestOf,
  measure,
  PARTIAL,
  readChecksums,
  syncFolder,
} from "../import/safety-copy/files.ts";
import { isPartialOf } from "../import/safety-copy/safety-copy.ts";
import { README, RESTORE_SCRIPT } from "./portable-texts.ts";

const GLOBALS = "globals.sql.age";
const DUMP = ".dump.age";
/** The last line that pg_dumpall writes. */
const COMPLETE = "-- PostgreSQL database cluster dump complete";
/** Key of the advisory lock that a run holds: the letters "portable" as a 64-bit number. */
const LOCK_KEY = "8101820098838424677";

/** What to copy, where, and for which identity. */
export interface PortableOrder {
  stack: string;
  /** The server's container, which has pg_dump of its version. */
  container: string;
  /** The server, as its superuser. */
  server: Address;
  /** The databases to copy; by default all except PostgreSQL's own and snapshots. */
  databases?: readonly string[];
  /** The folder that the copy is created in. */
  folder: string;
  /** An age public key; undefined for that of the identity file, which is created if it is missing. */
  recipient: string | undefined;
  identityFile: string;
  /** Called if an identity was created. */
  onNewIdentity: () => void;
  say: (line: string) => void;
}

/** A complete copy. */
export interface PortableCopy {
  name: string;
  path: string;
  databases: string[];
  bytes: number;
  recipient: string;
  /** `decrypted`: read again with the identity. `as written`: the identity is not here, so only the bytes on disk were compared. */
  verified: "decrypted" | "as written";
}

/** SHA-256 of the encrypted file, and of its content before encryption. */
interface Sealed {
  encrypted: string;
  content: string;
}

/**
 * Makes a portable copy. Its folder ends in `.partial` until every file has been read again, so a folder without it is complete.
 * @throws {Error} if another one is being made, pg_dump fails, the folder is not writable, or a file reads back differently.
 */
export async function makePortableCopy(order: PortableOrder): Promise<PortableCopy> {
  const { stack, recipient: chosen, identityFile, server, say } = order;
  if (chosen !== undefined && !/^age1[02-9ac-hj-np-z]{58}$/.test(chosen)) {
    throw new Error(`"${chosen}" is not an age public key (age1 and 58 more characters)`);
  }
  const identity =
    chosen === undefined
      ? await readOrMakeIdentity(identityFile, order.onNewIdentity)
      : await readIdentity(identityFile);
  const recipient = chosen ?? (identity as Identity).recipient;
  const matching = identity?.recipient === recipient ? identity : undefined;
  const folder = resolve(order.folder);
  const name = `${stack}-${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "")}`;
  const partial = join(folder, name + PARTIAL);
  return withConnection(maintenance(server), async (client) => {
    const { rows } = await client.query(`SELECT pg_try_advisory_lock(${LOCK_KEY}) AS mine`);
    if (!rows[0].mine) throw new Error("Another portable copy of this server is being made. Wait until it is done.");
    const databases = [...(order.databases ?? (await databasesOn(client, server.database)))];
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const left of await readdir(folder)) {
      if (isPartialOf(stack, left)) await rm(join(folder, left), { recursive: true, force: true });
    }
    await mkdir(partial, { mode: 0o700 });
    try {
      const files = new Map<string, Sealed>();
      for (const [file, args] of dumpsOf(order.container, databases)) {
        say(`${file}: writing`);
        files.set(file, await writeSealed(join(partial, file), dockerStream(args), recipient));
      }
      for (const [file, { encrypted, content }] of files) {
        say(`${file}: reading it again`);
        if (matching) await readBack(join(partial, file), matching.secret, order.container, content);
        else if ((await digestOf(join(partial, file))).sha256 !== encrypted) throw differentBytes(join(partial, file));
      }
      await writeFile(join(partial, "README.txt"), README, { mode: 0o600, flush: true });
      await writeFile(join(partial, "restore.sh"), RESTORE_SCRIPT, { mode: 0o700, flush: true });
      const sums = new Map<string, string>();
      for (const file of (await readdir(partial)).sort()) sums.set(file, (await digestOf(join(partial, file))).sha256);
      await writeFile(join(partial, CHECKSUMS), checksumsOf(sums).text, { mode: 0o600, flush: true });
      await syncFolder(partial);
      await rename(partial, join(folder, name));
      await syncFolder(folder);
    } catch (error) {
      await rm(partial, { recursive: true, force: true });
      throw error;
    }
    const path = join(folder, name);
    const verified = matching ? "decrypted" : "as written";
    return { name, path, databases, bytes: await sizeOf(path), recipient, verified };
  });
}

/** Returns the files, each with the command that writes it in the server's container. */
const dumpsOf = (container: string, databases: readonly string[]): [string, string[]][] => [
  [GLOBALS, serverProgram(container, "pg_dumpall", ["--globals-only"])],
  // Level 1 makes files 10 % larger, and saves two thirds of the time.
  ...databases.map((name): [string, string[]] => [
    name + DUMP,
    // pg_dump takes a bare name with an equals sign for a connection string.
    serverProgram(container, "pg_dump", [
      "--format=custom",
      "--compress=1",
      `dbname='${name.replaceAll(/[\\']/g, "\\$&")}'`,
    ]),
  ]),
];

/**
 * Returns all databases except PostgreSQL's own and those that accept no connections: snapshots, and a database whose DROP was
 * interrupted. Templates are included, because any owner can make a template of a database.
 * @param wanted the stack's database, which must be among them.
 * @throws {Error} for a name that cannot be a file name, and if the stack's database accepts no connections.
 */
async function databasesOn(client: pg.Client, wanted: string): Promise<string[]> {
  const { rows } = await client.query<{ datname: string }>(
    `SELECT datname FROM pg_database WHERE datallowconn AND datname NOT IN ('postgres', 'template0', 'template1') AND datconnlimit <> -2
     ORDER BY datname COLLATE "C"`,
  );
  const names = rows.map(({ datname }) => datname);
  if (!names.includes(wanted)) {
    throw new Error(
      `The database ${wanted} accepts no connections, so it cannot be copied. Run as the superuser: ALTER DATABASE ${ident(wanted)} ALLOW_CONNECTIONS true`,
    );
  }
  const odd = names.find((name) => /[/"\n]|^[.-]/.test(name));
  if (odd !== undefined) {
    throw new Error(
      `The database ${JSON.stringify(odd)} cannot be copied: its name is not a valid file name. Rename it: ALTER DATABASE ... RENAME TO ...`,
    );
  }
  return names;
}

async function writeSealed(path: string, { stdout, ended }: DockerStream, recipient: string): Promise<Sealed> {
  const [content, encrypted] = [measure(), measure()];
  const file = createWriteStream(path, { mode: 0o600, flags: "wx", flush: true });
  try {
    await pipeline(stdout, content.through, seal(recipient), encrypted.through, file);
    await ended;
  } catch (error) {
    const why = error instanceof DockerError ? error.stderr.trim() || error.message : (error as Error).message;
    throw new Error(`${basename(path)} could not be written: ${why}`, { cause: error });
  }
  return { content: content.digest().sha256, encrypted: encrypted.digest().sha256 };
}

const differentBytes = (path: string) => new Error(`${path} does not contain the bytes that were written to it`);

/**
 * Reads a file as a restore would: it decrypts the file and, if it is an archive, passes all of it through pg_restore.
 * @param expected SHA-256 of the content; undefined if it is not known.
 * @throws {Error} that names the file, if it was changed, truncated, or encrypted for another identity.
 */
async function readBack(path: string, secret: string, container: string, expected?: string): Promise<void> {
  const content = measure();
  try {
    if (path.endsWith(DUMP)) await throughRestore(path, secret, container, content.through);
    else {
      let end = "";
      await pipeline(createReadStream(path), unseal([secret]), content.through, async (chunks) => {
        for await (const chunk of chunks) end = (end + chunk).slice(-COMPLETE.length - 8);
      });
      if (!end.includes(COMPLETE)) throw new Error("its end is missing");
    }
  } catch (error) {
    if (error instanceof DockerError) throw damaged(path, new Error(`pg_restore: ${error.stderr.trim()}`));
    throw damaged(path, error);
  }
  if (expected !== undefined && content.digest().sha256 !== expected) throw differentBytes(path);
}

async function throughRestore(path: string, secret: string, container: string, content: Transform): Promise<void> {
  const plain = new PassThrough();
  const args = ["exec", "-i", "-u", "postgres", container, "pg_restore", "--file=/dev/null"];
  const restoring = docker(args, { input: plain });
  // If pg_restore fails early, it stops reading.
  restoring.catch(() => plain.destroy());
  try {
    await pipeline(createReadStream(path), unseal([secret]), content, plain);
  } catch (error) {
    if (!(error instanceof AgeError)) await restoring;
    throw error;
  } finally {
    await restoring.catch(() => {});
  }
  await restoring;
}

async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  for (const file of await readdir(folder)) bytes += (await stat(join(folder, file))).size;
  return bytes;
}

/**
 * Verifies an existing portable copy: the checksum and the content of every file. Returns the names of its databases.
 * @throws {Error} that names the file that is missing, changed, truncated, or encrypted for another identity.
 */
export async function verifyPortableCopy(folder: string, secret: string, container: string): Promise<string[]> {
  const sums = await readChecksums(folder);
  for (const [file, sum] of sums) {
    const path = join(folder, file);
    const { sha256 } = await digestOf(path).catch((error) => {
      throw damaged(path, error);
    });
    if (sha256 !== sum) throw damaged(path, new Error("it was changed after it was written"));
  }
  const sealed = [...sums.keys()].filter((file) => file.endsWith(".age"));
  for (const file of sealed) await readBack(join(folder, file), secret, container);
  return sealed.filter((file) => file.endsWith(DUMP)).map((file) => file.slice(0, -DUMP.length));
}
