/** Previews for pull requests, in a clone with a change. */
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { cloneProject, commitAll, shareNodePackages } from "../support/clone.ts";
import { run } from "../support/test-stack.ts";

let clone: string;
const git = (...args: string[]) => run("git", ["-C", clone, ...args]);
const preview = (base: string) =>
  run(join(clone, "script/preview"), [base], { NEON_DATABASE_URL: undefined, SECTORWARS_ROOT: undefined });
const allOf = async (kind: string[]) => (await docker([...kind, "--filter", "name=sectorwars-preview"])).trim();

beforeAll(async () => {
  clone = await mkdtemp(join(tmpdir(), "sectorwars-preview-"));
  await cloneProject(clone);
  await shareNodePackages(clone);
  await appendFile(
    join(clone, "Pulumi.dev.yaml"),
    "config:\n  sectorwars-database:bootstrap: empty\n  sectorwars-database:memory: 512\n",
  );
  await commitAll(clone);
});
afterAll(() => rm(clone, { recursive: true, force: true }));

describe("script/preview", () => {
  test("shows what a change does to the base's stack, marks lost data, and leaves nothing", async () => {
    const settings = join(clone, "Pulumi.dev.yaml");
    await writeFile(settings, (await readFile(settings, "utf8")).replace("memory: 512", "memory: 640"));
    const naming = join(clone, "lib/naming.ts");
    // Another name means another volume.
    await writeFile(naming, (await readFile(naming, "utf8")).replace("-data`", "-files`"));

    const said = await preview("HEAD");
    expect(said.text).toContain("### Preview against `HEAD`");
    expect(said.code).toBe(0);
    expect(said.stdout).toContain("> **This loses data:** `database-data` is replaced.");
    expect(said.stdout).toMatch(
      /\| \*\*replaced, loses data\*\* \| `database-data` \| docker:index\/volume:Volume \| name \|/,
    );
    expect(said.stdout).toMatch(
      /\| replaced \| `database-server` \| docker:index\/container:Container \| .*command.* \|/,
    );
    expect(said.stdout).toContain("memory");
    expect(said.stdout).not.toMatch(/encryptionsalt|AQAAA/);
    expect(await allOf(["ps", "-a", "-q"])).toBe("");
    expect(await allOf(["volume", "ls", "-q"])).toBe("");
    expect(await allOf(["network", "ls", "-q"])).toBe("");
    expect((await git("worktree", "list", "--porcelain")).stdout.match(/^worktree /gm)).toHaveLength(1);
    expect(
      (await git("status", "--porcelain")).stdout
        .trim()
        .split("\n")
        .map((line) => line.trim()),
    ).toEqual(["M Pulumi.dev.yaml", "M lib/naming.ts"]);
  });

  test("fails for a base that does not exist before it creates anything", async () => {
    const said = await preview("no-such-branch");
    expect(said.code).toBe(1);
    expect(said.text).toContain("the commit 'no-such-branch' does not exist here. Fetch it first: git fetch origin");
  });
});
