import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { SETTINGS } from "../../components/settings.ts";
import { settingsPage } from "../../lib/settings-page.ts";

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
