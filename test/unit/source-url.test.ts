import tls from "node:tls";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { directHost, isLoopback, parseSourceUrl } from "../../components/import/source/source-url.ts";

const HOST = "ep-cool-sea-a1b2c3.eu-central-1.aws.neon.tech";
const POOLED = "ep-cool-sea-a1b2c3-pooler.eu-central-1.aws.neon.tech";
const url = (rest = "", host = HOST) => `postgresql://neondb_owner:npg_secret@${host}/neondb${rest}`;

const VERIFIED = "certificate and host name are verified anyway (verify-full)";

describe("a URL from Neon", () => {
  test("becomes a source with a verified certificate", () => {
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

  test("with a pooled host becomes a source with the direct host", () => {
    const source = parseSourceUrl(url("?sslmode=require&channel_binding=require", POOLED), "ROOTS");
    expect(source.remarks).toEqual([
      `pooled host ${POOLED} replaced by the direct one, ${HOST}`,
      `sslmode require: ${VERIFIED}`,
    ]);
    expect(source.label).toBe(`${HOST}/neondb`);
    expect(source.address).toMatchObject({ host: HOST, tls: { servername: HOST } });
    expect(source.fromContainer).toEqual({ host: HOST, port: 5432 });
  });

  test("may begin with postgres:// and contain a port", () => {
    const source = parseSourceUrl("postgres://u:p@db.example.org:6543/app", "ROOTS");
    expect(source).toMatchObject({
      label: "db.example.org:6543/app",
      address: { host: "db.example.org", port: 6543, database: "app", user: "u", password: "p" },
      fromContainer: { host: "db.example.org", port: 6543 },
    });
  });

  test("uses the machine's certificate authorities if no others are given", () => {
    const trusted = tls.getCACertificates("default").join("\n");
    const source = parseSourceUrl(url());
    expect(trusted).toContain("BEGIN CERTIFICATE");
    // Compared as booleans, because a difference would print half a megabyte of certificates.
    expect(source.rootCertificates === trusted).toBe(true);
    expect(source.address.tls?.ca === trusted).toBe(true);
  });
});

describe("a pasted URL", () => {
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
  ])("is recognised in form %#", (pasted) => {
    expect(parseSourceUrl(pasted, "ROOTS")).toEqual(parseSourceUrl(plain, "ROOTS"));
  });

  test.each([
    "postgresql://u:sec,ret@a.example:5432,b.example:5433/app",
    "postgres://u:secret@a.example,b.example/app?target_session_attrs=read-write",
    "psql 'postgresql://u:secret@a.example,b.example/app'",
  ])("with several hosts is refused with a remedy and without the password (%#)", (pasted) => {
    const refuse = () => parseSourceUrl(pasted, "ROOTS");
    expect(refuse).toThrow(/has several hosts.* Keep only the host and port of that server$/);
    expect(refuse).not.toThrow(/sec/);
  });

  test("may contain a comma in its password, and text such as psql in its values", () => {
    expect(parseSourceUrl("postgresql://u:a,b@db.example/app", "ROOTS").address.password).toBe("a,b");
    expect(parseSourceUrl("postgresql://u:psql%20'x'@db.example/DATABASE_URL=y", "ROOTS").address).toMatchObject({
      password: "psql 'x'",
      database: "DATABASE_URL=y",
    });
  });
});

describe("sslmode", () => {
  test.each(["disable", "allow", "prefer", "require", "verify-ca"])("%s becomes verify-full, with a remark", (mode) => {
    const source = parseSourceUrl(url(`?sslmode=${mode}`), "ROOTS");
    expect(source.address.tls).toEqual({ ca: "ROOTS", servername: HOST, rejectUnauthorized: true });
    expect(source.rootCertificates).toBe("ROOTS");
    expect(source.remarks).toEqual([`sslmode ${mode}: ${VERIFIED}`]);
  });

  test("verify-full has no remark", () => {
    expect(parseSourceUrl(url("?sslmode=verify-full"), "ROOTS").remarks).toEqual([]);
  });

  test("is verify-full if it is not given", () => {
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

  test.each(["", "?sslmode=disable", "?sslmode=prefer"])(
    "may be missing or weak on this machine, which connects without TLS: %j",
    (query) => {
      const source = parseSourceUrl(url(query, "127.0.0.1:5499"), "ROOTS");
      expect(source.address.tls).toBeUndefined();
      expect(source.rootCertificates).toBeUndefined();
      expect(source.fromContainer).toEqual({ host: "127.0.0.1", port: 5499, network: "host" });
      expect(source.remarks).toEqual([]);
    },
  );

  test("require is kept on this machine", () => {
    const source = parseSourceUrl(url("?sslmode=require", "localhost"), "ROOTS");
    expect(source.address.tls).toEqual({ ca: "ROOTS", servername: "localhost", rejectUnauthorized: true });
    expect(source.fromContainer).toEqual({ host: "localhost", port: 5432, network: "host" });
  });
});

describe("other parameters of a URL", () => {
  test.each(["disable", "prefer", "require"])("channel_binding=%s is kept without a remark", (asked) => {
    const source = parseSourceUrl(url(`?sslmode=verify-full&channel_binding=${asked}`), "R");
    expect(source.address.channelBinding).toBe(asked);
    expect(source.remarks).toEqual([]);
  });

  test("channel_binding is not set in the address if it is not given", () => {
    expect(parseSourceUrl(url("?sslmode=verify-full"), "R").address).not.toHaveProperty("channelBinding");
  });

  test.each(["", "yes", "REQUIRE"])("channel_binding=%j is rejected", (asked) => {
    expect(() => parseSourceUrl(url(`?channel_binding=${asked}`))).toThrow(
      new Error(`NEON_DATABASE_URL has channel_binding=${asked}; it may be disable, prefer, require`),
    );
  });

  test("channel_binding=require without TLS is refused", () => {
    expect(() => parseSourceUrl(url("?channel_binding=require", "localhost"))).toThrow(
      new Error("NEON_DATABASE_URL has channel_binding=require, which needs TLS: add sslmode=require"),
    );
  });

  test("options=endpoint is left out, because the host's name contains the endpoint", () => {
    expect(parseSourceUrl(url("?sslmode=verify-full&options=endpoint%3Dep-cool-sea-a1b2c3"), "R").remarks).toEqual([
      "options=endpoint left out: the host's name says it to the server (SNI)",
    ]);
  });

  test("unused ones are reported without their values", () => {
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
  test("is decoded in user, password and database", () => {
    const source = parseSourceUrl("postgresql://j%40ne:p%40ss%2Fw%3Ard%25@db.example.org/my%20db", "R");
    expect(source.address).toMatchObject({ user: "j@ne", password: "p@ss/w:rd%", database: "my db" });
    expect(source.label).toBe("db.example.org/my db");
  });

  test("preserves any user, password and database", () => {
    const text = fc.string({ unit: "grapheme", minLength: 1 });
    fc.assert(
      fc.property(text, text, text, (user, password, database) => {
        const [u, p, d] = [user, password, database].map(encodeURIComponent);
        // A URL resolves the paths . and .. instead of reading a name.
        fc.pre(database !== "." && database !== "..");
        const { address } = parseSourceUrl(`postgresql://${u}:${p}@db.example.org/${d}`, "R");
        expect(address).toMatchObject({ user, password, database });
      }),
    );
  });

  // An unencoded % is the most common mistake in a password. JavaScript's "URI malformed" names neither variable nor remedy.
  test.each([
    "postgresql://user:100%sure@db.example.org/app",
    "postgresql://us%er:secret@db.example.org/app",
    "postgresql://user:secret@db.example.org/ap%p",
  ])("that is invalid is an error that names NEON_DATABASE_URL: %s", (broken) => {
    expect(() => parseSourceUrl(broken, "R")).toThrow(/NEON_DATABASE_URL/);
  });
});

describe("an invalid source URL", () => {
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
  ])("%j is refused with the reason", (given, message) => {
    expect(() => parseSourceUrl(given, "R")).toThrow(new Error(message));
  });
});

/** Everything that is printed of a URL: the error, or the source's label, remarks and address for containers. */
function shown(given: string): string {
  try {
    const { label, remarks, fromContainer } = parseSourceUrl(given, "R");
    return JSON.stringify({ label, remarks, fromContainer });
  } catch (error) {
    const { message, stack, cause } = error as Error;
    return `${message}\n${stack}\n${JSON.stringify(cause)}`;
  }
}

describe("the password in a URL", () => {
  /** Text that occurs nowhere else, so that finding it means finding the password. */
  const mark = "Zq7Xw9";
  // Without @, because every program reads the text after an unencoded @ as the host.
  const around = fc.string({ unit: fc.constantFrom(..."aB35:/?#%&=[]\\ '\"é") });
  const password = fc.tuple(around, around).map(([before, after]) => `${before}${mark}${after}`);

  test("is never shown, not even for an invalid URL", () => {
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

  // A URL writes an IPv6 address in brackets, which are not part of the address.
  test("an IPv6 address has no brackets", () => {
    expect(parseSourceUrl(url("", "[::1]")).address.host).toBe("::1");
  });
});
