/**
 * Backups, drills and recovery, on one stack: what a person would do on the day that something is lost. With BACKUPS=all in
 * the environment also the rarer faults, and the longer ways.
 */
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { keyFile, readKeyFile } from "../../components/backups/key-file.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { docker } from "../../lib/docker.ts";
import { BackedUp, REPOSITORY, STORE, until, Writer } from "./backed-up.ts";
import { run, TestStack, urlAddress } from "./test-stack.ts";

const ALL = process.env.BACKUPS === "all";

let stack: TestStack;
let key: string;
/** What was not archived, in the data's volume. */
const GAPS = "/var/lib/postgresql/data/archiving-gaps";
const SETTINGS = {
  bootstrap: "empty",
  memory: "512",
  backups: "true",
  // What is due is due when a test says so.
  backupFull: "never",
  backupDifferential: "never",
  backupDrill: "never",
  // As few as there can be: what is needed no more goes at once, and nothing else.
  backupKeepDays: "0",
  backupKeepFulls: "2",
};

let backed: BackedUp;
const command = (name: string, ...args: string[]) => backed.command(name, ...args);
const succeed = (name: string, ...args: string[]) => backed.succeed(name, ...args);
const inside = (line: string) => backed.inside(line);
const report = () => backed.report();
const value = (sql: string) => backed.value(sql);
const fulls = async () => ((await report()).info?.[0]?.backup ?? []).filter(({ type }) => type === "full").length;

beforeAll(async () => {
  stack = await TestStack.make(SETTINGS);
  backed = new BackedUp(stack);
  await stack.up();
  key = (await readKeyFile(keyFile(stack.name, stack.env)))?.key ?? "";
  await stack.as("owner", (client) =>
    client.query(`
      CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
      CREATE TABLE "odd ""name" (x numeric, note text);
      INSERT INTO "odd ""name" SELECT i / 7.0, md5(i::text) FROM generate_series(1, 20000) i`),
  );
  await stack.as("superuser", async (client) => {
    for (const name of ["further", `"odd=name of 'one'"`, "half_dropped"])
      await client.query(`CREATE DATABASE ${name}`);
    // What an interrupted DROP DATABASE leaves: nobody gets in.
    await client.query("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_dropped'");
  });
  await docker([
    ...["exec", "-u", "postgres", stack.names.backups],
    ...["psql", "-d", "further", "-c", "CREATE TABLE worlds AS SELECT 1 AS n"],
  ]);
  await until("the first full backup", async () => (await report()).full.ok !== null, 120);
});
afterAll(() => stack.end());

describe("a stack with backups", () => {
  test("makes its first full backup by itself, encrypted", async () => {
    const { info, full } = await report();
    expect(info?.[0]?.backup[0]).toMatchObject({ type: "full", error: false });
    expect(full.ok).toMatchObject({ recorded: true });
    // The beginning of whatever OpenSSL encrypts with a passphrase.
    const heads = await inside(
      `cd ${REPOSITORY} && for f in $(find archive backup records -type f -size +16c); do head -c 8 "$f"; echo; done`,
    );
    expect(new Set(heads.trim().split("\n"))).toEqual(new Set(["Salted__"]));
  });

  test("shows its key to nobody: not in inspect, ps, logs or the state, only in a file of its owner's", async () => {
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
      inside("sectorwars-backup report"),
    ]);
    for (const text of shown) expect(text).not.toContain(key);
    expect((await inside("cat /run/pgbackrest.conf")).includes(key)).toBe(true);
    expect(await inside("stat -c '%a %U' /run/pgbackrest.conf /etc/pgbackrest/pgbackrest.conf")).toBe(
      "600 root\n600 postgres\n",
    );
  });

  test("reads the data only, and has no network", async () => {
    await expect(inside("touch /var/lib/postgresql/data/x")).rejects.toThrow("Read-only file system");
    expect((await inside("cat /proc/net/dev")).match(/^ *\w+:/gm)).toEqual([expect.stringContaining("lo:")]);
  });

  test.runIf(ALL)("a second up changes nothing, a refresh finds no drift", async () => {
    await stack.up("--expect-no-changes");
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  });

  test.runIf(ALL)("a key file that was lost comes back the same", async () => {
    const file = keyFile(stack.name, stack.env);
    await rm(file);
    expect(await succeed("status")).toContain("backups ");
    await stack.succeed("refresh", "--yes", "--stack", stack.name);
    await stack.up();
    expect((await readKeyFile(file))?.key).toBe(key);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test("status and doctor tell of it, and of a key that is nowhere else until somebody says otherwise", async () => {
    const before = await succeed("status");
    expect(before).toMatch(/backups {5}1, the last \d+ \w+ ago/);
    expect(before).toContain(
      `key         only on this machine: copy ${keyFile(stack.name, stack.env)} to a safe place`,
    );
    expect(await succeed("doctor")).toContain("ok     Key to the backups: only here");
    await succeed("backup", "--key-is-safe");
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

describe("under a running writer", () => {
  let backAgain: string;
  let writer: Writer | undefined;
  afterAll(() => writer?.stop());

  test("a backup and a drill are exact; what was dropped comes back; undone, everything is as before", async () => {
    const odd = () =>
      stack.as("app", async (client) => (await client.query('SELECT count(*)::int, sum(x) FROM "odd ""name"')).rows);
    const before = await odd();
    writer = new Writer(stack, 1);
    await sleep(500);
    expect(await succeed("backup")).toMatch(/F_\d{8}-\d{6}D: [\d.]+ \w+ in \d+ s/);
    const drill = await backed.result("drill");
    expect(drill).toMatchObject({ run: "drill", result: "ok", tables: 3 });
    expect(drill.rows).toBeGreaterThan(20_000);

    await sleep(1500);
    const point = await stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client));
    expect(point?.command).toBe(`./db restore --to ${point?.at} --stack ${stack.name}`);
    const moment = new Date(point?.at ?? "");
    await sleep(1500);
    await stack.as("owner", (client) => client.query('DROP TABLE "odd ""name"'));
    const dry = await succeed("restore", "--to", moment.toISOString(), "--dry-run");
    expect(dry).toContain("A dry run: nothing was changed.");
    const shown = moment.toISOString().slice(0, 19).replace("T", " ");
    expect(dry).toContain(`To:    ${shown} UTC`);
    const elsewhere = { ...stack.env, TZ: "Asia/Kolkata" };
    const there = await run(
      "./db",
      ["restore", "--stack", stack.name, "--to", point?.at ?? "", "--dry-run"],
      elsewhere,
    );
    expect(there.text).toMatch(new RegExp(`To: +[-\\d]+ [\\d:]+ \\S+ \\(Asia/\\w+\\), ${shown} UTC`));
    const text = await succeed("restore", "--to", moment.toISOString());
    const all = await writer.stop();
    expect(text).toContain("3 tables");
    expect(text).toMatch(
      /\d s {2}restoring the files\n[\s\S]* s {2}recovering up to [\s\S]* s {2}checking every table and index\n/,
    );
    expect(text).toMatch(/The last change in it is of \d{4}-\d\d-\d\d [\d:.]+\+00\./);
    const week = new Date(Date.now() + 7 * 86_400_000).toISOString().slice(0, 10);
    expect(text).toContain(`is kept in the volume until ${week} at least, as pgdata.before-`);
    expect(await succeed("status")).toMatch(
      /kept {8}pgdata\.before-\w+, what was there before a restore; until .* \.\/db restore --undo \w+/,
    );
    const rows = await backed.written();
    // A commit that was acknowledged before the moment was made before it. The writer went on after the exchange.
    for (const n of writer.before(moment.getTime())) expect(rows, `row ${n}`).toContain(n);
    expect(
      await value(
        `SELECT count(*)::int FROM ledger WHERE at > '${moment.toISOString()}' AND at < '${moment.toISOString()}'::timestamptz + '2 s'`,
      ),
    ).toBe(0);
    expect(await value('SELECT count(*)::int FROM "odd ""name"')).toBe(20_000);
    expect(await value("SELECT count(*)::int FROM pg_extension WHERE extname = 'amcheck'")).toBe(0);
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
    await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);

    const copied = join(stack.stateFolder, "table.sql");
    const { container, urls } = await stack.outputs();
    const { database } = urlAddress(urls.superuser);
    const dump = `docker exec -u postgres ${container} pg_dump --table='"odd ""name"' ${database} >${copied}`;
    expect(await run("sh", ["-c", dump])).toMatchObject({ code: 0, text: "" });

    const undo = /--undo (\w+)/.exec(text)?.[1] ?? "";
    const timeline = async () => (await report()).timelines.at(-1)?.split(" ").slice(1, 3).map(Number);
    expect(await timeline()).toEqual([2, 1]);
    const undone = await succeed("restore", "--undo", undo);
    // Retention takes a lower timeline for an older one: what was put back goes on along one of its own.
    expect(await timeline()).toEqual([3, 1]);
    expect(undone).toContain("The data is as it was before the restore.");
    backAgain = /--undo (\w+)/.exec(undone)?.[1] ?? "";
    const back = await backed.written();
    const exchanged = Math.max(...back);
    for (const n of all.filter((n) => n <= exchanged)) expect(back, `row ${n}`).toContain(n);
    expect(back.size).toBeGreaterThan(writer.before(moment.getTime()).length);
    expect(await value(`SELECT to_regclass('"odd ""name"') IS NULL`)).toBe(true);
    // That one table comes back alone.
    const psql = `./db psql --stack ${stack.name} --single-transaction -v ON_ERROR_STOP=1 <${copied}`;
    expect(await run("sh", ["-c", psql], stack.env)).toMatchObject({ code: 0 });
    expect(await odd()).toEqual(before);
    expect(await backed.written()).toEqual(back);
    expect((await command("restore", "--undo", "20200101T000000Z")).text).toContain(
      "There is no data kept of 20200101T000000Z. There is:",
    );
  });

  test("and backups go on along the new timeline by themselves", async () => {
    await backed.quiet();
    expect((await report()).full.failed).toBeNull();
    expect(await fulls()).toBeGreaterThanOrEqual(2);
    expect(await backed.result("drill")).toMatchObject({ result: "ok", tables: 3 });
  });

  test("what a row holds is compared, also in a table that has a column of the name that the comparison uses", async () => {
    const { container } = stack.names;
    const sql = "CREATE TABLE trap (t int, other text); INSERT INTO trap VALUES (1, 'a')";
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", sql]);
    const script = ["-v", "role=alone", "-f", "/usr/local/share/sectorwars/fingerprints.sql"];
    // With its settings pinned, as the record's own session.
    const psql = ["sectorwars-backup", "session", "psql", "-X", "-d", "further"];
    const found = async () => (await docker(["exec", "-u", "postgres", container, ...psql, ...script])).split("\n");
    const trapOf = async () => (await found()).find((line) => line.startsWith("further public.trap\t"));
    const before = await trapOf();
    expect(before).toMatch(/\t1\t-?\d+ -?\d+$/);
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", "UPDATE trap SET other = 'b'"]);
    expect(await trapOf()).not.toBe(before);
    // A large object is a row as well; where there are none, nothing is said of them.
    expect((await found()).join()).not.toContain("pg_largeobject");
    const large = "SELECT lo_from_bytea(1, 'x')";
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", large, "-c", "DROP TABLE trap"]);
    expect((await found()).join()).toMatch(/further pg_largeobject\t1\t/);
    await docker(["exec", "-u", "postgres", container, "psql", "-d", "further", "-c", "SELECT lo_unlink(1)"]);
  });

  test("a backup whose data is exchanged before it is recorded is no answer to the wish for another", async () => {
    const newest = async () => (await report()).info?.[0]?.backup.at(-1)?.label;
    const before = await newest();
    let unrecorded: string | undefined;
    const running = await stack.as("superuser", async (client) => {
      await client.query("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE");
      client.on("error", () => {});
      // It cannot write down what the locked table holds, and tries again until the other data is there.
      const run = inside("sectorwars-backup run full");
      await until("a backup that waits for its record", async () => {
        unrecorded = await newest();
        return unrecorded !== before;
      });
      await succeed("restore", "--undo", backAgain);
      return run.catch(String);
    });
    expect(running).toContain("the data was exchanged by a restore since the backup was begun");
    await backed.quiet();
    expect([before, unrecorded]).not.toContain(await newest());
    expect(await backed.result("drill")).toMatchObject({ result: "ok", tables: 3 });
  });

  test.runIf(ALL)("the server is killed while the data is exchanged: the next start ends it", async () => {
    const before = await value("SELECT count(*)::int FROM ledger");
    const { names } = stack;
    await docker(["kill", names.container]);
    const inVolume = (line: string) =>
      docker(["run", "--rm", "-v", `${names.volume}:/v`, "--entrypoint", "sh", `${names.image}:15`, "-c", line]);
    // The first of the two renames is done, the second is not.
    await inVolume(
      "cd /v && echo pgdata.next-x pgdata.before-x 1 >exchange && mv pgdata pgdata.before-x && cp -a pgdata.before-x pgdata.next-x",
    );
    await docker(["start", names.container]);
    expect(await value("SELECT count(*)::int FROM ledger")).toBe(before);
    expect(await inVolume("ls /v")).not.toMatch(/exchange|pgdata.next/);
    // Without a note, a missing folder is no reason for a new cluster.
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
    expect(await value("SELECT count(*)::int FROM ledger")).toBe(before);
  });
});

describe("what cannot be", () => {
  test.each([
    ["2001-01-01 10:00 UTC", /2001-01-01 10:00:00 UTC cannot be restored\. Any time from .* to .* can be restored/],
    ["sometime", /"sometime" is not a valid time\. Write, for instance, "2026-11-22 10:00"/],
    ["20010101-000000F", /There is no backup 20010101-000000F\. There are: \d{8}-\d{6}F/],
  ])("restoring to %s says what can", async (to, message) => {
    const said = await command("restore", "--to", to);
    expect(said.code).toBe(1);
    expect(said.text).toMatch(message);
  });

  test("two backups at once: the second waits for the first, and says so; both are whole", async () => {
    const first = command("backup", "--full");
    await until("the first run", async () => (await report()).running !== "");
    const second = await command("backup");
    expect(second.text).toMatch(/a run is under way \(full, for \d+ s\); this run starts after it\n/);
    expect(second.code, second.text).toBe(0);
    expect((await first).code).toBe(0);
  });

  test("a backup that begins while the server is still starting waits for it, and does not count as failed", async () => {
    const { names } = stack;
    await docker(["stop", names.container]);
    const begun = inside("sectorwars-backup run full");
    // It would have failed by now.
    const early = await Promise.race([begun.catch((error: Error) => error.message), sleep(4000, "it waits")]);
    await docker(["start", names.container]);
    expect(early).toBe("it waits");
    await begun;
    expect((await report()).full).toMatchObject({ ok: { recorded: true }, failed: null });
  });

  // A terminal tells the whole group of processes.
  test("a restore that is stopped by Ctrl-C says so, and leaves nothing", async () => {
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
    expect((await report()).kept.filter((folder) => folder.includes("next"))).toEqual([]);
    expect(await docker(["ps", "-aq", "--filter", `name=${backups}-restore`])).toBe("");
    expect(await value("SELECT 1")).toBe(1);
  });

  test.runIf(ALL)("two restores at once: one goes through, the other says so", async () => {
    const both = await Promise.all([command("restore", "--to", "latest"), command("restore", "--to", "latest")]);
    expect(both.map(({ code }) => code).sort()).toEqual([0, 1]);
    expect(both.find(({ code }) => code === 1)?.text).toMatch(/Another restore is (running|about to exchange)/);
    await backed.quiet();
  });

  test.runIf(ALL)("a backup that is killed leaves no lock", async () => {
    const killed = command("backup", "--full");
    await until("the run", async () => (await report()).running !== "");
    await inside("cd /proc && for p in [0-9]*; do grep -qs pgbackrest $p/comm && kill -9 $p; done; true");
    expect((await killed).code).toBe(1);
    expect(await succeed("backup", "--full")).toMatch(/\d{8}-\d{6}F: /);
  });
});

/** A line of shell that changes one byte of a file, whatever it is. */
const flip = (file: string, at: number) =>
  `old=$(od -An -tu1 -j ${at} -N 1 ${file} | tr -d ' '); ` +
  `printf "\\\\$(printf %o $((255 - old)))" | dd of=${file} bs=1 seek=${at} conv=notrunc`;

describe("damage", () => {
  /** Harms the repository, sees what a drill makes of it, and mends it. */
  const damaged = async (harm: string): Promise<string> => {
    await inside(`rm -rf /tmp/whole && cp -a ${REPOSITORY} /tmp/whole && cd ${REPOSITORY} && ${harm}`);
    try {
      const said = await command("drill");
      expect(said.code).toBe(1);
      expect((await report()).drill.failed).not.toBeNull();
      expect((await command("status")).code).toBe(1);
      return said.text;
    } finally {
      await inside(`cd ${REPOSITORY} && cp -a /tmp/whole/. .`);
      await succeed("drill");
    }
  };
  const newest = `$(ls -d backup/main/*F | tail -1)`;
  const oldest = `$(ls -d backup/main/*F | head -1)`;

  test("a table that is not as it was recorded fails the drill, whichever database it is in", async () => {
    const records = "/var/lib/sectorwars-backups/state/records";
    await inside(`cd ${records}; cp -a . /tmp/records; sed -i 's/^\\(further public.worlds\t\\)1\t/\\12\t/' *`);
    expect((await command("drill")).text).toContain(
      "error: the drill failed: tables differ from what the database held when the backup was made: further public.worlds",
    );
    // What travels with the repository is enough to compare with, where nothing else is left.
    await inside(`rm ${records}/*`);
    expect(await succeed("drill")).toContain("all as recorded");
    expect((await report()).drill.ok).toMatchObject({ compared: "recorded" });
    const known = (await report()).info?.[0]?.backup.map(({ label }) => label) ?? [];
    // But for one whose data was exchanged under it, each has its own.
    const kept = (await inside(`ls ${REPOSITORY}/records`)).trim().split("\n");
    expect(known).toEqual(expect.arrayContaining(kept));
    expect(kept).toContain(known.at(-1));
    if (!ALL) return;
    // One that was damaged there is no measure for anything.
    await inside(`rm ${records}/*; f=${REPOSITORY}/records/${known.at(-1)}; ${flip("$f", 200)}`);
    expect(await succeed("drill")).toContain("all as they are now (no record was made behind the backup)");
  });

  test("a flipped byte in a backup fails the drill, in status too", async () => {
    const harm = `f=${newest}/bundle/1; ${flip("$f", 4000)}`;
    expect(await damaged(harm)).toMatch(/verify finds damage: .*status: invalid/);
  });

  test.runIf(ALL).each([
    [
      "a truncated backup",
      `f=${newest}/bundle/1; truncate -s 5000 $f`,
      /verify finds damage: .*\. The newest backup could not be restored: /,
    ],
    [
      "a flipped byte in a manifest",
      `f=${newest}/backup.manifest; ${flip("$f", 900)}; cp ${newest}/backup.manifest ${newest}/backup.manifest.copy`,
      /verify finds damage|ERROR/,
    ],
    [
      "a missing WAL file",
      `rm $(ls archive/main/15-1/*/*-*.zst | sort | tail -2 | head -1)`,
      /the archive lacks WAL files between [0-9A-F]{24} and [0-9A-F]{24}/,
    ],
  ])("%s fails the drill, in status too", async (_name, harm, words) => {
    expect(await damaged(harm)).toMatch(words);
  });

  test.runIf(ALL)(
    "a damaged file of an older backup: the newest one is proven all the same; once only that is kept, all is well",
    async () => {
      await succeed("backup", "--full");
      await inside(`cd ${REPOSITORY} && f=${oldest}/bundle/1; ${flip("$f", 4000)}`);
      expect((await command("drill")).text).toMatch(
        /verify finds damage: .*status: invalid.*The newest backup could be restored all the same, every table as it was/s,
      );
      const expire = "expire --repo1-retention-full-type=count --repo1-retention-full=1";
      await docker([
        "exec",
        "-u",
        "postgres",
        stack.names.backups,
        "pgbackrest",
        "--stanza=main",
        ...expire.split(" "),
      ]);
      expect(await succeed("drill")).toContain("all as recorded");
    },
  );

  test.runIf(ALL)("a wrong key fails the drill", async () => {
    await inside("sed -i 's/^repo1-cipher-pass=.*/repo1-cipher-pass=another/' /etc/pgbackrest/pgbackrest.conf");
    try {
      expect((await command("drill")).text).toMatch(/error: the drill failed: .*(crypt|cipher|no backup to be read)/i);
    } finally {
      await docker(["restart", stack.names.backups]);
    }
    expect(await succeed("drill")).toContain("all as recorded");
  });

  const inArchive: [string, string, RegExp][] = [
    // pgBackRest decompresses it without a word; PostgreSQL would take the nonsense for the end of the log.
    ["a flipped byte in", flip("$f", 2000), /is damaged in the repository|could not restore file/],
    ["a hole instead of", "rm $f", /is missing in the repository|could not restore file/],
  ];
  test.each(inArchive.slice(0, ALL ? 2 : 1))(
    "%s archived WAL never ends a recovery early: nothing is changed",
    async (_name, harm, words) => {
      await stack.as("owner", (client) =>
        client.query(
          "CREATE TABLE IF NOT EXISTS late (x text); INSERT INTO late SELECT md5(i::text) FROM generate_series(1, 500) i",
        ),
      );
      const file = await value("SELECT pg_walfile_name(pg_switch_wal())");
      await until("the archive", async () => (await report()).waiting === 0);
      await inside(
        `cd ${REPOSITORY}; f=$(ls archive/main/15-1/*/${file}-*); echo $f >/tmp/which; cp -a $f /tmp/keep; ${harm}`,
      );
      try {
        const said = await command("restore", "--to", "latest");
        expect(said.code).toBe(1);
        expect(said.text).toMatch(/error: Nothing was changed: the recovery failed: /);
        expect(said.text).toMatch(words);
      } finally {
        await inside(`cd ${REPOSITORY}; cp -a /tmp/keep $(cat /tmp/which)`);
      }
      expect(await value("SELECT count(*)::int > 0 FROM late")).toBe(true);
      expect((await report()).kept.filter((folder) => folder.includes("next"))).toEqual([]);
    },
  );
});

describe.runIf(ALL)("a restore", () => {
  test("to a backup's label, for machines; undone, the backups that retention leaves lead to all that is there", async () => {
    await succeed("backup", "--full");
    const label = (await report()).info?.[0]?.backup.at(-1)?.label ?? "";
    const count = () => value("SELECT count(*)::int FROM ledger");
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
    expect(await succeed("drill")).toContain("all as recorded");
    await succeed("backup");
    expect(await succeed("drill")).toContain("all as recorded");
    const { kept } = await report();
    for (const folder of kept) expect(await json("--forget", folder.slice(14))).toEqual({ forgotten: folder });
    expect((await report()).kept).toEqual([]);
  });

  test("that is stopped by Ctrl-C while the data is exchanged ends all the same, and tells the way back", async () => {
    const restore = backed.begin("restore", "--to", "latest");
    await restore.until("Exchanging ...");
    process.kill(-restore.pid, "SIGINT");
    expect(await restore.ended).toBe(0);
    expect(restore.text).toMatch(/Done\.\n[\s\S]*Back to it: {2}\.\/db restore --undo \w+/);
    await backed.quiet();
  });

  test("of data in which pg_amcheck finds damage is refused, unless it is wanted so; the drill tells it too", async () => {
    // An index that lacks what it should have, as a damaged one does.
    await stack.as("owner", (client) =>
      client.query(`
        CREATE FUNCTION place(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n';
        CREATE INDEX damaged ON ledger (place(n));
        CREATE OR REPLACE FUNCTION place(n int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT n + 1'`),
    );
    await succeed("backup");
    expect((await command("drill")).text).toMatch(/error: the drill failed: pg_amcheck: .*lacks matching index tuple/s);
    const refused = await command("restore", "--to", "latest");
    expect(refused.text).toMatch(
      /error: Nothing was changed: pg_amcheck: .*lacks matching index tuple.*all the same: --unsound/s,
    );
    expect(await succeed("restore", "--to", "latest", "--unsound")).toMatch(
      /UNSOUND: pg_amcheck: .* REINDEX mends[\s\S]*Done\./,
    );
    await stack.as("owner", (client) => client.query("DROP INDEX damaged"));
    await backed.quiet();
    expect(await succeed("drill")).toContain("all as recorded");
  });

  test("needs no server that starts: the damaged data is kept", async () => {
    const { names } = stack;
    await stack.as("superuser", archiveEverything);
    const before = await value("SELECT count(*)::int FROM ledger");
    await docker(["stop", names.container]);
    const damage = "echo nonsense >/v/pgdata/global/pg_control";
    await docker(["run", "--rm", "-v", `${names.volume}:/v`, "--entrypoint", "sh", `${names.image}:15`, "-c", damage]);
    await docker(["start", names.container]);
    const text = await succeed("restore", "--to", "latest");
    expect(text).toMatch(/Note: {2}what was written after .* may not be in the repository; the kept data has it\./);
    expect(await value("SELECT count(*)::int FROM ledger")).toBe(before);
    const [, stamp = ""] = /--undo (\w+)/.exec(text) ?? [];
    expect(await backed.inServer(`cat /var/lib/postgresql/data/pgdata.before-${stamp}/global/pg_control`)).toBe(
      "nonsense\n",
    );
    await backed.quiet();
    expect(await succeed("drill")).toContain("all as recorded");
  });

  test("beside a tablespace is refused: both would write to it", async () => {
    await backed.inServer("mkdir -m 0700 /var/lib/postgresql/data/pgdata/elsewhere");
    await stack.as("superuser", (client) =>
      client.query("CREATE TABLESPACE elsewhere LOCATION '/var/lib/postgresql/data/pgdata/elsewhere'"),
    );
    try {
      expect((await command("restore", "--to", "latest")).text).toContain(
        "error: Nothing was changed: the server has a tablespace of its own, beside which nothing can be restored",
      );
    } finally {
      await stack.as("superuser", (client) => client.query("DROP TABLESPACE elsewhere"));
    }
  });
});

test.runIf(ALL)("whoever wants a table that is being counted for the record need not wait for it", async () => {
  await stack.as("owner", (client) =>
    client.query("CREATE TABLE large AS SELECT i, md5(i::text) AS text FROM generate_series(1, 3000000) i"),
  );
  const backup = command("backup", "--json", "--diff");
  const counting =
    "SELECT count(*)::int FROM pg_stat_activity WHERE application_name = 'sectorwars-record' AND query LIKE '%hashtextextended%'";
  await until("the counting", async () => Number(await value(counting)) > 0, 120);
  const waits = stack.as("owner", (client) => client.query("ALTER TABLE large ADD COLUMN more int"));
  await waits;
  expect(await value(counting)).toBe(0);
  expect(JSON.parse((await backup).stdout)).toMatchObject({ result: "ok", recorded: true });
  await stack.as("owner", (client) => client.query("DROP TABLE large"));
});

describe("a repository that is missing", () => {
  test("the database goes on, its WAL waits, status tells; back again, all of it is archived", async () => {
    await inside(`mv ${REPOSITORY}/archive ${REPOSITORY}/away`);
    await stack.as("owner", (client) => client.query("CREATE TABLE meanwhile AS SELECT generate_series(1, 1000) AS x"));
    await value("SELECT pg_switch_wal()::text");
    await until("the failure", async () => ((await report()).archiver?.failed ?? 0) > 0, 90);
    const said = await command("status");
    expect(said.code).toBe(1);
    expect(said.text).toMatch(/TROUBLE {5}the repository is empty, missing or unreadable/);
    expect(said.text).toMatch(/TROUBLE {5}nothing has been archived since .*: \d+ WAL files wait there/);
    // What cannot be read is not taken for what is not there.
    for (const [name, ...args] of [
      ["restore", "--to", "latest"],
      ["restore", "--to", "1 minute ago", "--dry-run"],
      ["backup", "--list"],
    ]) {
      const { code, text } = await command(name ?? "", ...args);
      expect({ code, text }).toMatchObject({ code: 1, text: expect.not.stringContaining("no backup yet") });
    }
    // It is not begun anew by itself.
    await expect(inside("sectorwars-backup init")).rejects.toThrow(
      "the repository is empty, but backups were made there",
    );

    // The disk is as full as it may be. With one file waiting, and room for many, nothing is given up yet.
    const file = (await backed.inServer("ls $PGDATA/pg_wal/archive_status | sed -n 's/.ready$//p' | head -1")).trim();
    const push = () =>
      backed.inServer(`cd $PGDATA && BACKUP_GIVE_UP_AT=1 sectorwars-backup pgbackrest-push pg_wal/${file}`);
    await expect(push()).rejects.toThrow("ERROR: ");
    for (let n = 0; n < 8; n += 1) await value("SELECT pg_switch_wal()::text FROM pg_create_restore_point('more')");
    expect((await report()).openGap).toBe("");
    // With many, the file is given up, and that is written down.
    await push();
    expect((await command("status")).text).toContain(
      `the server dropped WAL that it could not archive (from ${file} on)`,
    );
    // Whoever waits for the archiver is told what it says, and not only that it took too long.
    const begin = Date.now();
    await expect(stack.as("superuser", archiveEverything)).rejects.toThrow(
      /^the last changes could not be archived: ERROR: \[\d+\]/,
    );
    expect(Date.now() - begin).toBeLessThan(90_000);
    // A server that is started without archiving leaves a gap as well, which is noted once.
    const { names } = stack;
    for (let n = 0; n < 2; n += 1) {
      const volume = ["-v", `${names.volume}:/var/lib/postgresql/data`];
      await docker(["run", "--rm", "--network", "none", ...volume, `${names.image}:15`, "postgres", "--version"]);
    }
    // Until somebody says so, no backup is tried again.
    await inside(`echo 9 $(date +%s) >${STORE}/state/full.failures`);
    await inside(`mv ${REPOSITORY}/away ${REPOSITORY}/archive`);
    // Both would try again by themselves within a minute, for which nobody waits here.
    await value("SELECT pg_switch_wal()::text FROM pg_create_restore_point('back')");
    await until("the archive", async () => (await report()).waiting === 0, 120);
    // Everything is archived again, and yet nothing leads over the gap.
    await expect(stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client))).rejects.toThrow(
      `the server dropped WAL that it could not archive (from ${file} on): nothing later than`,
    );
    await inside(`rm -f ${STORE}/state/full.failures`);
    await until(
      "a full backup that closes the gap",
      async () => (await report()).openGap === "" && (await report()).running === "",
      120,
    );
    const { gaps } = await report();
    expect(gaps).toHaveLength(1);
    expect(gaps[0]).toMatch(new RegExp(`^\\d+ \\d+ ${file} off-\\d+ \\d{8}-\\d{6}F$`));
    expect((await inside(`cat ${GAPS}`)).match(/ off-/g)).toHaveLength(1);
    expect(await succeed("status")).not.toContain("TROUBLE");
  });
});

test("the volume with the data is lost: the stack goes on from the backup, with all else of it as it was", async () => {
  await stack.as("owner", (client) => client.query("CREATE TABLE kept_words AS SELECT 'still here' AS said"));
  await stack.as("superuser", archiveEverything);
  await docker(["rm", "-f", stack.names.container, stack.names.backups]);
  await docker(["volume", "rm", stack.names.volume]);
  expect((await command("doctor")).text).toContain("The backups are there, and go with pulumi destroy");
  const status = await command("status");
  expect(status.code).toBe(1);
  expect(status.text).toContain(`There is no container ${stack.names.backups}. `);
  const lost = ["**Volume::data", "**Container::server", "**Container::backup-container"];
  await stack.succeed("refresh", "--yes", ...lost.flatMap((urn) => ["--target", urn]), "--stack", stack.name);
  await stack.set("bootstrap", "backup");
  await stack.up();
  expect(await value("SELECT said FROM kept_words")).toBe("still here");
  for (const role of ["owner", "app", "readonly", "monitor"] as const)
    await stack.as(role, (client) => client.query("SELECT 1"));
  await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);
  await backed.quiet();
  expect(await succeed("drill")).toContain("all as recorded");
});

test("the state is lost, the volumes are not: the stack takes all of it over, also what was never archived", async () => {
  await stack.as("owner", (client) => client.query("CREATE TABLE never_archived AS SELECT 'here' AS said"));
  const { container, backups, network } = stack.names;
  await docker(["rm", "-f", container, backups]);
  await docker(["network", "rm", network]);
  await stack.loseState(SETTINGS);
  await stack.up();
  expect(await value("SELECT said FROM never_archived")).toBe("here");
  for (const role of ["owner", "app", "readonly", "monitor"] as const)
    await stack.as(role, (client) => client.query("SELECT 1"));
  await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);
  await backed.quiet();
  expect(await succeed("status")).not.toContain("TROUBLE");
});

test.runIf(ALL)(
  "the state and the key are lost: the data is there, and backups begin anew with another key",
  async () => {
    await stack.as("owner", (client) => client.query("CREATE TABLE without_key AS SELECT 'here' AS said"));
    await rm(keyFile(stack.name, stack.env));
    const { container, backups, network, backupVolume, image } = stack.names;
    const aside = ["-c", "mv /b/repository /b/unreadable"];
    await docker(["run", "--rm", "-v", `${backupVolume}:/b`, "--entrypoint", "sh", `${image}:15`, ...aside]);
    await docker(["rm", "-f", container, backups]);
    await docker(["network", "rm", network]);
    await stack.loseState(SETTINGS);
    expect(await stack.upFails()).toContain("or begin anew with: ./db backup --begin-anew");
    await succeed("backup", "--begin-anew");
    await stack.up();
    expect((await readKeyFile(keyFile(stack.name, stack.env)))?.key).not.toBe(key);
    expect(await value("SELECT said FROM without_key")).toBe("here");
    await backed.quiet();
    expect(await succeed("drill")).toContain("all as recorded");
  },
);

describe("the machine is lost, but not the repository and the key", () => {
  test("a new stack begins from them: latest, then goes on; a missing key says where it belongs", async () => {
    await stack.as("owner", (client) => client.query("CREATE TABLE last_words AS SELECT 'all is well' AS said"));
    await value("SELECT pg_switch_wal()::text");
    await until("the archive", async () => (await report()).waiting === 0);
    const rows = await value("SELECT count(*)::int FROM ledger");
    await docker(["rm", "-f", stack.names.container, stack.names.backups]);
    await docker(["volume", "rm", stack.names.volume, stack.names.socketVolume]);
    await docker(["network", "rm", stack.names.network]);
    await stack.loseState({ ...SETTINGS, bootstrap: "backup", ...(ALL ? { database: "misspelt" } : {}) });
    if (ALL) {
      expect(await stack.upFails()).toContain(
        "The backups contain no database misspelt, but further, odd=name of 'one', sectorwars_dev.",
      );
      await stack.unset("database");
    }
    await stack.up();
    expect(await value("SELECT said FROM last_words")).toBe("all is well");
    expect(await value("SELECT count(*)::int FROM ledger")).toBe(rows);
    for (const role of ["owner", "app", "readonly", "monitor"] as const)
      await stack.as(role, (client) => client.query("SELECT 1"));
    if (ALL) await stack.up("--expect-no-changes");
    // The full backup of the new timeline is made by itself.
    await backed.quiet();
    expect(await backed.result("drill")).toMatchObject({ result: "ok" });
  });

  test.runIf(ALL)(
    "backupKeepOnDestroy leaves the backups, from which a time comes back and which no other cluster touches",
    async () => {
      const destroy = async () => {
        await stack.succeed("destroy", "--yes", "--skip-preview", "--stack", stack.name);
        expect(await stack.leftovers()).toEqual([`volume ${stack.names.backupVolume}`]);
      };
      await stack.set("backupKeepOnDestroy", "true");
      await stack.up();
      const point = await stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client));
      await stack.as("owner", (client) => client.query("CREATE TABLE too_late ()"));
      await stack.as("superuser", archiveEverything);
      await destroy();
      await stack.set("backupRecoverTo", point?.at ?? "");
      await stack.up();
      expect(await value("SELECT said FROM last_words")).toBe("all is well");
      expect(await value("SELECT to_regclass('too_late') IS NULL")).toBe(true);
      await destroy();
      await stack.set("bootstrap", "empty");
      expect(await stack.upFails()).toContain(
        "The repository contains backups of another database, and backups of two databases cannot share a repository.",
      );
      await stack.set("backupKeepOnDestroy", "false");
      await stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", stack.name);
    },
  );
});
