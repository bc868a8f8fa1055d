/** TLS of the server: verification by our own clients, the certificate that a server presents, and when it is renewed. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { judgeCertificate } from "../../cli/support/certificate.ts";
import type { CertificateInputs } from "../../components/server/certificates.ts";
import { certificateHosts } from "../../components/server/certificates.ts";
import { issueCertificate, type KeyedCertificate, makeAuthority, validFor } from "../../lib/certificates.ts";
import { namesFor } from "../../lib/naming.ts";
import { withConnection } from "../../lib/postgres.ts";
import { certificateFacts, isDue, ROTATE_VARIABLE, readServedCertificate } from "../../lib/server-tls.ts";
import { verifiedTls } from "../../lib/verified-tls.ts";

const HOSTS = ["database", "localhost", "127.0.0.1", "::1"];
let authority: KeyedCertificate;
let stranger: KeyedCertificate;
let leaf: KeyedCertificate;
let server: net.Server;
let port: number;

/** A server that answers SSLRequest as PostgreSQL does, and ends the connection after the handshake. */
beforeAll(async () => {
  authority = await makeAuthority("ours", validFor(10));
  stranger = await makeAuthority("another", validFor(10));
  leaf = await issueCertificate(authority, HOSTS, validFor(5));
  const secureContext = tls.createSecureContext({ cert: leaf.certificate, key: leaf.key });
  server = net.createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("S");
      new tls.TLSSocket(socket, { isServer: true, secureContext }).on("error", () => {}).on("data", () => socket.end());
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  port = (server.address() as net.AddressInfo).port;
});
afterAll(() => server.close());

/** Returns why a connection with these TLS options fails. The server ends every connection after the handshake. */
const failure = async (options: tls.ConnectionOptions): Promise<string> =>
  withConnection(
    { host: "127.0.0.1", port, database: "d", user: "u", password: "p", tls: options },
    async () => {},
  ).then(
    () => "none",
    ({ code, message }: Error & { code?: string }) => code ?? message,
  );

describe("a connection that verifies the server", () => {
  test("accepts the stack's authority and the address", async () => {
    expect(await failure(verifiedTls(authority.certificate, "127.0.0.1"))).toMatch(/terminated|ECONNRESET|EPIPE/);
  });

  test("refuses another authority", async () => {
    expect(await failure(verifiedTls(stranger.certificate, "127.0.0.1"))).toMatch(/UNABLE_TO_|SELF_SIGNED|SIGNATURE/);
  });

  test("refuses a certificate for another address, also if that is valid for localhost", async () => {
    expect(await failure(verifiedTls(authority.certificate, "192.0.2.1"))).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
  });
});

test("the certificate that a server presents is read without trusting it", async () => {
  const served = await readServedCertificate("127.0.0.1", port);
  expect(served).toMatchObject({ ...certificateFacts(leaf.certificate), protocol: "TLSv1.3" });
  expect(served?.names).toEqual(HOSTS);
});

test("a server without TLS presents none", async () => {
  const plain = net.createServer((socket) => socket.once("data", () => socket.end("N")));
  await once(plain.listen(0, "127.0.0.1"), "listening");
  expect(await readServedCertificate("127.0.0.1", (plain.address() as net.AddressInfo).port)).toBeUndefined();
  plain.close();
});

test("the certificate names the alias, the container, the loopback addresses, the published address, and those of the setting", () => {
  const hosts = certificateHosts(namesFor("dev"), "192.0.2.7", { names: ["db.example.org", "localhost"], days: 825 });
  const { alias, container } = namesFor("dev");
  expect(hosts).toEqual([alias, container, "localhost", "127.0.0.1", "::1", "192.0.2.7", "db.example.org"]);
});

describe("a certificate is due", () => {
  const now = new Date("2026-01-01T00:00:00Z");
  const served = { serial: "1f", names: ["database"], protocol: "TLSv1.3" };

  test("from 30 days before its end, and not earlier", () => {
    expect(isDue("2026-01-31T00:00:00Z", now)).toBe(false);
    expect(isDue("2026-01-30T23:59:59Z", now)).toBe(true);
    expect(isDue("2025-12-31T00:00:00Z", now)).toBe(true);
  });

  test("and then doctor names the command that renews it", () => {
    expect(judgeCertificate({ ...served, validUntil: "2026-01-31T00:00:00Z" }, "dev", now)).toMatchObject({
      daysLeft: 30,
    });
    expect(judgeCertificate({ ...served, validUntil: "2026-01-11T12:00:00Z" }, "game", now)).toMatchObject({
      problem: "the certificate expires in 10 days, at 2026-01-11T12:00:00Z",
      remedy: "./db certificates rotate --stack game",
    });
    expect(judgeCertificate({ ...served, validUntil: "2025-12-01T00:00:00Z" }, "dev", now).problem).toMatch(
      /expired at/,
    );
  });
});

describe("the server's certificate", () => {
  let inputs: CertificateInputs;
  let folder: string;
  /** What the docker command was asked to do, with its input. */
  const said = () => readFileSync(join(folder, "said"), "utf8");
  /** Puts a docker command on PATH that writes down what it is asked, and exits with this code. */
  const fakeDocker = (code: number, error = "") => {
    const script = `#!/bin/sh\n{ printf '%s ' "$@"; cat; echo; } >>"${folder}/said"\necho '${error}' >&2\nexit ${code}\n`;
    writeFileSync(join(folder, "docker"), script, { mode: 0o755 });
  };
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "docker-"));
    fakeDocker(0);
    vi.stubEnv("PATH", `${folder}:${process.env.PATH}`);
    inputs = {
      authority: authority.certificate,
      authorityKey: authority.key,
      hosts: HOSTS,
      days: 825,
      container: "some-container",
      containerId: "first",
      host: "127.0.0.1",
      // Nothing answers there, as on an engine whose port is not forwarded yet.
      port: 1,
      dockerHost: undefined,
    };
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });
  const load = async () => (await import("../../components/server/certificate-provider.ts")).provider;
  const changes = async (olds: object, news: object) => (await (await load()).diff?.("id", olds, news))?.changes;

  test("is issued by the authority, and ends no later than that", async () => {
    const { outs } = await (await load()).create(inputs);
    expect(new Date(outs.validUntil).getTime()).toBe(
      new Date(certificateFacts(authority.certificate).validUntil).getTime(),
    );
    expect(said()).toContain(outs.pair);
    expect(said()).toContain("SELECT pg_catalog.pg_reload_conf()");
  });

  test("is renewed if fewer than 30 days are left, which its authority's 10 days force here", async () => {
    const { outs } = await (await load()).create(inputs);
    expect(await changes(outs, inputs)).toBe(true);
    const { outs: renewed } = (await (await load()).update?.("id", outs, inputs)) ?? {};
    expect(renewed.serial).not.toBe(outs.serial);
  });

  describe("with years left", () => {
    beforeEach(async () => {
      const lasting = await makeAuthority("lasting", validFor(3650));
      inputs = { ...inputs, authority: lasting.certificate, authorityKey: lasting.key };
    });

    test("stays the same, also if the number of days for the next one changes", async () => {
      const { outs } = await (await load()).create(inputs);
      expect(await changes(outs, inputs)).toBe(false);
      expect(await changes(outs, { ...inputs, days: 90 })).toBe(false);
    });

    test("is put into another container unchanged", async () => {
      const { outs } = await (await load()).create(inputs);
      const moved = { ...inputs, containerId: "second" };
      expect(await changes(outs, moved)).toBe(true);
      const { outs: after } = (await (await load()).update?.("id", outs, moved)) ?? {};
      expect(after).toMatchObject({ serial: outs.serial, pair: outs.pair });
      expect(said().split(outs.pair)).toHaveLength(3);
    });

    test("is replaced if its names or its authority change, or if ./db certificates rotate asks for it", async () => {
      const { outs } = await (await load()).create(inputs);
      const renamed = { ...inputs, hosts: [...HOSTS, "db.example.org"] };
      expect(await changes(outs, renamed)).toBe(true);
      const { outs: after } = (await (await load()).update?.("id", outs, renamed)) ?? {};
      expect(after.serial).not.toBe(outs.serial);
      expect(certificateFacts(after.pair).names).toContain("db.example.org");
      vi.stubEnv(ROTATE_VARIABLE, "yes");
      expect(await changes(after, renamed)).toBe(true);
      const { outs: rotated } = (await (await load()).update?.("id", after, renamed)) ?? {};
      expect(rotated.serial).not.toBe(after.serial);
    });

    test("is refused if the server presents another one afterwards, with the command that shows why", async () => {
      await expect((await load()).create({ ...inputs, port })).rejects.toThrow(
        /^The server in some-container presents the certificate .* docker logs --tail 20 some-container$/,
      );
    }, 20_000);

    test("is tried again by the next update if the container did not run", async () => {
      fakeDocker(1, "Error response from daemon: container 12 is not running");
      const { outs } = await (await load()).create(inputs);
      expect(await changes(outs, inputs)).toBe(true);
    });
  });
});

test("the authority is created once, and again 30 days before its end", async () => {
  const { provider } = await import("../../components/server/authority-provider.ts");
  const { outs } = await provider.create({ stack: "dev", hosts: HOSTS, days: 825 });
  const changes = async (olds: object) => (await provider.diff?.("dev", olds, {}))?.changes;
  expect(await changes(outs)).toBe(false);
  expect(await changes({ ...outs, authorityUntil: new Date(Date.now() + 29 * 86_400_000).toISOString() })).toBe(true);
  const first = certificateFacts(outs.first);
  expect(first.names).toEqual(HOSTS);
});
