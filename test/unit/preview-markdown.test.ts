import { describe, expect, test } from "vitest";
import { changesOf, previewMarkdown, type Step } from "../../script/preview-markdown.ts";

const step = (op: string, name: string, type: string, more: Partial<Step> = {}): Step => ({
  op,
  urn: `urn:pulumi:s::p::${type}::${name}`,
  newState: { type },
  ...more,
});
const VOLUME = "docker:index/volume:Volume";
const CONTAINER = "docker:index/container:Container";

describe("the changes of a preview", () => {
  test("are ordered: loss of data, deletions, updates, creations", () => {
    const changes = changesOf([
      step("create", "new", CONTAINER),
      step("update", "changed", CONTAINER),
      step("delete", "gone", CONTAINER),
      step("same", "as-it-was", CONTAINER),
      step("replace", "data", VOLUME),
    ]);
    expect(changes.map(({ name, how, losesData }) => [name, how, losesData])).toEqual([
      ["data", "replaced", true],
      ["gone", "deleted", false],
      ["changed", "updated", false],
      ["new", "created", false],
    ]);
  });

  test("count a replacement with three steps as one change", () => {
    const changes = changesOf([
      step("delete-replaced", "server", CONTAINER),
      step("replace", "server", CONTAINER, { replaceReasons: ["memory"] }),
      step("create-replacement", "server", CONTAINER),
    ]);
    expect(changes).toEqual([{ how: "replaced", name: "server", type: CONTAINER, why: "memory", losesData: false }]);
  });
});

describe("previewMarkdown", () => {
  test('says "No changes." if nothing changes', () => {
    expect(previewMarkdown([step("same", "x", CONTAINER)], "", "main")).toContain("\n\nNo changes.\n");
  });

  test("warns of lost data", () => {
    const text = previewMarkdown([step("delete", "data", VOLUME)], "- data", "main");
    expect(text).toContain("> **This loses data:** `data` is deleted.");
    expect(text).toContain("| **deleted, loses data** | `data` |");
  });

  test("keeps a diff with code fences in one block, and truncates a diff that GitHub would refuse", () => {
    expect(previewMarkdown([], "a\n```\nb", "main")).toContain("````diff\na\n```\nb\n````");
    const long = previewMarkdown([], "x".repeat(100_000), "main");
    expect(long.length).toBeLessThan(65_536);
    expect(long).toContain("... truncated, 45000 more characters");
  });
});
