/** The worker streams values, so its memory use does not depend on their size. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { importInChild } from "../support/attempt.ts";
import { DENY_LIST, type Lab, openBothEnds, readReport, type Server, type SourceServer } from "../support/lab.ts";

const MEBIBYTES = 100;

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase(
    "heavy",
    `CREATE TABLE blobs (id integer PRIMARY KEY, content bytea NOT NULL, more bytea NOT NULL);
     ALTER TABLE blobs ALTER content SET STORAGE EXTERNAL, ALTER more SET STORAGE EXTERNAL;
     INSERT INTO blobs SELECT 1, b, b FROM convert_to(repeat(md5('b'), ${MEBIBYTES} * 32768), 'UTF8') b;
     CREATE TABLE texts (id integer PRIMARY KEY, content text NOT NULL, kind regtype);
     ALTER TABLE texts ALTER content SET STORAGE EXTERNAL;
     INSERT INTO texts SELECT 1, repeat(md5('t'), ${MEBIBYTES} * 32768), 'text'`,
  );
});
afterAll(() => lab?.close());

test("a row of 200 MB in binary, and one of 100 MB in text, cost the worker less than 300 MB", async () => {
  const spec = await lab.newImport(source.source("heavy"), target);
  const { end, memory, output } = await importInChild(spec, DENY_LIST);
  expect(end, output).toBe("0");
  const report = await readReport(spec);
  expect(report.tables.map(({ table, format }) => `${table} ${format}`).sort()).toEqual([
    "public.blobs binary",
    "public.texts text",
  ]);
  expect(report.bytes).toBeGreaterThan(3 * MEBIBYTES * 1024 * 1024);
  expect((memory?.peak ?? Number.POSITIVE_INFINITY) - (memory?.before ?? 0)).toBeLessThan(300);
  const digest = "SELECT md5(b.content) || md5(b.more) || md5(t.content) FROM blobs b, texts t";
  const [copied, original] = await Promise.all([
    target.value(spec.target.address.database, digest),
    source.value("heavy", digest),
  ]);
  expect(copied).toBe(original);
});

test("a large object of 1 GB costs the worker less than 300 MB, and is proven", async () => {
  await source.makeDatabase(
    "huge",
    `SELECT lo_create(4711);
     DO $$ BEGIN FOR i IN 0..63 LOOP
       PERFORM lo_put(4711, i::bigint * 16777216, convert_to(repeat(md5(i::text), 524288), 'UTF8'));
     END LOOP; END $$`,
  );
  const spec = await lab.newImport(source.source("huge"), target);
  const { end, memory, output } = await importInChild(spec, DENY_LIST);
  expect(end, output).toBe("0");
  const { largeObjects } = await readReport(spec);
  expect(largeObjects).toMatchObject({ objects: 1, bytes: 1024 ** 3, target: largeObjects?.source });
  expect((memory?.peak ?? Number.POSITIVE_INFINITY) - (memory?.before ?? 0)).toBeLessThan(300);
});
