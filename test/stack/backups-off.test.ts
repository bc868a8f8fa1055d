/**
 * Backups switched off for a while and on again: no repository has what was written in between, and `./db restore` says so. Every switch
 * restarts the server, so this runs only with BACKUPS=all in the environment.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { backupsIn } from "../../components/backups/report.ts";
import { docker } from "../../lib/docker.ts";
import { BACKED_UP, BackedUp, until } from "../support/backed-up.ts";
import { run, TestStack } from "../support/test-stack.ts";

describe.runIf(process.env.BACKUPS === "all")("backups switched off and on again", () => {
  let stack: TestStack;
  let backed: BackedUp;
  let folder: string;
  const set = async (settings: Record<string, string>) => {
    for (const [key, value] of Object.entries(settings)) await stack.set(key, value);
    await stack.up();
  };
  const firstFull = () => until("a full backup", async () => (await backed.report()).full.ok !== null, 120);
  /** Switches backups off, writes a row, and switches them on again. Returns a time at which they were off, and the earlier gaps. */
  const offAndOn = async (): Promise<{ timeOff: string; before: string[] }> => {
    const before = (await backed.report()).gaps;
    await set({ backups: "false" });
    await stack.as("superuser", (client) => client.query("INSERT INTO moments DEFAULT VALUES; SELECT pg_switch_wal()"));
    await sleep(1100);
    const timeOff = new Date().toISOString();
    await set({ backups: "true" });
    return { timeOff, before };
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sectorwars-repository-"));
    stack = await TestStack.make(BACKED_UP);
    backed = new BackedUp(stack);
    await stack.set("backupKeepOnDestroy", "true");
    await stack.up();
    await stack.as("owner", (client) =>
      client.query("CREATE TABLE moments (at timestamptz DEFAULT clock_timestamp())"),
    );
    await firstFull();
  });
  afterAll(async () => {
    const { image } = stack.names;
    // Its files belong to the image's user.
    const clear = ["--entrypoint", "sh", `${image}:15`, "-c", "rm -rf /f/*"];
    await docker(["run", "--rm", "-v", `${folder}:/f`, ...clear]).catch(() => {});
    await stack.end();
    await rm(folder, { recursive: true, force: true });
  });

  /** Checks that there is one more gap, closed by an automatic full backup. */
  const expectClosedGap = async ({ timeOff, before }: { timeOff: string; before: string[] }) => {
    const hasNewGap = async () => (await backed.report()).gaps.length > before.length;
    await until("the full backup after the gap", hasNewGap, 120);
    await backed.quiet();
    const { gaps } = await backed.report();
    expect(gaps).toEqual([...before, expect.stringMatching(/^\d+ \d+ off-\d+ off-\d+ \d{8}-\d{6}F$/)]);
    const said = await backed.command("restore", "--to", timeOff, "--dry-run");
    expect(said.text).toMatch(/cannot be restored\. Any time from .* can be restored, except .* to .* UTC/);
    expect(await backed.succeed("status")).toMatch(/any time from .* to now, except .* to /);
    expect(await backed.succeed("drill")).toContain("all as recorded");
  };

  test("with a repository volume that is kept: the gap is recorded, and closed by a full backup", async () => {
    await expectClosedGap(await offAndOn());
  });

  test("with a repository volume that is removed: a new repository begins without gaps", async () => {
    await set({ backupKeepOnDestroy: "false" });
    await offAndOn();
    await firstFull();
    const { gaps, openGap } = await backed.report();
    expect({ gaps, openGap }).toEqual({ gaps: [], openGap: "" });
    expect(backupsIn(await backed.report())).toHaveLength(1);
  });

  test("with a repository in a folder: the same as with a volume that is kept", async () => {
    // At first the folder belongs to another user, as a folder in a home does.
    const { image, backups } = stack.names;
    const give = ["--entrypoint", "sh", `${image}:15`, "-c", "chown 1000 /f && chmod 0700 /f"];
    await docker(["run", "--rm", "-v", `${folder}:/f`, ...give]);
    await stack.set("backupRepository", folder);
    await stack.set("backupKeepOnDestroy", "false");
    const refused = await stack.upFails();
    expect(refused).toMatch(/The server's user cannot (read or )?write the repository\./);
    const remedy = `docker exec -u root ${backups} chown -R postgres /var/lib/sectorwars-backups/repository`;
    expect(refused).toContain(remedy);
    expect((await run("sh", ["-c", remedy])).code).toBe(0);
    await stack.up();
    await until("a backup there", async () => backupsIn(await backed.report()).length > 0, 120);
    await backed.quiet();
    await expectClosedGap(await offAndOn());
  });
});
