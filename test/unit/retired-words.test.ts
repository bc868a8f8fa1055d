import { expect, test } from "vitest";
import { findRetired } from "../../script/retired-words.ts";

test("findRetired returns retired words with their line and what to write instead", () => {
  expect(findRetired("one\nWhoever reads this is told nothing.\nthree")).toEqual([
    { line: 2, word: "Whoever", instead: expect.stringContaining("name the actor") },
    { line: 2, word: "is told", instead: expect.stringContaining("name who reports what") },
  ]);
});

test.each([
  "the server behind the pooler",
  "a snapshot of the database",
  "An import that failed leaves nothing.",
  "none of the tables is empty",
])("findRetired accepts: %s", (text) => expect(findRetired(text)).toEqual([]));
