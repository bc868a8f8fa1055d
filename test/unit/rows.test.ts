import { createHash } from "node:crypto";
import { Readable, Writable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import type pg from "pg";
import { describe, expect, test } from "vitest";
import {
  copyInSql,
  copyOutSql,
  copyTable,
  readBack,
  readBackSql,
  rowsOnSource,
} from "../../components/import/rows/rows.ts";
import { fakeClient } from "./client.ts";
import { makeTable } from "./table.ts";

const computed = makeTable("ships", {
  schema: "game",
  columns: [
    { name: "id", generated: false },
    { name: "total", generated: true },
    { name: "Name", generated: false },
  ],
});

test("COPY reads and writes rows with the same columns and format", () => {
  expect(copyOutSql(computed)).toBe('COPY "game"."ships" ("id", "Name") TO STDOUT (FORMAT binary)');
  expect(copyInSql(computed)).toBe('COPY "game"."ships" ("id", "Name") FROM STDIN (FORMAT binary, FREEZE)');
  const text = makeTable("notes", { format: "text" });
  expect(copyOutSql(text)).toBe('COPY "public"."notes" ("id") TO STDOUT (FORMAT text)');
  expect(copyInSql(text)).toBe('COPY "public"."notes" ("id") FROM STDIN (FORMAT text, FREEZE)');
});

test("COPY also reads a table without columns, which may have rows", () => {
  expect(copyOutSql(makeTable("bare", { columns: [] }))).toBe('COPY "public"."bare" TO STDOUT (FORMAT binary)');
});

test("for a selection COPY runs the query on the source, and reads and writes all rows on the target", () => {
  const query = 'SELECT "id", NULL AS "Name" FROM ONLY "game"."ships"';
  const selected = { ...computed, selected: { query, verdict: "masked" as const, what: "Name: null" } };
  expect(copyOutSql(selected)).toBe(`COPY (${query}) TO STDOUT (FORMAT binary)`);
  expect(rowsOnSource(selected)).toBe(`(${query})`);
  expect(readBackSql(selected)).toBe(copyOutSql(computed));
  expect(copyInSql(selected)).toBe(copyInSql(computed));
  expect(rowsOnSource(computed)).toBe('ONLY "game"."ships"');
});

describe("an observer of copied rows", () => {
  const chunks = ["one", "two", "three"].map((text) => Buffer.from(text));
  /** A source that returns the chunks, and a target that stores what it gets. */
  function ends() {
    const taken: string[] = [];
    const client = (copy: () => unknown) =>
      ({
        query: (statement: unknown) => (typeof statement === "string" ? Promise.resolve() : copy()),
      }) as unknown as pg.Client;
    return {
      taken,
      source: client(() => Object.assign(Readable.from(chunks), { rowCount: 3 })),
      target: client(() =>
        Object.assign(
          new Writable({
            write(chunk, _encoding, done) {
              taken.push(String(chunk));
              done();
            },
          }),
          { rowCount: 3 },
        ),
      ),
    };
  }

  test("gets every chunk in order before the target does, and the counts at the end", async () => {
    const { taken, source, target } = ends();
    const seen: string[] = [];
    const transfer = await copyTable(computed, source, target, () => {}, {
      async chunk(bytes) {
        await setImmediate();
        expect(taken).toEqual(seen);
        seen.push(String(bytes));
      },
      async end({ rows, bytes }) {
        seen.push(`${rows} rows, ${bytes} bytes`);
      },
    });
    expect(seen).toEqual(["one", "two", "three", "3 rows, 11 bytes"]);
    expect(transfer.sha256).toBe(createHash("sha256").update("onetwothree").digest("hex"));
  });

  test.each(["chunk", "end"])("fails the table if its method %s fails", async (what) => {
    const { source, target } = ends();
    const fail = () => Promise.reject(new Error("no room"));
    const observer = { chunk: () => undefined, end: () => Promise.resolve(), [what]: fail };
    await expect(copyTable(computed, source, target, () => {}, observer)).rejects.toThrow("no room");
  });
});

test("readBack counts and digests all bytes of the table", async () => {
  const data = "PGCOPY and so on";
  expect(
    await readBack(
      computed,
      fakeClient(() => [], { data, rows: 3 }),
    ),
  ).toEqual({
    rows: 3,
    bytes: data.length,
    sha256: createHash("sha256").update(data).digest("hex"),
  });
});
