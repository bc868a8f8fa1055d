/** The comparison finds and names planted differences of every kind, on the source and on the target. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ImportSpec } from "../../components/import/types.ts";
import { ident } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { attempt } from "../support/attempt.ts";
import { compareSourceAndTarget } from "../support/compare-databases.ts";
import { type Lab, openBothEnds, ROLES_PASSWORD, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { type Plant, type PlantSide, plants, ROWS } from "../support/plants.ts";
import { SEED } from "../support/seed.ts";
import { withConnection } from "../support/session.ts";
import { SMALL } from "../support/small.ts";

const RUNS = 2;

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.sql("postgres", "CREATE ROLE sectorwars_app");
  await source.sql("postgres", "CREATE DATABASE planted");
  await source.sql("planted", plants(1, 2).setup);
});
afterAll(() => lab?.close());

/** Runs a script as the owner, or, if it is about owners, as the superuser. */
const spoil = (spec: ImportSpec, side: PlantSide, { spoil: sql, timeless }: Plant) =>
  side === "source"
    ? source.sql(spec.source.address.database, sql)
    : target.sql(
        spec.target.address.database,
        timeless || /EXTENSION/.test(sql) ? sql : `SET ROLE ${ROLE_NAMES.owner}; ${sql}; RESET ROLE`,
      );

const choice = fc.record({
  rows: fc.uniqueArray(fc.integer({ min: 1, max: ROWS }), { minLength: 2, maxLength: 2 }),
  sides: fc.infiniteStream(fc.constantFrom<PlantSide>("source", "target")),
});

test(`differences of every kind are found and named, each on the right database, and no others (seed ${SEED})`, async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(choice, async ({ rows: [row = 1, next = 2], sides }) => {
      run += 1;
      const copy = `planted_${run}`;
      await source.sql("postgres", `CREATE DATABASE ${ident(copy)} TEMPLATE planted`);
      const spec = await lab.newImport(source.source(copy, "superuser"), target);
      expect((await attempt(spec)).error).toBe("");
      const before = await compareSourceAndTarget(spec);
      expect([...before.differences, ...before.remarks]).toEqual([]);
      expect(before.tables).toBeGreaterThan(100);

      const planted = plants(row, next).plants.map((plant) => {
        const side: PlantSide = plant.only ?? (sides.next().value as PlantSide);
        return { plant, side };
      });
      for (const { plant, side } of planted) {
        await spoil(spec, side, plant).catch((error: Error) => {
          throw new Error(`${plant.what} cannot be planted on the ${side}: ${error.message}`);
        });
      }
      const after = await compareSourceAndTarget(spec);
      const found = new Map(after.differences.map((difference) => [difference.object, difference]));
      const expected = planted.flatMap(({ plant }) => plant.objects);
      expect([...found.keys()].sort()).toEqual(expected.sort());
      for (const { plant, side } of planted) {
        const said = plant.objects.flatMap((object) => found.get(object)?.details ?? []).join("\n");
        for (const part of plant.says ?? []) {
          expect(said, plant.what).toMatch(typeof part === "string" ? new RegExp(RegExp.escape(part)) : part);
        }
        for (const object of plant.objects) {
          const changed = plant.timeless ? undefined : side === "source" ? "on the source" : "here";
          expect(found.get(object)?.changed, `${plant.what}, planted on the ${side}`).toBe(changed);
        }
      }
      expect(after.remarks).toEqual([]);
    }),
    { seed: SEED, numRuns: RUNS, endOnFailure: true },
  );
}, 600_000);

test("for a large table with only a digest in the baseline, a change on the source is found while the target is unchanged", async () => {
  await source.makeDatabase("large", SMALL);
  const spec = await lab.newImport(source.source("large"), target);
  expect((await attempt(spec)).error).toBe("");
  const here = spec.target.address.database;
  // As the import writes it for a table above the limit.
  const proof = (await readReport(spec)).tables.find(({ table }) => table === "public.pilots");
  await target.sql(
    here,
    `UPDATE sectorwars_stack.import_record SET source = NULL, target = NULL, stream = '${proof?.target}'
     WHERE object = 'rows of public.pilots'`,
  );
  expect((await compareSourceAndTarget(spec)).differences).toEqual([]);

  const pilots = async () =>
    (await compareSourceAndTarget(spec)).differences.map(({ object, changed }) => ({ object, changed }));
  await source.sql("large", "UPDATE pilots SET note = 'gone' WHERE id = 7");
  expect(await pilots()).toEqual([{ object: "rows of public.pilots", changed: "on the source" }]);
  await target.sql(here, "UPDATE pilots SET note = 'gone here' WHERE id = 8");
  expect(await pilots()).toEqual([{ object: "rows of public.pilots", changed: undefined }]);
});

/** Of the database of a session. */
const SETTINGS = `
  SELECT coalesce(pg_get_userbyid(nullif(s.setrole, 0)) || ': ', '') || c AS setting FROM pg_db_role_setting s, unnest(s.setconfig) c
  WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1`;

test("properties of a database are copied and proven, or named as left out, and no value is printed", async () => {
  await source.sql("postgres", "CREATE ROLE game_backend");
  await source.sql("postgres", "CREATE DATABASE besides");
  await source.sql("besides", SMALL);
  await source.sql(
    "besides",
    `ALTER DATABASE besides SET timezone = 'europe/berlin'; ALTER DATABASE besides SET search_path = "$user", game, public, '';
     ALTER DATABASE besides SET app.tenant = 'Rocinante''s, "own"'; ALTER DATABASE besides SET work_mem = '7MB';
     ALTER ROLE sectorwars_app IN DATABASE besides SET datestyle = 'German';
     ALTER ROLE game_backend IN DATABASE besides SET search_path = backend;
     COMMENT ON DATABASE besides IS 'theirs'; SELECT lo_create(0);
     ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO game_backend; GRANT SELECT ON pilots TO game_backend`,
  );
  // CREATE SUBSCRIPTION cannot run with other statements.
  await source.sql(
    "besides",
    "CREATE SUBSCRIPTION theirs CONNECTION 'host=nowhere.invalid password=S3cret' PUBLICATION p WITH (connect = false)",
  );
  const spec = await lab.newImport(source.source("besides", "superuser"), target);
  const { error, lines } = await attempt(spec);
  expect(error).toBe("");

  const here = spec.target.address.database;
  const report = await readReport(spec);
  expect(report.skipped.map(({ what }) => what).sort()).toEqual([
    "comment of the database",
    "default privileges that lab_admin gives",
    "grants to game_backend",
    "setting search_path of the role game_backend in the database",
    "setting work_mem of the database",
    "subscription theirs",
  ]);
  expect(report.remarks).toContain(
    "setting TimeZone of the database is as on the source, for sectorwars_owner, sectorwars_app, sectorwars_readonly",
  );
  expect(JSON.stringify(report) + lines.join()).not.toMatch(/Rocinante|S3cret/);
  // Only the application's roles get them: the source's settings must not affect a superuser.
  const roles = ["sectorwars_app", "sectorwars_owner", "sectorwars_readonly"];
  // Each with the source's exact value, which may differ from the output of SHOW.
  const given = ["TimeZone=europe/berlin", `app.tenant=Rocinante's, "own"`, 'search_path="$user", game, public, ""'];
  expect((await target.sql<{ setting: string }>(here, SETTINGS)).map(({ setting }) => setting).sort()).toEqual(
    [
      ...roles.flatMap((role) => given.map((setting) => `${role}: ${setting}`)),
      "sectorwars_app: DateStyle=German",
    ].sort(),
  );
  expect(await target.value(here, "SHOW timezone")).toBe("UTC");
  const owner = { ...spec.target.address, user: "sectorwars_owner", password: ROLES_PASSWORD };
  expect((await withConnection(owner, (client) => client.query("SHOW timezone"))).rows).toEqual([
    { TimeZone: "Europe/Berlin" },
  ]);
  expect((await compareSourceAndTarget(spec)).differences).toEqual([]);

  await target.sql(
    here,
    `ALTER ROLE sectorwars_owner IN DATABASE ${ident(here)} SET timezone = 'UTC';
     ALTER ROLE sectorwars_app IN DATABASE ${ident(here)} RESET datestyle; ALTER DATABASE ${ident(here)} SET work_mem = '9MB'`,
  );
  await source.sql("besides", "ALTER DATABASE besides SET app.tenant = 'another'");
  expect((await compareSourceAndTarget(spec)).differences.map(({ object, changed }) => ({ object, changed }))).toEqual([
    { object: "setting DateStyle of the role sectorwars_app in the database", changed: "here" },
    { object: "setting TimeZone of the role sectorwars_owner in the database", changed: "here" },
    ...roles.map((role) => ({
      object: `setting app.tenant of the role ${role} in the database`,
      changed: "on the source",
    })),
  ]);
});
