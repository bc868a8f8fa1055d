/** The messages and decisions of a refresh and of branches, without a server. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { branchUrl } from "../../cli/branch.ts";
import { describeCheck, describeRefreshed } from "../../cli/refresh.ts";
import { checkBranchName, findBranch } from "../../components/branches/branches.ts";
import { finding } from "../../components/import/preflight/findings.ts";
import { type RefreshCheck, sortDifferences, whyNotMigrated } from "../../components/refresh/check.ts";
import { checkName } from "../../components/snapshots/snapshots.ts";
import { withoutMarks } from "../../lib/stack-state.ts";

const check: RefreshCheck = {
  source: "ep-cool.neon.tech/neondb",
  database: "sectorwars_dev",
  imported: { source: "ep-cool.neon.tech/neondb", finishedAt: "2026-11-22T10:00:00.000Z" },
  changes: [],
  ours: [],
  unknown: [],
  findings: [
    finding("source-size", "the source", "45.2 MB on its disk, indexes included"),
    finding("wire-estimate", "41 tables", "about 30.0 MB over the wire, each byte once (from their size on disk)"),
    finding("collation-order", "index a, index b", "sort otherwise here"),
    finding("tls", "ep-cool.neon.tech/neondb", "TLSv1.3"),
  ],
};

describe("the check of a refresh", () => {
  test("says what would be copied even if the source has not changed", () => {
    expect(describeCheck(check)).toMatchInlineSnapshot(`
      "Nothing has changed on ep-cool.neon.tech/neondb since the import at 2026-11-22T10:00:00.000Z.
      A refresh would copy:
        the source: 45.2 MB on its disk, indexes included
        41 tables: about 30.0 MB over the wire, each byte once (from their size on disk)
      Warnings:
        index a, index b: sort otherwise here [collation-order]
      Nothing was written."
    `);
  });

  test("lists changes on the source, changes in this database and unclear ones separately", () => {
    const differences = [
      { object: "rows of public.ships", details: ["3 rows on the source, 2 on the target"], changed: "on the source" },
      { object: "rows of public.users", details: ["(id) = (5): name\nof two lines"], changed: "here" },
      { object: "table public.ports", details: ["missing on the target"], changed: "on both sides" },
      { object: "rows of public.large", details: ["(id) = (7): a"] },
    ] as const;
    const sorted = sortDifferences(differences.map((one) => ({ ...one, details: [...one.details] })));
    expect(describeCheck({ ...check, ...sorted })).toMatchInlineSnapshot(`
      "Changed on ep-cool.neon.tech/neondb since the import at 2026-11-22T10:00:00.000Z:
        rows of public.ships: 3 rows on the source, 2 on the target
        table public.ports: missing on the target
      Different, and unknown whether the source or this database has changed:
        rows of public.large: (id) = (7): a
      Changed in this database; the new data will lack it, the snapshot before_refresh will contain it:
        rows of public.users: (id) = (5): name\\nof two lines
        table public.ports: missing on the target
      A refresh would copy:
        the source: 45.2 MB on its disk, indexes included
        41 tables: about 30.0 MB over the wire, each byte once (from their size on disk)
      Warnings:
        index a, index b: sort otherwise here [collation-order]
      Nothing was written."
    `);
  });

  test.each([
    [{ source: "the sample", finishedAt: "2026-11-22T10:00:00.000Z" }, "was imported from the sample, not from ep-"],
    [null, "sectorwars_dev was not filled by an import: a refresh would replace all of it."],
  ])("compares nothing if the data came from elsewhere (%j)", (imported, words) => {
    const told = describeCheck({ ...check, imported, changes: null, ours: null });
    expect(told).toContain(words);
    expect(told).not.toContain("Nothing has changed");
  });
});

describe("the report of a refresh", () => {
  const summary = {
    source: "ep-cool.neon.tech/neondb",
    finishedAt: "2026-11-22T10:00:00.000Z",
    tables: 41,
    rows: 260_609,
    bytes: 1,
    seconds: 2,
    fingerprint: "f",
    ran: [],
    hasImported: true,
  };

  test("names the proof and the command that restores the former data", () => {
    expect(describeRefreshed(summary, "sectorwars_dev")).toBe(
      "Refreshed: sectorwars_dev contains 41 tables, 260,609 rows, proven equal to ep-cool.neon.tech/neondb.\n" +
        "The former data is the snapshot before_refresh. To restore it:  ./db snapshot restore before_refresh",
    );
  });

  test('never says "equal" if only a selection was imported', () => {
    const told = describeRefreshed({ ...summary, butFor: "1 table masked", hasImported: false }, "sectorwars_dev");
    expect(told).not.toContain("equal");
    expect(told).toContain("identical except for 1 table masked: from ep-cool");
    expect(told).toContain("too full for the snapshot of the new data");
  });
});

describe("the migration path from the source's revision", () => {
  const revisions = [
    { id: "a1", down: [], title: "" },
    { id: "b2", down: ["a1"], title: "" },
  ];
  const way = { folder: "/game", revisions, wanted: "head", allowDowngrade: false };
  test.each([
    ["is accepted at the head", { from: "b2" }, undefined],
    ["is accepted from an older revision", { from: "a1" }, undefined],
    ["is accepted without a revision", { from: undefined }, undefined],
    [
      "is refused from an unknown revision",
      { from: "zz" },
      "The source is at Alembic revision zz, which is not among the revisions in /game",
    ],
    [
      "is refused if it needs a downgrade",
      { from: "b2", wanted: "a1" },
      "reaching it needs 1 downgrade, which may drop data",
    ],
    [
      "is accepted if it needs a downgrade and downgrades are allowed",
      { from: "b2", wanted: "a1", allowDowngrade: true },
      undefined,
    ],
    ["is accepted if the files do not determine it", { from: "a1", wanted: "label@head" }, undefined],
    ["is accepted if the chain cannot be read", { from: "zz", revisions: [] }, undefined],
  ])("%s", (_case, more, words) => {
    const why = whyNotMigrated({ ...way, ...more });
    if (words === undefined) expect(why).toBeUndefined();
    else expect(why).toContain(words);
  });
});

describe("a branch", () => {
  const names = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,39}$/);

  test("has a name of lowercase letters, digits, _ and -", () => {
    fc.assert(fc.property(names, (name) => checkBranchName(name) === name));
    for (const wrong of ["", "A", "-a", "a b", "a'", "a".repeat(41)]) {
      expect(() => checkBranchName(wrong)).toThrow(
        "is not a valid name for a branch: use at most 40 lowercase letters",
      );
    }
  });

  test("has the stack's URLs with its own database, on this machine and in the network", () => {
    const urls = { app: "postgresql://sectorwars_app:pass@127.0.0.1:5433/sectorwars_dev", superuser: "postgresql://x" };
    expect(branchUrl({ stack: "dev", urls }, "x-1", "app", false)).toBe(
      "postgresql://sectorwars_app:pass@127.0.0.1:5433/branch__x-1",
    );
    expect(branchUrl({ stack: "dev", urls }, "x-1", "app", true)).toBe(
      "postgresql://sectorwars_app:pass@database:5432/branch__x-1",
    );
  });

  test("that does not exist is an error with the existing ones", () => {
    const branch = { name: "a", database: "branch__a", madeAt: "", from: null, bytes: 1, sessions: 0 };
    expect(findBranch([branch], "a")).toBe(branch);
    expect(() => findBranch([branch], "b")).toThrow("There is no branch b. Existing branches: a");
    expect(() => findBranch([], "b")).toThrow("Create one: ./db branch create NAME");
  });
});

test("a snapshot cannot have a name that the program uses itself", () => {
  for (const name of ["before_restore", "before_refresh"]) expect(() => checkName(name)).toThrow("Choose another name");
});

test("withoutMarks replaces the secrets of an exported state by their values, and changes nothing else", () => {
  const secret = (value: unknown) => ({
    "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
    plaintext: JSON.stringify(value),
  });
  expect(withoutMarks({ a: secret("x"), b: [secret({ c: secret(1) })], d: null, e: { plaintext: "p" } })).toEqual({
    a: "x",
    b: [{ c: 1 }],
    d: null,
    e: { plaintext: "p" },
  });
});
