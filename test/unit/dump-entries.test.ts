import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  describeEntry,
  type Entry,
  isCopied,
  schemaStates,
  splitDump,
} from "../../components/import/schema/dump-entries.ts";
import { compareStates } from "../../components/import/schema/states.ts";

const compareSchemas = (source: Entry[], target: Entry[]) => compareStates(schemaStates(source), schemaStates(target));

/** A dump as pg_restore 15 writes it, with psql commands, settings between entries and dashes in bodies. */
const DUMP = String.raw`--
-- PostgreSQL database dump
--

\restrict 5kZ3eBqfQm8vGhYw2cLxTn

-- Dumped from database version 15.14
-- Dumped by pg_dump version 15.14

SET statement_timeout = 0;
SET transaction_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: game; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA game;


--
-- Name: EXTENSION pgcrypto; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON EXTENSION pgcrypto IS 'cryptographic functions';


--
-- Name: area(integer, integer); Type: FUNCTION; Schema: game; Owner: -
--

CREATE FUNCTION game.area(a integer, b integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
--
-- Not a header: nothing here names a type
--
BEGIN
  -- a * b; Type: guess; Schema: none
  RETURN a * b; -- done
END
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: ships; Type: TABLE; Schema: game; Owner: -; Tablespace: fast
--

CREATE TABLE game.ships (
    id integer NOT NULL,
    name text DEFAULT '--
-- PostgreSQL'::text
);


--
-- Name: odd; Type: TYPE; Name"; Type: TABLE; Schema: game; Owner: -
--

CREATE TABLE game."odd; Type: TYPE; Name""" (
);


--
-- Name: ships ships_owner_fkey; Type: FK CONSTRAINT; Schema: game; Owner: -
--

ALTER TABLE ONLY game.ships
    ADD CONSTRAINT ships_owner_fkey FOREIGN KEY (id) REFERENCES game.owners(id);


--
-- PostgreSQL database dump complete
--

\unrestrict 5kZ3eBqfQm8vGhYw2cLxTn

`;

const header = (name: string, type = "FUNCTION") =>
  `--\n-- Name: ${name}; Type: ${type}; Schema: public; Owner: -\n--\n\n`;

describe("splitDump", () => {
  const entries = splitDump(DUMP);

  test("returns the entries in the dump's order", () => {
    expect(entries.map(({ type, schema, name }) => [type, schema, name])).toEqual([
      ["SCHEMA", "-", "game"],
      ["COMMENT", "-", "EXTENSION pgcrypto"],
      ["FUNCTION", "game", "area(integer, integer)"],
      ["TABLE", "game", "ships"],
      ["TABLE", "game", 'odd; Type: TYPE; Name"'],
      ["FK CONSTRAINT", "game", "ships ships_owner_fkey"],
    ]);
  });

  test("keeps bodies with dashes whole", () => {
    expect(entries[2]?.sql).toContain("AS $$\n--\n-- Not a header: nothing here names a type\n--\nBEGIN\n");
    expect(entries[3]?.sql).toContain("DEFAULT '--\n-- PostgreSQL'::text\n);");
  });

  test("leaves out the settings between entries", () => expect(entries[2]?.sql).toMatch(/END\n\$\$;$/));

  test("sets a table's own access method for that table alone", () => {
    const table = (name: string) => `${header(name, "TABLE")}CREATE TABLE ${name} ();\n\n\n`;
    const setting = (method: string) => `SET default_table_access_method = ${method};\n\n`;
    const dump = [
      setting("heap"),
      table("a"),
      `${header("f()")}SELECT 1;\n\n\n`,
      setting("columns"),
      ...[table("b"), `${header("v", "VIEW")}CREATE VIEW v AS SELECT 1;\n\n\n`, table("c")],
      ...[setting("heap"), table("d")],
    ].join("");
    const own = (name: string) =>
      `SET default_table_access_method = columns;\nCREATE TABLE ${name} ();\nRESET default_table_access_method;`;
    expect(splitDump(dump).map(({ sql }) => sql)).toEqual([
      "CREATE TABLE a ();",
      "SELECT 1;",
      own("b"),
      "CREATE VIEW v AS SELECT 1;",
      own("c"),
      "CREATE TABLE d ();",
    ]);
  });

  test("leaves out psql's commands, the preamble and the trailer", () => {
    const all = entries.map(({ sql }) => sql).join("\n");
    expect(all).not.toContain("restrict");
    expect(all).not.toContain("set_config");
    expect(all).not.toContain("transaction_timeout");
    expect(entries.at(-1)?.sql).toMatchInlineSnapshot(`
      "ALTER TABLE ONLY game.ships
          ADD CONSTRAINT ships_owner_fkey FOREIGN KEY (id) REFERENCES game.owners(id);"
    `);
  });

  test("leaves out entries without a statement", () => {
    const dump = `${header("public", "SCHEMA")}-- *not* creating schema, since initdb creates it\n\n\n${header("x")}SELECT 1;\n`;
    expect(splitDump(dump).map(({ name }) => name)).toEqual(["x"]);
  });

  test("returns nothing for an empty dump", () => {
    expect(splitDump("")).toEqual([]);
    expect(splitDump("--\n-- PostgreSQL database dump\n--\n\nSET x = 1;\n")).toEqual([]);
  });

  test("keeps a carriage return in a body", () => {
    const body = "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT 1;\r\n-- two\r\nSELECT 2';";
    expect(splitDump(`${header("f()")}${body}\n\n\n`)[0]?.sql).toBe(body);
  });

  test("returns the names and statements from which a dump was put together", () => {
    const sql = fc
      .array(
        fc.constantFrom(
          ...[
            "SELECT 1;",
            "-- a remark",
            "-- it's",
            "--",
            "",
            "  x := '--';",
            "DO $$ it's \n-- $$;",
            "a;b",
            `SELECT $1 "'"''`,
          ],
          ...[`$_$ ${header("in a body")} $$ ' $_$`, `'${header("in a text")} $$'`, `"${header("in a name")}"`],
        ),
        { minLength: 1 },
      )
      .map((lines) => `SELECT 0;\n${lines.join("\n")}\nSELECT 9;`);
    const names = fc.stringMatching(/^[a-z_(), ;:"-]{1,20}$/).map((name) => name.trim() || "n");
    fc.assert(
      fc.property(fc.array(fc.tuple(names, sql)), (made) => {
        const dump = `SET x = 1;\n\n${made.map(([name, text]) => `${header(name)}${text}\n\n\n`).join("")}`;
        const found = splitDump(`${dump}--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n\n`);
        expect(found.map(({ name, sql: text }) => [name, text])).toEqual(made);
      }),
    );
  });

  test("returns entries from which schemaStates removes settings for the next entries", () => {
    const settings = "\n\nSET default_tablespace = '';\n\nSET default_table_access_method = heap;";
    const type = entry("t", "CREATE TYPE t;", { type: "TYPE" });
    const body = entry("f", "CREATE FUNCTION f() AS $$\nSET default_x = 1;\n$$;", { type: "FUNCTION" });
    expect(schemaStates([{ ...type, sql: type.sql + settings }, body])).toEqual(
      new Map([
        ["type public.t", "CREATE TYPE t;"],
        ["function public.f", body.sql],
      ]),
    );
  });

  // If such a line were removed from both dumps, the comparison would not find a function that lost it.
  test.each(["SET transaction_timeout = 5000;", "\\restrict as pg_dump does"])(
    "keeps a line of a function's body: %s",
    (line) => {
      const body = `CREATE PROCEDURE p() LANGUAGE plpgsql AS $$\nBEGIN\n${line}\nEND $$;`;
      expect(splitDump(`${header("p()", "PROCEDURE")}${body}\n\n\n${header("q()")}SELECT 1;\n`)[0]?.sql).toBe(body);
    },
  );
});

const entry = (name: string, sql: string, more: Partial<Entry> = {}): Entry => ({
  name,
  sql,
  type: "TABLE",
  schema: "public",
  ...more,
});

describe("the comparison of two schemas", () => {
  const both = [entry("a", "CREATE TABLE a ();"), entry("b", "CREATE TABLE b ();")];

  test("ignores the order of the entries", () => {
    expect(compareSchemas(both, [...both].reverse())).toEqual([]);
    expect(compareSchemas([], [])).toEqual([]);
  });

  test("finds differences in both directions", () => {
    expect(compareSchemas(both, both.slice(0, 1))).toEqual([
      { object: "table public.b", how: "missing on the target" },
    ]);
    expect(compareSchemas(both.slice(1), both)).toEqual([{ object: "table public.a", how: "not on the source" }]);
    expect(compareSchemas(both, [entry("a", "CREATE TABLE a (x int);"), entry("c", "")])).toEqual([
      { object: "table public.a", how: "different" },
      { object: "table public.b", how: "missing on the target" },
      { object: "table public.c", how: "not on the source" },
    ]);
  });

  test("distinguishes the same name in two schemas or of two types", () => {
    const one = [entry("a", "1"), entry("a", "2", { schema: "game" }), entry("a", "3", { type: "VIEW" })];
    const other = [entry("a", "1"), entry("a", "3", { schema: "game" }), entry("a", "2", { type: "VIEW" })];
    expect(compareSchemas(one, other)).toEqual([
      { object: "table game.a", how: "different" },
      { object: "view public.a", how: "different" },
    ]);
  });

  test("distinguishes overloads, and compares all entries of one name together", () => {
    const overload = (args: string, body: string) => entry(`f(${args})`, body, { type: "FUNCTION" });
    const one = [overload("integer", "i"), overload("text", "t")];
    expect(compareSchemas(one, [overload("text", "t"), overload("integer", "i")])).toEqual([]);
    expect(compareSchemas(one, [overload("integer", "t"), overload("text", "i")])).toEqual([
      { object: "function public.f(integer)", how: "different" },
      { object: "function public.f(text)", how: "different" },
    ]);
    const comments = [entry("c", "x", { type: "COMMENT" }), entry("c", "y", { type: "COMMENT" })];
    expect(compareSchemas(comments, [...comments].reverse())).toEqual([]);
    expect(compareSchemas(comments, comments.slice(1))).toEqual([{ object: "comment public.c", how: "different" }]);
  });

  test('swaps "missing" and "not on the source" if source and target are swapped', () => {
    const entries = fc.array(
      fc.record({
        name: fc.constantFrom("a", "b", "c"),
        type: fc.constantFrom("TABLE", "VIEW"),
        schema: fc.constantFrom("public", "-"),
        sql: fc.constantFrom("1", "2"),
      }),
      { maxLength: 8 },
    );
    const turned = {
      "missing on the target": "not on the source",
      "not on the source": "missing on the target",
      different: "different",
    };
    fc.assert(
      fc.property(entries, entries, (one, other) => {
        expect(compareSchemas(one, one)).toEqual([]);
        const there = compareSchemas(one, other);
        expect(compareSchemas(other, one)).toEqual(there.map(({ object, how }) => ({ object, how: turned[how] })));
        const texts = (of: Entry[]) => of.map((e) => `${describeEntry(e)} ${e.sql}`).sort();
        expect(there.length === 0).toBe(JSON.stringify(texts(one)) === JSON.stringify(texts(other)));
      }),
    );
  });
});

describe("isCopied", () => {
  test.each(["TABLE", "INDEX", "FK CONSTRAINT", "TRIGGER", "POLICY", "ROW SECURITY", "SEQUENCE", "SCHEMA", "RULE"])(
    "is true for %s",
    (type) => expect(isCopied(entry("x", "1", { type }))).toBe(true),
  );

  test.each(["EXTENSION", "PUBLICATION", "PUBLICATION TABLES IN SCHEMA", "SUBSCRIPTION", "EVENT TRIGGER", "ACL"])(
    "is false for %s",
    (type) => expect(isCopied(entry("x", "1", { type }))).toBe(false),
  );

  test("is true for comments, except on objects that are not copied", () => {
    const comment = (name: string) => isCopied(entry(name, "1", { type: "COMMENT" }));
    expect(comment("TABLE ships")).toBe(true);
    expect(comment("COLUMN ships.extension")).toBe(true);
    expect(comment("EXTENSION pgcrypto")).toBe(false);
    expect(comment("EVENT TRIGGER t")).toBe(false);
    expect(comment("PUBLICATION p")).toBe(false);
  });
});

test("describeEntry returns one line with type, schema and name", () => {
  expect(describeEntry(entry("ships ships_pkey", "", { type: "CONSTRAINT", schema: "game" }))).toBe(
    "constraint game.ships ships_pkey",
  );
  expect(describeEntry(entry("game", "", { type: "SCHEMA", schema: "-" }))).toBe("schema game");
});

describe("a column without a default whose parent's column has one", () => {
  const entry = (type: string, name: string, sql: string): Entry => ({ type, name, schema: "s", sql });
  const inherits = entry("TABLE", "t3", "CREATE TABLE s.t3 (\n    d integer\n)\nINHERITS (s.t1);");
  const noDefault = entry("DEFAULT", "t3 b", "ALTER TABLE ONLY s.t3 ALTER COLUMN b SET DEFAULT NULL;");
  const local = (rest: string) =>
    entry("TABLE", "t4", `CREATE TABLE s.t4 (\n    b text${rest},\n    c integer\n)\nINHERITS (s.t1);`);

  test("is equal whether pg_dump writes DEFAULT NULL or not", () => {
    expect(compareSchemas([inherits], [inherits, noDefault])).toEqual([]);
    expect(compareSchemas([inherits, noDefault], [inherits])).toEqual([]);
    expect(compareSchemas([local(" DEFAULT NULL NOT NULL")], [local(" NOT NULL")])).toEqual([]);
    expect(compareSchemas([local(" DEFAULT NULL")], [local("")])).toEqual([]);
  });

  test("differs from one with a default", () => {
    const seven = { ...noDefault, sql: noDefault.sql.replace("NULL", "7") };
    expect(compareSchemas([inherits, noDefault], [inherits, seven])).toHaveLength(1);
    expect(compareSchemas([inherits, seven], [inherits])).toHaveLength(1);
    expect(compareSchemas([local(" DEFAULT NULL")], [local(" DEFAULT 7")])).toHaveLength(1);
    const text = "'x DEFAULT NULL,'";
    expect(compareSchemas([local(` DEFAULT ${text}`)], [local(" DEFAULT 'x,'")])).toHaveLength(1);
  });
});
