/** What the proof can find: differences of every kind, planted at once on either side, and each of them named. */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ImportSpec } from "../../components/import/types.ts";
import { ROLE_NAMES } from "../../components/roles/names.ts";
import { ident } from "../../lib/postgres.ts";
import { attempt } from "../support/attempt.ts";
import { compareEnds } from "../support/compare-ends.ts";
import { type Lab, openBothEnds, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { type Plant, type PlantSide, plants, ROWS } from "../support/plants.ts";
import { SMALL } from "../support/small.ts";

/** Printed by a failing run, which is repeated with it: SEED=... npx vitest run ... */
const SEED = process.env.SEED ? Number(process.env.SEED) : Math.floor(Math.random() * 2 ** 31);
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

/** Runs a script as the one whom everything belongs to there, or for a plant that is about owners, as the superuser. */
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

test(`differences of every kind are found and named, each on its side, and nothing else is (seed ${SEED})`, async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(choice, async ({ rows: [row = 1, next = 2], sides }) => {
      run += 1;
      const copy = `planted_${run}`;
      await source.sql("postgres", `CREATE DATABASE ${ident(copy)} TEMPLATE planted`);
      const spec = await lab.newImport(source.source(copy, "superuser"), target);
      expect((await attempt(spec)).error).toBe("");
      const before = await compareEnds(spec);
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
      const after = await compareEnds(spec);
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
});

test("of a large table, whose bytes alone were noted, a change on the source is told as long as nothing has changed here", async () => {
  await source.makeDatabase("large", SMALL);
  const spec = await lab.newImport(source.source("large"), target);
  expect((await attempt(spec)).error).toBe("");
  const here = spec.target.address.database;
  // As the import would have written it, had the table been above the limit.
  const proof = (await readReport(spec)).tables.find(({ table }) => table === "public.pilots");
  await target.sql(
    here,
    `UPDATE sectorwars_stack.import_record SET source = NULL, target = NULL, stream = '${proof?.target}'
     WHERE object = 'rows of public.pilots'`,
  );
  expect((await compareEnds(spec)).differences).toEqual([]);

  const pilots = async () => (await compareEnds(spec)).differences.map(({ object, changed }) => ({ object, changed }));
  await source.sql("large", "UPDATE pilots SET note = 'gone' WHERE id = 7");
  expect(await pilots()).toEqual([{ object: "rows of public.pilots", changed: "on the source" }]);
  await target.sql(here, "UPDATE pilots SET note = 'gone here' WHERE id = 8");
  expect(await pilots()).toEqual([{ object: "rows of public.pilots", changed: undefined }]);
});
