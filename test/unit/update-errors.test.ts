import { expect, test } from "vitest";
import { updateErrors } from "../../lib/update-errors.ts";

const event = (severity: string, message: string) => JSON.stringify({ diagnosticEvent: { severity, message } });

test("updateErrors lists the causes of a failed update once each, in order, without colours", () => {
  const log = [
    JSON.stringify({ preludeEvent: { config: {} } }),
    event("info", "import: looking at the source"),
    event("info#err", "a warning of Node's"),
    event("error", "<{%reset%}>The password is wrong.\nCopy it anew<{%reset%}>\n"),
    event("error", "<{%reset%}>The password is wrong.\nCopy it anew<{%reset%}>\n"),
    event("error", "the port is in use"),
    event("error", "update failed"),
    "",
    '{"diagnosticEvent": {"sever',
  ].join("\n");
  expect(updateErrors(log)).toEqual(["The password is wrong.\nCopy it anew", "the port is in use"]);
});

test("updateErrors returns nothing for a log without errors and for an empty log", () => {
  expect(updateErrors("")).toEqual([]);
  expect(updateErrors(event("warning", "old"))).toEqual([]);
});
