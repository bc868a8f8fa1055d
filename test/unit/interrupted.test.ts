import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backendFolder } from "../../lib/backend.ts";
import { hasEnded, here, locksOf, pendingOperations, removeLock } from "../../lib/interrupted.ts";

describe("the update that created a lock", () => {
  const lock = { pid: 4711, username: "ada", hostname: "desk", timestamp: "2026-11-28T18:00:00Z" };
  const asks = (isPulumi: boolean, more = {}) => ({
    username: "ada",
    hostname: "desk",
    isPulumi: async () => isPulumi,
    ...more,
  });

  test("has ended if no process of Pulumi has its process id", async () => {
    expect(await hasEnded(lock, asks(false))).toBe(true);
    expect(await hasEnded(lock, asks(true))).toBe(false);
  });

  test("is unknown on another machine or to another user", async () => {
    expect(await hasEnded(lock, asks(false, { hostname: "laptop" }))).toBeUndefined();
    expect(await hasEnded(lock, asks(false, { username: "bob" }))).toBeUndefined();
  });

  test("is distinguished from another program with the same process id", async () => {
    const folder = await mkdtemp(join(tmpdir(), "process-"));
    await copyFile("/bin/sleep", join(folder, "pulumi"));
    const pulumi = spawn(join(folder, "pulumi"), ["60"]);
    await copyFile("/bin/sleep", join(folder, "pulumi-resource-docker"));
    const plugin = spawn(join(folder, "pulumi-resource-docker"), ["60"]);
    const other = spawn("sleep", ["60"]);
    const ended = Promise.all([pulumi, plugin, other].map((child) => once(child, "close")));
    try {
      await Promise.all([pulumi, plugin, other].map((child) => child.pid ?? once(child, "spawn")));
      const { isPulumi } = here();
      expect(await isPulumi(pulumi.pid ?? 0)).toBe(true);
      expect(await isPulumi(other.pid ?? 0)).toBe(false);
      expect(await isPulumi(plugin.pid ?? 0)).toBe(false);
      // Threads also have ids that accept a signal.
      const threads = (await readdir("/proc/self/task")).map(Number).filter((id) => id !== process.pid);
      for (const thread of threads) expect(await isPulumi(thread)).toBe(false);
    } finally {
      for (const child of [pulumi, plugin, other]) child.kill();
      await ended;
      await rm(folder, { recursive: true });
    }
    expect(await here().isPulumi(pulumi.pid ?? 0)).toBe(false);
  });
});

describe("Pulumi's file backend", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "backend-"));
    await mkdir(join(folder, ".pulumi/locks/organization/project/dev"), { recursive: true });
    await mkdir(join(folder, ".pulumi/stacks/project"), { recursive: true });
    const lock = { pid: 1, username: "ada", hostname: "desk", timestamp: "2026-11-28T18:00:00Z" };
    await writeFile(join(folder, ".pulumi/locks/organization/project/dev/a.json"), JSON.stringify(lock));
    const pending_operations = [{ type: "creating", resource: { urn: "urn:pulumi:dev::project::t::network" } }];
    const checkpoint = { latest: { pending_operations } };
    await writeFile(join(folder, ".pulumi/stacks/project/dev.json"), JSON.stringify({ version: 3, checkpoint }));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test.each([
    ["file://./somewhere", resolve("somewhere")],
    ["file:///tmp/state?no_tmp_dir=true", "/tmp/state"],
    ["file://~", homedir()],
    ["file://~/state", join(homedir(), "state")],
    ["s3://bucket", undefined],
    ["", resolve(".local/state")],
  ])("with the URL %s is the folder %s", (url, expected) => {
    expect(backendFolder({ PULUMI_BACKEND_URL: url })).toBe(expected);
  });

  test("lists the locks of one stack, and removes them", async () => {
    const locks = await locksOf(folder, "project", "dev");
    expect([...locks.values()]).toMatchObject([{ pid: 1, username: "ada", hostname: "desk" }]);
    expect(await locksOf(folder, "project", "other")).toEqual(new Map());
    for (const file of locks.keys()) await removeLock(file);
    expect(await locksOf(folder, "project", "dev")).toEqual(new Map());
  });

  test("lists the pending operations of an interrupted update", async () => {
    expect(await pendingOperations(folder, "project", "dev")).toEqual(["urn:pulumi:dev::project::t::network"]);
    expect(await pendingOperations(folder, "project", "new")).toEqual([]);
  });
});
