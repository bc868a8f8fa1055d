/** Safety copies of tables whose rows are not in insertion order: all of them are restored and equal. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import fc, { type GeneratorValue } from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openComparedDatabase } from "../../components/import/compare/compared-database.ts";
import { compareDatabases } from "../../components/import/compare/verify.ts";
import { checkCopy } from "../../components/import/safety-copy/check.ts";
import { readManifest } from "../../components/import/safety-copy/files.ts";
import { restoreCopy, withRestored } from "../../components/import/safety-copy/restore.ts";
import { holdsSameRows } from "../../components/import/safety-copy/rows.ts";
import type { ImportSpec, SafetyCopyFacts } from "../../components/import/types.ts";
import { preparationScript } from "../../components/privileges/scripts.ts";
import { readIdentity } from "../../lib/identity.ts";
import { ident } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { attempt } from "../support/attempt.ts";
import { contentsOf } from "../support/compare.ts";
import { handsFor } from "../support/hand-tools.ts";
import { type Lab, openBothEnds, ROLES_PASSWORD, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { SEED } from "../support/seed.ts";
import { connect } from "../support/session.ts";

const TABLES = Number(process.env.TABLES ?? 24);

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
});
afterAll(() => lab?.close());

interface Copied {
  spec: ImportSpec;
  facts: SafetyCopyFacts;
  identityFile: string;
  secret: string;
}

async function importWithCopy(database: string): Promise<Copied> {
  const identityFile = join(lab.folder, "settings", "identity.txt");
  const safetyCopy = { folder: join(lab.folder, "safety", database), identityFile, recipient: undefined };
  const spec = { ...(await lab.newImport(source.source(database), target)), safetyCopy };
  expect((await attempt(spec)).error, `seed ${SEED}`).toBe("");
  const facts = (await readReport(spec)).safetyCopy as SafetyCopyFacts;
  return { spec, facts, identityFile, secret: (await readIdentity(identityFile))?.secret ?? "" };
}

const orderOf = ({ facts, secret }: Copied, database: string) => ({
  copy: facts.path,
  secret,
  server: target.admin,
  database,
  owner: ROLE_NAMES.owner,
  ownerPassword: ROLES_PASSWORD,
  roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
  preparation: (name: string) => preparationScript(name, ["*"]),
  say: () => {},
});

/** Restores the copy in all three ways, and compares each result with the source. */
async function expectRestorable(copied: Copied): Promise<void> {
  const { spec, facts, identityFile, secret } = copied;
  const here = spec.target.address.database;
  await checkCopy(facts.path, secret);
  const theirs = await contentsOf(source.in(spec.source.address.database));
  expect(Object.keys(theirs.tables).length).toBeGreaterThan(0);

  const restored = `${here}_rescued`;
  await restoreCopy(orderOf(copied, restored));
  expect(await contentsOf(target.in(restored)), `seed ${SEED}`).toEqual(theirs);

  const differences = await withRestored(orderOf(copied, `${here}_verified`), async ({ database }, { lockSession }) => {
    const options = { jobs: 2, stack: spec.stack, dockerHost: undefined };
    const { fromContainer } = spec.target;
    const side = (address = target.in(here)) =>
      openComparedDatabase({ label: "", address, fromContainer, rootCertificates: undefined }, options);
    const [copy, data] = await Promise.all([side(target.in(database)), side()]);
    const images = { image: spec.image, newerImage: spec.newerImage };
    const access = { baseline: undefined, owner: ROLE_NAMES.owner, roles: Object.values(ROLE_NAMES) };
    try {
      const found = await compareDatabases(copy, data, {
        ...images,
        ...access,
        withServer: (work) => work({ ...spec, lockSession }),
        say: () => {},
      });
      return found.differences;
    } finally {
      await Promise.all([copy.close(), data.close()]);
    }
  });
  expect(differences, `seed ${SEED}`).toEqual([]);

  const byHand = `${here}_by_hand`;
  await target.sql("postgres", `CREATE DATABASE ${ident(byHand)}`);
  const hands = await handsFor(lab, target, { copy: facts.path, identityFile, database: byHand });
  expect(await hands.restore()).toMatch(/restored\n$/);
  expect(await contentsOf(target.in(byHand)), `seed ${SEED}`).toEqual(theirs);
}

test("a table in the order of an index is restored from its safety copy, by this program and by hand", async () => {
  await source.makeDatabase("clustered", await readFile("test/cases/import/safety-copy-order.sql", "utf8"));
  await expectRestorable(await importWithCopy("clustered"));
});

/** Expressions of `i` and of a number, from a few bytes to some pages; some are stored beside the table, compressed or not. */
const BODIES = [
  ["text", (n: number) => `repeat(md5((i * ${n})::text), 1 + (hashint4(i + ${n}) & 63))`],
  [
    "text",
    (n: number) =>
      `(SELECT string_agg(md5(x::text || i), '') FROM generate_series(1, 1 + (hashint4(i + ${n}) & 255)) x)`,
  ],
  ["bytea", (n: number) => `decode(repeat(md5((i + ${n})::text), hashint4(i * ${n}) & 127), 'hex')`],
  ["integer[]", (n: number) => `array_fill(i + ${n}, ARRAY[1 + (hashint4(i + ${n}) & 31)])`],
  ["mood[]", (n: number) => `array_fill((enum_range(NULL::mood))[1 + (i + ${n}) % 2], ARRAY[1 + (hashint4(i) & 31)])`],
  ["jsonb", (n: number) => `jsonb_build_object('a', repeat('x', hashint4(i + ${n}) & 511), 'b', i)`],
] as const;

/** A table with a history: rows inserted, changed, deleted, and moved by the server. Each statement is one round trip. */
function history(g: GeneratorValue, index: number): string[] {
  const whole = (min: number, max: number) => g(fc.integer, { min, max });
  const [type, body] = BODIES[whole(0, BODIES.length - 1)] as (typeof BODIES)[number];
  const name = `t_${index}`;
  const fillfactor = [10, 50, 90, 100][whole(0, 3)];
  const storage = ["text", "bytea"].includes(type)
    ? [`ALTER TABLE ${name} ALTER body SET STORAGE ${["EXTERNAL", "EXTENDED"][whole(0, 1)]}`]
    : [];
  let next = 1;
  const insert = () => {
    const [from, to] = [next, next + whole(0, 400)];
    next = to + 1;
    return `INSERT INTO ${name} SELECT i, i % 7, hashint4(i), ${body(whole(1, 99))} FROM generate_series(${from}, ${to}) i`;
  };
  const some = () => `id % ${whole(2, 9)} = ${whole(0, 1)}`;
  const steps: (() => string)[] = [
    insert,
    insert,
    () => `DELETE FROM ${name} WHERE ${some()}`,
    // Neither key nor index changes: a HOT chain in one page, if there is room.
    () => `UPDATE ${name} SET small = small + 1 WHERE ${some()}`,
    () =>
      `UPDATE ${name} SET body = x.body FROM (SELECT i AS id, ${body(whole(1, 99))} AS body FROM generate_series(1, ${next}) i) x WHERE x.id = ${name}.id AND ${name}.${some()}`,
    () => `UPDATE ${name} SET body = NULL WHERE ${some()}`,
    () => `VACUUM ${name}`,
    () => `VACUUM FULL ${name}`,
    () => `CLUSTER ${name} USING ${name}_pkey`,
    () => `CLUSTER ${name} USING ${name}_place`,
  ];
  return [
    `CREATE TABLE ${name} (id integer PRIMARY KEY, small integer, place integer, body ${type}) WITH (fillfactor = ${fillfactor}, autovacuum_enabled = false)`,
    `CREATE INDEX ${name}_place ON ${name} (place)`,
    ...storage,
    insert(),
    ...Array.from({ length: whole(1, 9) }, () => steps[whole(0, steps.length - 1)]?.() ?? insert()),
  ];
}

test(`${TABLES} tables with random histories are restored from their safety copy, by this program and by hand (seed ${SEED})`, async () => {
  await source.makeDatabase("histories", "CREATE TYPE mood AS ENUM ('calm', 'angry')");
  const histories = fc.sample(fc.gen(), { seed: SEED, numRuns: TABLES }).map(history);
  const client = await connect(source.source("histories").address);
  try {
    for (const statement of histories.flat()) {
      await client.query(statement).catch((error: Error) => {
        throw new Error(`seed ${SEED}: ${error.message}: ${statement}`);
      });
    }
  } finally {
    await client.end();
  }
  await expectRestorable(await importWithCopy("histories"));
});

test("rows in another order in the restored table are equal; a changed, lost or duplicated row is not", async () => {
  await source.makeDatabase(
    "ordered",
    `CREATE TABLE t (id integer, body text); INSERT INTO t SELECT i, repeat(md5(i::text), i % 90) FROM generate_series(1, 3000) i;
     CREATE TABLE u (moods text[], "a ""b" json); INSERT INTO u SELECT ARRAY[E'\\n\\t', i::text], '{"a":  1}' FROM generate_series(1, 300) i;
     CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES`,
  );
  const copied = await importWithCopy("ordered");
  const { facts, secret, spec } = copied;
  const database = `${spec.target.address.database}_rescued`;
  await restoreCopy(orderOf(copied, database));
  const { tables } = await readManifest(facts.path, secret);
  const client = await connect(target.in(database));
  const same = async (name: string) => {
    const table = tables.find(({ sql }) => sql === `"public"."${name}"`);
    if (table === undefined) throw new Error(`${name} is not in the copy`);
    const readable = { ...table, columns: table.columns.map((column) => ({ name: column, generated: false })) };
    return holdsSameRows(table, readable, { client, path: join(facts.path, table.file), secret });
  };
  try {
    await client.query("CREATE INDEX by_body ON public.t (body, id DESC); CLUSTER public.t USING by_body");
    await client.query(`CREATE TABLE public.v AS SELECT * FROM public.u ORDER BY moods[2] DESC;
      DELETE FROM public.u; INSERT INTO public.u SELECT * FROM public.v`);
    expect([await same("t"), await same("u"), await same("nothing")]).toEqual([true, true, true]);
    await client.query(
      "UPDATE public.t SET body = body || ' ' WHERE id = 7; DELETE FROM public.nothing WHERE ctid = '(0,1)'",
    );
    await client.query("UPDATE public.u SET moods = v.moods FROM public.v WHERE u.moods[2] = '7' AND v.moods[2] = '8'");
    expect([await same("t"), await same("u"), await same("nothing")]).toEqual([false, false, false]);
    await client.query("UPDATE public.t SET body = rtrim(body) WHERE id = 7");
    expect(await same("t")).toBe(true);
    // The copy's content is also compared with what the source sent.
    const [t] = tables.filter(({ sql }) => sql === '"public"."t"');
    expect(
      await holdsSameRows(
        { format: "binary", sha256: "0".repeat(64) },
        { ...asReadable(t), format: "binary" },
        { client, path: join(facts.path, t?.file ?? ""), secret },
      ),
    ).toBe(false);
  } finally {
    await client.end();
  }
});

const asReadable = (table: { sql: string; columns: string[] } | undefined) => ({
  sql: table?.sql ?? "",
  columns: (table?.columns ?? []).map((name) => ({ name, generated: false })),
});
