/**
 * Docker's engine is restarted, in good order and by kill -9, while rows are written, a backup is made and data restored. All other
 * containers of the machine end with it, so this runs alone, with BACKUPS=engine in the environment.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { containerLog } from "../../lib/docker.ts";
import { BackedUp, until, Writer } from "../support/backed-up.ts";
import { run, TestStack } from "../support/test-stack.ts";

const PID_FILE = "/var/run/docker.pid";

describe.runIf(process.env.BACKUPS === "engine")("Docker's engine", () => {
  let stack: TestStack;
  let backed: BackedUp;
  let writer: Writer;

  beforeAll(async () => {
    const never = { backupFull: "never", backupDifferential: "never", backupDrill: "never" };
    stack = await TestStack.make({ bootstrap: "empty", memory: "512", backups: "true", ...never });
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
  /** Ends the engine, and starts it as whoever finds it ended does. */
  const restart = async (signal: NodeJS.Signals) => {
    const pid = Number(await readFile(PID_FILE, "utf8"));
    process.kill(pid, signal);
    await until("the engine's end", async () => !existsSync(`/proc/${pid}`), 90);
    // One that was killed does not start what it finds running, and stops it.
    const { text } = await run("script/up", ["--stack", stack.name], stack.env);
    expect(text).toMatch(/Resources:\n +\d+ unchanged/);
    await until("the server", answers, 120);
    await until("the container that takes the backups", () =>
      backed.report().then(
        () => true,
        () => false,
      ),
    );
  };
  /** Every row that was acknowledged is there, more follow, and the backups go on by themselves. */
  const isWhole = async () => {
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

  test.each<NodeJS.Signals>(["SIGTERM", "SIGKILL"])("ended by %s while a backup is made", async (signal) => {
    const backup = backed.command("backup", "--full");
    await until("the run", async () => (await backed.report()).running !== "");
    await sleep(1000);
    await restart(signal);
    await backup;
    await isWhole();
  });

  test.each<NodeJS.Signals>(["SIGTERM", "SIGKILL"])(
    "ended by %s while data is restored: nothing is changed",
    async (signal) => {
      const restore = backed.command("restore", "--to", "latest");
      const container = `${stack.names.backups}-restore`;
      await until("the restore", async () => (await containerLog(container, 20)).includes("restoring the files"));
      await restart(signal);
      const { code, text } = await restore;
      expect(code).toBe(1);
      expect(text).toContain("Nothing was changed");
      await isWhole();
      // What it has left goes with the next one.
      const promised = writer.before(Date.now());
      expect(await backed.succeed("restore", "--to", "latest")).toContain("Done.");
      const rows = await backed.written();
      expect(promised.filter((n) => !rows.has(n))).toEqual([]);
      for (const folder of (await backed.report()).kept) expect(folder).toMatch(/^pgdata\.before-/);
      // What the writer was told between the last look at the log and the exchange is in the former data only.
      writer.acknowledged.clear();
      await until("more rows", async () => writer.acknowledged.size > 20);
      await backed.quiet();
    },
  );
});
