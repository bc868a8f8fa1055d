/**
 * Restarts Docker's engine, by SIGTERM and by SIGKILL, while rows are written, a backup is made or data is restored. The restart ends all
 * other containers of the machine, so this runs alone, with BACKUPS=engine in the environment.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { containerLog } from "../../lib/docker.ts";
import { BACKED_UP, BackedUp, until, Writer } from "../support/backed-up.ts";
import { run, TestStack } from "../support/test-stack.ts";

const PID_FILE = "/var/run/docker.pid";

describe.runIf(process.env.BACKUPS === "engine")("Docker's engine", () => {
  let stack: TestStack;
  let backed: BackedUp;
  let writer: Writer;

  beforeAll(async () => {
    stack = await TestStack.make(BACKED_UP);
    backed = new BackedUp(stack);
    await stack.up();
    await stack.as("owner", (client) => client.query("CREATE TABLE ledger (n int PRIMARY KEY)"));
    await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
    writer = new Writer(stack, 1);
  });
  afterAll(async () => {
    await writer?.stop();
    await stack?.end();
  });

  const answers = () =>
    backed.value("SELECT true").then(
      () => true,
      () => false,
    );
  /** Ends the engine and runs script/up, which starts it again. */
  const restart = async (signal: NodeJS.Signals) => {
    const pid = Number(await readFile(PID_FILE, "utf8"));
    process.kill(pid, signal);
    await until("the engine to end", async () => !existsSync(`/proc/${pid}`), 90);
    // After a SIGKILL, the new engine stops the containers that still run and does not restart them.
    const { text } = await run("script/up", ["--stack", stack.name], stack.env);
    expect(text).toMatch(/Resources:\n +\d+ unchanged/);
    await until("the server", answers, 120);
    await until("the backup container", () =>
      backed.report().then(
        () => true,
        () => false,
      ),
    );
  };
  /** Checks that every acknowledged row exists, the writer continues, and backups and drills succeed. */
  const expectIntact = async () => {
    const known = [...writer.acknowledged.keys()];
    expect(known.length).toBeGreaterThan(10);
    const rows = await backed.written();
    expect(known.filter((n) => !rows.has(n))).toEqual([]);
    await until("more rows", async () => writer.acknowledged.size > known.length + 20);
    await backed.quiet();
    expect(await backed.succeed("backup", "--full")).toMatch(/\d{8}-\d{6}F: /);
    expect(await backed.succeed("drill")).toContain("all as recorded");
    expect(await backed.succeed("status")).not.toContain("TROUBLE");
    await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);
  };

  test.each<NodeJS.Signals>(["SIGTERM", "SIGKILL"])(
    "ended by %s during a backup: no acknowledged row is lost, and the next backup and drill succeed",
    async (signal) => {
      const backup = backed.command("backup", "--full");
      await until("the run", async () => (await backed.report()).running !== "");
      await sleep(1000);
      await restart(signal);
      await backup;
      await expectIntact();
    },
  );

  test.each<NodeJS.Signals>(["SIGTERM", "SIGKILL"])(
    "ended by %s during a restore: the data is unchanged",
    async (signal) => {
      const restore = backed.command("restore", "--to", "latest");
      const container = `${stack.names.backups}-restore`;
      await until("the restore", async () => (await containerLog(container, 20)).includes("restoring the files"));
      await restart(signal);
      const { code, text } = await restore;
      expect(code).toBe(1);
      expect(text).toContain("Nothing was changed");
      await expectIntact();
      // The next restore removes what this one left.
      const promised = writer.before(Date.now());
      expect(await backed.succeed("restore", "--to", "latest")).toContain("Done.");
      const rows = await backed.written();
      expect(promised.filter((n) => !rows.has(n))).toEqual([]);
      for (const folder of (await backed.report()).kept) expect(folder).toMatch(/^pgdata\.before-/);
      // Rows acknowledged between the last archived WAL and the exchange are in the retained data only.
      writer.acknowledged.clear();
      await until("more rows", async () => writer.acknowledged.size > 20);
      await backed.quiet();
    },
  );
});
