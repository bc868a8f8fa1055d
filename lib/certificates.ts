/** Creates certificates for servers that this project starts: the source of the sample data, and those of the tests. */
import { webcrypto } from "node:crypto";
import "reflect-metadata";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const A_DAY = 24 * 60 * 60 * 1000;

/** A server's certificate with its key, and the authority that signed it; all PEM. */
export interface ServerCertificate {
  authority: string;
  certificate: string;
  key: string;
}

const newKeys = () => webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
const serialNumber = () => webcrypto.getRandomValues(Buffer.alloc(8)).toString("hex").replace(/^./, "1");

/** Creates an authority and one certificate for the hosts, valid for one day. The servers that use it run for minutes. */
export async function makeServerCertificate(hosts: readonly string[]): Promise<ServerCertificate> {
  // Loaded on demand, so that an update that imports nothing does not wait for it.
  const x509 = await import("@peculiar/x509");
  const notBefore = new Date(Date.now() - A_DAY);
  const notAfter = new Date(Date.now() + A_DAY);
  const authorityKeys = await newKeys();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=Sectorwars sample authority",
    serialNumber: serialNumber(),
    notBefore,
    notAfter,
    keys: authorityKeys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  const keys = await newKeys();
  const isAddress = (host: string) => /^[\d.]+$|:/.test(host);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${hosts[0]}`,
    issuer: authority.subject,
    serialNumber: serialNumber(),
    notBefore,
    notAfter,
    publicKey: keys.publicKey,
    signingKey: authorityKeys.privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        hosts.map((host) => ({ type: isAddress(host) ? ("ip" as const) : ("dns" as const), value: host })),
      ),
    ],
  });
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    authority: authority.toString("pem"),
    certificate: certificate.toString("pem"),
    key: x509.PemConverter.encode(pkcs8, "PRIVATE KEY"),
  };
}
