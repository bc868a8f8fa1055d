import tls from "node:tls";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { directHost, isLoopback, parseSourceUrl } from "../../components/import/source/source-url.ts";

const HOST = "ep-cool-sea-a1b2c3.eu-central-1.aws.neon.tech";
const POOLED = "ep-cool-sea-a1b2c3-pooler.eu-central-1.aws.neon.tech";
const url = (rest = "", host = HOST) => `postgresql://neondb_owner:npg_secret@${host}/neondb${rest}`;

const VERIFIED = "certificate and host name are verified anyway (verify-full)";

describe("a URL as Neon hands it out", () => {
  test("becomes a source that is verified", () => {
    expect(parseSourceUrl(url("?sslmode=verify-full"), "ROOTS")).toEqual({
      label: `${HOST}/neondb`,
      address: {
        host: HOST,
        port: 5432,
        database: "neondb",
        user: "neondb_owner",
        password: "npg_secret",
        tls: { ca: "ROOTS", servername: HOST, rejectUnauthorized: true },
      },
      fromContainer: { host: HOST, port: 5432 },
      rootCertificates: "ROOTS",
      remarks: [],
    });
  });

  test("with a pooled host leads to the direct one, everywhere", () => {
    const source = parseSourceUrl(url("?sslmode=require&channel_binding=require", POOLED), "ROOTS");
    expect(source.remarks).toEqual([
      `pooled host ${POOLED} replaced by the direct one, ${HOST}`,
      `sslmode require: ${VERIFIED}`,
    ]);
    expect(source.label).toBe(`${HOST}/neondb`);
    expect(source.address).toMatchObject({ host: HOST, tls: { servername: HOST } });
    expect(source.fromContainer).toEqual({ host: HOST, port: 5432 });
  });

  test("may begin with postgres://, and name a port", () => {
    const source = parseSourceUrl("postgres://u:p@db.example.org:6543/app", "ROOTS");
    expect(source).toMatchObject({
      label: "db.example.org:6543/app",
      address: { host: "db.example.org", port: 6543, database: "app", user: "u", password: "p" },
      fromContainer: { host: "db.example.org", port: 6543 },
    });
  });

  test("trusts the machine's authorities where no others are given", () => {
    const trusted = tls.getCACertificates("default").join("\n");
    const source = parseSourceUrl(url());
    expect(trusted).toContain("BEGIN CERTIFICATE");
    // Compared as booleans: a difference would print half a megabyte of certificates.
    expect(source.rootCertificates === trusted).toBe(true);
    expect(source.address.tls?.ca === trusted).toBe(true);
  });
});

describe("a URL as it is pasted", () => {
  const plain = url("?sslmode=require");
  test.each([
    `psql '${plain}'`,
    `psql "${plain}"`,
    `psql ${plain}`,
    `  '${plain}'\n`,
    `DATABASE_URL=${plain}`,
    `export DATABASE_URL="${plain}"`,
    `NEON_DATABASE_URL='${plain}';`,
    `DATABASE_URL=psql '${plain}'`,
    `'psql "${plain}"'`,
  ])("is recognised: %#", (pasted) => {
    expect(parseSourceUrl(pasted, "ROOTS")).toEqual(parseSourceUrl(plain, "ROOTS"));
  });

  test.each([
    "postgresql://u:sec,ret@a.example:5432,b.example:5433/app",
    "postgres://u:secret@a.example,b.example/app?target_session_attrs=read-write",
    "psql 'postgresql://u:secret@a.example,b.example/app'",
  ])("with several hosts is refused with the remedy, and without the password: %#", (pasted) => {
    const refuse = () => parseSourceUrl(pasted, "ROOTS");
    expect(refuse).toThrow(/has several hosts.* Keep only the host and port of that server$/);
    expect(refuse).not.toThrow(/sec/);
  });

  test("may have a comma in its password, and signs of a pasted line in its values", () => {
    expect(parseSourceUrl("postgresql://u:a,b@db.example/app", "ROOTS").address.password).toBe("a,b");
    expect(parseSourceUrl("postgresql://u:psql%20'x'@db.example/DATABASE_URL=y", "ROOTS").address).toMatchObject({
      password: "psql 'x'",
      database: "DATABASE_URL=y",
    });
  });
});

describe("sslmode", () => {
  test.each(["disable", "allow", "prefer", "require", "verify-ca"])("%s is verified anyway", (mode) => {
    const source = parseSourceUrl(url(`?sslmode=${mode}`), "ROOTS");
    expect(source.address.tls).toEqual({ ca: "ROOTS", servername: HOST, rejectUnauthorized: true });
    expect(source.rootCertificates).toBe("ROOTS");
    expect(source.remarks).toEqual([`sslmode ${mode}: ${VERIFIED}`]);
  });

  test("verify-full needs no remark", () => {
    expect(parseSourceUrl(url("?sslmode=verify-full"), "ROOTS").remarks).toEqual([]);
  });

  test("that is not given is verify-full", () => {
    const source = parseSourceUrl(url(), "ROOTS");
    expect(source.address.tls).toMatchObject({ rejectUnauthorized: true });
    expect(source.remarks).toEqual([`sslmode not given: ${VERIFIED}`]);
  });

  test.each(["", "full", "REQUIRE"])("%j is rejected", (mode) => {
    expect(() => parseSourceUrl(url(`?sslmode=${mode}`))).toThrow(
      new Error(
        `NEON_DATABASE_URL has sslmode=${mode}; it may be disable, allow, prefer, require, verify-ca, verify-full`,
      ),
    );
  });

  test.each(["", "?sslmode=disable", "?sslmode=prefer"])("is not needed on this machine: %j", (query) => {
    const source = parseSourceUrl(url(query, "127.0.0.1:5499"), "ROOTS");
    expect(source.address.tls).toBeUndefined();
    expect(source.rootCertificates).toBeUndefined();
    expect(source.fromContainer).toEqual({ host: "127.0.0.1", port: 5499, network: "host" });
    expect(source.remarks).toEqual([]);
  });

  test("that is asked for on this machine is kept", () => {
    const source = parseSourceUrl(url("?sslmode=require", "localhost"), "ROOTS");
    expect(source.address.tls).toEqual({ ca: "ROOTS", servername: "localhost", rejectUnauthorized: true });
    expect(source.fromContainer).toEqual({ host: "localhost", port: 5432, network: "host" });
  });
});

describe("other parameters", () => {
  test.each(["disable", "prefer", "require"])("channel_binding=%s is kept, and nothing to speak of", (asked) => {
    const source = parseSourceUrl(url(`?sslmode=verify-full&channel_binding=${asked}`), "R");
    expect(source.address.channelBinding).toBe(asked);
    expect(source.remarks).toEqual([]);
  });

  test("channel_binding that is not given is the connection's own choice", () => {
    expect(parseSourceUrl(url("?sslmode=verify-full"), "R").address).not.toHaveProperty("channelBinding");
  });

  test.each(["", "yes", "REQUIRE"])("channel_binding=%j is rejected", (asked) => {
    expect(() => parseSourceUrl(url(`?channel_binding=${asked}`))).toThrow(
      new Error(`NEON_DATABASE_URL has channel_binding=${asked}; it may be disable, prefer, require`),
    );
  });

  test("channel_binding=require without TLS is a contradiction", () => {
    expect(() => parseSourceUrl(url("?channel_binding=require", "localhost"))).toThrow(
      new Error("NEON_DATABASE_URL has channel_binding=require, which needs TLS: add sslmode=require"),
    );
  });

  test("options=endpoint is what the host's name says already", () => {
    expect(parseSourceUrl(url("?sslmode=verify-full&options=endpoint%3Dep-cool-sea-a1b2c3"), "R").remarks).toEqual([
      "options=endpoint left out: the host's name says it to the server (SNI)",
    ]);
  });

  test("others are said not to be used, without their values", () => {
    const source = parseSourceUrl(
      url("?sslmode=verify-full&options=-c%20statement_timeout%3D5&application_name=me&sslpassword=hunter2"),
      "R",
    );
    expect(source.remarks).toEqual([
      "URL parameter options is not used",
      "URL parameter application_name is not used",
      "URL parameter sslpassword is not used",
    ]);
  });
});

describe("percent-encoding", () => {
  test("is taken out of user, password and database", () => {
    const source = parseSourceUrl("postgresql://j%40ne:p%40ss%2Fw%3Ard%25@db.example.org/my%20db", "R");
    expect(source.address).toMatchObject({ user: "j@ne", password: "p@ss/w:rd%", database: "my db" });
    expect(source.label).toBe("db.example.org/my db");
  });

  test("brings back any user, password and database", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1 });
    fc.assert(
      fc.property(text, text, text, (user, password, database) => {
        const [u, p, d] = [user, password, database].map(encodeURIComponent);
        // A path of . or .. is a URL's own, not a name.
        fc.pre(database !== "." && database !== "..");
        const { address } = parseSourceUrl(`postgresql://${u}:${p}@db.example.org/${d}`, "R");
        expect(address).toMatchObject({ user, password, database });
      }),
    );
  });

  // An unencoded % is the commonest slip in a password; JavaScript's "URI malformed" names neither variable nor remedy.
  test.each([
    "postgresql://user:100%sure@db.example.org/app",
    "postgresql://us%er:secret@db.example.org/app",
    "postgresql://user:secret@db.example.org/ap%p",
  ])("that is broken is said to be in NEON_DATABASE_URL: %s", (broken) => {
    expect(() => parseSourceUrl(broken, "R")).toThrow(/NEON_DATABASE_URL/);
  });
});

describe("what is no source", () => {
  test.each([
    ["", "NEON_DATABASE_URL is not a URL. It looks like postgresql://user:password@host/database"],
    [
      "postgresql://u:p@h:99999/d",
      "NEON_DATABASE_URL is not a URL. It looks like postgresql://user:password@host/database",
    ],
    ["mysql://u:p@h/d", "NEON_DATABASE_URL begins with mysql://, but must begin with postgresql://"],
    ["https://console.neon.tech/x", "NEON_DATABASE_URL begins with https://, but must begin with postgresql://"],
    ["postgresql://u@h/d", "NEON_DATABASE_URL lacks a password: postgresql://user:password@host/database"],
    ["postgresql://:p@h/d", "NEON_DATABASE_URL lacks a user: postgresql://user:password@host/database"],
    ["postgresql://u:p@h", "NEON_DATABASE_URL lacks a database: postgresql://user:password@host/database"],
    ["postgresql://u:p@h/", "NEON_DATABASE_URL lacks a database: postgresql://user:password@host/database"],
    ...["#", "/", "?"].map((sign) => [
      `postgresql://u:12${sign}34@h/d`,
      `NEON_DATABASE_URL has a ${sign} before the @. Write it as ${encodeURIComponent(sign)} in a user name or password`,
    ]),
    [
      "postgresql:///d",
      "NEON_DATABASE_URL lacks a host and a user and a password: postgresql://user:password@host/database",
    ],
  ])("%j", (given, message) => {
    expect(() => parseSourceUrl(given, "R")).toThrow(new Error(message));
  });
});

/** All that people may get to see of a URL: the error, or what the source says of itself. */
function shown(given: string): string {
  try {
    const { label, remarks, fromContainer } = parseSourceUrl(given, "R");
    return JSON.stringify({ label, remarks, fromContainer });
  } catch (error) {
    const { message, stack, cause } = error as Error;
    return `${message}\n${stack}\n${JSON.stringify(cause)}`;
  }
}

describe("the password is never shown", () => {
  /** Letters that stand nowhere else, so that finding them is finding the password. */
  const mark = "Zq7Xw9";
  // No @: where one is not encoded, what follows it is the host, for every program that reads the URL.
  const around = fc.string({ unit: fc.constantFrom(..."aB35:/?#%&=[]\\ '\"é") });
  const password = fc.tuple(around, around).map(([before, after]) => `${before}${mark}${after}`);

  test("not even of a URL that is put together wrongly", () => {
    const broken = fc.constantFrom(
      (p: string) => `postgresql://user:${p}@db.example.org/app`,
      (p: string) => `postgresql://user:${p}@db.example.org/app?sslmode=nonsense`,
      (p: string) => `postgresql://user:${p}@db.example.org`,
      (p: string) => `postgresql://:${p}@db.example.org/app`,
      (p: string) => `postgresql://user:${p}@/app`,
      (p: string) => `postgresql://user:${p}@db.example.org:port/app`,
      (p: string) => `mysql://user:${p}@db.example.org/app`,
      (p: string) => `user:${p}@db.example.org/app`,
      (p: string) => `//user:${p}@db.example.org/app`,
      (p: string) => `psql 'postgresql://user:${p}@db.example.org/app'`,
      (p: string) => `postgresql://user:${encodeURIComponent(p)}@db.example.org/app?sslmode=disable&options=x`,
      (p: string) => `postgresql://user:${encodeURIComponent(p)}@db.example.org/%zz`,
    );
    fc.assert(
      fc.property(broken, password, (make, secret) => {
        expect(shown(make(secret))).not.toContain(mark);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("hosts", () => {
  test.each([
    [POOLED, HOST],
    [HOST, HOST],
    ["ep-a-pooler.c-2.eu-west-2.aws.neon.tech", "ep-a.c-2.eu-west-2.aws.neon.tech"],
    ["ep-pooler-x.aws.neon.tech", "ep-pooler-x.aws.neon.tech"],
    ["my-pooler.example.org", "my-pooler.example.org"],
    ["db.ep-a-pooler.example.org", "db.ep-a-pooler.example.org"],
  ])("%s is reached directly at %s", (given, direct) => {
    expect(directHost(given)).toBe(direct);
    expect(directHost(direct)).toBe(direct);
  });

  test.each([
    ["localhost", true],
    ["127.0.0.1", true],
    ["127.1.2.3", true],
    ["::1", true],
    ["[::1]", true],
    ["localhost.example.org", false],
    ["127.0.0.1.example.org", false],
    ["notlocalhost", false],
    ["10.0.0.1", false],
    [HOST, false],
  ])("%s is this machine: %s", (host, loopback) => expect(isLoopback(host)).toBe(loopback));

  // A URL writes an IPv6 address in brackets, which are no part of it: no connection is made to "[::1]".
  test("an IPv6 address is without its brackets", () => {
    expect(parseSourceUrl(url("", "[::1]")).address.host).toBe("::1");
  });
});
