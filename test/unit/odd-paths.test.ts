/** Folders whose names contain special characters of shells, of docker compose or of .env files. */
import { execFileSync, spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { composeFileList } from "../../components/handover/compose-paths.ts";
import { planHandOver } from "../../components/handover/plan.ts";
import { composeServiceOf, readApplication } from "../../components/migrations/application.ts";
import { findCompose } from "../../lib/docker-compose.ts";
import { shellWord } from "../../lib/shell-word.ts";
import { handOverInputs } from "../support/handover-inputs.ts";

let parent: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
});
afterEach(() => rm(parent, { recursive: true, force: true }));

const ODD = ["a pilot's game", 'a "$HOME" game', "a\\b;c&d", "[a]*{b}", "`id`", "ä日"];

test.each([...ODD, "plain", "a=b"])("a shell reads %j as one word", (name) => {
  expect(execFileSync("sh", ["-c", `printf %s ${shellWord(name)}`], { encoding: "utf8" })).toBe(name);
});

test.runIf(findCompose() !== undefined).each(ODD)("migrations find service and variables in %j", async (name) => {
  const folder = join(parent, name);
  const alembic = join(folder, "services/gameserver");
  await mkdir(alembic, { recursive: true });
  await writeFile(join(folder, "compose.yaml"), "services: { gameserver: { build: ./services/gameserver } }\n");
  await writeFile(join(folder, ".env"), "COMPOSE_PROJECT_NAME=odd\nJWT_SECRET='a b'\n");
  const spec = { alembic, folder, envFile: ".env", service: undefined };
  expect(composeServiceOf(spec)).toMatchObject({ name: "gameserver", isBuilt: true });
  const connection = { host: "database", port: 5432, user: "owner", password: "ownerpw", database: "game" };
  const { files, problem } = readApplication(spec, connection);
  expect(problem).toBeUndefined();
  expect(files).toMatchObject({ JWT_SECRET: "a b" });
});

describe("COMPOSE_FILE", () => {
  test("lists files whose paths an .env file can contain", () => {
    expect(composeFileList(["/a pilot's game/compose.yaml", "/stack/compose.yaml"], {})).toBe(
      "/a pilot's game/compose.yaml:/stack/compose.yaml",
    );
    expect(composeFileList(["/a:b/$x", "/c"], { COMPOSE_PATH_SEPARATOR: ";" })).toBe("/a:b/$x;/c");
  });

  test.each([
    [
      ["/a:b/compose.yaml"],
      'COMPOSE_FILE cannot name "/a:b/compose.yaml": the path contains ":", which separates the files',
    ],
    [
      ["/a\nb/compose.yaml"],
      'cannot name "/a\\nb/compose.yaml": the path contains a line break or another control character',
    ],
    [
      ["/c", "/pilot's $x"],
      `cannot name "/pilot's $x": the path contains an apostrophe and $, and no value in an .env file`,
    ],
    [
      ["/pilot's", "/a`b"],
      `cannot name "/pilot's": the path contains an apostrophe and "/a\`b" contains \`, and no value`,
    ],
  ])("with %j is refused, and the error names path, character and remedy", (files, words) => {
    expect(() => composeFileList(files, {})).toThrow(words);
    expect(() => composeFileList(files, {})).toThrow("Move or rename that file or folder");
  });

  test("is checked before docker compose runs, including this project's folder", async () => {
    const folder = join(parent, "a pilot's game");
    await mkdir(folder);
    await writeFile(join(folder, "compose.yaml"), "no Compose file");
    const inputs = handOverInputs({
      stack: "odd",
      folder,
      network: "network",
      container: "container",
      logins: {
        main: { database: "game", user: "app", password: "pw" },
        test: { database: "game_test", user: "app", password: "pw" },
        further: {},
      },
      maxConnections: 500,
    });
    await expect(planHandOver(inputs, join(parent, "$x"))).rejects.toThrow("the path contains an apostrophe and ");
  });
});

test.each([":", "%", "#", "?", "\\"])(
  "the scripts refuse a project's folder with %j in its path, and name it",
  async (sign) => {
    const root = join(parent, `a${sign}b`);
    await cp("script", join(root, "script"), { recursive: true });
    const { status, stderr } = spawnSync(join(root, "script/up"), { encoding: "utf8" });
    expect(status).toBe(1);
    expect(stderr).toContain(`error: the project's folder ${root} has a '${sign}' in its path`);
    expect(stderr).toContain("Move or rename it.");
  },
);

test.each(ODD.filter((name) => !name.includes("\\")))("the scripts accept the project's folder %j", async (name) => {
  const root = join(parent, name);
  await cp("script", join(root, "script"), { recursive: true });
  const { status, stdout } = spawnSync(join(root, "script/up"), ["--help"], { encoding: "utf8" });
  expect(status).toBe(0);
  expect(stdout).toContain("usage: script/up");
});
