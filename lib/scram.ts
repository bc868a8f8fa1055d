/** Computes password verifiers as PostgreSQL stores them. */
import { createHash, createHmac, pbkdf2Sync } from "node:crypto";

/** PostgreSQL's default number of iterations (SCRAM_SHA_256_DEFAULT_ITERATIONS). */
const ROUNDS = 4096;
const SALT_BYTES = 16;

const hmac = (key: Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/**
 * Returns the verifier of a password, in the form of pg_authid.rolpassword (RFC 5802, RFC 7677).
 * @param password ASCII, which SASLprep does not change.
 */
export function verifierWithSalt(password: string, salt: Buffer): string {
  const salted = pbkdf2Sync(password, salt, ROUNDS, 32, "sha256");
  const stored = createHash("sha256").update(hmac(salted, "Client Key")).digest("base64");
  const server = hmac(salted, "Server Key").toString("base64");
  return `SCRAM-SHA-256$${ROUNDS}:${salt.toString("base64")}$${stored}:${server}`;
}

/**
 * Returns the verifier to send instead of a password: pg_stat_activity shows ALTER ROLE ... PASSWORD, and the monitor role can read every
 * statement there. The same role and password always have the same verifier, so that Pulumi sees no change. Guessing the password from
 * the salt costs as much as guessing it from the verifier.
 * @param role the role that the password belongs to.
 */
export const passwordVerifier = (role: string, password: string): string =>
  verifierWithSalt(password, pbkdf2Sync(password, `sectorwars-database ${role}`, ROUNDS, SALT_BYTES, "sha256"));
