import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fillIn, ident, isPassing, literal, qualified } from "../../lib/postgres.ts";

/** Reads a quoted name as PostgreSQL does. */
function readIdent(sql: string): string {
  expect(sql).toMatch(/^"([^"]|"")*"$/);
  return sql.slice(1, -1).replaceAll('""', '"');
}

/** Reads a quoted text as PostgreSQL does with standard_conforming_strings: backslashes count behind an E only. */
function readLiteral(sql: string): string {
  const [, escaped, body = ""] = /^ ?(E?)'((?:[^']|'')*)'$/s.exec(sql) ?? [];
  expect(escaped, `not one literal: ${sql}`).toBeDefined();
  const text = body.replaceAll("''", "'");
  return escaped ? text.replaceAll("\\\\", "\\") : text;
}

const nasty = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.string({ unit: fc.constantFrom("'", '"', "\\", ":", "$", "a", "-", ";", "\n", "é") }),
);

describe("quoting", () => {
  test("a name is read back as it was, whatever is in it", () => {
    fc.assert(
      fc.property(nasty, (name) => {
        expect(readIdent(ident(name))).toBe(name);
      }),
    );
  });

  test("a text is read back as it was, whatever is in it", () => {
    fc.assert(
      fc.property(nasty, (text) => {
        expect(readLiteral(literal(text))).toBe(text);
      }),
    );
  });

  test("a text that ends in a backslash does not swallow its quote", () => {
    expect(readLiteral(literal("\\"))).toBe("\\");
    expect(literal("\\'; DROP TABLE x; --").trim()).toBe("E'\\\\''; DROP TABLE x; --'");
  });

  test("a name is qualified by its schema", () => {
    expect(qualified("public", 'a"b')).toBe('"public"."a""b"');
    expect(qualified("a.b", "c")).toBe('"a.b"."c"');
  });
});

describe("a script's variables", () => {
  test("become names and texts", () => {
    expect(fillIn(`ALTER DATABASE :"db" OWNER TO :"who"; SELECT :'db';`, { db: "my db", who: 'o"o' })).toBe(
      `ALTER DATABASE "my db" OWNER TO "o""o"; SELECT 'my db';`,
    );
  });

  test("leave casts alone, also those to a quoted type", () => {
    const script = `SELECT 'a'::text, relkind::"char", '{}'::text[], x::'y'`;
    expect(fillIn(script, { char: "no", y: "no" })).toBe(script);
  });

  test("may be cast themselves", () => {
    expect(fillIn(`SELECT :'denied'::text[]`, { denied: "{a}" })).toBe(`SELECT '{a}'::text[]`);
  });

  test("are known by both quotes: what is not quoted stays", () => {
    const script = `SELECT :a, :'a", :"a', a[1:2], '12:30'`;
    expect(fillIn(script, { a: "no" })).toBe(script);
  });

  test("are filled in once: a value that looks like a variable is only a value", () => {
    expect(fillIn(`SELECT :'a', :'b'`, { a: `:'b'`, b: "$1 $& $'" })).toBe(`SELECT ':''b''', '$1 $& $'''`);
  });

  test("must all have a value", () => {
    expect(() => fillIn(`SELECT :'there', :"missing"`, { there: "x" })).toThrow(
      new Error('the SQL script uses the variable "missing", which has no value'),
    );
    expect(fillIn(`SELECT :'empty'`, { empty: "" })).toBe("SELECT ''");
  });

  // Every object has these two without being given them.
  test.each(["constructor", "toString"])("must have a value of their own, also the one called %s", (name) => {
    expect(() => fillIn(`SELECT :'${name}'`, {})).toThrow(
      new Error(`the SQL script uses the variable "${name}", which has no value`),
    );
  });

  test("any value is read back as it was, in either kind", () => {
    fc.assert(
      fc.property(nasty, (value) => {
        expect(readIdent(fillIn(`:"v"`, { v: value }))).toBe(value);
        expect(readLiteral(fillIn(`:'v'`, { v: value }))).toBe(value);
      }),
    );
  });
});

describe("another attempt", () => {
  const withCode = (code: string) => Object.assign(new Error("no"), { code });

  test.each(["57P03", "57P01", "53300", "08006", "ECONNREFUSED", "ECONNRESET", "EAI_AGAIN", "ETIMEDOUT"])(
    "may help after %s",
    (code) => expect(isPassing(withCode(code))).toBe(true),
  );

  test.each(["28P01", "28000", "3D000", "42601", "08P01", "XX000", "ERR_TLS_CERT_ALTNAME_INVALID", "CERT_HAS_EXPIRED"])(
    "cannot help after %s",
    (code) => expect(isPassing(withCode(code))).toBe(false),
  );

  test.each([
    "timeout expired",
    "Connection terminated unexpectedly",
    "Connection terminated due to connection timeout",
    "Connection terminated",
    "Client has encountered a connection error and is not queryable",
  ])("may help after pg's own error: %s", (message) => expect(isPassing(new Error(message))).toBe(true));

  test.each(["The server does not support SSL connections", "SASL: SCRAM-SERVER-FIRST-MESSAGE: bad", ""])(
    "cannot help after: %s",
    (message) => expect(isPassing(new Error(message))).toBe(false),
  );

  test.each([
    "Couldn't connect to compute node",
    "Control plane request failed",
    "Failed to acquire permit to connect to the database. Too many database connection attempts are currently ongoing.",
  ])("may help after what Neon's proxy calls an internal error while it wakes an endpoint: %s", (message) =>
    expect(isPassing(Object.assign(new Error(message), { code: "XX000" }))).toBe(true),
  );

  test("a code counts for more than the words beside it", () => {
    expect(isPassing(Object.assign(new Error("timeout expired"), { code: "28P01" }))).toBe(false);
  });
});
