/** Which of several installed docker compose programs is used. */
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { requireCompose } from "../../components/handover/compose-cli.ts";
import { compose } from "../../components/migrations/compose-command.ts";
import { findCompose, isNewEnough } from "../../lib/docker-compose.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
  vi.stubEnv("PATH", `${folder}:/usr/bin:/bin`);
  // The program looks here for the one that script/bootstrap builds.
  vi.spyOn(process, "cwd").mockReturnValue(folder);
});
afterEach(async () => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

/** Installs a program that prints a version, or else its own name. */
async function install(name: string, version: string): Promise<void> {
  const file = join(folder, name);
  await writeFile(file, `#!/bin/sh\ncase "$*" in *version*) echo ${version} ;; *) echo ${name} ;; esac\n`);
  await chmod(file, 0o755);
}

const usedByMigrations = () =>
  compose(folder, { args: ["config"], connection: undefined, hide: (text) => text }).trim();

describe("with several docker compose programs", () => {
  test("the hand-over and the migrations use the first that is new enough", async () => {
    await install("docker", "2.20.0");
    await install("docker-compose", "v2.40.3");
    expect(findCompose()).toEqual({ words: ["docker-compose"], version: "2.40.3" });
    expect(requireCompose(["compose.yaml"])).toBe(findCompose());
    expect(usedByMigrations()).toBe("docker-compose");
  });

  test("an old one is refused by the hand-over but used by the migrations, until a newer one is installed", async () => {
    await install("docker", "2.20.0");
    await install("docker-compose", "no version");
    expect(() => requireCompose(["compose.yaml"])).toThrow(
      "docker compose is version 2.20.0; the hand-over needs 2.24.4",
    );
    expect(usedByMigrations()).toBe("docker");
    await install("docker-compose", "5.0.1");
    expect(usedByMigrations()).toBe("docker-compose");
  });
});

test.each([
  ["2.24.4", true],
  ["2.24.3", false],
  ["2.23.9", false],
  ["2.40.3-desktop.1", true],
  ["5.0", true],
  ["1.29.2", false],
])("docker compose %s is new enough: %s", (version, expected) => {
  expect(isNewEnough(version)).toBe(expected);
});
