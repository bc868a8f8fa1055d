/** No false alarm: schemas of every shape, made at random, are imported and proven, and compared anew they are the same. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ImportSpec } from "../../components/import/types.ts";
import { attempt } from "../support/attempt.ts";
import { compareEnds } from "../support/compare-ends.ts";
import { type Lab, openBothEnds, type Server, type SourceServer } from "../support/lab.ts";
import { type RandomSchema, randomSchemas } from "../support/random-schema.ts";

/** Printed by a failing run, which is repeated with it: SEED=... npx vitest run ... */
const SEED = process.env.SEED ? Number(process.env.SEED) : Math.floor(Math.random() * 2 ** 31);
/** More of them: SCHEMAS=1000 npx vitest run ... */
const SCHEMAS = Number(process.env.SCHEMAS ?? 200);
/** They share a few databases, each imported once: a round trip is dearer than a table. */
const DATABASES = 2;

/** A materialised view that was computed before a policy came that holds for the owner, too (FORCE ROW LEVEL SECURITY). */
const OTHER_ROWS_BY_RIGHT = /: \d+ rows on the source, \d+ on the target, as at the import$/;

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.sql("postgres", "CREATE ROLE sectorwars_app");
});
afterAll(() => lab?.close());

/** Makes the schemas in a database of their own. */
async function makeSource(database: string, schemas: readonly RandomSchema[]): Promise<ImportSpec> {
  await source.sql("postgres", `CREATE DATABASE ${database}`);
  for (const schema of schemas) {
    await source.sql(database, schema.statements.join(";\n")).catch((error: Error) => {
      throw new Error(`seed ${SEED}: ${error.message}\n${scriptOf([schema])}`);
    });
  }
  return lab.newImport(source.source(database, "superuser"), target);
}

const scriptOf = (schemas: readonly RandomSchema[]) =>
  schemas.map(({ statements }) => `${statements.join(";\n")};`).join("\n");

/** A failure with all that is needed to look into it: the seed, and what makes the schemas that it names. */
function failure(what: string, schemas: readonly RandomSchema[]): Error {
  const named = schemas.filter(
    ({ name }) => what.includes(`${name}.`) || what.includes(`"${name.replaceAll('"', '""')}".`),
  );
  return new Error(`seed ${SEED}: ${what}\n${scriptOf(named.slice(0, 2))}`);
}

test(`${SCHEMAS} random schemas are imported, proven, and found the same again (seed ${SEED})`, async () => {
  const all = randomSchemas(SCHEMAS, SEED);
  const shares = Array.from({ length: DATABASES }, (_, share) => all.filter((_, index) => index % DATABASES === share));
  const specs = await Promise.all(shares.map((schemas, share) => makeSource(`random_${share}`, schemas)));
  for (const [share, spec] of specs.entries()) {
    const schemas = shares[share] as RandomSchema[];
    const { error } = await attempt(spec);
    if (error !== "") throw failure(error, schemas);
    const { verdict, differences, remarks, tables, rows, definitions } = await compareEnds(spec);
    if (differences.length > 0) throw failure(JSON.stringify(differences, null, 1), schemas);
    expect(verdict).toBe("equal");
    expect(remarks.filter((remark) => !OTHER_ROWS_BY_RIGHT.test(remark))).toEqual([]);
    expect(tables).toBeGreaterThan(schemas.length);
    expect(rows).toBeGreaterThan(tables);
    expect(definitions).toBeGreaterThan(10 * schemas.length);
  }
}, 300_000);
