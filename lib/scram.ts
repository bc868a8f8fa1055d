/** Passwords as PostgreSQL keeps them. */
import { createHash, createHmac, pbkdf2Sync } from "node:crypto";

/** PostgreSQL's own number of rounds (SCRAM_SHA_256_DEFAULT_ITERATIONS). */
const ROUNDS = 4096;
const SALT_BYTES = 16;

const hmac = (key: Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest();

/**
 * The verifier of a password, in the form of pg_authid.rolpassword (RFC 5802, RFC 7677).
 * @param password ASCII, which SASLprep leaves as it is.
 */
export function verifierWithSalt(password: string, salt: Buffer): string {
  const salted = pbkdf2Sync(password, salt, ROUNDS, 32, "sha256");
  const stored = createHash("sha256").update(hmac(salted, "Client Key")).digest("base64");
  const server = hmac(salted, "Server Key").toString("base64");
  return `SCRAM-SHA-256$${ROUNDS}:${salt.toString("base64")}$${stored}:${server}`;
}

/**
 * What to send in place of a password: ALTER ROLE ... PASSWORD stands in pg_stat_activity, where the monitor role reads every
 * statement. A password of a role always has the same verifier, so that nothing seems to have changed. Its salt is as costly to
 * guess from as the verifier.
 * @param role whose password it is.
 */
export const passwordVerifier = (role: string, password: string): string =>
  verifierWithSalt(password, pbkdf2Sync(password, `sectorwars-database ${role}`, ROUNDS, SALT_BYTES, "sha256"));
