/**
 * Faults of all kinds, on one stack whose volumes are small disks of their own, while a writer writes and keeps its own list
 * of what was acknowledged. They take minutes, so they run with BACKUPS=all in the environment only.
 */
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { keyFile } from "../../components/backups/key-file.ts";
import { backupsIn } from "../../components/backups/report.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { makeRestorePoint } from "../../components/backups/restore-point.ts";
import { position } from "../../components/backups/target.ts";
import { containerLog, containerState, docker } from "../../lib/docker.ts";
import { agedInfo } from "./aged.ts";
import { BackedUp, REPOSITORY, STORE, until, Writer } from "./backed-up.ts";
import { TestStack } from "./test-stack.ts";

const DATA = "/var/lib/postgresql/data/pgdata";
const SETTINGS = {
  bootstrap: "empty",
  // The disks are in memory, and what a container writes to them counts as its own.
  memory: "2048",
  backups: "true",
  // Once a year: due when a test says that it was missed.
  backupFull: "0 3 1 1 *",
  backupDifferential: "0 3 1 1 *",
  backupDrill: "0 3 1 1 *",
  backupGiveUpAt: "80",
};

let stack: TestStack;
let backed: BackedUp;
let writer: Writer;

describe.runIf(process.env.BACKUPS === "all")("with a writer running throughout", () => {
  beforeAll(async () => {
    stack = await TestStack.make(SETTINGS);
    backed = new BackedUp(stack);
    const { names } = stack;
    const disks = { [names.volume]: "2400m", [names.backupVolume]: "300m" };
    for (const [volume, size] of Object.entries(disks)) {
      const options = ["type=tmpfs", "device=tmpfs", `o=size=${size}`].flatMap((option) => ["--opt", option]);
      await docker(["volume", "create", "--label", `sectorwars.stack=${stack.name}`, ...options, volume]);
    }
    // What is in memory stays as long as somebody looks at it.
    const mounts = Object.keys(disks).flatMap((volume, i) => ["-v", `${volume}:/disk${i}`]);
    await stack.up();
    const image = (await docker(["inspect", "-f", "{{.Image}}", names.container])).trim();
    await docker(["run", "-d", "--name", `${names.backups}-disks`, ...mounts, "--entrypoint", "sleep", image, "inf"]);
    await stack.as("owner", (client) =>
      client.query("CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())"),
    );
    await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
    writer = new Writer(stack, 1);
  });
  afterAll(async () => {
    await writer?.stop();
    await docker(["rm", "-f", "-v", `${stack.names.backups}-disks`]).catch(() => {});
    await stack?.end();
  });

  /** Whatever a test did: every row that was acknowledged is there, and a drill is content. */
  afterEach(async () => {
    const known = [...writer.acknowledged.keys()];
    expect(known.length).toBeGreaterThan(10);
    const rows = await backed.written();
    expect(known.filter((n) => !rows.has(n))).toEqual([]);
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
    expect(await backed.succeed("status")).not.toContain("TROUBLE");
  });

  /** What the drill has running, the server apart that it may have started. */
  const KILL_DRILL =
    "cd /proc && for p in [0-9]*; do if tr '\\0' ' ' <$p/cmdline | grep -qE 'sectorwars-backup run [d]rill|^pgbackrest'; " +
    "then kill -9 $p; fi; done 2>/dev/null; true";
  const running = async () => (await backed.inside(`cat ${STORE}/state/running 2>/dev/null || true`)) !== "";
  const answers = () =>
    backed.value("SELECT true").then(
      () => true,
      () => false,
    );

  /** Restores the newest state: all that was acknowledged before is in it. */
  const latest = async (words = /Done\./) => {
    const promised = writer.before(Date.now());
    expect(await backed.succeed("restore", "--to", "latest")).toMatch(words);
    const rows = await backed.written();
    expect(promised.filter((n) => !rows.has(n))).toEqual([]);
    // What the writer was told between the last look at the log and the exchange is in the former data only.
    writer.acknowledged.clear();
    await until("more rows", async () => writer.acknowledged.size > 20);
  };

  describe("kill -9", () => {
    test("of all that makes a backup, at several moments", async () => {
      for (const ms of [0, 700, 1500, 2500]) {
        const backup = backed.command("backup", "--full");
        await until("the run", running);
        await sleep(ms);
        await docker(["restart", "-t", "0", stack.names.backups]);
        const { code } = await backup;
        if (ms === 0) expect(code).toBe(1);
        expect(await backed.succeed("backup", "--full")).toMatch(/\d{8}-\d{6}F: /);
      }
    });

    test("of the database while a backup is made, at several moments", async () => {
      for (const ms of [0, 1200]) {
        const backup = backed.command("backup", "--full");
        await until("the run", running);
        await sleep(ms);
        await docker(["kill", stack.names.container]);
        await backup;
        await docker(["start", stack.names.container]);
        await until("the server", answers);
        await backed.succeed("backup", "--full");
      }
    });

    test("of a drill, at several moments: the next one clears what is left", async () => {
      for (const ms of [0, 1500, 3000]) {
        const drill = backed.command("drill");
        await until("the run", running);
        await sleep(ms);
        await backed.inside(KILL_DRILL);
        const { code } = await drill;
        if (ms === 0) expect(code).toBe(1);
        // Until the last of its processes has ended it counts as under way.
        await until("the next drill", async () => (await backed.command("drill")).code === 0);
        expect(await backed.inside(`ls ${STORE}`)).not.toContain("scratch");
      }
    });

    test.each(["restoring the files", "recovering up to", "checking every table"])(
      "of a restore while it is %s: nothing is changed",
      async (step) => {
        const container = `${stack.names.backups}-restore`;
        const restore = backed.command("restore", "--to", "latest");
        await until("the step", async () => (await containerLog(container, 20)).includes(step));
        await docker(["kill", container]);
        const { code, text } = await restore;
        expect(code).toBe(1);
        expect(text).toContain("Nothing was changed");
      },
    );

    test("of the command that restores: what it began ends, and the next one clears it away", async () => {
      const container = `${stack.names.backups}-restore`;
      const restore = backed.command("restore", "--to", "latest");
      await until("the restore", async () => (await containerLog(container, 20)).includes("restoring"));
      await docker(["pause", container]);
      for (const pid of await stack.processes("node")) process.kill(Number(pid), "SIGKILL");
      await restore;
      expect((await backed.command("restore", "--to", "latest")).text).toContain("Another restore is running");
      await docker(["unpause", container]);
      await until("its end", async () => (await containerState(container)) === undefined);
      expect((await backed.report()).kept).toEqual([expect.stringMatching(/^pgdata\.next-/)]);
      await latest(/Removed pgdata\.next-\w+, which is no longer needed/);
      expect((await backed.report()).kept).toEqual([expect.stringMatching(/^pgdata\.before-/)]);
    });
  });

  describe("the disk of the repository", () => {
    test("is full: the database goes on, everything waits, and is archived once there is room", async () => {
      await onDisks("dd if=/dev/zero of=/disk1/fill bs=1M 2>/dev/null || true");
      try {
        await backed.value("SELECT pg_switch_wal()::text");
        await until("the failure", failing, 90);
        const said = await backed.command("status");
        expect(said.code).toBe(1);
        expect(said.text).toMatch(
          /TROUBLE {5}changes are not archived since .* UTC, and would be lost with the database's disk: \d+ WAL files wait there .*\. There is room for .* more, about .* at the present rate, until 80 % of that disk/,
        );
        const backup = await backed.command("backup", "--full");
        expect(backup.code).toBe(1);
        expect(backup.text).toMatch(/error: the backup failed: ERROR: \[\d+\]/);
        expect((await backed.command("status")).text).toMatch(/TROUBLE {5}the last full backup failed at .*: ERROR: /);
        const before = writer.acknowledged.size;
        await until("more rows", async () => writer.acknowledged.size > before + 20);
      } finally {
        await onDisks("rm /disk1/fill");
      }
      await until("the archive", async () => (await backed.report()).waiting === 0, 120);
      expect((await backed.report()).gaps).toEqual([]);
      await backed.succeed("backup", "--full");
    });

    test("cannot be written: the same", async () => {
      await backed.inside(`chown -R root ${REPOSITORY}`);
      try {
        await backed.value("SELECT pg_switch_wal()::text");
        await until("the failure", failing, 90);
        expect((await backed.command("backup")).text).toMatch(/error: the backup failed: ERROR: \[041\]/);
        expect((await backed.command("status")).text).toContain("changes are not archived since");
      } finally {
        await backed.inside(`chown -R postgres ${REPOSITORY}`);
      }
      await until("the archive", async () => (await backed.report()).waiting === 0, 120);
      await backed.succeed("backup");
    });
  });

  /** A line of shell beside both disks, /disk0 of the data and /disk1 of the repository, without a limit of memory. */
  const onDisks = (line: string) => docker(["exec", `${stack.names.backups}-disks`, "sh", "-c", line]);

  const failing = async () => {
    const { archiver } = await backed.report();
    return (archiver?.lastFailedAt ?? 0) > (archiver?.lastArchivedAt ?? 0);
  };

  describe("the disk of the data", () => {
    test("reaches its share while nothing can be archived: that is given up, told, and healed by a full backup", async () => {
      // What is there can be read, and so is told: nothing new can be written.
      await backed.inside(`chown -R root ${REPOSITORY}/archive && chmod -R a+rX ${REPOSITORY}/archive`);
      const room = "df -Pk /disk0 | awk 'NR == 2 { print int(($2 * 0.83 - $3) / 1024) }'";
      let since = "";
      let late = "";
      try {
        await onDisks(`dd if=/dev/zero of=/disk0/fill bs=1M count=$(${room}) 2>/dev/null`);
        for (let n = 0; n < 12; n += 1) {
          await backed.value("SELECT pg_switch_wal()::text");
          await sleep(100);
        }
        await until("giving up", async () => (await backed.report()).openGap !== "", 120);
        const { openGap } = await backed.report();
        [since = ""] = openGap.split(" ");
        const status = (await backed.command("status")).text;
        expect(status).toContain(`nothing later than ${utc(Number(since))} can be restored until a new full backup`);
        expect(status).toContain(`to ${utc(Number(since))}`);
        expect(await containerLog(stack.names.container, 200)).toMatch(
          /ERROR: the WAL file [0-9A-F]{24} was given up: .* \(limit 80 %\)/,
        );
        late = new Date((Number(since) + 2) * 1000).toISOString();
        const refused = await backed.command("restore", "--to", late, "--dry-run");
        expect(refused.text).toMatch(/cannot be restored\. Any moment from .* to .* can be restored/);
        const before = writer.acknowledged.size;
        await until("more rows", async () => writer.acknowledged.size > before + 20);
      } finally {
        await onDisks("rm /disk0/fill");
        await backed.inside(`chown -R postgres ${REPOSITORY}/archive`);
      }
      await backed.quiet(240);
      const { gaps } = await backed.report();
      // One more, where WAL was still given up while the first full backup was made.
      expect(gaps.length).toBeGreaterThan(0);
      for (const gap of gaps)
        expect(gap).toMatch(new RegExp(`^${since} \\d+ [0-9A-F]{24} [0-9A-F]{24} \\d{8}-\\d{6}F$`));
      expect((await backed.command("restore", "--to", late, "--dry-run")).text).toMatch(/but for .* to .* UTC/);
    });

    test("is full to the last byte: what was acknowledged is there once there is room again", async () => {
      await onDisks("dd if=/dev/zero of=/disk0/fill bs=1M 2>/dev/null || true");
      await stack
        .as("superuser", (client) =>
          client.query("CREATE TABLE big AS SELECT md5(i::text) FROM generate_series(1, 3000000) i"),
        )
        .catch(() => {});
      await sleep(3000);
      await onDisks("rm /disk0/fill");
      await until("the server", answers, 120);
      await backed.value("DROP TABLE IF EXISTS big");
      const before = writer.acknowledged.size;
      await until("more rows", async () => writer.acknowledged.size > before + 20);
      await until("the archive", async () => (await backed.report()).waiting === 0, 120);
    });
  });

  const image = async () => (await docker(["inspect", "-f", "{{.Image}}", stack.names.container])).trim();
  const utc = (seconds: number) => `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

  test("WAL that is missing stops a recovery, on the timeline that was left too; where there is no more, it ends", async () => {
    await latest();
    // Before the full backup that follows by itself: the way there begins on the timeline that was left.
    const moment = new Date().toISOString();
    await backed.quiet();
    for (let n = 0; n < 3; n += 1) await stack.as("superuser", archiveEverything);
    const [, current = "", former = "", fork = ""] = (await backed.report()).timelines.at(-1)?.split(" ") ?? [];
    const SIZE = 16n * 1024n ** 2n;
    const hex = (number: bigint) => number.toString(16).toUpperCase().padStart(8, "0");
    const fileAt = (timeline: string, at: bigint) => hex(BigInt(timeline)) + hex(at >> 32n) + hex((at >> 24n) & 0xffn);
    const left = position(fork);
    const now = position(String(await backed.value("SELECT pg_current_wal_lsn()::text")));

    // Where a recovering server would ask: beside its control file, its settings, and the history of the timeline it wants.
    await backed.inside(`
      rm -rf /tmp/asking && mkdir -p /tmp/asking/global /tmp/asking/pg_wal && cd /tmp/asking
      cp ${DATA}/global/pg_control global && cp ${DATA}/pg_wal/${hex(BigInt(current))}.history pg_wal
      echo "recovery_target_timeline = '${current}'" >postgresql.auto.conf
      chown -R postgres .`);
    const ask = ["exec", "-u", "postgres", stack.names.backups, "sh", "-c"];
    const answer = async (file: string) =>
      (await docker([...ask, `cd /tmp/asking && sectorwars-backup wal-get ${file} got 2>/dev/null; echo $?`])).trim();
    const without = async <T>(file: string, work: () => Promise<T>) => {
      const there = `${REPOSITORY}/archive/main/15-1/${file.slice(0, 16)}`;
      await backed.inside(`mkdir /tmp/taken && mv ${there}/${file}-* /tmp/taken`);
      try {
        return await work();
      } finally {
        await backed.inside(`mv /tmp/taken/* ${there} && rmdir /tmp/taken`);
      }
    };
    const lastOfFormer = fileAt(former, left - SIZE);
    for (const file of [lastOfFormer, fileAt(current, now - 2n * SIZE)]) {
      expect(await answer(file)).toBe("0");
      expect(await without(file, () => answer(file))).toBe("126");
    }
    const said = await without(lastOfFormer, () => backed.command("restore", "--to", moment));
    expect(said.text).toContain("error: Nothing was changed: the recovery failed: ");
    expect(said.text).toContain(`the WAL file ${lastOfFormer} is missing in the repository`);
    const end = fileAt(current, now + 16n * SIZE);
    expect(await answer(end)).toBe("1");
    expect(await answer(fileAt(former, left + 16n * SIZE))).toBe("1");
    // What cannot be looked at is not known to be empty.
    await backed.inside(`chmod 111 ${REPOSITORY}/archive/main`);
    const unread = await answer(end);
    await backed.inside(`chmod 750 ${REPOSITORY}/archive/main && rm -r /tmp/asking`);
    expect(unread).toBe("126");
  });

  test("another database's repository in place of the own one: nothing is mixed, nothing restored from it", async () => {
    // A cluster and a repository of its own, with the same key, made inside the backups' container.
    await docker(["exec", "-i", "-u", "postgres", stack.names.backups, "sh", "-eu"], {
      input: `
        repository="--stanza=main --pg1-path=/tmp/foreign --repo1-path=/tmp/foreign-repository"
        own="$repository --pg1-socket-path=/tmp --pg1-port=5499"
        initdb -D /tmp/foreign >/dev/null
        pg_ctl -D /tmp/foreign -w -l /tmp/foreign.log start -o "-k /tmp -c listen_addresses= -p 5499 -c shared_buffers=16MB \
          -c archive_mode=on -c 'archive_command=pgbackrest $repository --no-archive-async archive-push %p'" >/dev/null
        mkdir /tmp/foreign-repository
        pgbackrest $own stanza-create
        pgbackrest $own backup
        pg_ctl -D /tmp/foreign -w -m fast stop >/dev/null`,
    });
    const sums = `cd ${REPOSITORY} && find archive backup -type f -exec sha1sum {} + | sort`;
    await backed.inside(
      `mkdir ${STORE}/own && cd ${REPOSITORY} && mv archive backup ${STORE}/own/ && cp -a /tmp/foreign-repository/. .`,
    );
    try {
      const before = await backed.inside(sums);
      await backed.value("SELECT pg_switch_wal()::text");
      await until("the failure", failing, 90);
      expect((await backed.command("status")).text).toMatch(
        /TROUBLE {5}the repository belongs to another database \(\d+; this one is \d+\): nothing is archived/,
      );
      expect((await backed.command("backup", "--full")).code).toBe(1);
      expect((await backed.command("drill")).code).toBe(1);
      await expect(backed.inside("sectorwars-backup init")).rejects.toThrow("[028]");
      for (const target of ["latest", new Date(Date.now() - 1000).toISOString()]) {
        expect((await backed.command("restore", "--to", target)).text).toContain(
          "error: Nothing is restored from there: the repository belongs to another database",
        );
      }
      expect(await backed.inside(sums)).toBe(before);
    } finally {
      await backed.inside(`cd ${REPOSITORY} && rm -rf archive backup && mv ${STORE}/own/* . && rmdir ${STORE}/own`);
    }
    await until("the archive", async () => (await backed.report()).waiting === 0, 120);
    await backed.succeed("backup", "--full");
  });

  test("on another machine, from a copy of the repository in a folder: to a time, then on by itself", async () => {
    const point = await stack.as("superuser", (client) => makeRestorePoint(stack.name, client));
    const promised = writer.before(Date.parse(point?.at ?? "") - 50);
    await sleep(500);
    await stack.as("superuser", archiveEverything);
    const folder = await mkdtemp(join(tmpdir(), "sectorwars-repository-"));
    const { names, env, name } = stack;
    await docker(["cp", `${names.backups}:${REPOSITORY}/.`, folder]);
    const other = await TestStack.make({ ...SETTINGS, backupRepository: folder, bootstrap: "empty" });
    try {
      // With the key, but as a new database: the repository is another's.
      await mkdir(dirname(keyFile(other.name, other.env)), { recursive: true });
      await cp(keyFile(name, env), keyFile(other.name, other.env));
      expect(await other.upFails()).toContain(
        "The repository holds backups of another database: nothing is ever mixed",
      );
      await other.succeed("destroy", "--yes", "--skip-preview", "--stack", other.name);
      await other.set("bootstrap", "backup");
      await other.set("backupRecoverTo", point?.at ?? "");
      await other.up();
      const there = new BackedUp(other);
      const rows = await there.written();
      expect(promised.filter((n) => !rows.has(n))).toEqual([]);
      expect(Math.max(...rows)).toBeLessThan(Math.max(...writer.acknowledged.keys()));
      await there.quiet();
      expect(await there.succeed("drill")).toContain("all as recorded");
      await other.succeed("preview", "--expect-no-changes", "--stack", other.name);
    } finally {
      await other.end();
      // Its files belong to the image's user.
      await docker(["run", "--rm", "-v", `${folder}:/f`, "--entrypoint", "sh", await image(), "-c", "rm -rf /f/*"]);
      await rm(folder, { recursive: true, force: true });
    }
  });

  describe("the schedule", () => {
    const diffs = async () => backupsIn(await backed.report()).filter(({ type }) => type === "diff").length;
    /** Lines of the container's log about good runs of a kind. */
    const logged = async (kind: string) =>
      (await containerLog(stack.names.backups, 10_000)).split("\n").filter((line) => {
        const { run, result } = line.startsWith("{") ? JSON.parse(line) : {};
        return run === kind && result === "ok";
      }).length;
    const oneMore = async (kind: string, how: string) => {
      const before = await logged(kind);
      await backed.inside(how);
      await until("the run that was missed", async () => (await logged(kind)) > before, 60);
      await sleep(12_000);
      expect(await logged(kind)).toBe(before + 1);
      await backed.quiet();
    };
    const slot = (kind: string, when: string) => `date -d '${when}' +%s >${STORE}/state/${kind}.slot`;

    test.each(["diff", "full", "drill"])("makes up for a missed %s once, and writes a line about it", async (kind) => {
      const { backups } = stack.names;
      await docker(["pause", backups]);
      await sleep(2000);
      await docker(["unpause", backups]);
      await oneMore(kind, slot(kind, "2 years ago"));
    });

    test("a clock that was moved back changes nothing", () => oneMore("diff", slot("diff", "1 year")));

    test("a backup from the future: full ones wait and say so, differential ones go on", async () => {
      const { backups } = stack.names;
      await docker(["exec", "-e", "TZ=UTC-20", backups, "sectorwars-backup", "run", "full"]);
      const count = await diffs();
      expect((await backed.command("backup", "--full")).text).toMatch(
        /error: the backup failed: .*the clock was moved back behind the last backup's: a differential one was made/,
      );
      expect(await diffs()).toBe(count + 1);
      expect(await backed.succeed("backup")).toMatch(/D: /);
      // That would take until tomorrow; so the repository is put aside, and begun anew, by nobody but whoever asks for it.
      await backed.inside(`mkdir ${STORE}/old && mv ${REPOSITORY}/* ${STORE}/old/`);
      const early = new Date().toISOString();
      expect((await backed.command("status")).text).toContain("the repository is empty, missing or cannot be read");
      await expect(backed.inside("sectorwars-backup init")).rejects.toThrow("backups were made there");
      expect(await backed.succeed("backup", "--begin-anew")).toContain("The repository was created again");
      await backed.quiet();
      expect((await backed.command("restore", "--to", early, "--dry-run")).text).toMatch(
        /cannot be restored\. Any moment from .* to .* can be restored/,
      );
      await backed.inside(`rm -rf ${STORE}/old`);
    });
  });

  describe("retention", () => {
    const keep = async (days: number, fulls: number) => {
      await stack.set("backupKeepDays", String(days));
      await stack.set("backupKeepFulls", String(fulls));
      await stack.up();
    };
    const inRepository = (...args: string[]) => [
      "exec",
      "-i",
      "-u",
      "postgres",
      stack.names.backups,
      "pgbackrest",
      "--stanza=main",
      ...args,
    ];
    /** As if days had gone by since a backup. */
    const age = async (label: string, days: number) => {
      const file = "backup/main/backup.info";
      const input = agedInfo(await docker(inRepository("repo-get", file)), label, days);
      await docker(inRepository("repo-put", file), { input });
    };
    const makeFull = async () => (await backed.succeed("backup", "--full")).match(/\d{8}-\d{6}F(?=:)/)?.[0] ?? "";
    const labels = async () => backupsIn(await backed.report()).map(({ label }) => label);
    /** The log before the oldest backup is gone, and what that needs is there. */
    const expectLogFromTheOldest = async () => {
      const oldest = backupsIn(await backed.report())[0]?.archive.start ?? "";
      const found = await backed.inside(`cd ${REPOSITORY}/archive/main && find . -name '*.zst'`);
      const files = found.match(/[0-9A-F]{24}(?=-)/g)?.sort();
      expect(files?.[0]).toBe(oldest);
    };

    test("by count: as many full backups are kept as were asked for, with the log that they need", async () => {
      await keep(0, 1);
      await makeFull();
      const last = await makeFull();
      expect(await labels()).toEqual([last]);
      await expectLogFromTheOldest();
    });

    test("by days: a backup goes when the next one is old enough to lead to every moment of them, with its log", async () => {
      await keep(7, 1);
      const [first = ""] = await labels();
      const second = await makeFull();
      await age(first, 20);
      await age(second, 6);
      const third = await makeFull();
      // Without the first, the seventh day could not be restored.
      expect(await labels()).toEqual([first, second, third]);
      await age(second, 2);
      const fourth = await makeFull();
      expect(await labels()).toEqual([second, third, fourth]);
      await expectLogFromTheOldest();
    });
  });
});
