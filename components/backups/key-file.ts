/** The key to the backups, in a file that a person can copy to a safe place. */
import { createHash, randomBytes } from "node:crypto";
import { chmod, link, mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { defaultIdentityFile } from "../../lib/identity-file.ts";

/** Where a stack's key lies: with a person's other settings, outside of the project, the state and the repository. */
export const keyFile = (stack: string, environment: NodeJS.ProcessEnv = process.env): string =>
  join(dirname(defaultIdentityFile(environment)), `backups-${stack}.txt`);

/** 32 random bytes; hexadecimal, so that it is read aloud and typed without doubt. */
export const newKey = (): string => randomBytes(32).toString("hex");

/** A short name of a key, for telling two apart without showing either. */
export const keyName = (key: string): string => createHash("sha256").update(key).digest("hex").slice(0, 8);

const CONFIRMED = "# Confirmed as copied to a safe place: ";

const text = (stack: string, key: string) => `\
# The key to the backups of the Sectorwars database, stack ${stack}.
#
# Nobody can read the backups without it. With it and the repository everything can be restored, also when this machine,
# the stack's state and its volumes are lost. Copy this file to a safe place elsewhere, a password manager for instance, and
# then say so:  ./db backup --key-is-safe${stack === "dev" ? "" : ` --stack ${stack}`}
#
# How to restore with it: docs/recovery.md
key: ${key}
`;

/** What a key file says. */
export interface KeyFile {
  key: string;
  /** When somebody said that it was copied elsewhere; undefined if nobody has. */
  confirmedAt: string | undefined;
}

/**
 * Reads a key file; undefined if there is none.
 * @throws {Error} when the file holds no key, or others may read it and that cannot be mended.
 */
export async function readKeyFile(file: string): Promise<KeyFile | undefined> {
  const content = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new Error(`The key file ${file} cannot be read: ${error.message}`);
  });
  if (content === undefined) return undefined;
  const key = /^key:\s*(\S+)\s*$/m.exec(content)?.[1];
  // pgBackRest's configuration is made of it: whatever is no plain word would be read as something else.
  if (key === undefined || !/^[\w+/=-]{16,}$/.test(key)) {
    throw new Error(`The key file ${file} has no line "key: ...". Bring back the copy that was made of it.`);
  }
  if (((await stat(file)).mode & 0o077) !== 0) await chmod(file, 0o600);
  const confirmed = content.split("\n").find((line) => line.startsWith(CONFIRMED));
  return { key, confirmedAt: confirmed?.slice(CONFIRMED.length) };
}

/** Writes a key file whole or not at all, and never over one that is there. */
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

/** Notes in the file that a copy of it is in a safe place. */
export async function confirmKeyFile(file: string, now: Date): Promise<void> {
  const known = await readKeyFile(file);
  if (known === undefined) throw new Error(`There is no key file ${file}.`);
  if (known.confirmedAt !== undefined) return;
  // Somebody's editor may have left out the end of the last line, which is the key's.
  const end = (await readFile(file, "utf8")).endsWith("\n") ? "" : "\n";
  const handle = await open(file, "a");
  await handle.writeFile(`${end}${CONFIRMED}${now.toISOString()}\n`);
  await handle.close();
}
