import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { SETTINGS } from "../../components/settings.ts";
import { settingsPage } from "../../script/settings-page.ts";

const yaml = readFileSync("Pulumi.yaml", "utf8");

test("Pulumi.yaml has the settings of the components, in their order and with their types", () => {
  const declared = Object.entries<{ type: string }>(parse(yaml).config).map(([key, { type }]) => [key, type]);
  expect(declared).toEqual(Object.entries(SETTINGS).map(([key, { type }]) => [key, type]));
});

test("docs/settings.md is up to date: npm run docs writes it", () => {
  expect(readFileSync("docs/settings.md", "utf8")).toBe(settingsPage(yaml));
});

test("a cell of the page holds what a table would take for its own", () => {
  const page = settingsPage(
    'config:\n  # The data\n  a:\n    type: string\n    default: ""\n    description: x|y <b>\n',
  );
  expect(page).toContain(
    "## The data\n\n| setting | default | meaning |\n| --- | --- | --- |\n| `a` | empty | x\\|y &lt;b> |\n",
  );
});

describe("names of settings in scripts, messages and docs", () => {
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
  /** A text with its concatenated strings joined: a command may be broken over two lines. */
  const joined = (file: string) => readFileSync(file, "utf8").replaceAll(/["`]\s*\+\s*["`]/g, "");
  const named = (pattern: RegExp) =>
    files.flatMap((file) => [...joined(file).matchAll(pattern)].map(([, key = ""]) => ({ file, key })));
  const unknown = (pattern: RegExp) => named(pattern).filter(({ key }) => !Object.hasOwn(SETTINGS, key));

  test("scripts read settings that exist", () => expect(unknown(/\$\(setting (\w+)\)/g)).toEqual([]));

  test("commands change settings that exist", () => {
    // KEY is a placeholder.
    const pattern = /pulumi config (?:set|rm) (?:--(?:secret|path|stack \S+) )*'?([a-z]\w+)/g;
    expect(named(pattern).length).toBeGreaterThan(40);
    expect(unknown(pattern)).toEqual([]);
  });
});
