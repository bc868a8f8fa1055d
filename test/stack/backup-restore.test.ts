/** Recovery while the application writes, and restores of every kind. BACKUPS=all adds the longer tests. */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { docker } from "../../lib/docker.ts";
import { type BackedUp, until, Writer } from "../support/backed-up.ts";
import { ALL, withLedger } from "../support/ledger.ts";
import { run, type TestStack, urlAddress } from "../support/test-stack.ts";

let stack: TestStack;
let backed: BackedUp;
withLedger((ledger) => {
  ({ stack, backed } = ledger);
});

describe("while an application writes", () => {
  let backAgain: string;
  let writer: Writer | undefined;
  afterAll(() => writer?.stop());

  test("a backup and a drill succeed, a restore to a time brings a dropped table back, and --undo reverts the restore", async () => {
    const odd = () =>
      stack.as("app", async (client) => (await client.query('SELECT count(*)::int, sum(x) FROM "odd ""name"')).rows);
    const before = await odd();
    writer = new Writer(stack, 1);
    await sleep(500);
    expect(await backed.succeed("backup")).toMatch(/F_\d{8}-\d{6}D: [\d.]+ \w+ in \d+ s/);
    const drill = await backed.result("drill");
    expect(drill).toMatchObject({ run: "drill", result: "ok", tables: 3 });
    expect(drill.rows).toBeGreaterThan(20_000);

    await sleep(1500);
    const point = await stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client));
    expect(point?.command).toBe(`./db restore --to ${point?.at} --stack ${stack.name}`);
    const moment = new Date(point?.at ?? "");
    await sleep(1500);
    await stack.as("owner", (client) => client.query('DROP TABLE "odd ""name"'));
    const dry = await backed.succeed("restore", "--to", moment.toISOString(), "--dry-run");
    expect(dry).toContain("Dry run: nothing was changed.");
    const shown = moment.toISOString().slice(0, 19).replace("T", " ");
    expect(dry).toContain(`To:    ${shown} UTC`);
    const elsewhere = { ...stack.env, TZ: "Asia/Kolkata" };
    const there = await run(
      "./db",
      ["restore", "--stack", stack.name, "--to", point?.at ?? "", "--dry-run"],
      elsewhere,
    );
    expect(there.text).toMatch(new RegExp(`To: +[-\\d]+ [\\d:]+ \\S+ \\(Asia/\\w+\\), ${shown} UTC`));
    const text = await backed.succeed("restore", "--to", moment.toISOString());
    const all = await writer.stop();
    expect(text).toContain("3 tables");
    expect(text).toMatch(
      /\d s {2}restoring the files\n[\s\S]* s {2}recovering to [\s\S]* s {2}checking every table and index\n/,
    );
    expect(text).toMatch(/The last change in it was at \d{4}-\d\d-\d\d [\d:.]+\+00\./);
    const week = new Date(Date.now() + 7 * 86_400_000).toISOString().slice(0, 10);
    expect(text).toMatch(new RegExp(`is retained in the volume as pgdata\\.before-\\w+, at least until ${week}`));
    expect(await backed.succeed("status")).toMatch(
      /retained {4}pgdata\.before-\w+, the data from before a restore, at least until .* \.\/db restore --undo \w+/,
    );
    const rows = await backed.written();
    // Every commit that was acknowledged before the target time is restored. The writer continued after the exchange.
    for (const n of writer.before(moment.getTime())) expect(rows, `row ${n}`).toContain(n);
    expect(
      await backed.value(
        `SELECT count(*)::int FROM ledger WHERE at > '${moment.toISOString()}' AND at < '${moment.toISOString()}'::timestamptz + '2 s'`,
      ),
    ).toBe(0);
    expect(await backed.value('SELECT count(*)::int FROM "odd ""name"')).toBe(20_000);
    expect(await backed.value("SELECT count(*)::int FROM pg_extension WHERE extname = 'amcheck'")).toBe(0);
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
    await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);

    const copied = join(stack.stateFolder, "table.sql");
    const { container, urls } = await stack.outputs();
    const { database } = urlAddress(urls.superuser);
    const dump = `docker exec -u postgres ${container} pg_dump --table='"odd ""name"' ${database} >${copied}`;
    expect(await run("sh", ["-c", dump])).toMatchObject({ code: 0, text: "" });

    const undo = /--undo (\w+)/.exec(text)?.[1] ?? "";
    const timeline = async () => (await backed.report()).timelines.at(-1)?.split(" ").slice(1, 3).map(Number);
    expect(await timeline()).toEqual([2, 1]);
    const undone = await backed.succeed("restore", "--undo", undo);
    // Retention takes a lower timeline for an older one, so the former data continues on a new timeline.
    expect(await timeline()).toEqual([3, 1]);
    expect(undone).toContain("The data from before the restore is back.");
    backAgain = /--undo (\w+)/.exec(undone)?.[1] ?? "";
    const back = await backed.written();
    const exchanged = Math.max(...back);
    for (const n of all.filter((n) => n <= exchanged)) expect(back, `row ${n}`).toContain(n);
    expect(back.size).toBeGreaterThan(writer.before(moment.getTime()).length);
    expect(await backed.value(`SELECT to_regclass('"odd ""name"') IS NULL`)).toBe(true);
    // A single table is restored from the dump.
    const psql = `./db psql --stack ${stack.name} --single-transaction -v ON_ERROR_STOP=1 <${copied}`;
    expect(await run("sh", ["-c", psql], stack.env)).toMatchObject({ code: 0 });
    expect(await odd()).toEqual(before);
    expect(await backed.written()).toEqual(back);
    expect((await backed.command("restore", "--undo", "20200101T000000Z")).text).toContain(
      "There is no retained data 20200101T000000Z. There is:",
    );
  });

  test("backups continue on the new timeline automatically", async () => {
    await backed.quiet();
    expect((await backed.report()).full.failed).toBeNull();
    expect(await backed.fulls()).toBeGreaterThanOrEqual(2);
    // The full backup after the undo may have ended before the table was restored from the dump.
    await backed.succeed("backup", "--diff");
    expect(await backed.result("drill")).toMatchObject({ result: "ok", tables: 3 });
  });

  test("a fingerprint covers every column, also in a table with a column of the name that the query uses", async () => {
    const { container } = stack.names;
    const sql = "CREATE TABLE trap (t int, other text); INSERT INTO trap VALUES (1, 'a')";
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", sql]);
    const script = ["-v", "role=alone", "-f", "/usr/local/share/sectorwars/fingerprints.sql"];
    // With pinned settings, like the session that records the fingerprints.
    const psql = ["sectorwars-backup", "session", "psql", "-X", "-d", "further"];
    const found = async () => (await docker(["exec", "-u", "postgres", container, ...psql, ...script])).split("\n");
    const trapOf = async () => (await found()).find((line) => line.startsWith("further public.trap\t"));
    const before = await trapOf();
    expect(before).toMatch(/\t1\t-?\d+ -?\d+$/);
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", "UPDATE trap SET other = 'b'"]);
    expect(await trapOf()).not.toBe(before);
    // A large object counts as a row. Without large objects, there is no line for them.
    expect((await found()).join()).not.toContain("pg_largeobject");
    const large = "SELECT lo_from_bytea(1, 'x')";
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", large, "-c", "DROP TABLE trap"]);
    expect((await found()).join()).toMatch(/further pg_largeobject\t1\t/);
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", "SELECT lo_unlink(1)"]);
  });

  test("a backup whose data a restore exchanges before it is recorded fails, and another one is made", async () => {
    const newest = async () => (await backed.report()).info?.[0]?.backup.at(-1)?.label;
    const before = await newest();
    let unrecorded: string | undefined;
    const running = await stack.as("superuser", async (client) => {
      await client.query("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE");
      client.on("error", () => {});
      // It cannot read the locked table, and tries again until the data was exchanged.
      const run = backed.inside("sectorwars-backup run full");
      await until("a backup that waits for its record", async () => {
        unrecorded = await newest();
        return unrecorded !== before;
      });
      await backed.succeed("restore", "--undo", backAgain);
      return run.catch(String);
    });
    expect(running).toContain("a restore exchanged the data after the backup began");
    await backed.quiet();
    expect([before, unrecorded]).not.toContain(await newest());
    expect(await backed.result("drill")).toMatchObject({ result: "ok", tables: 3 });
  });

  test.runIf(ALL)("a kill of the server during the exchange of the data: the next start completes it", async () => {
    const before = await backed.value("SELECT count(*)::int FROM ledger");
    const { names } = stack;
    await docker(["kill", names.container]);
    const inVolume = (line: string) =>
      docker(["run", "--rm", "-v", `${names.volume}:/v`, "--entrypoint", "sh", `${names.image}:15`, "-c", line]);
    // The first of the two renames is done, the second is not.
    await inVolume(
      "cd /v && echo pgdata.next-x pgdata.before-x 1 >exchange && mv pgdata pgdata.before-x && cp -a pgdata.before-x pgdata.next-x",
    );
    await docker(["start", names.container]);
    expect(await backed.value("SELECT count(*)::int FROM ledger")).toBe(before);
    expect(await inVolume("ls /v")).not.toMatch(/exchange|pgdata.next/);
    // Without the file "exchange", a missing data directory must not lead to a new cluster.
    await docker(["stop", names.container]);
    await inVolume("mv /v/pgdata /v/pgdata.x; rm -rf /v/pgdata.before-*");
    await docker(["start", names.container]);
    await until(
      "the refusal",
      async () =>
        (
          await docker(["logs", "--tail", "5", names.container]).then(() =>
            docker(["inspect", "-f", "{{.RestartCount}}", names.container]),
          )
        ).trim() !== "0",
    );
    await docker(["stop", names.container]);
    await inVolume("mv /v/pgdata.x /v/pgdata");
    await docker(["start", names.container]);
    expect(await backed.value("SELECT count(*)::int FROM ledger")).toBe(before);
  });
});

describe.runIf(ALL)("a restore", () => {
  test("to a backup's label prints JSON, can be undone, and drills then succeed with the backups that retention kept", async () => {
    await backed.succeed("backup", "--full");
    const label = (await backed.report()).info?.[0]?.backup.at(-1)?.label ?? "";
    const count = () => backed.value("SELECT count(*)::int FROM ledger");
    const before = await count();
    await stack.as("app", (client) => client.query("INSERT INTO ledger SELECT g FROM generate_series(-50, -1) g"));
    const json = (...args: string[]) => backed.result("restore", ...args);
    const restored = await json("--to", label);
    expect(restored).toMatchObject({
      to: label,
      backup: label,
      unsound: [],
      kept: { folder: expect.any(String) },
    });
    expect(await count()).toBe(before);
    await backed.quiet();
    expect(await json("--undo", restored.kept.stamp)).toMatchObject({ undone: restored.kept.stamp });
    expect(await count()).toBe(Number(before) + 50);
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
    await backed.succeed("backup");
    expect(await backed.succeed("drill")).toContain("all as recorded");
    const { kept } = await backed.report();
    for (const folder of kept) expect(await json("--forget", folder.slice(14))).toEqual({ forgotten: folder });
    expect((await backed.report()).kept).toEqual([]);
  });

  test("that gets Ctrl-C during the exchange of the data completes it, and prints the command that undoes it", async () => {
    const restore = backed.begin("restore", "--to", "latest");
    await restore.until("Exchanging the data ...");
    process.kill(-restore.pid, "SIGINT");
    expect(await restore.ended, restore.text).toBe(0);
    expect(restore.text).toMatch(/Done\.\n[\s\S]*To restore it: {2}\.\/db restore --undo \w+/);
    await backed.quiet();
  });

  test("of data in which pg_amcheck finds damage is refused without --unsound, and fails the drill", async () => {
    // An index that lacks entries, like a damaged one.
    await stack.as("owner", (client) =>
      client.query(`
        CREATE FUNCTION place(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n';
        CREATE INDEX damaged ON ledger (place(n));
        CREATE OR REPLACE FUNCTION place(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n + 1'`),
    );
    await backed.succeed("backup");
    expect((await backed.command("drill")).text).toMatch(
      /error: the drill failed: pg_amcheck: .*lacks matching index tuple/s,
    );
    const refused = await backed.command("restore", "--to", "latest");
    expect(refused.text).toMatch(
      /error: Nothing was changed: pg_amcheck: .*lacks matching index tuple.*with the damage: --unsound/s,
    );
    expect(await backed.succeed("restore", "--to", "latest", "--unsound")).toMatch(
      /UNSOUND: pg_amcheck: .* REINDEX repairs[\s\S]*Done\./,
    );
    await stack.as("owner", (client) => client.query("DROP INDEX damaged"));
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
  });

  test("works although the server cannot start, and retains the damaged data", async () => {
    const { names } = stack;
    await stack.as("superuser", archiveEverything);
    const before = await backed.value("SELECT count(*)::int FROM ledger");
    await docker(["stop", names.container]);
    const damage = "echo nonsense >/v/pgdata/global/pg_control";
    await docker(["run", "--rm", "-v", `${names.volume}:/v`, "--entrypoint", "sh", `${names.image}:15`, "-c", damage]);
    await docker(["start", names.container]);
    const text = await backed.succeed("restore", "--to", "latest");
    expect(text).toMatch(
      /Note: {2}changes after .* may be missing in the repository; the retained data contains them\./,
    );
    expect(await backed.value("SELECT count(*)::int FROM ledger")).toBe(before);
    const [, stamp = ""] = /--undo (\w+)/.exec(text) ?? [];
    expect(await backed.inServer(`cat /var/lib/postgresql/data/pgdata.before-${stamp}/global/pg_control`)).toBe(
      "nonsense\n",
    );
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
  });

  test("of a server with a tablespace is refused, because both servers would write to it", async () => {
    await backed.inServer("mkdir -m 0700 /var/lib/postgresql/data/pgdata/elsewhere");
    await stack.as("superuser", (client) =>
      client.query("CREATE TABLESPACE elsewhere LOCATION '/var/lib/postgresql/data/pgdata/elsewhere'"),
    );
    try {
      expect((await backed.command("restore", "--to", "latest")).text).toContain(
        "error: Nothing was changed: the server has a tablespace of its own, so nothing can be restored beside it",
      );
    } finally {
      await stack.as("superuser", (client) => client.query("DROP TABLESPACE elsewhere"));
    }
  });
});
