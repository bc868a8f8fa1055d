/** Definitions that PostgreSQL rewords when it restores them are imported and proven, and changes are still found. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findOtherColumns } from "../../components/import/compare/rewording.ts";
import { createImportDatabase, scratchName } from "../../components/import/staging/swap.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { atPhase, attempt, expectComplete, expectNothingLeft, expectUntouched, stagingOf } from "../support/attempt.ts";
import { compareSourceAndTarget } from "../support/compare-databases.ts";
import {
  haveImage,
  images,
  type Lab,
  openBothEnds,
  readReport,
  type Server,
  type SourceServer,
} from "../support/lab.ts";
import { haveOtherVersions, imageOfVersion } from "../support/other-versions.ts";

const withNewer = await haveImage(images().newerPostgres);
const CASES = "test/cases/import";

/** Further expressions from public reports, beside the files. */
const MORE = `
  CREATE TABLE c56 (id integer PRIMARY KEY, x integer, CONSTRAINT c56_x CHECK (x BETWEEN 1 AND 10 AND x <> 5));
  CREATE VIEW c56_view AS SELECT id FROM c56 WHERE x BETWEEN 2 AND 3 AND id > 0 AND (x > 1 AND id < 100);
  CREATE FUNCTION c54() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT 'x'; END;
  INSERT INTO c56 VALUES (1, 2)`;

/** The objects of varchar-in.sql that are reworded, one for each place. */
const EIGHT = [
  "domain public.d_kind",
  "index public.t_index_open",
  "materialized view public.m_view",
  "policy public.t_policy p",
  "table public.t_check",
  "table public.t_generated",
  "trigger public.t_trigger tr",
  "view public.v_view",
];

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
});
afterAll(() => lab?.close());

const scriptOf = async () => {
  const files = ["varchar-in.sql", "reports/c55a_varchar_in_check.sql", "reports/c57_sqlalchemy.sql"];
  const texts = await Promise.all(files.map((file) => readFile(`${CASES}/${file}`, "utf8")));
  return [...texts, MORE].join("\n");
};

async function newImport(database: string, server = source): Promise<ImportSpec> {
  await server.makeDatabase(database, await scriptOf());
  return lab.newImport(server.source(database), target);
}

const asRole = (role: string, sql: string) => `SET ROLE ${role}; ${sql}; RESET ROLE`;
const asOwner = (sql: string) => asRole(ROLE_NAMES.owner, sql);

test("varchar IN (...), BETWEEN and SQL bodies are imported and proven wherever PostgreSQL allows an expression", async () => {
  const spec = await newImport("places");
  await expectComplete(lab, target, spec);
  const { verdict, schema } = await readReport(spec);
  expect(verdict).toBe("identical");
  expect(schema.differences).toEqual([]);
  expect(schema.reworded).toEqual(expect.arrayContaining([...EIGHT, "table public.orders", "table public.players"]));
  expect(await compareSourceAndTarget(spec)).toMatchObject({ verdict: "equal", differences: [], remarks: [] });
  // The comparison also works without the baseline.
  await target.sql(spec.target.address.database, "DELETE FROM sectorwars_stack.import_record");
  expect(await compareSourceAndTarget(spec)).toMatchObject({ verdict: "equal", differences: [], remarks: [] });
  await expectNothingLeft(lab, target, spec);
});

describe("from PostgreSQL", () => {
  const versions = [
    { version: "16", imageOf: () => imageOfVersion(16), isHere: haveOtherVersions },
    { version: "newest", imageOf: async () => images().newerPostgres, isHere: true },
  ].filter(({ isHere }) => isHere && withNewer);
  test.each(versions)(
    "$version, definitions are proven, and a changed one is an error",
    async ({ version, imageOf }) => {
      const newer = await lab.startSource({ image: await imageOf() });
      const spec = await newImport(`newer_${version}`, newer);
      const spoilt = { ...spec, ...(await lab.newImport(spec.source, target)) };
      await expectComplete(lab, target, spec);
      const { schema } = await readReport(spec);
      expect(schema.differences).toEqual([]);
      expect(schema.reworded).toEqual(expect.arrayContaining(EIGHT));
      expect(await compareSourceAndTarget(spec)).toMatchObject({ verdict: "equal", differences: [], remarks: [] });

      const { error } = await attempt(
        spoilt,
        atPhase("constraints", () =>
          target.sql(
            stagingOf(spoilt),
            asOwner("CREATE OR REPLACE VIEW v_view AS SELECT * FROM t_index WHERE status IN ('open', 'hold')"),
          ),
        ),
      );
      expect(linesOf(error)).toEqual(["view public.v_view: different"]);
    },
  );
});

/** What an error lists. */
const linesOf = (error: string) => [...error.matchAll(/^ {2}- (.*)$/gm)].map(([, line]) => line);

/** Changes to reworded definitions, each with what must be named. All of them change the meaning. */
const SPOILT: Record<string, string> = {
  "domain public.d_kind":
    "ALTER DOMAIN d_kind DROP CONSTRAINT d_kind_check; ALTER DOMAIN d_kind ADD CONSTRAINT d_kind_check CHECK (VALUE IN ('a', 'c'))",
  "index public.t_index_open":
    "DROP INDEX t_index_open; CREATE INDEX t_index_open ON t_index (id) WHERE status IN ('open', 'hold')",
  "materialized view public.m_view":
    "DROP MATERIALIZED VIEW m_view; CREATE MATERIALIZED VIEW m_view AS SELECT * FROM t_index WHERE status IN ('open')",
  "table public.t_check":
    "ALTER TABLE t_check DROP CONSTRAINT t_check_kind_check; ALTER TABLE t_check ADD CONSTRAINT t_check_kind_check CHECK (kind IN ('a', 'c'))",
  "table public.t_generated":
    "ALTER TABLE t_generated DROP is_open; ALTER TABLE t_generated ADD is_open boolean GENERATED ALWAYS AS (status IN ('open')) STORED",
  "view public.v_view": "CREATE OR REPLACE VIEW v_view AS SELECT * FROM t_index WHERE status IN ('open', 'held', '')",
};
const SPOILT_LATER: Record<string, string> = {
  "policy public.t_policy p": "ALTER POLICY p ON t_policy USING (owner IN ('a', 'b', 'c'))",
  "trigger public.t_trigger tr":
    "DROP TRIGGER tr ON t_trigger; CREATE TRIGGER tr BEFORE UPDATE ON t_trigger FOR EACH ROW WHEN (new.status IN ('open')) EXECUTE FUNCTION f()",
};

test("a reworded definition that was changed in the copy ends the import, which names only that one", async () => {
  const spec = await newImport("spoilt");
  const { error } = await attempt(
    spec,
    atPhase("constraints", () => target.sql(stagingOf(spec), asOwner(Object.values(SPOILT).join(";")))),
  );
  expect(error).toContain("The copy's schema differs from the source's");
  expect(linesOf(error)).toEqual(Object.keys(SPOILT).map((object) => `${object}: different`));
  await expectUntouched(lab, target, spec);
});

test("after the import, each change is found on the database that has changed, and the same change on both is equal", async () => {
  const spec = await newImport("later");
  await expectComplete(lab, target, spec);
  const here = spec.target.address.database;
  // Both databases have the new constraint in its first wording; for the old one, only the source does.
  const migration =
    "ALTER TABLE orders ADD more varchar(9) CHECK (more IN ('p', 'q')); ALTER TABLE t_generated ADD note text";
  await source.sql("later", asRole(source.user, migration));
  await target.sql(here, asOwner(migration));
  expect(await compareSourceAndTarget(spec)).toMatchObject({ verdict: "equal", differences: [], remarks: [] });

  const all = Object.entries({ ...SPOILT, ...SPOILT_LATER });
  for (const [index, [, sql]] of all.entries()) {
    await (index % 2 === 0 ? source.sql("later", asRole(source.user, sql)) : target.sql(here, asOwner(sql)));
  }
  const found = (await compareSourceAndTarget(spec)).differences.map(({ object, changed }) => ({ object, changed }));
  const expected = all.map(([object], index) => ({
    object,
    // The migration above has changed both since the import.
    changed: object === "table public.t_generated" ? "on both sides" : index % 2 === 0 ? "on the source" : "here",
  }));
  expect(found).toEqual(expected.sort((a, b) => (a.object < b.object ? -1 : 1)));
});

test("settings of the source's role and database do not affect pg_dump's output", async () => {
  const database = "spelled";
  await source.makeDatabase(
    database,
    `CREATE TABLE moments (id integer PRIMARY KEY, "Order" integer,
       at timestamptz DEFAULT '2026-03-29 02:30+00' CHECK (at > '2001-01-01 00:00:00+00'::timestamptz),
       span interval DEFAULT '1 mon 2 days -03:04:05', key bytea DEFAULT '\\xdeadbeef' CHECK (key <> '\\x00ff'::bytea),
       ratio double precision DEFAULT 0.1::double precision + 1e-17, day date DEFAULT '2026-02-01', price money DEFAULT '1.50');
     CREATE VIEW late AS SELECT id, '2026-01-01 12:00+00'::timestamptz AS at, '1 day'::interval AS span FROM moments;
     INSERT INTO moments (id) VALUES (1)`,
  );
  for (const [name, value] of Object.entries({
    timezone: "America/New_York",
    bytea_output: "escape",
    quote_all_identifiers: "on",
    intervalstyle: "sql_standard",
    datestyle: "SQL, DMY",
    extra_float_digits: "-10",
  })) {
    await source.sql("postgres", `ALTER ROLE ${source.user} IN DATABASE ${database} SET ${name} = '${value}'`);
    await source.sql("postgres", `ALTER DATABASE ${database} SET ${name} = '${value}'`);
  }
  const spec = await lab.newImport(source.source(database), target);
  expect((await attempt(spec)).error).toBe("");
  expect((await readReport(spec)).schema).toMatchObject({ differences: [], reworded: [] });
  expect(await compareSourceAndTarget(spec)).toMatchObject({ verdict: "equal", differences: [] });
});

test("columns in another order, of another type or nullable are found in the catalogs, whatever pg_restore creates", async () => {
  const same =
    "CREATE TABLE same (a integer, b text); CREATE VIEW seen AS SELECT * FROM same; CREATE TYPE pair AS (x integer);";
  const theirs =
    "CREATE TABLE ordered (a integer, b integer); CREATE TABLE typed (a integer); CREATE TABLE nullable (a integer NOT NULL)";
  const ours =
    "CREATE TABLE ordered (b integer, a integer); CREATE TABLE typed (a bigint); CREATE TABLE nullable (gone integer, a integer)";
  await source.makeDatabase("columns", `${same} ${theirs}`);
  await target.sql("postgres", "CREATE DATABASE columns");
  await target.sql("columns", `${same} ${ours}; ALTER TABLE nullable DROP gone`);
  const entry = (type: string, name: string) => ({ type, schema: "public", name, sql: "" });
  const tables = ["same", "ordered", "typed", "nullable"].map((name) => entry("TABLE", name));
  const schema = {
    before: [...tables, entry("VIEW", "seen"), entry("TYPE", "pair")],
    after: [entry("INDEX", "ordered")],
  };
  const found = await withConnection(source.in("columns"), (client) =>
    withConnection(target.in("columns"), (other) => findOtherColumns(schema, client, other)),
  );
  expect([...found]).toEqual(["table public.ordered", "table public.typed", "table public.nullable"]);
});

test("an import that is stopped while it restores definitions leaves nothing, and the next one is complete", async () => {
  const spec = await newImport("stopped");
  const name = scratchName(spec.target.address.database);
  const stop = new AbortController();
  let hasEnded = false;
  const running = attempt(spec, {}, stop.signal).finally(() => {
    hasEnded = true;
  });
  while (!hasEnded && !(await target.databases()).includes(name)) await sleep(20);
  stop.abort();
  expect((await running).error).toContain("The import was stopped");
  await expectUntouched(lab, target, spec);
  await expectComplete(lab, target, spec);
});

test("a scratch database that a killed run left is dropped, and one that no import created is not", async () => {
  const spec = await newImport("killed");
  const name = scratchName(spec.target.address.database);
  await withConnection(maintenance(spec.target.address), (lockSession) =>
    createImportDatabase(lockSession, spec, name),
  );
  await expectComplete(lab, target, spec);

  const theirs = await newImport("theirs");
  const taken = scratchName(theirs.target.address.database);
  await target.sql("postgres", `CREATE DATABASE ${taken}`);
  expect((await attempt(theirs)).error).toContain(taken);
  await target.sql("postgres", `DROP DATABASE ${taken}`);
  await expectUntouched(lab, target, theirs);
});
