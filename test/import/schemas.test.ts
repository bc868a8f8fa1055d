/**
 * No false alarm and no silent difference: random schemas of every shape are imported and proven. Compared again, they are
 * equal, and a change in one of their objects is found.
 */
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ImportSpec } from "../../components/import/types.ts";
import { atPhase, attempt, stagingOf } from "../support/attempt.ts";
import { compareSourceAndTarget } from "../support/compare-databases.ts";
import { type Lab, openBothEnds, type Server, type SourceServer } from "../support/lab.ts";
import { databaseSettings, HELPER_STATEMENTS, SETTINGS_SQL } from "../support/random-kinds.ts";
import { RANDOM_PLANTS, type RandomPlant } from "../support/random-plants.ts";
import { type RandomSchema, randomSchemas } from "../support/random-schema.ts";
import { SEED } from "../support/seed.ts";
import { withConnection } from "../support/session.ts";

/** More of them: SCHEMAS=1000 npx vitest run ... */
const SCHEMAS = Number(process.env.SCHEMAS || 60);
/** They share a few databases, each imported once: a round trip takes longer than a table, and very many tables slow a catalog down. */
const DATABASES = Math.max(2, Math.ceil(SCHEMAS / 60));
/** Milliseconds for each test. */
const LIMIT = DATABASES * 300_000;
/** Schemas in which one difference is planted. */
const PLANTED_EVERY = 3;

/** Differences in definitions. The rows have been proven when these are planted. */
const DEFINITIONS = /^(?!a row lost|a value|a sequence's position|a materialized)/;
/** A materialized view that was computed before the creation of a policy that also applies to the owner (FORCE ROW LEVEL SECURITY). */
const OTHER_ROWS_BY_RIGHT = /: \d+ rows on the source, \d+ on the target, as at the import$/;

/** A database of random schemas, and how it is imported. */
interface RandomDatabase {
  schemas: readonly RandomSchema[];
  spec: ImportSpec;
}

let lab: Lab;
let source: SourceServer;
let target: Server;
let imported: RandomDatabase[] = [];

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  // An owner like Neon's: not a superuser, and with BYPASSRLS.
  await source.sql("postgres", `CREATE ROLE sectorwars_app; ALTER ROLE ${source.user} BYPASSRLS`);
});
afterAll(() => lab?.close());

/** Creates the schemas in their own database, as its owner. */
async function makeSource(database: string, schemas: readonly RandomSchema[]): Promise<ImportSpec> {
  await source.makeDatabase(database, HELPER_STATEMENTS);
  await source.sql("postgres", databaseSettings(database));
  const { address } = source.source(database);
  await withConnection(address, async (client) => {
    for (const schema of schemas) {
      await client.query(schema.statements.join(";\n")).catch((error: Error) => {
        throw new Error(`seed ${SEED}: ${error.message}\n${scriptOf([schema])}`);
      });
    }
  });
  return lab.newImport(source.source(database), target);
}

const scriptOf = (schemas: readonly RandomSchema[]) =>
  schemas.map(({ statements }) => `${statements.join(";\n")};`).join("\n");

/** Returns whether a message names an object of a schema: plain, quoted, or on one line as in pg_dump's headers. */
const names = (message: string, schema: string) =>
  [schema, `"${schema.replaceAll('"', '""')}"`, schema.replaceAll("\n", " ")].some((name) =>
    message.includes(`${name}.`),
  );

/** A failure with everything for reproducing it: the seed, and the SQL of the schemas that it names. */
function failure(what: string, schemas: readonly RandomSchema[]): Error {
  const named = schemas.filter(({ name }) => names(what, name));
  return new Error(`seed ${SEED}: ${what}\n${scriptOf(named.slice(0, 2))}`);
}

/** Plants one difference each in some of the schemas. If one cannot be planted in a schema (a view may depend on it), another is used. */
async function plantIn(database: string, schemas: readonly RandomSchema[], only = /./): Promise<RandomPlant[]> {
  return withConnection(target.in(database), async (client) => {
    await client.query(`${SETTINGS_SQL}; SET session_replication_role = replica`);
    const all = (await client.query<RandomPlant>(`${RANDOM_PLANTS} ORDER BY 1, 2, 3`)).rows;
    const planted: RandomPlant[] = [];
    for (const [index, { name }] of schemas.entries()) {
      const fitting = all.filter(({ schema, what }) => schema === name && only.test(what));
      const kinds = [...new Set(fitting.map(({ what }) => what))];
      // The kinds in turn, so that each is planted about equally often.
      const order =
        fc.sample(fc.shuffledSubarray(kinds, { minLength: kinds.length }), { seed: SEED + index, numRuns: 1 })[0] ?? [];
      for (const kind of order) {
        const plants = fitting.filter(({ what }) => what === kind);
        const plant = plants[(SEED + index) % plants.length] as RandomPlant;
        if (
          await client.query(plant.sql).then(
            () => true,
            () => false,
          )
        ) {
          planted.push(plant);
          break;
        }
      }
    }
    return planted;
  });
}

const some = (schemas: readonly RandomSchema[]) => schemas.filter((_, index) => index % PLANTED_EVERY === 0);

test(
  `${SCHEMAS} random schemas are imported, proven, and found the same again (seed ${SEED})`,
  async () => {
    const all = randomSchemas(SCHEMAS, SEED);
    const shares = Array.from({ length: DATABASES }, (_, share) =>
      all.filter((_, index) => index % DATABASES === share),
    );
    const specs = await Promise.all(shares.map((schemas, share) => makeSource(`random_${share}`, schemas)));
    imported = specs.map((spec, share) => ({ spec, schemas: shares[share] as RandomSchema[] }));
    for (const { spec, schemas } of imported) {
      const { error } = await attempt(spec);
      if (error !== "") throw failure(error, schemas);
      const { verdict, differences, remarks, tables, rows, definitions } = await compareSourceAndTarget(spec);
      if (differences.length > 0) throw failure(JSON.stringify(differences, null, 1), schemas);
      expect(verdict).toBe("equal");
      expect(remarks.filter((remark) => !OTHER_ROWS_BY_RIGHT.test(remark))).toEqual([]);
      expect(tables).toBeGreaterThan(schemas.length);
      expect(rows).toBeGreaterThan(tables);
      expect(definitions).toBeGreaterThan(10 * schemas.length);
    }
  },
  LIMIT,
);

test(
  `a change in an object of one of them is found, and nothing else is reported (seed ${SEED})`,
  async () => {
    expect(imported).toHaveLength(DATABASES);
    for (const { spec, schemas } of imported) {
      const planted = await plantIn(spec.target.address.database, some(schemas));
      expect(planted.length).toBeGreaterThanOrEqual(Math.floor(schemas.length / PLANTED_EVERY));
      const { differences } = await compareSourceAndTarget(spec);
      const found = (schema: string) => differences.some(({ object }) => names(object, schema));
      expect(planted.filter(({ schema }) => !found(schema))).toEqual([]);
      const untouched = schemas.filter(({ name }) => !planted.some(({ schema }) => schema === name));
      expect(untouched.filter(({ name }) => found(name)).map(({ name }) => name)).toEqual([]);
    }
  },
  LIMIT,
);

test(
  `an import rejects a copy in which a definition was changed, and names the definition (seed ${SEED})`,
  async () => {
    expect(imported).toHaveLength(DATABASES);
    const [{ spec: first, schemas }] = imported as [RandomDatabase];
    const spec = await lab.newImport(first.source, target);
    let planted: RandomPlant[] = [];
    const plant = async () => {
      planted = await plantIn(stagingOf(spec), some(schemas), DEFINITIONS);
    };
    const { error } = await attempt(spec, atPhase("sequences", plant));
    expect(error).toContain("schema differs from the source's");
    expect(planted.length).toBeGreaterThan(0);
    expect(planted.filter(({ schema }) => !names(error, schema))).toEqual([]);
  },
  LIMIT,
);
