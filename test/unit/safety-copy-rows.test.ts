import fc from "fast-check";
import { expect, test } from "vitest";
import { type RowSet, RowSetDigest } from "../../components/import/safety-copy/rows.ts";

type Row = (Uint8Array | null)[];

/** COPY's binary format (PostgreSQL manual, COPY). */
function binary(rows: readonly Row[], extension = ""): Buffer {
  const number = (value: number, bytes: 2 | 4) => {
    const buffer = Buffer.alloc(bytes);
    if (bytes === 2) buffer.writeInt16BE(value);
    else buffer.writeInt32BE(value);
    return buffer;
  };
  return Buffer.concat([
    Buffer.from("PGCOPY\n\xff\r\n\0", "latin1"),
    number(0, 4),
    number(extension.length, 4),
    Buffer.from(extension),
    ...rows.flatMap((row) => [
      number(row.length, 2),
      ...row.flatMap((value) => (value === null ? [number(-1, 4)] : [number(value.length, 4), value])),
    ]),
    number(-1, 2),
  ]);
}

const text = (rows: readonly string[][]) => Buffer.from(rows.map((row) => `${row.join("\t")}\n`).join(""));

/** Passes the data in pieces, and overwrites the memory of each piece afterwards. */
function digestOf(format: "binary" | "text", data: Buffer, cuts: readonly number[] = []): RowSet {
  const set = new RowSetDigest(format);
  const places = [...new Set(cuts.map((cut) => cut % (data.length + 1)))].sort((a, b) => a - b);
  for (const [index, from] of [0, ...places].entries()) {
    const piece = Buffer.from(data.subarray(from, places[index] ?? data.length));
    set.update(piece);
    piece.fill(0xee);
  }
  return set.digest();
}

const value = fc.option(fc.uint8Array({ maxLength: 40 }), { nil: null });
const tables = fc
  .integer({ min: 0, max: 4 })
  .chain((columns) => fc.array(fc.array(value, { minLength: columns, maxLength: columns }), { maxLength: 12 }));
const cuts = fc.array(fc.nat(), { maxLength: 20 });

test("rows in another order have the same digest, wherever the stream is split", () => {
  fc.assert(
    fc.property(
      tables,
      cuts,
      cuts,
      fc.string({ maxLength: 5, unit: "binary-ascii" }),
      (rows, some, others, extension) => {
        const here = digestOf("binary", binary(rows), some);
        const there = digestOf("binary", binary(rows.toReversed(), extension), others);
        expect(here).toEqual(there);
        expect(here.rows).toBe(rows.length);
      },
    ),
  );
});

test("a changed value, and a lost, doubled or differently split row, have another digest", () => {
  fc.assert(
    fc.property(tables, fc.nat(), fc.nat(), (rows, at, column) => {
      fc.pre(rows.length > 0 && (rows[0]?.length ?? 0) > 0);
      const whole = digestOf("binary", binary(rows));
      const row = at % rows.length;
      const changed = rows.map((values, index) =>
        index === row
          ? values.map((old, n) => (n === column % values.length ? Buffer.from([...(old ?? []), 7]) : old))
          : values,
      );
      const lost = rows.filter((_, index) => index !== row);
      for (const other of [changed, lost, [...rows, rows[row] as Row]]) {
        expect(digestOf("binary", binary(other))).not.toEqual(whole);
      }
    }),
  );
  const [a, b] = [Buffer.from("a"), Buffer.from("b")];
  const sets = [[[a, b]], [[b, a]], [[Buffer.from("ab"), Buffer.from("")]], [[a, null]], [[a, Buffer.from("")]]];
  const digests = sets.map((rows) => digestOf("binary", binary(rows)).sum);
  expect(new Set(digests).size).toBe(sets.length);
  // An exclusive or would not distinguish two pairs of equal rows.
  expect(digestOf("binary", binary([[a], [a]]))).not.toEqual(digestOf("binary", binary([[b], [b]])));
});

test("the rows of COPY's text format are its lines", () => {
  const rows = [["1", "a\\nb"], ["2", "\\N"], ["2", "\\N"], [""]];
  for (const cut of [0, 1, 5, 9]) {
    expect(digestOf("text", text(rows), [cut])).toEqual(digestOf("text", text(rows.toReversed()), [cut + 3]));
  }
  expect(digestOf("text", text(rows)).rows).toBe(4);
  expect(digestOf("text", text(rows.slice(1)))).not.toEqual(digestOf("text", text([...rows.slice(2), ["1", "a\\nc"]])));
});

test("data that ends within a row is an error", () => {
  const whole = binary([[Buffer.from("abc")], [Buffer.from("de")]]);
  for (let length = 0; length < whole.length; length += 1) {
    expect(() => digestOf("binary", whole.subarray(0, length)), `${length} bytes`).toThrow("in the middle of a row");
  }
  expect(() => digestOf("text", Buffer.from("1\ta\n2\tb"))).toThrow("in the middle of a row");
});
