import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { differing, proveTable, setFingerprintSql } from "../../components/import/rows/proof.ts";
import { fakeClient, type Row } from "./client.ts";
import { makeTable } from "./table.ts";

const maps = fc
  .array(fc.tuple(fc.constantFrom("a", "b", "c", "10", "9", ""), fc.constantFrom("1", "2")))
  .map((pairs) => new Map<string, string>(pairs));

describe("differing", () => {
  test("returns keys with different values and keys of one map only, in order", () => {
    const a = new Map([
      ["same", "1"],
      ["other", "1"],
      ["mine", "1"],
    ]);
    const b = new Map([
      ["same", "1"],
      ["other", "2"],
      ["yours", "1"],
    ]);
    expect(differing(a, b)).toEqual(["mine", "other", "yours"]);
  });

  test("is empty for equal maps, and symmetric", () => {
    fc.assert(
      fc.property(maps, maps, (a, b) => {
        expect(differing(a, new Map(a))).toEqual([]);
        expect(differing(a, b)).toEqual(differing(b, a));
      }),
    );
  });

  test("returns exactly the keys to change to turn one map into the other", () => {
    fc.assert(
      fc.property(maps, maps, (a, b) => {
        const mended = new Map(a);
        for (const key of differing(a, b)) {
          const wanted = b.get(key);
          if (wanted === undefined) mended.delete(key);
          else mended.set(key, wanted);
        }
        expect(new Map([...mended].sort())).toEqual(new Map([...b].sort()));
      }),
    );
  });

  test("returns only keys that also differ on a path through a third map", () => {
    fc.assert(
      fc.property(maps, maps, maps, (a, b, c) => {
        const steps = [...differing(a, b), ...differing(b, c)];
        for (const key of differing(a, c)) expect(steps).toContain(key);
      }),
    );
  });
});

/** A fake server that answers the queries of a proof from rows by key. Short texts replace the hashes. */
function side(rows: Record<string, string>, data: string, bucketOf = (key: string) => key.length) {
  const asked: string[] = [];
  const answer = (sql: string, values: unknown[]): Row[] => {
    asked.push(sql);
    const all = Object.entries(rows);
    if (sql.includes("AS bucket")) {
      const buckets = new Map<number, string>();
      for (const [key, sum] of all.sort()) {
        buckets.set(bucketOf(key), `${buckets.get(bucketOf(key)) ?? ""}${key}=${sum};`);
      }
      return [...buckets].map(([bucket, sums]) => ({ bucket, sums }));
    }
    if (sql.includes("SELECT k,")) {
      const wanted = (values[0] as string[]).map(Number);
      return all.filter(([key]) => wanted.includes(bucketOf(key))).map(([k, sums]) => ({ k, sums }));
    }
    return [{ rows: all.length, sums: JSON.stringify(all.sort()) }];
  };
  return { client: fakeClient(answer, { data, rows: Object.keys(rows).length }), asked };
}

const sha256 = (data: string) => createHash("sha256").update(data).digest("hex");
const sentBy = (rows: Record<string, string>, data: string) => ({
  rows: Object.keys(rows).length,
  bytes: data.length,
  sha256: sha256(data),
});

type Side = ReturnType<typeof side>;
const ends = (source: Side, target: Side) => ({
  source: source.client,
  target: target.client,
  superuser: target.client,
});

describe("proveTable", () => {
  const ships = makeTable("ships");
  const rows = { "(1)": "a", "(2)": "b" };

  test("compares only the digests if the bytes are equal", async () => {
    const source = side(rows, "ab");
    const target = side(rows, "ab");
    expect(await proveTable(ships, sentBy(rows, "ab"), 0.5, ends(source, target))).toEqual({
      table: "public.ships",
      rows: 2,
      bytes: 2,
      seconds: 0.5,
      format: "binary",
      source: sha256("ab"),
      target: sha256("ab"),
      verdict: "equal",
    });
    expect([...source.asked, ...target.asked]).toEqual([]);
  });

  test('returns "equal as a set" if only the order of the rows differs', async () => {
    const source = side(rows, "ab");
    const target = side(rows, "ba");
    const proof = await proveTable(ships, sentBy(rows, "ab"), 1, ends(source, target));
    expect(proof.verdict).toBe("equal as a set");
    expect(proof.source).toBe(proof.target);
    expect(proof.differences).toBeUndefined();
  });

  test("names rows with a different value, missing rows and extra rows", async () => {
    const source = side({ "(1)": "a", "(2)": "b", "(3)": "c" }, "abc");
    const target = side({ "(1)": "a", "(2)": "x", "(4)": "d" }, "axd");
    const proof = await proveTable(
      ships,
      sentBy({ "(1)": "a", "(2)": "b", "(3)": "c" }, "abc"),
      1,
      ends(source, target),
    );
    expect(proof.verdict).toBe("different");
    expect(proof.source).not.toBe(proof.target);
    expect(proof.differences).toEqual([
      "(id) = (2)",
      "(id) = (3), missing on the target",
      "(id) = (4), not on the source",
    ]);
  });

  test("compares generated columns too, although they are not copied", async () => {
    const computed = makeTable("ships", {
      columns: [
        { name: "id", generated: false },
        { name: "total", generated: true },
      ],
    });
    const same = side(rows, "ab");
    expect(await proveTable(computed, sentBy(rows, "ab"), 1, ends(side(rows, "ab"), same))).toMatchObject({
      verdict: "equal",
      source: sha256("ab"),
      target: sha256("ab"),
    });
    expect(same.asked).toEqual([setFingerprintSql(`ONLY ${computed.sql}`, computed.columns)]);
    const other = side({ ...rows, "(2)": "computed otherwise" }, "ab");
    expect(await proveTable(computed, sentBy(rows, "ab"), 1, ends(side(rows, "ab"), other))).toMatchObject({
      verdict: "different",
      differences: ["(id) = (2)"],
    });
  });

  test("names at most ten keys", async () => {
    const many = Object.fromEntries(Array.from({ length: 13 }, (_, n) => [`(${n + 10})`, "a"]));
    const proof = await proveTable(ships, sentBy(many, "many"), 1, ends(side(many, "many"), side({}, "")));
    expect(proof.differences).toHaveLength(11);
    expect(proof.differences?.at(0)).toBe("(id) = (10), missing on the target");
    expect(proof.differences?.at(-1)).toBe("and 3 more");
  });

  test("gives the number of rows if the table has no key", async () => {
    const keyless = makeTable("log", { key: [] });
    const proof = await proveTable(keyless, sentBy(rows, "ab"), 1, ends(side(rows, "ab"), side({}, "")));
    expect(proof.differences).toEqual(["2 rows; the table has no key to name them by"]);
  });

  // The search reads only fifty groups of rows, so it does not count most rows of a table that was lost.
  test("gives a lower bound for the number of rows if it did not read all groups", async () => {
    const many = Object.fromEntries(Array.from({ length: 400 }, (_, n) => [`(${n})`, "a"]));
    const bucketOf = (key: string) => Number(key.slice(1, -1)) % 100;
    const proof = await proveTable(
      makeTable("log", { key: [] }),
      sentBy(many, "many"),
      1,
      ends(side(many, "many", bucketOf), side({}, "", bucketOf)),
    );
    expect(proof.differences).toEqual(["at least 200 rows; the table has no key to name them by"]);
  });
});

test("the SQL of a fingerprint sums two hashes of each row of that table alone", () => {
  const sql = setFingerprintSql(`ONLY ${makeTable('odd"name', { schema: "game" }).sql}`);
  expect(sql).toContain(`FROM ONLY "game"."odd""name" t OFFSET 0`);
  expect(sql).toMatch(/sum\(pg_catalog\.hashtextextended\(r, 0\)\).*sum\(pg_catalog\.hashtextextended\(r, 20231\)\)/s);
  expect(sql).not.toMatch(/bit_xor/i);
});
