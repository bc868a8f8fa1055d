import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { copyInSql, copyOutSql, readBack } from "../../components/import/rows.ts";
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

test("rows are read and written with the same columns and format", () => {
  expect(copyOutSql(computed)).toBe('COPY "game"."ships" ("id", "Name") TO STDOUT (FORMAT binary)');
  expect(copyInSql(computed)).toBe('COPY "game"."ships" ("id", "Name") FROM STDIN (FORMAT binary, FREEZE)');
  const text = makeTable("notes", { format: "text" });
  expect(copyOutSql(text)).toBe('COPY "public"."notes" ("id") TO STDOUT (FORMAT text)');
  expect(copyInSql(text)).toBe('COPY "public"."notes" ("id") FROM STDIN (FORMAT text, FREEZE)');
});

test("a table without columns is copied too: its rows count", () => {
  expect(copyOutSql(makeTable("bare", { columns: [] }))).toBe('COPY "public"."bare" TO STDOUT (FORMAT binary)');
});

test("what is read back is hashed from its first to its last byte", async () => {
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
