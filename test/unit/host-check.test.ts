import { expect, test } from "vitest";
import { knowsStartInterval } from "../../components/server/host-check.ts";

test.each([
  ["1.43", false],
  ["1.44", true],
  ["1.9", false],
  ["1.51", true],
  ["2.0", true],
  ["1.24", false],
  ["", false],
  ["unknown", false],
])("an engine with the API %s supports startInterval: %s", (version, knows) => {
  expect(knowsStartInterval(version)).toBe(knows);
});
