import { describe, expect, test } from "vitest";
import { type MaskedColumn, maskKey, maskProblem, maskSql } from "../../components/import/selection/masks.ts";
import type { Relation } from "../../components/import/selection/relations.ts";
import { choose, describeSelection } from "../../components/import/selection/selection.ts";
import { parseSelection, type RawSelection } from "../../components/import/selection/selection-settings.ts";
import { addressArray, restrictedTables, rootCondition } from "../../components/import/selection/subset.ts";
import type { MaskKind } from "../../components/import/types.ts";
import { makeTable } from "./table.ts";

const parse = (raw: Partial<RawSelection>) =>
  parseSelection({ importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [], ...raw });

describe("parseSelection", () => {
  test("returns no selection without settings", () => {
    expect(parse({})).toEqual({ selection: undefined, problems: [] });
  });

  test("returns patterns, conditions, percentages and masks", () => {
    const { selection, problems } = parse({
      importExclude: ["audit.*", "event_log"],
      importSubset: ["players where rank = 'a = b' AND id % 10 = 0", "audit.changes 2.5%"],
      importMasks: [
        "players.email = email",
        "audit.changes.who=hash",
        "players.note = fixed not = this",
        "players.tag = fixed",
      ],
    });
    expect(problems).toEqual([]);
    expect(selection?.subset).toMatchObject([
      { table: "players", where: "rank = 'a = b' AND id % 10 = 0" },
      { table: "audit.changes", percent: 2.5 },
    ]);
    expect(selection?.masks.map(({ table, column, kind, value }) => [table, column, kind, value])).toEqual([
      ["players", "email", "email", undefined],
      ["audit.changes", "who", "hash", undefined],
      ["players", "note", "fixed", "not = this"],
      ["players", "tag", "fixed", ""],
    ]);
  });

  test.each<[Partial<RawSelection>, string]>([
    [{ importExclude: ["a b"] }, 'importExclude: "a b" is not a table pattern'],
    [
      { importSubset: ["players"] },
      'importSubset: "players" is not a subset: write [schema.]table where CONDITION, or',
    ],
    [{ importSubset: ["players 0%"] }, 'importSubset: "players 0%" is not a subset'],
    [{ importSubset: ["players 101%"] }, 'importSubset: "players 101%" is not a subset'],
    [
      { importMasks: ["email = email"] },
      'importMasks: "email = email" is not a mask: write [schema.]table.column = KIND',
    ],
    [{ importMasks: ["players.email = e-mail"] }, 'importMasks: "players.email = e-mail" is not a mask'],
    [{ importSchemaOnly: true, importExclude: ["a"] }, "importExclude: importSchemaOnly copies no rows"],
  ])("refuses %j", (raw, message) => {
    const [problem] = parse(raw).problems;
    expect(`${problem?.key}: ${problem?.problem}`.startsWith(message)).toBe(true);
  });
});

const relation = (schema: string, name: string, partOf?: string): Relation => ({
  table: makeTable(name, { schema }),
  names: [{ schema, name }, ...(partOf ? [{ schema, name: partOf }] : [])],
  columns: [],
});
const relations = [
  relation("public", "players"),
  relation("public", "ships"),
  relation("audit", "ships"),
  relation("audit", "changes_1", "changes"),
  relation("audit", "changes_2", "changes"),
];
const chosen = (raw: Partial<RawSelection>) => {
  const { selection } = parse(raw);
  return choose(relations, selection as NonNullable<typeof selection>);
};

describe("choose", () => {
  test("applies patterns with and without a schema, and includes all partitions of a table", () => {
    const excluded = (pattern: string) => [...chosen({ importExclude: [pattern] }).choices.keys()];
    expect(excluded("ships")).toEqual(['"public"."ships"', '"audit"."ships"']);
    expect(excluded("audit.s*")).toEqual(['"audit"."ships"']);
    expect(excluded("changes")).toEqual(['"audit"."changes_1"', '"audit"."changes_2"']);
    expect(chosen({ importSubset: ["changes 5%"] })).toMatchObject({ problems: [], choices: { size: 2 } });
  });

  test.each<[Partial<RawSelection>, string]>([
    [{ importExclude: ["palyers"] }, 'importExclude "palyers": the source has no such table'],
    [{ importSubset: ["palyers 5%"] }, 'importSubset "palyers 5%": the source has no table palyers'],
    [
      { importMasks: ["ships.a = null"] },
      'importMasks "ships.a = null": ships is in the schemas audit, public; add the schema, as in audit.ships',
    ],
    [
      { importExclude: ["players"], importSubset: ["players 5%"] },
      'importSubset "players 5%": importExclude excludes all rows of that table; remove one of the two settings',
    ],
    [
      { importSubset: ["players 5%", "public.players 6%"] },
      'importSubset names public.players twice: "players 5%" and "public.players 6%"; combine them into one condition',
    ],
    [
      { importMasks: ["players.a = null", "public.players.a = hash"] },
      "importMasks has two masks for public.players.a: null and hash; remove one",
    ],
  ])("refuses %j", (raw, message) => {
    expect(chosen(raw).problems).toEqual([message]);
  });
});

const column = (more: Partial<MaskedColumn> = {}): MaskedColumn => ({
  ...{ name: "c", type: "text", base: "text", isText: true, maxLength: undefined, notNull: false, unique: false },
  ...more,
});

describe("a mask", () => {
  test.each<[MaskKind, Partial<MaskedColumn>, RegExp]>([
    ["null", { notNull: true }, /NOT NULL/],
    ["fixed", { unique: true }, /must differ/],
    ["email", { isText: false, type: "integer" }, /its type is integer/],
    ["email", { maxLength: 16 }, /too few for an e-mail address, which needs 17/],
    ["email", { maxLength: 28, unique: true }, /which needs 29/],
    ["name", { maxLength: 29, unique: true }, /too few for names that all differ/],
    ["text", { unique: true }, /short masks may not/],
    ["hash", { maxLength: 15, unique: true }, /too few for hashes/],
    ["hash", { isText: false, base: "int4", type: "integer", unique: true }, /too short to differ/],
    ["hash", { isText: false, base: "jsonb", type: "jsonb" }, /no hash of type jsonb/],
  ])("%s is refused for the column %j", (kind, more, message) => {
    expect(maskProblem(kind, column(more))).toMatch(message);
  });

  test.each<[MaskKind, Partial<MaskedColumn>]>([
    ["null", {}],
    ["fixed", { isText: false, base: "jsonb" }],
    ["email", { maxLength: 29, unique: true }],
    ["name", { maxLength: 5 }],
    ["text", { maxLength: 1 }],
    ["hash", { isText: false, base: "uuid", unique: true }],
  ])("%s is accepted for the column %j", (kind, more) => {
    expect(maskProblem(kind, column(more))).toBeUndefined();
  });

  test("never contains the key in its SQL, and quotes a fixed value", () => {
    const { inner, outer } = maskKey("secret");
    const sql = maskSql("email", column());
    expect(sql.includes(inner) || sql.includes(outer) || sql.includes("secret")).toBe(false);
    expect(maskSql("fixed", column({ name: 'a"b' }), "it's")).toBe(
      `CASE WHEN "a""b" IS NULL THEN NULL ELSE ('it''s')::text END`,
    );
  });

  test("has the same key for the same secret, and a random key without a secret", () => {
    expect(maskKey("a")).toEqual(maskKey("a"));
    expect(maskKey("a")).not.toEqual(maskKey("b"));
    expect(maskKey(undefined)).not.toEqual(maskKey(undefined));
    // The two parts are HMAC's inner and outer key, so their XOR is the XOR of its two constants.
    const [inner, outer] = Object.values(maskKey("a")).map((hex) => Buffer.from(hex, "hex"));
    expect(inner?.every((byte, n) => (byte ^ (outer?.[n] ?? 0)) === (0x36 ^ 0x5c))).toBe(true);
  });
});

test("addressArray returns row addresses in ascending order", () => {
  expect(addressArray([65_536 * 2 + 1, 3, 65_536 + 291])).toBe('{"(0,3)","(1,291)","(2,1)"}');
});

test("a condition cannot comment out what follows it", () => {
  const root = { setting: "", table: "t", where: "true -- all" };
  expect(rootCondition(root, makeTable("t"))).toBe("(true -- all\n)");
});

test("restrictedTables returns the tables that refer to a root, also through cycles", () => {
  const key = (child: string, ...parents: string[]) => ({ name: "", child, parents, pairs: [] });
  const keys = [key("b", "a"), key("c", "b"), key("d", "c", "d2"), key("a", "e"), key("e", "c"), key("c", "lookup")];
  // A key to a partitioned table restricts all of its partitions.
  expect([...restrictedTables(["a"], keys)].sort()).toEqual(["a", "b", "c", "d", "d2", "e"]);
  expect(restrictedTables(["a"], keys).has("lookup")).toBe(false);
});

test("describeSelection counts the masked tables and the subsets", () => {
  expect(describeSelection([{ verdict: "equal" }, { verdict: "equal as a set" }])).toBe("");
  expect(
    describeSelection([{ verdict: "masked" }, { verdict: "subset" }, { verdict: "subset" }, { verdict: "equal" }]),
  ).toBe("1 table that is masked, 2 tables that are subsets");
});
