import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  expiredFolders,
  retainedDataIn,
  retainedDataOf,
  stampOf,
  timeOfStamp,
} from "../../components/backups/retained-data.ts";

const at = (text: string) => new Date(text);

test("the stamp of retained data gives its time to the second, and no other text is a stamp", () => {
  const moments = fc.date({ min: at("2000-01-01T00:00:00Z"), max: at("2999-12-31T23:59:59Z"), noInvalidDate: true });
  fc.assert(
    fc.property(moments, (moment) => {
      expect(timeOfStamp(stampOf(moment))?.getTime()).toBe(Math.floor(moment.getTime() / 1000) * 1000);
    }),
  );
  for (const text of ["", "x", "20261123", "20261123T101500", "20261123T101500Z;rm"])
    expect(timeOfStamp(text)).toBeUndefined();
});

test("retained data is shown with its expiry date and the command that restores it", () => {
  expect(retainedDataOf("dev", "20261123T101500Z")).toEqual({
    folder: "pgdata.before-20261123T101500Z",
    stamp: "20261123T101500Z",
    until: "2026-11-30",
    undo: "./db restore --undo 20261123T101500Z --stack dev",
  });
});

const folders = [
  "pgdata.before-20261123T101500Z",
  "pgdata.before-20261122T101500Z",
  "pgdata.before-by-hand",
  "pgdata.next-20261123T101500Z",
  "pgdata.x",
];

test("retained data is found among a volume's folders, oldest first", () => {
  expect(retainedDataIn("dev", folders).map(({ stamp }) => stamp)).toEqual(["20261122T101500Z", "20261123T101500Z"]);
});

describe("expired folders", () => {
  test("include the unfinished folder of a killed restore, from its first second on", () => {
    expect(expiredFolders(folders, at("2026-11-23T10:15:01Z"))).toEqual(["pgdata.next-20261123T101500Z"]);
  });

  test("include retained data older than a week, but never a folder with another name", () => {
    expect(expiredFolders(folders, at("2026-11-29T10:15:01Z"))).toEqual([
      "pgdata.before-20261122T101500Z",
      "pgdata.next-20261123T101500Z",
    ]);
    expect(expiredFolders(folders, at("2027-11-29T10:15:01Z"))).toHaveLength(3);
  });
});
