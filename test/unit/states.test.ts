import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { baselineOfStates, rowsOf, tablesToFingerprint } from "../../components/import/rows/baseline.ts";
import { compareStates, digest, digestAll, whereChanged } from "../../components/import/schema/states.ts";
import { makeTable } from "./table.ts";

const states = fc
  .dictionary(fc.constantFrom("a", "b", "c"), fc.constantFrom("1", "2"))
  .map((o) => new Map(Object.entries(o)));

describe("compareStates", () => {
  test("finds differences in both directions, in order", () => {
    const source = new Map([
      ["view b", "1"],
      ["table a", "1"],
      ["index c", "1"],
    ]);
    const target = new Map([
      ["view b", "2"],
      ["index c", "1"],
      ["rule d", "1"],
    ]);
    expect(compareStates(source, target)).toEqual([
      { object: "rule d", how: "not on the source" },
      { object: "table a", how: "missing on the target" },
      { object: "view b", how: "different" },
    ]);
  });

  test("finds the same differences in the digests of states", () => {
    fc.assert(
      fc.property(states, states, (a, b) => {
        expect(compareStates(a, a)).toEqual([]);
        expect(compareStates(digestAll(a), digestAll(b))).toEqual(compareStates(a, b));
      }),
    );
    expect(digest("")).toMatch(/^e3b0c442/);
  });
});

describe("whereChanged", () => {
  const then = { source: "1", target: "1" };
  test.each([
    [{ source: "1", target: "2" }, "here"],
    [{ source: "2", target: "1" }, "on the source"],
    [{ source: "2", target: "3" }, "on both sides"],
    [{ source: "1" }, "here"],
    [{ target: "1" }, "on the source"],
    [{}, "on both sides"],
  ])('for %o returns "%s"', (now, who) => expect(whereChanged(then, now)).toBe(who));

  test("returns the end that has a new object", () => {
    expect(whereChanged({}, { target: "1" })).toBe("here");
    expect(whereChanged({}, { source: "1" })).toBe("on the source");
  });

  test('returns "nowhere" if the difference was accepted at the import', () => {
    expect(
      whereChanged(
        { source: "worded so", target: "worded otherwise" },
        { source: "worded so", target: "worded otherwise" },
      ),
    ).toBe("nowhere");
  });

  test("returns nothing if the baseline has only a large table's digest and no fingerprint", () => {
    expect(whereChanged({ stream: "cafe", columns: ["id"] }, { source: "1", target: "2" })).toBe(undefined);
    expect(whereChanged({ stream: "cafe", source: "1", target: "1" }, { source: "2", target: "1" })).toBe(
      "on the source",
    );
  });

  test("names exactly the databases in which an object has changed", () => {
    fc.assert(
      fc.property(states, states, states, states, (source, target, laterSource, laterTarget) => {
        const noted = baselineOfStates(source, target);
        for (const object of ["a", "b", "c"]) {
          const now = { source: laterSource.get(object), target: laterTarget.get(object) };
          const who = whereChanged(noted.get(object) ?? {}, now);
          expect(/source|both/.test(who ?? "")).toBe(source.get(object) !== now.source);
          expect(["here", "on both sides"].includes(who ?? "")).toBe(target.get(object) !== now.target);
        }
      }),
    );
  });
});

test("tablesToFingerprint returns the smallest tables that fit the budget", () => {
  const tables = [50, 10, 40, 90].map((bytes) => makeTable(`of_${bytes}`, { bytes }));
  const names = (budget: number) => [...tablesToFingerprint(tables, budget)].map(({ name }) => name);
  expect(names(60)).toEqual(["of_10", "of_40"]);
  expect(names(9)).toEqual([]);
  expect(names(1000)).toHaveLength(4);
});

test("rowsOf has a different name for each table, whatever characters its name contains", () => {
  expect(rowsOf({ schema: "public", name: "players" })).toBe("rows of public.players");
  const name = fc.string({ unit: fc.constantFrom("a", ".", '"', "A"), minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(name, name, name, name, (a, b, c, d) => {
      const same = rowsOf({ schema: a, name: b }) === rowsOf({ schema: c, name: d });
      expect(same).toBe(a === c && b === d);
    }),
  );
});
