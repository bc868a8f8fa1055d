import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { SETTINGS } from "../../components/settings.ts";
import { settingsPage } from "../../script/settings-page.ts";

const yaml = readFileSync("Pulumi.yaml", "utf8");

test("Pulumi.yaml declares the settings of components/settings.ts in the same order, with the same types", () => {
  const declared = Object.entries<{ type: string }>(parse(yaml).config).map(([key, { type }]) => [key, type]);
  expect(declared).toEqual(Object.entries(SETTINGS).map(([key, { type }]) => [key, type]));
});

test("docs/settings.md is up to date (npm run docs writes it)", () => {
  expect(readFileSync("docs/settings.md", "utf8")).toBe(settingsPage(yaml));
});

test("the page escapes table and HTML characters in descriptions", () => {
  const page = settingsPage(
    'config:\n  # The data\n  a:\n    type: string\n    default: ""\n    description: x|y <b>\n',
  );
  expect(page).toContain(
    "## The data\n\n| setting | default | meaning |\n| --- | --- | --- |\n| `a` | empty | x\\|y &lt;b> |\n",
  );
});

describe("settings named in scripts, messages and docs", () => {
  const listed = execFileSync(
    "git",
    ["ls-files", "script", "components", "cli", "lib", "docs", "README.md", "CONTRIBUTING.md"],
    {
      encoding: "utf8",
    },
  );
  const files = listed
    .split("\n")
    .filter((file) => /\.(ts|md|sh)$|^script\/\w+$/.test(file) && file !== "components/settings.ts");
  /** The text of a file with concatenated strings joined, because a command may span two lines. */
  const joined = (file: string) => readFileSync(file, "utf8").replaceAll(/["`]\s*\+\s*["`]/g, "");
  const named = (pattern: RegExp) =>
    files.flatMap((file) => [...joined(file).matchAll(pattern)].map(([, key = ""]) => ({ file, key })));
  const unknown = (pattern: RegExp) => named(pattern).filter(({ key }) => !Object.hasOwn(SETTINGS, key));

  test("exist if a script reads them", () => expect(unknown(/\$\(setting (\w+)\)/g)).toEqual([]));

  test("exist if a command changes them", () => {
    // KEY is a placeholder.
    const pattern = /pulumi config (?:set|rm) (?:--(?:secret|path|stack \S+) )*'?([a-z]\w+)/g;
    expect(named(pattern).length).toBeGreaterThan(40);
    expect(unknown(pattern)).toEqual([]);
  });
});
