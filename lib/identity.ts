/** The key that opens safety copies: a file of age's own kind, outside of the project and of Pulumi's state. */
import { randomBytes } from "node:crypto";
import { link, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { shellWord } from "./shell-word.ts";

/** Whom a copy is encrypted for, and who can open it. */
export interface Identity {
  /** age's private key, `AGE-SECRET-KEY-1...`. Never shown. */
  secret: string;
  /** The public key that belongs to it, `age1...`. */
  recipient: string;
}

/**
 * Reads an identity file, or says undefined where there is none.
 * @throws {Error} for a file that others may read, and for one without an identity in it.
 */
export async function readIdentity(file: string): Promise<Identity | undefined> {
  let text: string;
  try {
    const { mode } = await stat(file);
    if ((mode & 0o077) !== 0) {
      throw new Error(
        `The identity file ${file} is open to others; it opens every safety copy. Run: chmod 600 ${shellWord(file)}`,
      );
    }
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const secret = /^AGE-SECRET-KEY-1[0-9A-Z]+$/m.exec(text)?.[0];
  const recipient = secret && (await identityToRecipient(secret).catch(() => undefined));
  if (secret === undefined || recipient === undefined) {
    throw new Error(
      `The file ${file} holds no identity of age's (a line AGE-SECRET-KEY-1...). Make one: age-keygen -o FILE`,
    );
  }
  return { secret, recipient };
}

/**
 * Reads the identity file; where there is none, makes an identity and writes it down, for its owner alone.
 * @param onMade is told of a new one, so that a person can be.
 */
export async function readOrMakeIdentity(file: string, onMade: (recipient: string) => void): Promise<Identity> {
  const found = await readIdentity(file);
  if (found) return found;
  const secret = await generateX25519Identity();
  const recipient = await identityToRecipient(secret);
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  // Under another name first, then linked: two that do this at once end up with one identity, and nobody reads half of it.
  const whole = `${file}.${randomBytes(4).toString("hex")}`;
  const text = `# created: ${new Date().toISOString()}\n# public key: ${recipient}\n# opens the safety copies of sectorwars-database\n${secret}\n`;
  await writeFile(whole, text, { mode: 0o600, flag: "wx", flush: true });
  try {
    await link(whole, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return (await readIdentity(file)) as Identity;
  } finally {
    await rm(whole, { force: true });
  }
  onMade(recipient);
  return { secret, recipient };
}

/** What a person must know about a new identity, in words. */
export const aboutNewIdentity = (file: string): string =>
  `a key for safety copies was made: ${file}. Without that file no copy can ever be opened again, by nobody: keep a second one ` +
  `of it elsewhere, in a password manager for instance. It is in neither the project nor its state`;
