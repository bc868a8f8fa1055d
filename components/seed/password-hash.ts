/**
 * Hashes passwords in the formats of passlib and argon2-cffi, which Python applications use. The parameters are those of RFC 9106
 * (argon2id, its second recommended option) and of OWASP's Password Storage Cheat Sheet. A verifier reads them from the hash.
 */
import * as crypto from "node:crypto";
import { promisify } from "node:util";
import { compare as bcryptCompare, hash as bcryptHash } from "bcryptjs";

const SALT_BYTES = 16;
const DIGEST_BYTES = 32;
/** Memory in KiB, passes and lanes. */
const ARGON2 = { memory: 65_536, passes: 3, parallelism: 4 } as const;
const ARGON2_VERSION = 19;
/** log2 of the cost, block size and lanes: 128 MiB. */
const SCRYPT = { ln: 17, r: 8, p: 1 } as const;
const PBKDF2_ROUNDS = 600_000;
const BCRYPT_ROUNDS = 12;
/** bcrypt ignores further bytes. */
const BCRYPT_BYTES = 72;

const SQL = /^sql:\s*/;

/** Base64 without padding, as in the PHC string format. */
const base64 = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");
/** passlib's variant of base64 ("ab64"), with a dot in place of the plus. */
const dottedBase64 = (bytes: Buffer) => base64(bytes).replaceAll("+", ".");

/** Returns Node's argon2. @throws {Error} if Node is too old to have it. */
function argon2Function(): typeof crypto.argon2 {
  // New in Node 24.7.
  if (typeof crypto.argon2 === "function") return crypto.argon2;
  throw new Error(
    `Node ${process.versions.node} has no crypto.argon2, which seedPasswordHash argon2id needs. Use Node 24.7 or newer: . script/env`,
  );
}

const argon2Digest = (message: string, nonce: Buffer): Promise<Buffer> =>
  promisify(argon2Function())("argon2id", { message, nonce, tagLength: DIGEST_BYTES, ...ARGON2 });

function scryptDigest(password: string, salt: Buffer): Promise<Buffer> {
  const { ln, r, p } = SCRYPT;
  const N = 2 ** ln;
  // The memory that scrypt needs, plus overhead.
  const maxmem = 128 * r * (N + p + 2);
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  crypto.scrypt(password, salt, DIGEST_BYTES, { N, r, p, maxmem }, (error, digest) =>
    error ? reject(error) : resolve(digest),
  );
  return promise;
}

const pbkdf2Digest = (password: string, salt: Buffer): Promise<Buffer> =>
  promisify(crypto.pbkdf2)(password, salt, PBKDF2_ROUNDS, DIGEST_BYTES, "sha256");

async function argon2id(password: string): Promise<string> {
  const nonce = crypto.randomBytes(SALT_BYTES);
  const { memory, passes, parallelism } = ARGON2;
  const digest = await argon2Digest(password, nonce);
  return `$argon2id$v=${ARGON2_VERSION}$m=${memory},t=${passes},p=${parallelism}$${base64(nonce)}$${base64(digest)}`;
}

async function scrypt(password: string): Promise<string> {
  const salt = crypto.randomBytes(SALT_BYTES);
  const { ln, r, p } = SCRYPT;
  return `$scrypt$ln=${ln},r=${r},p=${p}$${base64(salt)}$${base64(await scryptDigest(password, salt))}`;
}

async function pbkdf2(password: string): Promise<string> {
  const salt = crypto.randomBytes(SALT_BYTES);
  return `$pbkdf2-sha256$${PBKDF2_ROUNDS}$${dottedBase64(salt)}$${dottedBase64(await pbkdf2Digest(password, salt))}`;
}

async function bcrypt(password: string): Promise<string> {
  if (Buffer.byteLength(password) > BCRYPT_BYTES)
    throw new Error(`bcrypt hashes only the first ${BCRYPT_BYTES} bytes of a password, and this one is longer`);
  return bcryptHash(password, BCRYPT_ROUNDS);
}

const SCHEMES: Readonly<Record<string, (password: string) => Promise<string>>> = {
  argon2id,
  bcrypt,
  scrypt,
  pbkdf2_sha256: pbkdf2,
};

/** The valid schemes, as an instruction. */
export const PASSWORD_SCHEME_RULE =
  `choose ${Object.keys(SCHEMES).join(", ")}, or give an SQL expression with $1 for the password: ` +
  `"sql: crypt($1, gen_salt('bf', 12))"`;

/** Returns the SQL expression of a scheme `sql: EXPRESSION`; undefined for a scheme that this program computes. */
export const sqlExpressionOf = (scheme: string): string | undefined =>
  SQL.test(scheme) ? scheme.replace(SQL, "") : undefined;

/** Whether a scheme is valid. An SQL expression must contain $1. */
export const isPasswordScheme = (scheme: string): boolean =>
  sqlExpressionOf(scheme)?.includes("$1") ?? Object.hasOwn(SCHEMES, scheme);

/**
 * Hashes a password.
 * @param scheme argon2id, bcrypt, scrypt or pbkdf2_sha256.
 * @throws {Error} for any other scheme, and for a password that the scheme would truncate.
 */
export async function hashPassword(scheme: string, password: string): Promise<string> {
  const hash = Object.hasOwn(SCHEMES, scheme) ? SCHEMES[scheme] : undefined;
  if (hash === undefined) throw new Error(`There is no password scheme "${scheme}": ${PASSWORD_SCHEME_RULE}`);
  return hash(password);
}

/** Computes the digest of a password with the salt of a hash by {@link hashPassword}; returns undefined for any other hash. */
function digestAgain(hash: string, password: string): Promise<Buffer> | undefined {
  const [, scheme = "", ...parts] = hash.split("$");
  const salt = Buffer.from((parts.at(-2) ?? "").replaceAll(".", "+"), "base64");
  if (hash.startsWith(`$argon2id$v=${ARGON2_VERSION}$m=${ARGON2.memory},t=${ARGON2.passes},p=${ARGON2.parallelism}$`))
    return argon2Digest(password, salt);
  if (hash.startsWith(`$scrypt$ln=${SCRYPT.ln},r=${SCRYPT.r},p=${SCRYPT.p}$`)) return scryptDigest(password, salt);
  return scheme === "pbkdf2-sha256" && parts[0] === String(PBKDF2_ROUNDS) ? pbkdf2Digest(password, salt) : undefined;
}

/** Whether a password matches a hash by this program, or any bcrypt hash. False for any other hash. */
export async function fitsPassword(hash: string, password: string): Promise<boolean> {
  if (/^\$2[aby]\$/.test(hash)) return bcryptCompare(password, hash);
  const digest = await digestAgain(hash, password);
  const stored = Buffer.from((hash.split("$").at(-1) ?? "").replaceAll(".", "+"), "base64");
  return digest !== undefined && stored.length === digest.length && crypto.timingSafeEqual(stored, digest);
}
