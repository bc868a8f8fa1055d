/** Creates certificates: those of a stack's server, of the source of the sample data, and of the tests' servers. */
import { webcrypto } from "node:crypto";
import type { X509CertificateGenerator } from "@peculiar/x509";
import "reflect-metadata";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY_MS = 24 * 60 * 60 * 1000;

/** A certificate with its private key; both PEM. */
export interface KeyedCertificate {
  certificate: string;
  key: string;
}

/** A server's certificate with its key, and the authority that signed it; all PEM. */
export interface ServerCertificate extends KeyedCertificate {
  authority: string;
}

/** The validity of a certificate. */
export interface Validity {
  notBefore: Date;
  notAfter: Date;
}

/** Returns a validity of so many days. It begins an hour early, for clients whose clock is slow. */
export const validFor = (days: number, now = new Date()): Validity => ({
  notBefore: new Date(now.getTime() - DAY_MS / 24),
  notAfter: new Date(now.getTime() + days * DAY_MS),
});

const newKeys = () => webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
const serialNumber = () => webcrypto.getRandomValues(Buffer.alloc(8)).toString("hex").replace(/^./, "1");
const isAddress = (host: string) => /^[\d.]+$|:/.test(host);

/** Loads the library on demand, so that an update that creates no certificate does not wait for it. */
const loadX509 = () => import("@peculiar/x509");
type X509 = Awaited<ReturnType<typeof loadX509>>;

async function keyedCertificate(
  { PemConverter }: X509,
  certificate: Awaited<ReturnType<typeof X509CertificateGenerator.create>>,
  privateKey: webcrypto.CryptoKey,
): Promise<KeyedCertificate> {
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", privateKey);
  return { certificate: certificate.toString("pem"), key: PemConverter.encode(pkcs8, "PRIVATE KEY") };
}

/** Creates an authority, which may sign certificates of servers but no further authorities. */
export async function makeAuthority(name: string, validity: Validity): Promise<KeyedCertificate> {
  const x509 = await loadX509();
  const keys = await newKeys();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    serialNumber: serialNumber(),
    ...validity,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return keyedCertificate(x509, authority, keys.privateKey);
}

/**
 * Creates a server's certificate.
 * @param authority the authority that signs it.
 * @param hosts the names and addresses under which clients reach the server.
 */
export async function issueCertificate(
  authority: KeyedCertificate,
  hosts: readonly string[],
  validity: Validity,
): Promise<KeyedCertificate> {
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(authority.certificate);
  const pkcs8 = x509.PemConverter.decodeFirst(authority.key);
  const signingKey = await webcrypto.subtle.importKey("pkcs8", pkcs8, ALGORITHM, false, ["sign"]);
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${hosts[0]}`,
    issuer: issuer.subject,
    serialNumber: serialNumber(),
    ...validity,
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        hosts.map((host) => ({ type: isAddress(host) ? ("ip" as const) : ("dns" as const), value: host })),
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return keyedCertificate(x509, certificate, keys.privateKey);
}

/** Creates an authority and one certificate for the hosts, valid for one day. The servers that use it run for minutes. */
export async function makeServerCertificate(hosts: readonly string[]): Promise<ServerCertificate> {
  const validity = { ...validFor(1), notBefore: new Date(Date.now() - DAY_MS) };
  const authority = await makeAuthority("Sectorwars sample authority", validity);
  return { authority: authority.certificate, ...(await issueCertificate(authority, hosts, validity)) };
}
