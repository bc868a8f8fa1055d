/** TLS of a stack's server: the file and the variables with which clients verify it, and the certificate that it presents. */
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname, join, resolve } from "node:path";
import { connect as connectTls } from "node:tls";

/** Days before its end at which `pulumi up` renews a certificate, and `doctor` warns. */
export const RENEW_DAYS = 30;

/** Where the server's container has its certificate with the key, and the authority: images/uploads/start-tls.sh makes both. */
export const TLS_FOLDER = "/etc/sectorwars-tls";
/** The authority inside the container, for psql there. */
export const AUTHORITY_INSIDE = `${TLS_FOLDER}/ca.crt`;

/** Set by `./db certificates rotate`: the update renews the certificate whatever its age. */
export const ROTATE_VARIABLE = "SECTORWARS_ROTATE_CERTIFICATE";

const DAY_MS = 24 * 60 * 60 * 1000;

/** Returns the whole days until a time; negative after it. */
export const daysUntil = (time: Date, now = new Date()): number =>
  Math.floor((time.getTime() - now.getTime()) / DAY_MS);

/** Whether a certificate ends within {@link RENEW_DAYS}. */
export const isDue = (validUntil: string, now = new Date()): boolean =>
  daysUntil(new Date(validUntil), now) < RENEW_DAYS;

/** Returns the path of the file with a stack's authority, relative to the project's folder. */
export const authorityPath = (stack: string): string => join(".local", "tls", stack, "ca.crt");

/**
 * Writes the certificate of a stack's authority to a file, for programs that read it from one. Returns the path, relative to the
 * project's folder. The file is missing in another checkout, so every program that needs it writes it.
 */
export function writeAuthority(stack: string, authority: string): string {
  const path = authorityPath(stack);
  if (readIfThere(path) === authority) return path;
  mkdirSync(dirname(path), { recursive: true });
  const partial = `${path}.${process.pid}`;
  writeFileSync(partial, authority, { mode: 0o644 });
  renameSync(partial, path);
  return path;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Returns libpq's variables for verifying a server in full. asyncpg and psycopg read them too. */
export const libpqTls = (authorityFile: string) => ({ PGSSLMODE: "verify-full", PGSSLROOTCERT: authorityFile });

/** Returns libpq's variables for programs on this machine. */
export const libpqTlsHere = (stack: string, authority: string) => libpqTls(resolve(writeAuthority(stack, authority)));

/** A certificate that a server presents. */
export interface ServedCertificate {
  /** In hexadecimal digits. */
  serial: string;
  /** As an ISO time. */
  validUntil: string;
  /** The names and addresses that it is valid for. */
  names: string[];
  /** The TLS version of the connection, for example TLSv1.3. */
  protocol: string;
}

/** Returns the names and addresses that a certificate is valid for. */
export const namesOf = ({ subjectAltName = "" }: X509Certificate): string[] =>
  subjectAltName.split(", ").map((name) => name.replace(/^(DNS|IP Address):/, "").replace(/^(0:){7}1$/, "::1"));

/** Returns the facts of a certificate. */
export function certificateFacts(pem: string | Buffer): Omit<ServedCertificate, "protocol"> {
  const certificate = new X509Certificate(pem);
  return {
    serial: certificate.serialNumber.toLowerCase(),
    validUntil: new Date(certificate.validTo).toISOString(),
    names: namesOf(certificate),
  };
}

/** The message with which a PostgreSQL client asks for TLS (PostgreSQL manual, "SSL Session Encryption"). */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/**
 * Reads the certificate that a PostgreSQL server presents. It verifies nothing, so that an expired certificate can be read too.
 * @returns undefined if the server does not offer TLS.
 * @throws {Error} if the server does not answer in time.
 */
export async function readServedCertificate(
  host: string,
  port: number,
  timeoutMs = 5000,
): Promise<ServedCertificate | undefined> {
  const socket = connect({ host, port });
  const timer = setTimeout(() => socket.destroy(new Error(`${host}:${port} did not answer in time`)), timeoutMs);
  try {
    await once(socket, "connect");
    socket.write(SSL_REQUEST);
    const [answer] = (await once(socket, "data")) as [Buffer];
    return answer.toString("latin1") === "S" ? await handshake(socket) : undefined;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}

async function handshake(socket: Socket): Promise<ServedCertificate> {
  const secured = connectTls({ socket, rejectUnauthorized: false });
  await once(secured, "secureConnect");
  const { raw } = secured.getPeerCertificate();
  const protocol = secured.getProtocol() ?? "unknown";
  // Ended, not destroyed: the server would log a handshake that was cut off.
  secured.end();
  await once(secured, "close");
  return { ...certificateFacts(raw), protocol };
}
