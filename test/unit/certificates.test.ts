import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { duplexPair } from "node:stream";
import tls from "node:tls";
import { beforeAll, describe, expect, test } from "vitest";
import {
  issueCertificate,
  makeAuthority,
  makeServerCertificate,
  type ServerCertificate,
  validFor,
} from "../../lib/certificates.ts";

const HOSTS = ["sample-source", "localhost", "127.0.0.1", "::1"];

let made: ServerCertificate;
let other: ServerCertificate;
beforeAll(async () => {
  [made, other] = await Promise.all([makeServerCertificate(HOSTS), makeServerCertificate(["localhost"])]);
});

/** Makes a handshake in memory, as a client that trusts the authority and expects the host. */
async function handshake(server: ServerCertificate, authority: string, host: string): Promise<string> {
  const [near, far] = duplexPair();
  const context = tls.createSecureContext({ cert: server.certificate, key: server.key });
  const answering = new tls.TLSSocket(far, { isServer: true, secureContext: context });
  // A handshake that the client refuses is an error on the server's side too.
  answering.on("error", () => {});
  const asking = tls.connect({ socket: near, ca: authority, servername: host, rejectUnauthorized: true });
  try {
    await once(asking, "secureConnect");
    return asking.authorized ? "trusted" : "not trusted";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  } finally {
    asking.destroy();
    answering.destroy();
  }
}

describe("a server's certificate", () => {
  test("is signed by its authority, and by no other", () => {
    const leaf = new X509Certificate(made.certificate);
    const authority = new X509Certificate(made.authority);
    const stranger = new X509Certificate(other.authority);
    expect(leaf.checkIssued(authority)).toBe(true);
    expect(leaf.verify(authority.publicKey)).toBe(true);
    expect(leaf.verify(stranger.publicKey)).toBe(false);
    expect(authority.verify(authority.publicKey)).toBe(true);
  });

  test("is not a CA certificate, while its authority's is one", () => {
    expect(new X509Certificate(made.certificate).ca).toBe(false);
    expect(new X509Certificate(made.authority).ca).toBe(true);
  });

  test("is valid for its hosts, and for no others", () => {
    const leaf = new X509Certificate(made.certificate);
    expect(leaf.checkHost("localhost")).toBe("localhost");
    expect(leaf.checkHost("sample-source")).toBe("sample-source");
    expect(leaf.checkIP("127.0.0.1")).toBe("127.0.0.1");
    expect(leaf.checkIP("::1")).toBe("::1");
    expect(leaf.checkHost("sample-source.example.org")).toBeUndefined();
    expect(leaf.checkHost("other")).toBeUndefined();
    expect(leaf.checkIP("127.0.0.2")).toBeUndefined();
  });

  test("matches its private key, and no other", () => {
    expect(new X509Certificate(made.certificate).checkPrivateKey(createPrivateKey(made.key))).toBe(true);
    expect(new X509Certificate(made.certificate).checkPrivateKey(createPrivateKey(other.key))).toBe(false);
  });

  test("is valid now and for at most 24 hours", () => {
    for (const pem of [made.certificate, made.authority]) {
      const { validFromDate, validToDate } = new X509Certificate(pem);
      expect(validFromDate.getTime()).toBeLessThan(Date.now());
      expect(validToDate.getTime()).toBeGreaterThan(Date.now());
      expect(validToDate.getTime()).toBeLessThanOrEqual(Date.now() + 24 * 60 * 60 * 1000);
    }
  });

  test("is new each time: keys and serial numbers are never shared", () => {
    expect(made.key).not.toBe(other.key);
    const numbers = [made, other].flatMap(({ certificate, authority }) =>
      [certificate, authority].map((pem) => new X509Certificate(pem).serialNumber),
    );
    expect(new Set(numbers).size).toBe(4);
  });

  test("is trusted by a client that knows its authority", async () => {
    expect(await handshake(made, made.authority, "localhost")).toBe("trusted");
    expect(await handshake(made, made.authority, "sample-source")).toBe("trusted");
  });

  test("is refused by a client that expects another host or trusts another authority", async () => {
    expect(await handshake(made, made.authority, "db.example.org")).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
    expect(await handshake(made, other.authority, "localhost")).toMatch(/UNABLE_TO_VERIFY|SIGNATURE|ISSUER/);
  });
});

describe("a certificate of an authority", () => {
  test("has what strict verification demands: the identifiers of both keys, and the use of its own", async () => {
    const x509 = await import("@peculiar/x509");
    const authority = await makeAuthority("an authority", validFor(3650));
    const { certificate } = await issueCertificate(authority, HOSTS, validFor(825));
    const [leaf, root] = [new x509.X509Certificate(certificate), new x509.X509Certificate(authority.certificate)];
    const of = leaf.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId;
    expect(of).toBe(root.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId);
    expect(leaf.getExtension(x509.SubjectKeyIdentifierExtension)).not.toBeNull();
    expect(leaf.getExtension(x509.KeyUsagesExtension)?.usages).toBe(x509.KeyUsageFlags.digitalSignature);
    expect(root.getExtension(x509.BasicConstraintsExtension)).toMatchObject({
      ca: true,
      pathLength: 0,
      critical: true,
    });
    expect(Math.round((leaf.notAfter.getTime() - Date.now()) / 86_400_000)).toBe(825);
    expect(new X509Certificate(certificate).checkIssued(new X509Certificate(authority.certificate))).toBe(true);
  });
});
