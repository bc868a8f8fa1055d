import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { insertBlock, removeBlock } from "../../components/handover/env-block.ts";
import { entriesOf, valuesOf } from "../../components/handover/env-values.ts";

const OURS = { DATABASE_URL: "postgresql://a:b@localhost:5433/game", DB_PORT: "5433" };

/** Lines as people and programs write them. The block replaces some of them. */
const line = fc.oneof(
  fc.constantFrom(
    "DATABASE_URL=postgresql://old",
    'export DATABASE_URL="postgresql://old?a=b"',
    " DB_PORT = 1",
    "DB_PORT='1'",
    'DB_PORT="1',
    '"',
    "'",
    "# DATABASE_URL=commented",
    "DATABASE_URLS=other",
    'KEY="first\nDATABASE_URL=inside\nlast"',
    'DATABASE_URL="over\ntwo lines"',
    "# was line 1: DB_PORT=5",
    "",
    "\r",
    "DB_PORT=1\r",
  ),
  fc.string(),
);
const file = fc
  .tuple(fc.constantFrom("", "\uFEFF"), fc.array(line, { maxLength: 12 }), fc.constantFrom("", "\n", "\r\n"))
  .map(([mark, lines, end]) => mark + lines.join("\n") + end);

describe("the .env block", () => {
  test("leaves the file byte for byte as it was after it is inserted and removed", () => {
    fc.assert(
      fc.property(file, (text) => {
        expect(removeBlock(insertBlock(text, "dev", OURS)).text).toBe(text);
      }),
      { numRuns: 2000 },
    );
  });

  test("does not change if it is inserted again, and leaves no trace of former values", () => {
    fc.assert(
      fc.property(file, (text) => {
        const once = insertBlock(text, "dev", OURS);
        expect(insertBlock(once, "dev", OURS)).toBe(once);
        const other = insertBlock(once, "dev", { ...OURS, DB_HOST: "x", DB_PORT: "2" });
        expect(other).toBe(insertBlock(text, "dev", { ...OURS, DB_HOST: "x", DB_PORT: "2" }));
      }),
      { numRuns: 500 },
    );
  });

  test("comes first, and leaves every line that it does not replace unchanged", () => {
    const text = "A=1\nDATABASE_URL=old # mine\nB=2";
    expect(insertBlock(text, "dev", OURS)).toBe(
      [
        "# >>> sectorwars-database: stack dev",
        "# Written by pulumi up; pulumi destroy takes it out and puts back what it replaced.",
        "# was line 2: DATABASE_URL=old # mine",
        "DATABASE_URL=postgresql://a:b@localhost:5433/game",
        "DB_PORT=5433",
        "# <<< sectorwars-database",
        "A=1",
        "B=2",
      ].join("\n"),
    );
  });

  test("comes before lines that refer to its variables, and after a byte order mark", () => {
    const text = `\uFEFFDATABASE_URL=old\nALEMBIC_URL=\${DATABASE_URL}?a=b\n`;
    const put = insertBlock(text, "dev", OURS);
    expect(put.startsWith("\uFEFF# >>>")).toBe(true);
    expect(valuesOf(put).ALEMBIC_URL).toBe("postgresql://a:b@localhost:5433/game?a=b");
    expect(removeBlock(put).text).toBe(text);
  });

  test("is also removed from the end of a file, where an earlier version wrote it", () => {
    const former = [
      "A=1",
      "B=2",
      "# >>> sectorwars-database: stack dev",
      "# Written by pulumi up; pulumi destroy takes it out and puts back what it replaced.",
      "# the line before had no newline",
      "# was line 2: DATABASE_URL=old # mine",
      "DATABASE_URL=postgresql://a:b@localhost:5433/game",
      "# <<< sectorwars-database",
      "",
    ].join("\n");
    expect(removeBlock(former).text).toBe("A=1\nDATABASE_URL=old # mine\nB=2");
    expect(insertBlock(former, "dev", OURS)).toMatch(/^# >>>[\s\S]*<<< sectorwars-database\nA=1\nB=2$/);
  });

  test("leaves assignments inside a value of several lines, and replaces such a value as a whole", () => {
    const text = "KEY=\"first\nDATABASE_URL=inside\nlast\"\nDB_PORT='1\n2'\nA=1\n";
    const put = insertBlock(text, "dev", OURS);
    expect(put).toMatch(/<<< sectorwars-database\nKEY="first\nDATABASE_URL=inside\nlast"\nA=1\n$/);
    expect(put).toContain(`# was line 2: "DB_PORT='1\\n2'\\n"\n`);
  });

  test("leaves DATABASE_URL set only once in the file", () => {
    fc.assert(
      fc.property(file, (text) => {
        const keys = entriesOf(insertBlock(text, "dev", OURS)).map(({ key }) => key);
        expect(keys.filter((key) => key === "DATABASE_URL")).toHaveLength(1);
      }),
      { numRuns: 500 },
    );
  });

  test("is removed without the lines that were added around it", () => {
    const text = insertBlock("A=1\nDB_PORT=1\nC=3\n", "dev", OURS);
    expect(removeBlock(`NEW=0\n${text}LATER=9\n`).text).toBe("NEW=0\nDB_PORT=1\nA=1\nC=3\nLATER=9\n");
  });

  test("records whether the file existed before", () => {
    expect(removeBlock(insertBlock(undefined, "dev", OURS))).toMatchObject({ text: "", isOurs: true, stack: "dev" });
    expect(removeBlock(insertBlock("", "dev", OURS))).toMatchObject({ text: "", isOurs: false });
    expect(removeBlock(insertBlock(insertBlock(undefined, "dev", OURS), "dev", OURS))).toMatchObject({ isOurs: true });
  });

  test("is refused if it is damaged, occurs twice or belongs to another stack", () => {
    const text = insertBlock("A=1\n", "dev", OURS);
    expect(() => removeBlock(text.replace(/# <<<.*\n/, ""))).toThrow(
      /has a damaged block: .* is in line 1 and .* is missing/,
    );
    expect(() => removeBlock(text.replace(/# >>>.*\n/, ""))).toThrow("damaged block");
    expect(() => insertBlock(text + text, "dev", OURS)).toThrow("there is a second block");
    expect(() => insertBlock(text, "other", OURS)).toThrow("contains the block of the stack dev");
  });

  test("quotes values that need it, and refuses values that an .env file cannot contain", () => {
    expect(insertBlock("", "dev", { A: "/a b/c" })).toContain("A='/a b/c'\n");
    expect(insertBlock("", "dev", { A: "/pilot's a" })).toContain(`A="/pilot's a"\n`);
    for (const value of ["it's $A", 'it\'s "a"', "it's \\", "it's `a`", "a\nb"]) {
      expect(() => insertBlock("", "dev", { A: value })).toThrow("The value of A cannot be written into an .env file");
    }
  });
});
