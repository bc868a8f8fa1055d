/** Objects that only a superuser can create: the preflight, with and without a target, agrees with the import. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Code, type Finding, isBlocked } from "../../components/import/preflight/findings.ts";
import { type Examination, examine } from "../../components/import/preflight/preflight.ts";
import { trySchema } from "../../components/import/preflight/schema-trial.ts";
import { readContents } from "../../components/import/preflight/source-info.ts";
import { tryWherePossible } from "../../components/import/preflight/trial.ts";
import { notYetReported } from "../../components/import/preflight/trial-failures.ts";
import { SUPERUSER_KINDS } from "../../components/import/schema/superuser-kinds.ts";
import { openSource } from "../../components/import/session/session.ts";
import type { Catalog, ImportSpec } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import { attempt } from "../support/attempt.ts";
import { catalogDigest } from "../support/compare.ts";
import { type Lab, openBothEnds, type Server, type SourceServer } from "../support/lab.ts";

const FOLDER = "test/cases/import";
const statementsOf = async (file: string) =>
  (await readFile(`${FOLDER}/${file}`, "utf8")).split("\n").filter((line) => line !== "" && !line.startsWith("--"));

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
});
afterAll(() => lab.close());

const told = (found: readonly Finding[], code: Code) =>
  found
    .filter((one) => one.code === code)
    .map(({ subject }) => subject)
    .sort();

/** A superuser's database, for an import that logs in as the superuser. */
async function makeSource(database: string, statements: readonly string[]): Promise<ImportSpec> {
  await source.sql("postgres", `CREATE DATABASE ${database}`);
  for (const statement of statements) await source.sql(database, statement);
  return lab.newImport(source.source(database, "superuser"), target);
}

async function examineBothWays(spec: ImportSpec): Promise<{ alone: Examination; both: Examination }> {
  const { target: _, ...withoutTarget } = spec;
  return { alone: await examine(withoutTarget), both: await examine(spec) };
}

describe("each line of preflight-misses.sql", async () => {
  const [keep = "", ...lines] = await statementsOf("preflight-misses.sql");
  const cases = lines.map((line, index) => ({ line, index, title: line.slice(0, 60) }));
  // Lines about am2 need the line that creates it.
  const before = (line: string) => [
    keep,
    ...(line.includes("using am2") ? lines.filter((one) => one.startsWith("create access method am2")) : []),
  ];

  test.each(cases)("$title: preflight and import agree", async ({ line, index }) => {
    const spec = await makeSource(`line_${index}`, [...before(line), line]);
    const { alone, both } = await examineBothWays(spec);
    // What the import would fail on without the preflight.
    const trial = await trySchema(spec, both.catalog as Catalog);
    expect([isBlocked(alone.findings), isBlocked(both.findings)]).toEqual([isBlocked(trial), isBlocked(trial)]);
    expect(told(notYetReported(trial, alone.findings), "object-not-made")).toEqual([]);
    const { error } = await attempt(spec);
    if (isBlocked(trial))
      expect(error).toMatch(/^The import cannot start, and nothing was changed:\n.*\[superuser-needed\]$/s);
    else expect(error).toBe("");
  });
});

/** The names of the objects of superuser-objects.sql in the catalog's checks, and in the target's errors. */
const BLOCKERS = [
  "access method am2",
  "aggregate public.agg_internal(double precision,anyelement)",
  "base type public.base",
  "cast from bytea to date",
  "cast from integer to date",
  "cast from point to date",
  "foreign key public.referring referring_a_fkey",
  "foreign-data wrapper fw",
  'function public."Setter"() (SET log_statement)',
  "function public.base_in(cstring) (internal)",
  "function public.base_out(public.base) (internal)",
  "function public.in_c() (c)",
  "function public.leaky(integer)",
  "function public.of_plpgsql() (SET plpgsql.variable_conflict)",
  "function public.span_canonical(public.span) (internal)",
  "function public.sup(integer)",
  "language plhand",
  "operator class public.oc",
  "operator family public.oc",
  "operator family public.of1",
  "table public.child",
  "table public.stored",
  "table public.stored_too",
  "text search parser public.pp",
  "text search template public.tt",
  "transform for integer language sql",
  "type public.shell",
  "type public.span",
];

describe("a database with one object of every kind", () => {
  let spec: ImportSpec;
  let seen: Awaited<ReturnType<typeof examineBothWays>>;

  beforeAll(async () => {
    spec = await makeSource("kinds", await statementsOf("superuser-objects.sql"));
    await docker(["exec", source.container, "sh", "-c", "mkdir -p /tmp/ts1 && chown postgres /tmp/ts1"]);
    await source.sql("kinds", "CREATE TABLESPACE far LOCATION '/tmp/ts1'");
    await source.sql("kinds", "CREATE TABLE elsewhere (a int) TABLESPACE far");
    seen = await examineBothWays(spec);
  });
  // It would be a finding in every database.
  afterAll(() => source.sql("kinds", "ALTER SUBSCRIPTION nothing SET (slot_name = NONE); DROP SUBSCRIPTION nothing"));

  test("yields all blockers in one run, with and without a target", () => {
    expect(told(seen.alone.findings, "superuser-needed")).toEqual(BLOCKERS);
    expect(told(seen.both.findings, "superuser-needed")).toEqual(BLOCKERS);
    expect(seen.alone.findings.filter(({ code, remedy }) => code === "superuser-needed" && !remedy)).toEqual([]);
  });

  test("contains every kind that is a blocker", async () => {
    const client = await openSource(spec.source.address);
    const { superuserObjects } = await readContents(client, 15, undefined).finally(() => client.end());
    const found = new Set(superuserObjects.map(({ kind }) => SUPERUSER_KINDS[kind]?.kind));
    const blockers = SUPERUSER_KINDS.filter(({ decision }) => decision === "blocker");
    expect(blockers.filter(({ kind }) => !found.has(kind))).toEqual([]);
  });

  test("yields a list of the objects of the server that are left out", () => {
    expect(told(seen.alone.findings, "left-out")).toEqual(
      expect.arrayContaining(["event trigger et", "publication everything", "subscription nothing", "tablespace far"]),
    );
  });

  test("fails in the trial only for these objects, and the findings name what depends on them", async () => {
    const before = await catalogDigest(spec.target.address);
    const trial = await trySchema(spec, seen.both.catalog as Catalog);
    expect(notYetReported(trial, seen.both.findings).map(({ code }) => code)).toEqual(["schema-tried"]);
    // Conversely, each object in a finding does fail.
    const failed = trial.filter(({ code }) => code === "object-not-made");
    const words = failed.map(({ subject, what }) => `${subject}: ${what}`).join("\n");
    expect(told(trial, "object-not-made")).toHaveLength(BLOCKERS.length);
    expect(words).toContain(
      "function public.leaky(integer): only superuser can define a leakproof function; these depend on it and cannot be created: table public.needs_leaky",
    );
    expect(words).toMatch(
      /^shell type public\.span: .*; these depend on it and cannot be created: table public\.spans, view public\.on spans$/m,
    );
    expect(words).toMatch(
      /^access method am2: .*; these depend on it and cannot be created: table public\.stored, table public\.stored_too$/m,
    );
    expect(words).toMatch(/^foreign data wrapper fw: .*; these depend on it and cannot be created: server s$/m);
    expect(words).not.toMatch(/keep(?!_by_oc)|after_it|elsewhere/);
    expect(await catalogDigest(spec.target.address)).toEqual(before);
  });

  test("fails to import with the blockers in one error", async () => {
    const { error } = await attempt(spec);
    expect(error.match(/\[superuser-needed\]$/gm)?.length).toBeGreaterThan(15);
  });
});

test("a server of an extension's foreign-data wrapper is copied: the owner may use the wrapper", async () => {
  const spec = await makeSource("foreign_servers", [
    "CREATE EXTENSION postgres_fdw",
    "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.invalid')",
    "CREATE FOREIGN TABLE elsewhere (id int) SERVER far",
  ]);
  const { both } = await examineBothWays(spec);
  expect(isBlocked(both.findings)).toBe(false);
  expect((await attempt(spec)).error).toBe("");
  const { database } = spec.target.address;
  expect(
    await target.value(database, "SELECT srvowner::regrole::text FROM pg_foreign_server WHERE srvname = 'far'"),
  ).toBe("sectorwars_owner");
});

describe("the trial as part of the preflight", () => {
  test("is skipped, with the reason, if an import runs, or if source or target is missing", async () => {
    const spec = await makeSource("plain", ["CREATE TABLE t (id int PRIMARY KEY)"]);
    const seen = await examine(spec);
    expect((await tryWherePossible(spec, seen)).map(({ code }) => code)).toEqual(["schema-tried"]);
    const running: Examination = {
      ...seen,
      findings: [{ level: "blocker", code: "import-running", subject: "s", what: "w" }],
    };
    expect(await tryWherePossible(spec, running)).toMatchObject([
      { code: "schema-not-tried", what: expect.stringContaining("import-running") },
    ]);
    const wrong = { ...spec, image: "sectorwars-no-such-image:0" };
    expect((await tryWherePossible(wrong, seen)).map(({ code, level }) => [code, level])).toEqual([
      ["schema-not-tried", "fact"],
    ]);
  });
});

test("the catalog's checks of a source with 150 tables take less than 2 s", async () => {
  await makeSource("many", [
    `DO $$ BEGIN FOR i IN 1..150 LOOP
       EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, name text UNIQUE, ref int REFERENCES t%s, CHECK (name < ''z''))', i, greatest(i - 1, 1));
       EXECUTE format('CREATE INDEX ON t%s (lower(name))', i);
       EXECUTE format('CREATE FUNCTION f%s() RETURNS int LANGUAGE sql AS ''SELECT 1''', i);
     END LOOP; END $$`,
  ]);
  const client = await openSource(source.source("many", "superuser").address);
  const seconds: number[] = [];
  try {
    for (let run = 0; run < 3; run += 1) {
      const begun = performance.now();
      await readContents(client, 15, undefined);
      seconds.push((performance.now() - begun) / 1000);
    }
  } finally {
    await client.end();
  }
  // The best of three, because the machine may be busy.
  expect(Math.min(...seconds)).toBeLessThan(2);
  console.log(`catalog checks: ${seconds.map((s) => s.toFixed(2)).join(", ")} s`);
});
