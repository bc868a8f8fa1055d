/** The age identity that decrypts safety copies: an identity file outside of the project and of Pulumi's state. */
import { randomBytes } from "node:crypto";
import { link, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { shellWord } from "./shell-word.ts";

/** A key pair of age. */
export interface Identity {
  /** The private key, `AGE-SECRET-KEY-1...`. Never shown. */
  secret: string;
  /** The public key, `age1...`. */
  recipient: string;
}

/**
 * Reads an identity file. Returns undefined if it does not exist.
 * @throws {Error} for a file that other users may read, and for one that contains no identity.
 */
export async function readIdentity(file: string): Promise<Identity | undefined> {
  let text: string;
  try {
    const { mode } = await stat(file);
    if ((mode & 0o077) !== 0) {
      throw new Error(
        `Other users can read the identity file ${file}, which decrypts every safety copy. Run: chmod 600 ${shellWord(file)}`,
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
    throw new Error(`${file} contains no age identity (a line AGE-SECRET-KEY-1...). Create one: age-keygen -o FILE`);
  }
  return { secret, recipient };
}

/**
 * Reads the identity file. If it does not exist, creates an identity and writes the file, readable only by its owner.
 * @param onMade is called with the public key of a new identity, to notify the user.
 */
export async function readOrMakeIdentity(file: string, onMade: (recipient: string) => void): Promise<Identity> {
  const found = await readIdentity(file);
  if (found) return found;
  const secret = await generateX25519Identity();
  const recipient = await identityToRecipient(secret);
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  // Written under another name, then linked: two processes that do this at once get one identity, and neither reads a partial file.
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

/** Returns the notice about a new identity. */
export const aboutNewIdentity = (file: string): string =>
  `created the key for safety copies: ${file}. Without this file, no safety copy can be decrypted: store a copy of it elsewhere, for ` +
  `example in a password manager. Neither the project nor its state contains it`;
