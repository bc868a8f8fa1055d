/** Tables that inherit, with random histories: each keeps the source's columns. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { attempt, expectSameRows } from "../support/attempt.ts";
import { compareSourceAndTarget } from "../support/compare-databases.ts";
import { type Lab, openBothEnds, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { SEED } from "../support/seed.ts";

const FAMILIES = Number(process.env.SCHEMAS ?? 40);

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
});
afterAll(() => lab?.close());

const table = fc.constantFrom("t0", "t1", "t2", "t3", "t4");
const column = fc.constantFrom("a", "b", "c", "d", "e");
const type = fc.constantFrom("int", "text", "varchar(9)", "numeric(5,2)", 'text COLLATE "C"');

/** One step of a history. Steps that PostgreSQL rejects are left out. */
const step = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(table, column, type).map(([t, c, k]) => `ALTER TABLE ${t} ADD COLUMN ${c} ${k}`) },
  { weight: 4, arbitrary: fc.tuple(table, table).map(([t, p]) => `ALTER TABLE ${t} INHERIT ${p}`) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(table, column, type, table)
      .map(([t, c, k, p]) => `CREATE TABLE ${t} (${c} ${k}) INHERITS (${p})`),
  },
  { weight: 3, arbitrary: fc.tuple(table, column, type).map(([t, c, k]) => `CREATE TABLE ${t} (${c} ${k})`) },
  fc.tuple(table, table).map(([t, p]) => `ALTER TABLE ${t} NO INHERIT ${p}`),
  fc
    .tuple(table, column, fc.constantFrom("", "ONLY "))
    .map(([t, c, only]) => `ALTER TABLE ${only}${t} DROP COLUMN ${c}`),
  fc.tuple(table, column, column).map(([t, c, n]) => `ALTER TABLE ${t} RENAME COLUMN ${c} TO ${n}`),
  fc.tuple(table, column).map(([t, c]) => `ALTER TABLE ${t} ALTER COLUMN ${c} SET NOT NULL`),
  fc
    .tuple(table, column, fc.constantFrom("", "ONLY "))
    .map(([t, c, o]) => `ALTER TABLE ${o}${t} ALTER COLUMN ${c} SET DEFAULT 7`),
  fc.tuple(table, column).map(([t, c]) => `ALTER TABLE ${t} ADD CONSTRAINT k${c} CHECK (${c} IS NOT NULL OR true)`),
  fc
    .tuple(table, column)
    .map(([t, c]) => `ALTER TABLE ${t} ADD CONSTRAINT n${c} CHECK (${c} IS NULL OR true) NO INHERIT`),
  // A unique name: PostgreSQL 15 lets a parent's generated column merge with a child's plain one, which no dump can express.
  fc
    .tuple(fc.constantFrom("t0 ADD COLUMN g", "t2 ADD COLUMN h"), column)
    .map(([t, f]) => `ALTER TABLE ${t} int GENERATED ALWAYS AS (length(${f}::text)) STORED`),
);

/** The start of every family: children, a grandchild of two parents, and a table that may be attached. */
const BEGINNING = [
  "CREATE TABLE t0 (a int, b text)",
  "CREATE TABLE t1 (c int) INHERITS (t0)",
  "CREATE TABLE t2 (e text, a int)",
  "CREATE TABLE t3 (d int) INHERITS (t1, t2)",
  "CREATE TABLE t4 (b text, x int, a int)",
];

/** Statements that create one family in its own schema. */
const script = (name: string, steps: readonly string[]) => `
  CREATE SCHEMA ${name}; SET search_path = ${name};
  DO $do$ DECLARE s text; BEGIN
    FOREACH s IN ARRAY ARRAY[${[...BEGINNING, ...steps].map((sql) => `$s$${sql}$s$`).join(", ")}] LOOP
      BEGIN EXECUTE s; EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
    FOREACH s IN ARRAY ARRAY['t0', 't1', 't2', 't3', 't4'] LOOP
      BEGIN EXECUTE 'INSERT INTO ' || s || ' DEFAULT VALUES'; EXCEPTION WHEN OTHERS THEN NULL; END;
    END LOOP;
  END $do$;`;

const COLUMNS = `
  SELECT c.oid::regclass::text AS "table", a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attislocal, a.attinhcount,
    a.attnotnull, a.attgenerated, a.attcollation::regcollation::text AS coll, pg_get_expr(d.adbin, d.adrelid) AS expr
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE n.nspname LIKE 'family%' AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum`;
const CHECKS = `
  SELECT conrelid::regclass::text AS "table", conname, conislocal, coninhcount, connoinherit, pg_get_constraintdef(k.oid) AS sql
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE contype = 'c' AND n.nspname LIKE 'family%' AND (conislocal OR EXISTS (
    SELECT FROM pg_constraint p JOIN pg_inherits i ON i.inhparent = p.conrelid WHERE i.inhrelid = k.conrelid AND p.conname = k.conname))
  ORDER BY 1, 2`;

test(`${FAMILIES} families of tables keep columns, defaults and checks (seed ${SEED})`, async () => {
  const families = fc.sample(fc.array(step, { minLength: 15, maxLength: 60 }), { numRuns: FAMILIES, seed: SEED });
  await source.sql("postgres", "CREATE DATABASE families");
  for (const [index, steps] of families.entries()) await source.sql("families", script(`family${index}`, steps));
  const spec = await lab.newImport(source.source("families", "superuser"), target);
  const { error } = await attempt(spec);
  expect(error).toBe("");
  const ours = spec.target.address.database;
  expect(await target.sql(ours, COLUMNS)).toEqual(await source.sql("families", COLUMNS));
  expect(await target.sql(ours, CHECKS)).toEqual(await source.sql("families", CHECKS));
  await expectSameRows(spec);
  expect((await compareSourceAndTarget(spec)).differences).toEqual([]);
  const { remarks } = await readReport(spec);
  expect(remarks.filter((remark) => !remark.endsWith("[collation-order]"))).toEqual([]);
  // Not only tables that any tool copies.
  const children = await target.value<string>(ours, "SELECT count(*) FROM pg_inherits");
  expect(Number(children)).toBeGreaterThan(FAMILIES);
});

test("a table whose name contains a line break keeps the order of its columns", async () => {
  await source.makeDatabase(
    "lines",
    `CREATE TABLE parent (a int DEFAULT 1, b text);
     CREATE TABLE "two\nlines" (c int, b text, a int DEFAULT 5, CHECK (c > 0)); ALTER TABLE "two\nlines" INHERIT parent;
     INSERT INTO "two\nlines" VALUES (1, 'b', 2)`,
  );
  const spec = await lab.newImport(source.source("lines"), target);
  expect((await attempt(spec)).error).toBe("");
  const { database } = spec.target.address;
  expect(await target.sql(database, 'SELECT * FROM "two\nlines"')).toEqual([{ c: 1, b: "b", a: 2 }]);
  const columns = `SELECT attname, attislocal FROM pg_attribute WHERE attrelid = '"two\nlines"'::regclass AND attnum > 0 ORDER BY attnum`;
  expect(await target.sql(database, columns)).toEqual(await source.sql("lines", columns));
});
