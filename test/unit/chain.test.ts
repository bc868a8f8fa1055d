import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  headsOf,
  iniValue,
  migrationPath,
  parseRevision,
  type Revision,
  readChain,
} from "../../components/migrations/chain.ts";

describe("an Alembic revision file", () => {
  test.each([
    [
      '"""add ships\n\nRevision ID: a1\n"""\nrevision = "a1"\ndown_revision = "b2"\n',
      { id: "a1", down: ["b2"], title: "add ships" },
    ],
    [
      "'''first'''\nrevision: str = 'a1'\ndown_revision: Union[str, None] = None\n",
      { id: "a1", down: [], title: "first" },
    ],
    ['revision = "m"\ndown_revision = (\n    "a",\n    "b",\n)\n', { id: "m", down: ["a", "b"], title: "" }],
    [
      '# coding: utf-8\n"""two\nlines"""\nrevision = "a" # here\ndown_revision = "b" # after "c"\n',
      { id: "a", down: ["b"], title: "two" },
    ],
    ["x = 1\n", undefined],
  ])("%j is parsed as %j", (text, expected) => {
    expect(parseRevision(text)).toEqual(expected);
  });
});

describe("alembic.ini", () => {
  test("is read from its section [alembic] alone", () => {
    const text =
      "[loggers]\nscript_location = wrong\n[alembic]\n# script_location = no\nscript_location = %(here)s/db\r\n[x]\nversion_locations = no\n";
    expect(iniValue(text, "script_location")).toBe("%(here)s/db");
    expect(iniValue(text, "version_locations")).toBeUndefined();
    expect(iniValue("[alembic]\nlast = here", "last")).toBe("here");
  });
});

describe("an Alembic project's folder", () => {
  let folder: string;
  beforeEach(async () => {
    folder = join(await mkdtemp(join(tmpdir(), "sectorwars-test-")), "the game");
    await cp("test/application/services/gameserver", folder, { recursive: true });
  });
  afterEach(() => rm(join(folder, ".."), { recursive: true, force: true }));

  test("yields its revisions in order, and its fingerprint changes only with the revision files", async () => {
    const { revisions, fingerprint } = readChain(folder);
    expect(revisions).toEqual([
      { id: "0001first", down: [], title: "first tables" },
      { id: "0002ships", down: ["0001first"], title: "ships" },
    ]);
    await writeFile(join(folder, "src/models.py"), "other");
    await mkdir(join(folder, "alembic/versions/__pycache__"));
    expect(readChain(folder).fingerprint).toBe(fingerprint);
    await writeFile(join(folder, "alembic/versions/0002_ships.py"), 'revision = "0002ships"');
    expect(readChain(folder).fingerprint).not.toBe(fingerprint);
  });

  test("is refused if a part is missing, and the error names that part", async () => {
    expect(() => readChain(join(folder, "no"))).toThrow(`the folder ${folder}/no does not exist`);
    await rm(join(folder, "alembic/versions"), { recursive: true });
    expect(() => readChain(folder)).toThrow(
      `alembic.ini names the folder ${folder}/alembic/versions, which does not exist`,
    );
    await rm(join(folder, "alembic.ini"));
    expect(() => readChain(folder)).toThrow("has no alembic.ini. Set alembic to the folder that contains it");
  });
});

const revision = (id: string, ...down: string[]): Revision => ({ id, down, title: "" });
const CHAIN = [revision("d", "b", "c"), revision("b", "a"), revision("c", "a"), revision("a"), revision("e", "d")];
const ids = (way: ReturnType<typeof migrationPath>) =>
  "unclear" in way ? way.unclear : [way.direction, way.steps.map(({ id }) => id).join("")];

describe("the migration path", () => {
  test.each([
    [null, "head", ["up", "acbde"]],
    ["a", "head", ["up", "cbde"]],
    ["e", "head", ["up", ""]],
    ["e", "d", ["down", "e"]],
    ["d", "a", ["down", "dbc"]],
    ["d", "base", ["down", "dbca"]],
    [null, "base", ["up", ""]],
    ["unknown", "head", "the chain does not contain unknown, the database's revision"],
    ["a", "unknown", "unknown is not the id, or the beginning of the id, of exactly one revision"],
    ["b", "c", "b and c are on different branches"],
  ])("from %s to %s is %j", (from, to, expected) => {
    expect(ids(migrationPath(CHAIN, from, to))).toEqual(expected);
  });

  test("to head is unclear if the chain has several heads or none", () => {
    const forked = [...CHAIN, revision("f", "d")];
    expect(headsOf(forked)).toEqual(["e", "f"]);
    expect(ids(migrationPath(forked, null, "head"))).toBe("the chain has several heads: e, f");
    expect(ids(migrationPath(forked, "d", "f"))).toEqual(["up", "f"]);
    expect(ids(migrationPath(forked, "e", "f"))).toBe("e and f are on different branches");
    expect(ids(migrationPath([], null, "head"))).toBe("the chain has no head");
  });

  test("accepts a whole id, or the beginning of an id if it matches one revision", () => {
    const named = [revision("abcd1"), revision("abcd2", "abcd1"), revision("abcd", "abcd2"), revision("bcdef", "abcd")];
    expect(ids(migrationPath(named, null, "abcd2"))).toEqual(["up", "abcd1abcd2"]);
    expect(ids(migrationPath(named, "abcd1", "abcd"))).toEqual(["up", "abcd2abcd"]);
    expect(ids(migrationPath(named, "abcd", "b"))).toEqual(["up", "bcdef"]);
    expect(ids(migrationPath(named.slice(0, 2), null, "abcd"))).toContain("abcd is not the id");
  });

  test("through a long chain runs each revision after the one that it depends on", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 0, max: 299 }), (length, at) => {
        const line = Array.from({ length }, (_, i) => revision(`r${i}_`, ...(i > 0 ? [`r${i - 1}_`] : [])));
        const from = at < length ? `r${at}_` : null;
        const way = migrationPath([...line].reverse(), from, "head");
        expect("unclear" in way ? way : way.steps.map(({ id }) => id)).toEqual(
          line.slice(from === null ? 0 : at + 1).map(({ id }) => id),
        );
      }),
    );
  });
});
