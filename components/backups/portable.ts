/**
 * Portable copies: pg_dump's archives and the roles, encrypted to age's public key. They need neither this program nor pgBackRest
 * nor the same system, and are made of any stack, with backups or without.
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
import { isPartialOf } from "../import/safety-copy.ts";
import { checksumsOf } from "../import/safety-copy-check.ts";
import {
  CHECKSUMS,
  damaged,
  digestOf,
  measure,
  PARTIAL,
  readChecksums,
  syncFolder,
} from "../import/safety-copy-files.ts";
import { README, RESTORE_SCRIPT } from "./portable-texts.ts";

const GLOBALS = "globals.sql.age";
const DUMP = ".dump.age";
/** What pg_dumpall writes last. */
const COMPLETE = "-- PostgreSQL database cluster dump complete";
/** Key of the advisory lock of whoever makes one: the letters "portable" as a 64-bit number. */
const LOCK_KEY = "8101820098838424677";

/** What to copy, and for whom. */
export interface PortableOrder {
  stack: string;
  /** The server's container, which has pg_dump of its version. */
  container: string;
  /** The server, as its superuser. */
  server: Address;
  /** Which databases; all that hold anything of anybody's, if left out. */
  databases?: readonly string[];
  /** Where the copies lie. */
  folder: string;
  /** age's public key; undefined for that of the identity file, which is made where it is missing. */
  recipient: string | undefined;
  identityFile: string;
  /** Told of an identity that was made. */
  onNewIdentity: () => void;
  say: (line: string) => void;
}

/** A copy that is whole. */
export interface PortableCopy {
  name: string;
  path: string;
  databases: string[];
  bytes: number;
  recipient: string;
  /** Whether it could be opened again here, or only the disk's bytes were compared. */
  verified: "decrypted" | "as written";
}

/** SHA-256 of a file as it lies there, and of what was put into it. */
interface Sealed {
  lying: string;
  held: string;
}

/**
 * Makes a portable copy: under another name until every file was read again, so that one without `.partial` is whole.
 * @throws {Error} when another one is being made, pg_dump fails, the folder cannot be written, or what was written is not read back.
 */
export async function makePortableCopy(order: PortableOrder): Promise<PortableCopy> {
  const { stack, recipient: chosen, identityFile, server, say } = order;
  if (chosen !== undefined && !/^age1[02-9ac-hj-np-z]{58}$/.test(chosen)) {
    throw new Error(`"${chosen}" is no public key of age's (age1 and 58 more characters)`);
  }
  const identity =
    chosen === undefined
      ? await readOrMakeIdentity(identityFile, order.onNewIdentity)
      : await readIdentity(identityFile);
  const recipient = chosen ?? (identity as Identity).recipient;
  const opens = identity?.recipient === recipient ? identity : undefined;
  const folder = resolve(order.folder);
  const name = `${stack}-${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "")}`;
  const partial = join(folder, name + PARTIAL);
  return withConnection(maintenance(server), async (client) => {
    const { rows } = await client.query(`SELECT pg_try_advisory_lock(${LOCK_KEY}) AS mine`);
    if (!rows[0].mine) throw new Error("Another portable copy is being made of this server. Wait for it.");
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
      for (const [file, { lying, held }] of files) {
        say(`${file}: reading it again`);
        if (opens) await readBack(join(partial, file), opens.secret, order.container, held);
        else if ((await digestOf(join(partial, file))).sha256 !== lying) throw otherBytes(join(partial, file));
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
    const verified = opens ? "decrypted" : "as written";
    return { name, path, databases, bytes: await sizeOf(path), recipient, verified };
  });
}

/** Each file's command in the server's container. */
const dumpsOf = (container: string, databases: readonly string[]): [string, string[]][] => [
  [GLOBALS, serverProgram(container, "pg_dumpall", ["--globals-only"])],
  // The fastest level costs a tenth of the size, and saves two thirds of the time.
  ...databases.map((name): [string, string[]] => [
    name + DUMP,
    // A name alone would be taken for a connection string, where it has a sign of equality in it.
    serverProgram(container, "pg_dump", [
      "--format=custom",
      "--compress=1",
      `dbname='${name.replaceAll(/[\\']/g, "\\$&")}'`,
    ]),
  ]),
];

/**
 * All databases but the server's own and those that nobody gets into: save points, and one whose DROP was interrupted. Whether a
 * database is a template does not count: its owner can say so of it.
 * @param wanted the stack's database, which must not be missing.
 * @throws {Error} for a name that can be no file's, and when the stack's database accepts no connections.
 */
async function databasesOn(client: pg.Client, wanted: string): Promise<string[]> {
  const { rows } = await client.query<{ datname: string }>(
    `SELECT datname FROM pg_database WHERE datallowconn AND datname NOT IN ('postgres', 'template0', 'template1') AND datconnlimit <> -2
     ORDER BY datname COLLATE "C"`,
  );
  const names = rows.map(({ datname }) => datname);
  if (!names.includes(wanted)) {
    throw new Error(
      `The database ${wanted} accepts no connections, so it cannot be copied. As the superuser: ALTER DATABASE ${ident(wanted)} ALLOW_CONNECTIONS true`,
    );
  }
  const odd = names.find((name) => /[/"\n]|^[.-]/.test(name));
  if (odd !== undefined) {
    throw new Error(
      `The database ${JSON.stringify(odd)} has a name that no file can have. Rename it: ALTER DATABASE ... RENAME TO ...`,
    );
  }
  return names;
}

async function writeSealed(path: string, { stdout, ended }: DockerStream, recipient: string): Promise<Sealed> {
  const [held, lying] = [measure(), measure()];
  const file = createWriteStream(path, { mode: 0o600, flags: "wx", flush: true });
  try {
    await pipeline(stdout, held.through, seal(recipient), lying.through, file);
    await ended;
  } catch (error) {
    const why = error instanceof DockerError ? error.stderr.trim() || error.message : (error as Error).message;
    throw new Error(`${basename(path)} could not be written: ${why}`, { cause: error });
  }
  return { held: held.digest().sha256, lying: lying.digest().sha256 };
}

const otherBytes = (path: string) => new Error(`${path} gives back other bytes than were written`);

/**
 * Reads a file as whoever restores it would: through decryption and, for an archive, all of it through pg_restore.
 * @param held SHA-256 of what was put into it; undefined where that is not known any more.
 * @throws {Error} that names the file, for one that was changed, cut short, or encrypted for somebody else.
 */
async function readBack(path: string, secret: string, container: string, held?: string): Promise<void> {
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
  if (held !== undefined && content.digest().sha256 !== held) throw otherBytes(path);
}

async function throughRestore(path: string, secret: string, container: string, content: Transform): Promise<void> {
  const plain = new PassThrough();
  const args = ["exec", "-i", "-u", "postgres", container, "pg_restore", "--file=/dev/null"];
  const restoring = docker(args, { input: plain });
  // A pg_restore that gives up early reads no more.
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
 * Reads a portable copy that was made before: every file's checksum, and what is in it.
 * @throws {Error} that names what is missing, changed, cut short, or not for this identity.
 */
export async function verifyPortableCopy(folder: string, secret: string, container: string): Promise<string[]> {
  const sums = await readChecksums(folder);
  for (const [file, sum] of sums) {
    const path = join(folder, file);
    const { sha256 } = await digestOf(path).catch((error) => {
      throw damaged(path, error);
    });
    if (sha256 !== sum) throw damaged(path, new Error("it was changed since it was written"));
  }
  const sealed = [...sums.keys()].filter((file) => file.endsWith(".age"));
  for (const file of sealed) await readBack(join(folder, file), secret, container);
  return sealed.filter((file) => file.endsWith(DUMP)).map((file) => file.slice(0, -DUMP.length));
}
