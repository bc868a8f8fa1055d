/** Backups of one stack: what is made, what is shown, what is refused. BACKUPS=all adds the rarer cases. */
import { rm, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { keyFile, readKeyFile } from "../../components/backups/key-file.ts";
import { docker } from "../../lib/docker.ts";
import { type BackedUp, REPOSITORY, until } from "../support/backed-up.ts";
import { ALL, withLedger } from "../support/ledger.ts";
import type { TestStack } from "../support/test-stack.ts";

let stack: TestStack;
let backed: BackedUp;
let key: string;
withLedger((ledger) => {
  ({ stack, backed, key } = ledger);
});

describe("a stack with backups", () => {
  test("makes its first full backup automatically, and encrypts it", async () => {
    const { info, full } = await backed.report();
    expect(info?.[0]?.backup[0]).toMatchObject({ type: "full", error: false });
    expect(full.ok).toMatchObject({ recorded: true });
    // OpenSSL's header of data that is encrypted with a passphrase.
    const heads = await backed.inside(
      `cd ${REPOSITORY} && for f in $(find archive backup records -type f -size +16c); do head -c 8 "$f"; echo; done`,
    );
    expect(new Set(heads.trim().split("\n"))).toEqual(new Set(["Salted__"]));
  });

  test("keeps its key out of inspect, ps, logs and the state, and in files that only their owner can read", async () => {
    expect(key).toMatch(/^[0-9a-f]{64}$/);
    expect((await stat(keyFile(stack.name, stack.env))).mode & 0o777).toBe(0o600);
    const { container, backups } = stack.names;
    const shown = await Promise.all([
      docker(["inspect", container, backups]),
      docker(["logs", container]),
      docker(["logs", backups]),
      docker(["exec", container, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '"]),
      docker(["exec", backups, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '"]),
      docker(["history", "--no-trunc", `${stack.names.image}:15`]),
      stack.stateText(),
      backed.inside("sectorwars-backup report"),
    ]);
    for (const text of shown) expect(text).not.toContain(key);
    expect((await backed.inside("cat /run/pgbackrest.conf")).includes(key)).toBe(true);
    expect(await backed.inside("stat -c '%a %U' /run/pgbackrest.conf /etc/pgbackrest/pgbackrest.conf")).toBe(
      "600 root\n600 postgres\n",
    );
  });

  test("has a backup container that mounts the data read-only and has no network", async () => {
    await expect(backed.inside("touch /var/lib/postgresql/data/x")).rejects.toThrow("Read-only file system");
    expect((await backed.inside("cat /proc/net/dev")).match(/^ *\w+:/gm)).toEqual([expect.stringContaining("lo:")]);
  });

  test.runIf(ALL)("does not change in a second update, and a refresh finds no drift", async () => {
    await stack.up("--expect-no-changes");
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  });

  test.runIf(ALL)("gets a lost key file back with the same key", async () => {
    const file = keyFile(stack.name, stack.env);
    await rm(file);
    expect(await backed.succeed("status")).toContain("backups ");
    await stack.succeed("refresh", "--yes", "--stack", stack.name);
    await stack.up();
    expect((await readKeyFile(file))?.key).toBe(key);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test("is reported by status and doctor, and so is a key without a copy until the user confirms one", async () => {
    const before = await backed.succeed("status");
    expect(before).toMatch(/backups {5}1, the last \d+ \w+ ago/);
    expect(before).toContain(
      `key         only on this machine: copy ${keyFile(stack.name, stack.env)} to a safe place`,
    );
    expect(await backed.succeed("doctor")).toContain("ok     Key to the backups: only here");
    await backed.succeed("backup", "--key-is-safe");
    const { backups } = await backed.result("status");
    expect(backups).toMatchObject({ troubles: [], keyIsSafe: true });
    expect(backups.figures).toMatchObject({
      last: { full: { seconds: expect.any(Number), ageSeconds: expect.any(Number) }, diff: null, drill: null },
      failed: [],
      archiving: { failing: false, failures: expect.any(Number), givenUp: false },
      repository: { ok: true },
    });
    expect(backups.figures.last.full.bytes).toBeGreaterThan(1_000_000);
  });
});

describe("impossible and concurrent requests", () => {
  test.each([
    ["2001-01-01 10:00 UTC", /2001-01-01 10:00:00 UTC cannot be restored\. Any time from .* to .* can be restored/],
    ["sometime", /"sometime" is not a valid time\. Write, for instance, "2026-11-22 10:00"/],
    ["20010101-000000F", /There is no backup 20010101-000000F\. There are: \d{8}-\d{6}F/],
  ])("a restore to %s fails, and the error says what can be restored", async (to, message) => {
    const said = await backed.command("restore", "--to", to);
    expect(said.code).toBe(1);
    expect(said.text).toMatch(message);
  });

  test("a second backup waits for the first, says so, and both succeed", async () => {
    const first = backed.command("backup", "--full");
    await until("the first run", async () => (await backed.report()).running !== "");
    const second = await backed.command("backup");
    expect(second.text).toMatch(/a run is under way \(full, for \d+ s\); this run starts after it\n/);
    expect(second.code, second.text).toBe(0);
    expect((await first).code).toBe(0);
  });

  test("a backup that starts while the server is down waits for it, and does not count as failed", async () => {
    const { names } = stack;
    await docker(["stop", names.container]);
    const begun = backed.inside("sectorwars-backup run full");
    // It would have failed by now.
    const early = await Promise.race([begun.catch((error: Error) => error.message), sleep(4000, "it waits")]);
    await docker(["start", names.container]);
    expect(early).toBe("it waits");
    await begun;
    expect((await backed.report()).full).toMatchObject({ ok: { recorded: true }, failed: null });
  });

  // A terminal sends the signal to the whole process group.
  test("a restore that is stopped by Ctrl-C changes nothing, leaves nothing, and never shows the key", async () => {
    const restore = backed.begin("restore", "--to", "latest");
    await restore.until("restoring the files");
    const { backups } = stack.names;
    const processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '";
    for (const args of [
      ["inspect", `${backups}-restore`],
      ["exec", `${backups}-restore`, "sh", "-c", processes],
    ])
      expect(await docker(args)).not.toContain(key);
    process.kill(-restore.pid, "SIGINT");
    expect(await restore.ended).not.toBe(0);
    expect(restore.text).toContain("error: The restore was stopped. Nothing was changed.");
    expect((await backed.report()).kept.filter((folder) => folder.includes("next"))).toEqual([]);
    expect(await docker(["ps", "-aq", "--filter", `name=${backups}-restore`])).toBe("");
    expect(await backed.value("SELECT 1")).toBe(1);
  });

  test.runIf(ALL)(
    "one of two concurrent restores succeeds, and the other reports that another one is running",
    async () => {
      const both = await Promise.all([
        backed.command("restore", "--to", "latest"),
        backed.command("restore", "--to", "latest"),
      ]);
      expect(both.map(({ code }) => code).sort()).toEqual([0, 1]);
      expect(both.find(({ code }) => code === 1)?.text).toMatch(/Another restore is (running|about to exchange)/);
      await backed.quiet();
    },
  );

  test.runIf(ALL)("a killed backup leaves no lock", async () => {
    const killed = backed.command("backup", "--full");
    await until("the run", async () => (await backed.report()).running !== "");
    await backed.inside("cd /proc && for p in [0-9]*; do grep -qs pgbackrest $p/comm && kill -9 $p; done; true");
    expect((await killed).code).toBe(1);
    expect(await backed.succeed("backup", "--full")).toMatch(/\d{8}-\d{6}F: /);
  });
});

test.runIf(ALL)("a schema change does not wait for the fingerprint of its table", async () => {
  await stack.as("owner", (client) =>
    client.query("CREATE TABLE large AS SELECT i, md5(i::text) AS text FROM generate_series(1, 3000000) i"),
  );
  const backup = backed.command("backup", "--json", "--diff");
  const counting =
    "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'sectorwars-record' AND query LIKE '%hashtextextended%'";
  await until("the counting", async () => Number(await backed.value(counting)) > 0, 120);
  const waits = stack.as("owner", (client) => client.query("ALTER TABLE large ADD COLUMN more int"));
  await waits;
  expect(await backed.value(counting)).toBe(0);
  expect(JSON.parse((await backup).stdout)).toMatchObject({ result: "ok", recorded: true });
  await stack.as("owner", (client) => client.query("DROP TABLE large"));
});
