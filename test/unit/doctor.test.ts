import { expect, test } from "vitest";
import { judgeVolume } from "../../cli/doctor.ts";

const GIB = 1024 ** 3;

test("less than 2 GiB free for the data is a problem, and the remedy lists the stack's snapshots and branches", () => {
  expect(judgeVolume(2 * GIB, "dev")).toMatchObject([{ fine: true, seen: "2.0 GB free" }]);
  const [full] = judgeVolume(2 * GIB - 1, "game");
  expect(full).toMatchObject({ fine: false, what: "Disk of the data" });
  expect(full?.remedy).toContain("./db snapshot list --stack game, ./db branch list --stack game");
});

test("the disk is not judged if the container cannot be asked for its free space", () => {
  expect(judgeVolume(undefined, "dev")).toEqual([]);
});
