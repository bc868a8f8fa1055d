import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { fillIn, ident, isPassing, literal, qualified } from "../../lib/postgres.ts";

/** Reads a quoted name as PostgreSQL does. */
function readIdent(sql: string): string {
  expect(sql).toMatch(/^"([^"]|"")*"$/);
  return sql.slice(1, -1).replaceAll('""', '"');
}

/** Reads a quoted text as PostgreSQL does with standard_conforming_strings: backslashes escape only after an E. */
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
  test("a quoted name is read back unchanged, whatever it contains", () => {
    fc.assert(
      fc.property(nasty, (name) => {
        expect(readIdent(ident(name))).toBe(name);
      }),
    );
  });

  test("a quoted text is read back unchanged, whatever it contains", () => {
    fc.assert(
      fc.property(nasty, (text) => {
        expect(readLiteral(literal(text))).toBe(text);
      }),
    );
  });

  test("a backslash at the end of a text does not escape its quote", () => {
    expect(readLiteral(literal("\\"))).toBe("\\");
    expect(literal("\\'; DROP TABLE x; --").trim()).toBe("E'\\\\''; DROP TABLE x; --'");
  });

  test("a name is qualified by its schema", () => {
    expect(qualified("public", 'a"b')).toBe('"public"."a""b"');
    expect(qualified("a.b", "c")).toBe('"a.b"."c"');
  });
});

describe("the variables of an SQL script", () => {
  test("are replaced by quoted names and texts", () => {
    expect(fillIn(`ALTER DATABASE :"db" OWNER TO :"who"; SELECT :'db';`, { db: "my db", who: 'o"o' })).toBe(
      `ALTER DATABASE "my db" OWNER TO "o""o"; SELECT 'my db';`,
    );
  });

  test("are not confused with casts, also not with casts to a quoted type", () => {
    const script = `SELECT 'a'::text, relkind::"char", '{}'::text[], x::'y'`;
    expect(fillIn(script, { char: "no", y: "no" })).toBe(script);
  });

  test("can be cast", () => {
    expect(fillIn(`SELECT :'denied'::text[]`, { denied: "{a}" })).toBe(`SELECT '{a}'::text[]`);
  });

  test("must be within quotes, so that other colons stay", () => {
    const script = `SELECT :a, :'a", :"a', a[1:2], '12:30'`;
    expect(fillIn(script, { a: "no" })).toBe(script);
  });

  test("are replaced once, so that a value that looks like a variable stays", () => {
    expect(fillIn(`SELECT :'a', :'b'`, { a: `:'b'`, b: "$1 $& $'" })).toBe(`SELECT ':''b''', '$1 $& $'''`);
  });

  test("must all have a value", () => {
    expect(() => fillIn(`SELECT :'there', :"missing"`, { there: "x" })).toThrow(
      new Error('the SQL script uses the variable "missing", which has no value'),
    );
    expect(fillIn(`SELECT :'empty'`, { empty: "" })).toBe("SELECT ''");
  });

  // Every object inherits these two properties.
  test.each(["constructor", "toString"])("must have a value, also one with the name %s", (name) => {
    expect(() => fillIn(`SELECT :'${name}'`, {})).toThrow(
      new Error(`the SQL script uses the variable "${name}", which has no value`),
    );
  });

  test("keep any value unchanged, as a name and as a text", () => {
    fc.assert(
      fc.property(nasty, (value) => {
        expect(readIdent(fillIn(`:"v"`, { v: value }))).toBe(value);
        expect(readLiteral(fillIn(`:'v'`, { v: value }))).toBe(value);
      }),
    );
  });
});

describe("isPassing", () => {
  const withCode = (code: string) => Object.assign(new Error("no"), { code });

  test.each(["57P03", "57P01", "53300", "08006", "ECONNREFUSED", "ECONNRESET", "EAI_AGAIN", "ETIMEDOUT"])(
    "is true for %s",
    (code) => expect(isPassing(withCode(code))).toBe(true),
  );

  test.each(["28P01", "28000", "3D000", "42601", "08P01", "XX000", "ERR_TLS_CERT_ALTNAME_INVALID", "CERT_HAS_EXPIRED"])(
    "is false for %s",
    (code) => expect(isPassing(withCode(code))).toBe(false),
  );

  test.each([
    "timeout expired",
    "Connection terminated unexpectedly",
    "Connection terminated due to connection timeout",
    "Connection terminated",
    "Client has encountered a connection error and is not queryable",
  ])("is true for pg's own error: %s", (message) => expect(isPassing(new Error(message))).toBe(true));

  test.each(["The server does not support SSL connections", "SASL: SCRAM-SERVER-FIRST-MESSAGE: bad", ""])(
    "is false for the message: %s",
    (message) => expect(isPassing(new Error(message))).toBe(false),
  );

  test.each([
    "Couldn't connect to compute node",
    "Control plane request failed",
    "Failed to acquire permit to connect to the database. Too many database connection attempts are currently ongoing.",
  ])("is true for an internal error of Neon's proxy while it starts an endpoint: %s", (message) =>
    expect(isPassing(Object.assign(new Error(message), { code: "XX000" }))).toBe(true),
  );

  test("decides by the code before the message", () => {
    expect(isPassing(Object.assign(new Error("timeout expired"), { code: "28P01" }))).toBe(false);
  });
});
