/**
 * Faults of all kinds, on one stack whose volumes are small disks. Meanwhile a writer inserts rows and records which commits were
 * acknowledged. The tests take minutes, so they run only with BACKUPS=all in the environment.
 */
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { keyFile } from "../../components/backups/key-file.ts";
import { position } from "../../components/backups/recovery-target.ts";
import { backupsIn } from "../../components/backups/report.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { containerLog, containerState, docker } from "../../lib/docker.ts";
import { backdateBackup } from "../support/backdated-backup.ts";
import { BackedUp, REPOSITORY, STORE, until, Writer } from "../support/backed-up.ts";
import { TestStack } from "../support/test-stack.ts";

const DATA = "/var/lib/postgresql/data/pgdata";
const SETTINGS = {
  bootstrap: "empty",
  // The disks are in memory, and Docker counts what a container writes to them as the container's memory.
  memory: "2048",
  backups: "true",
  // Once a year: a run is overdue only when a test changes the state.
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
    // Docker discards a tmpfs volume when its last container stops; this container keeps the volumes mounted.
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

  /** After each test, every acknowledged row exists and a drill succeeds. */
  afterEach(async () => {
    const known = [...writer.acknowledged.keys()];
    expect(known.length).toBeGreaterThan(10);
    const rows = await backed.written();
    expect(known.filter((n) => !rows.has(n))).toEqual([]);
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
    expect(await backed.succeed("status")).not.toContain("TROUBLE");
  });

  /** Kills the drill's processes, except a server that it started. */
  const KILL_DRILL =
    "cd /proc && for p in [0-9]*; do if tr '\\0' ' ' <$p/cmdline | grep -qE 'sectorwars-backup run [d]rill|^pgbackrest'; " +
    "then kill -9 $p; fi; done 2>/dev/null; true";
  const running = async () => (await backed.inside(`cat ${STORE}/state/running 2>/dev/null || true`)) !== "";
  const answers = () =>
    backed.value("SELECT true").then(
      () => true,
      () => false,
    );

  /** Restores the newest state and checks that it has all rows that were acknowledged before. */
  const restoreLatest = async (expected = /Done\./) => {
    const promised = writer.before(Date.now());
    expect(await backed.succeed("restore", "--to", "latest")).toMatch(expected);
    const rows = await backed.written();
    expect(promised.filter((n) => !rows.has(n))).toEqual([]);
    // Rows acknowledged between the last archived WAL and the exchange are in the retained data only.
    writer.acknowledged.clear();
    await until("more rows", async () => writer.acknowledged.size > 20);
  };

  describe("kill -9", () => {
    test("of the backup container during a backup, at several times: the next backup succeeds", async () => {
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

    test("of the database during a backup, at several times: the next backup succeeds", async () => {
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

    test("of a drill, at several times: the next drill removes what it left", async () => {
      for (const ms of [0, 1500, 3000]) {
        const drill = backed.command("drill");
        await until("the run", running);
        await sleep(ms);
        await backed.inside(KILL_DRILL);
        const { code } = await drill;
        if (ms === 0) expect(code).toBe(1);
        // The drill counts as running until its last process has ended.
        await until("the next drill", async () => (await backed.command("drill")).code === 0);
        expect(await backed.inside(`ls ${STORE}`)).not.toContain("scratch");
      }
    });

    test.each(["restoring the files", "recovering to", "checking every table"])(
      "of a restore while it is %s: the data is unchanged",
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

    test("of the restore command: its container still finishes, and the next restore removes what it left", async () => {
      const container = `${stack.names.backups}-restore`;
      const restore = backed.command("restore", "--to", "latest");
      await until("the restore", async () => (await containerLog(container, 20)).includes("restoring"));
      await docker(["pause", container]);
      for (const pid of await stack.processes("node")) process.kill(Number(pid), "SIGKILL");
      await restore;
      expect((await backed.command("restore", "--to", "latest")).text).toContain("Another restore is running");
      await docker(["unpause", container]);
      await until("its container to end", async () => (await containerState(container)) === undefined);
      expect((await backed.report()).kept).toEqual([expect.stringMatching(/^pgdata\.next-/)]);
      await restoreLatest(/Removed pgdata\.next-\w+, which is no longer needed/);
      expect((await backed.report()).kept).toEqual([expect.stringMatching(/^pgdata\.before-/)]);
    });
  });

  describe("the disk of the repository", () => {
    test("is full: the database keeps working, and WAL waits and is archived once there is room", async () => {
      await onDisks("dd if=/dev/zero of=/disk1/fill bs=1M 2>/dev/null || true");
      try {
        await backed.value("SELECT pg_switch_wal()::text");
        await until("the failure", failing, 90);
        const said = await backed.command("status");
        expect(said.code).toBe(1);
        expect(said.text).toMatch(
          /TROUBLE {5}nothing has been archived since .* UTC, so losing the database's disk would lose every later change: \d+ WAL files wait there .*\. There is room for .* more, about .* at the present rate\. When 80 % of the disk/,
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

    test("is not writable: backups fail, and WAL waits and is archived once it is writable", async () => {
      await backed.inside(`chown -R root ${REPOSITORY}`);
      try {
        await backed.value("SELECT pg_switch_wal()::text");
        await until("the failure", failing, 90);
        expect((await backed.command("backup")).text).toMatch(/error: the backup failed: ERROR: \[041\]/);
        expect((await backed.command("status")).text).toContain("nothing has been archived since");
      } finally {
        await backed.inside(`chown -R postgres ${REPOSITORY}`);
      }
      await until("the archive", async () => (await backed.report()).waiting === 0, 120);
      await backed.succeed("backup");
    });
  });

  /** Runs a line of shell with both disks mounted (/disk0: data, /disk1: repository) and without a memory limit. */
  const onDisks = (line: string) => docker(["exec", `${stack.names.backups}-disks`, "sh", "-c", line]);

  const failing = async () => {
    const { archiver } = await backed.report();
    return (archiver?.lastFailedAt ?? 0) > (archiver?.lastArchivedAt ?? 0);
  };

  describe("the disk of the data", () => {
    test("reaches backupGiveUpAt while archiving fails: WAL is dropped, status reports it, a full backup closes the gap", async () => {
      // The archive stays readable, so status can report it; only writing fails.
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
        await until("WAL to be dropped", async () => (await backed.report()).openGap !== "", 120);
        const { openGap } = await backed.report();
        [since = ""] = openGap.split(" ");
        const status = (await backed.command("status")).text;
        expect(status).toContain(`nothing later than ${utc(Number(since))} can be restored until the next full backup`);
        expect(status).toContain(`to ${utc(Number(since))}`);
        expect(await containerLog(stack.names.container, 200)).toMatch(
          /ERROR: the WAL file [0-9A-F]{24} was dropped: .* \(limit 80 %\)/,
        );
        late = new Date((Number(since) + 2) * 1000).toISOString();
        const refused = await backed.command("restore", "--to", late, "--dry-run");
        expect(refused.text).toMatch(/cannot be restored\. Any time from .* to .* can be restored/);
        const before = writer.acknowledged.size;
        await until("more rows", async () => writer.acknowledged.size > before + 20);
      } finally {
        await onDisks("rm /disk0/fill");
        await backed.inside(`chown -R postgres ${REPOSITORY}/archive`);
      }
      await backed.quiet(240);
      const { gaps } = await backed.report();
      // There are two gaps if WAL was still dropped during the first full backup.
      expect(gaps.length).toBeGreaterThan(0);
      for (const gap of gaps)
        expect(gap).toMatch(new RegExp(`^${since} \\d+ [0-9A-F]{24} [0-9A-F]{24} \\d{8}-\\d{6}F$`));
      expect((await backed.command("restore", "--to", late, "--dry-run")).text).toMatch(/except .* to .* UTC/);
    });

    test("is full to the last byte: every acknowledged row exists once there is room again", async () => {
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

  test("missing WAL fails a recovery, on the former timeline too; the end of the WAL ends it", async () => {
    await restoreLatest();
    // A time before the automatic full backup: its restore plan begins on the former timeline.
    const beforeFull = new Date().toISOString();
    await backed.quiet();
    for (let n = 0; n < 3; n += 1) await stack.as("superuser", archiveEverything);
    const [, current = "", former = "", fork = ""] = (await backed.report()).timelines.at(-1)?.split(" ") ?? [];
    const SIZE = 16n * 1024n ** 2n;
    const hex = (number: bigint) => number.toString(16).toUpperCase().padStart(8, "0");
    const fileAt = (timeline: string, at: bigint) => hex(BigInt(timeline)) + hex(at >> 32n) + hex((at >> 24n) & 0xffn);
    const forkPosition = position(fork);
    const now = position(String(await backed.value("SELECT pg_current_wal_lsn()::text")));

    // A data directory as of a recovering server: its control file, its settings, and the history of its target timeline.
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
    const lastOfFormer = fileAt(former, forkPosition - SIZE);
    for (const file of [lastOfFormer, fileAt(current, now - 2n * SIZE)]) {
      expect(await answer(file)).toBe("0");
      expect(await without(file, () => answer(file))).toBe("126");
    }
    const said = await without(lastOfFormer, () => backed.command("restore", "--to", beforeFull));
    expect(said.text).toContain("error: Nothing was changed: the recovery failed: ");
    expect(said.text).toContain(`the WAL file ${lastOfFormer} is missing in the repository`);
    const end = fileAt(current, now + 16n * SIZE);
    expect(await answer(end)).toBe("1");
    expect(await answer(fileAt(former, forkPosition + 16n * SIZE))).toBe("1");
    // A folder that cannot be listed must not count as empty.
    await backed.inside(`chmod 111 ${REPOSITORY}/archive/main`);
    const unread = await answer(end);
    await backed.inside(`chmod 750 ${REPOSITORY}/archive/main && rm -r /tmp/asking`);
    expect(unread).toBe("126");
  });

  test("another database's repository in place of its own: nothing is written to it or restored from it", async () => {
    // Makes another cluster with its repository, with the same key, inside the backup container.
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
          "error: The restore was refused: the repository belongs to another database",
        );
      }
      expect(await backed.inside(sums)).toBe(before);
    } finally {
      await backed.inside(`cd ${REPOSITORY} && rm -rf archive backup && mv ${STORE}/own/* . && rmdir ${STORE}/own`);
    }
    await until("the archive", async () => (await backed.report()).waiting === 0, 120);
    await backed.succeed("backup", "--full");
  });

  test("on another machine, from a copy of the repository in a folder: restores to a time, then makes backups", async () => {
    const point = await stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client));
    const promised = writer.before(Date.parse(point?.at ?? "") - 50);
    await sleep(500);
    await stack.as("superuser", archiveEverything);
    const folder = await mkdtemp(join(tmpdir(), "sectorwars-repository-"));
    const { names, env, name } = stack;
    await docker(["cp", `${names.backups}:${REPOSITORY}/.`, folder]);
    const other = await TestStack.make({ ...SETTINGS, backupRepository: folder, bootstrap: "empty" });
    try {
      // A new database refuses the repository of another one, even with its key.
      await mkdir(dirname(keyFile(other.name, other.env)), { recursive: true });
      await cp(keyFile(name, env), keyFile(other.name, other.env));
      expect(await other.upFails()).toContain("The repository contains backups of another database");
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
    /** Returns the number of log lines about successful runs of a kind. */
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

    test.each(["diff", "full", "drill"])("makes up for a missed %s once, and logs it", async (kind) => {
      const { backups } = stack.names;
      await docker(["pause", backups]);
      await sleep(2000);
      await docker(["unpause", backups]);
      await oneMore(kind, slot(kind, "2 years ago"));
    });

    test("runs once when the clock was moved back", () => oneMore("diff", slot("diff", "1 year")));

    test("after a backup from the future: full backups fail with the reason, differential ones are made", async () => {
      const { backups } = stack.names;
      await docker(["exec", "-e", "TZ=UTC-20", backups, "sectorwars-backup", "run", "full"]);
      const count = await diffs();
      expect((await backed.command("backup", "--full")).text).toMatch(
        /error: the backup failed: .*the clock was moved back to a time before the last backup: this backup is differential/,
      );
      expect(await diffs()).toBe(count + 1);
      expect(await backed.succeed("backup")).toMatch(/D: /);
      // Waiting would take until tomorrow, so the test moves the repository away. Only --begin-anew begins a new one.
      await backed.inside(`mkdir ${STORE}/old && mv ${REPOSITORY}/* ${STORE}/old/`);
      const early = new Date().toISOString();
      expect((await backed.command("status")).text).toContain("the repository is empty, missing or unreadable");
      await expect(backed.inside("sectorwars-backup init")).rejects.toThrow("backups were made there");
      expect(await backed.succeed("backup", "--begin-anew")).toContain("The repository was created again");
      await backed.quiet();
      expect((await backed.command("restore", "--to", early, "--dry-run")).text).toMatch(
        /cannot be restored\. Any time from .* to .* can be restored/,
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
    /** Makes a backup look some days older. */
    const age = async (label: string, days: number) => {
      const file = "backup/main/backup.info";
      const input = backdateBackup(await docker(inRepository("repo-get", file)), label, days);
      await docker(inRepository("repo-put", file), { input });
    };
    const makeFull = async () => (await backed.succeed("backup", "--full")).match(/\d{8}-\d{6}F(?=:)/)?.[0] ?? "";
    const labels = async () => backupsIn(await backed.report()).map(({ label }) => label);
    /** Checks that the archive begins with the first WAL file that the oldest backup needs. */
    const expectArchiveFromOldest = async () => {
      const oldest = backupsIn(await backed.report())[0]?.archive.start ?? "";
      const found = await backed.inside(`cd ${REPOSITORY}/archive/main && find . -name '*.zst'`);
      const files = found.match(/[0-9A-F]{24}(?=-)/g)?.sort();
      expect(files?.[0]).toBe(oldest);
    };

    test("by count: keeps backupKeepFulls full backups, with the WAL that they need", async () => {
      await keep(0, 1);
      await makeFull();
      const last = await makeFull();
      expect(await labels()).toEqual([last]);
      await expectArchiveFromOldest();
    });

    test("by days: a backup expires, with its WAL, once the next one is at least backupKeepDays old", async () => {
      await keep(7, 1);
      const [first = ""] = await labels();
      const second = await makeFull();
      await age(first, 20);
      await age(second, 6);
      const third = await makeFull();
      // Without the first backup, the seventh day could not be restored.
      expect(await labels()).toEqual([first, second, third]);
      await age(second, 2);
      const fourth = await makeFull();
      expect(await labels()).toEqual([second, third, fourth]);
      await expectArchiveFromOldest();
    });
  });
});
