import { expect, test } from "vitest";
import { judgeVolume } from "../../cli/doctor.ts";

const GIB = 1024 ** 3;

test("a disk that is nearly full is wrong, and the remedy names the stack's copies", () => {
  expect(judgeVolume(2 * GIB, "dev")).toMatchObject([{ fine: true, seen: "2.0 GB free" }]);
  const [full] = judgeVolume(2 * GIB - 1, "game");
  expect(full).toMatchObject({ fine: false, what: "Disk of the data" });
  expect(full?.remedy).toContain("./db snapshot list --stack game, ./db branch list --stack game");
});

test("a container that cannot be asked says nothing of its disk", () => {
  expect(judgeVolume(undefined, "dev")).toEqual([]);
});
