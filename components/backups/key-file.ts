/** The backups' key, in a file that you can copy to a safe place. */
import { createHash, randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { defaultIdentityFile } from "../../lib/identity-file.ts";

/** Returns the path of a stack's key file. It is in your configuration folder, outside the project, the state and the repository. */
export const keyFile = (stack: string, environment: NodeJS.ProcessEnv = process.env): string =>
  join(dirname(defaultIdentityFile(environment)), `backups-${stack}.txt`);

/** Returns 32 random bytes in hexadecimal digits, which are unambiguous when read aloud and typed. */
export const newKey = (): string => randomBytes(32).toString("hex");

/** Returns a short name of a key, which distinguishes keys without revealing them. */
export const keyName = (key: string): string => createHash("sha256").update(key).digest("hex").slice(0, 8);

const CONFIRMED = "# Confirmed as copied to a safe place: ";

const text = (stack: string, key: string) => `\
# The key to the backups of the Sectorwars database, stack ${stack}.
#
# The backups cannot be read without it. With this key and the repository, everything can be restored, even if this machine,
# the stack's state and its volumes are lost. Copy this file to a safe place elsewhere, for instance a password manager, and
# then confirm it:  ./db backup --key-is-safe${stack === "dev" ? "" : ` --stack ${stack}`}
#
# How to restore with it: docs/recovery.md
key: ${key}
`;

/** The content of a key file. */
export interface KeyFile {
  key: string;
  /** When a user confirmed that the file was copied to a safe place; undefined before that. */
  confirmedAt: string | undefined;
}

/**
 * Reads a key file; returns undefined if there is no such file. It also corrects the file's mode.
 * @throws {Error} if the file contains no key, or its mode cannot be corrected.
 */
export async function readKeyFile(file: string): Promise<KeyFile | undefined> {
  const content = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new Error(`The key file ${file} cannot be read: ${error.message}`);
  });
  if (content === undefined) return undefined;
  const key = /^key:\s*(\S+)\s*$/m.exec(content)?.[1];
  // The key becomes a line of pgBackRest's configuration, where other characters would change the meaning of the line.
  if (key === undefined || !/^[\w+/=-]{16,}$/.test(key)) {
    throw new Error(`The key file ${file} has no line "key: ...". Replace it with your copy of the key file.`);
  }
  if (((await stat(file)).mode & 0o077) !== 0) await chmod(file, 0o600);
  const confirmed = content.split("\n").find((line) => line.startsWith(CONFIRMED));
  return { key, confirmedAt: confirmed?.slice(CONFIRMED.length) };
}

/** Writes a key file atomically, and never overwrites one. */
export async function writeKeyFile(file: string, stack: string, key: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const partial = `${file}.${process.pid}`;
  const handle = await open(partial, "wx", 0o600);
  try {
    await handle.writeFile(text(stack, key));
    await handle.sync();
    await handle.close();
    await link(partial, file);
  } finally {
    await rm(partial, { force: true });
  }
}

/** Records in the file that a copy of it is in a safe place. */
export async function confirmKeyFile(file: string, now: Date): Promise<void> {
  const known = await readKeyFile(file);
  if (known === undefined) throw new Error(`There is no key file ${file}.`);
  if (known.confirmedAt !== undefined) return;
  // An editor may have removed the newline after the last line, which contains the key.
  const end = (await readFile(file, "utf8")).endsWith("\n") ? "" : "\n";
  const handle = await open(file, "a");
  await handle.writeFile(`${end}${CONFIRMED}${now.toISOString()}\n`);
  await handle.close();
}
