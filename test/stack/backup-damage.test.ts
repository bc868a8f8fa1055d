/** Damage of the backups, of the archive and of the whole repository. BACKUPS=all adds the rarer kinds. */
import { describe, expect, test } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { docker } from "../../lib/docker.ts";
import { type BackedUp, REPOSITORY, STORE, until } from "../support/backed-up.ts";
import { ALL, withLedger } from "../support/ledger.ts";
import type { TestStack } from "../support/test-stack.ts";

let stack: TestStack;
let backed: BackedUp;
/** The file in the data volume that lists the gaps in the archive. */
const GAPS = "/var/lib/postgresql/data/archiving-gaps";
withLedger((ledger) => {
  ({ stack, backed } = ledger);
});

/** A shell command that inverts one byte of a file. */
const flip = (file: string, at: number) =>
  `old=$(od -An -tu1 -j ${at} -N 1 ${file} | tr -d ' '); ` +
  `printf "\\\\$(printf %o $((255 - old)))" | dd of=${file} bs=1 seek=${at} conv=notrunc`;

describe("damage of the repository", () => {
  /** Damages the repository, expects the drill to fail, and repairs the repository. Returns the drill's output. */
  const damaged = async (harm: string): Promise<string> => {
    await backed.inside(`rm -rf /tmp/whole && cp -a ${REPOSITORY} /tmp/whole && cd ${REPOSITORY} && ${harm}`);
    try {
      const said = await backed.command("drill");
      expect(said.code).toBe(1);
      expect((await backed.report()).drill.failed).not.toBeNull();
      expect((await backed.command("status")).code).toBe(1);
      return said.text;
    } finally {
      await backed.inside(`cd ${REPOSITORY} && cp -a /tmp/whole/. .`);
      await backed.succeed("drill");
    }
  };
  const newest = `$(ls -d backup/main/*F | tail -1)`;
  const oldest = `$(ls -d backup/main/*F | head -1)`;

  test("a table that differs from its recorded fingerprint fails the drill, also in a further database", async () => {
    const records = "/var/lib/sectorwars-backups/state/records";
    await backed.inside(`cd ${records}; cp -a . /tmp/records; sed -i 's/^\\(further public.worlds\t\\)1\t/\\12\t/' *`);
    expect((await backed.command("drill")).text).toContain(
      "error: the drill failed: tables differ from what the database held when the backup was made: further public.worlds",
    );
    // The fingerprints in the repository suffice if all others are lost.
    await backed.inside(`rm ${records}/*`);
    expect(await backed.succeed("drill")).toContain("all as recorded");
    expect((await backed.report()).drill.ok).toMatchObject({ compared: "recorded" });
    const known = (await backed.report()).info?.[0]?.backup.map(({ label }) => label) ?? [];
    // Each backup has its own fingerprints, except one during which a restore exchanged the data.
    const kept = (await backed.inside(`ls ${REPOSITORY}/records`)).trim().split("\n");
    expect(known).toEqual(expect.arrayContaining(kept));
    expect(kept).toContain(known.at(-1));
    if (!ALL) return;
    // Damaged fingerprints are not used for a comparison.
    await backed.inside(`rm ${records}/*; f=${REPOSITORY}/records/${known.at(-1)}; ${flip("$f", 200)}`);
    expect(await backed.succeed("drill")).toContain(
      "all equal to the current ones (no fingerprints were recorded with the backup)",
    );
  });

  test("a flipped byte in a backup fails the drill, and status exits with 1", async () => {
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
  ])("%s fails the drill, and status exits with 1", async (_name, harm, words) => {
    expect(await damaged(harm)).toMatch(words);
  });

  test.runIf(ALL)(
    "a damaged older backup fails the drill, which still proves the newest one, until retention removes the older one",
    async () => {
      await backed.succeed("backup", "--full");
      await backed.inside(`cd ${REPOSITORY} && f=${oldest}/bundle/1; ${flip("$f", 4000)}`);
      expect((await backed.command("drill")).text).toMatch(
        /verify finds damage: .*status: invalid.*The newest backup could be restored nevertheless, with every table as it was/s,
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
      expect(await backed.succeed("drill")).toContain("all as recorded");
    },
  );

  test.runIf(ALL)("a wrong key fails the drill", async () => {
    await backed.inside("sed -i 's/^repo1-cipher-pass=.*/repo1-cipher-pass=another/' /etc/pgbackrest/pgbackrest.conf");
    try {
      expect((await backed.command("drill")).text).toMatch(
        /error: the drill failed: .*(crypt|cipher|no sound backup can be read)/i,
      );
    } finally {
      await docker(["restart", stack.names.backups]);
    }
    expect(await backed.succeed("drill")).toContain("all as recorded");
  });

  const inArchive: [string, string, RegExp][] = [
    // pgBackRest decompresses it without an error, and PostgreSQL would take the result for the end of the WAL.
    ["damaged", flip("$f", 2000), /is damaged in the repository|could not restore file/],
    ["missing", "rm $f", /is missing in the repository|could not restore file/],
  ];
  test.each(inArchive.slice(0, ALL ? 2 : 1))(
    "%s archived WAL fails a restore, which changes nothing",
    async (_name, harm, words) => {
      await stack.as("owner", (client) =>
        client.query(
          "CREATE TABLE IF NOT EXISTS late (x text); INSERT INTO late SELECT md5(i::text) FROM generate_series(1, 500) i",
        ),
      );
      const file = await backed.value("SELECT pg_walfile_name(pg_switch_wal())");
      await until("the archive", async () => (await backed.report()).waiting === 0);
      await backed.inside(
        `cd ${REPOSITORY}; f=$(ls archive/main/15-1/*/${file}-*); echo $f >/tmp/which; cp -a $f /tmp/keep; ${harm}`,
      );
      try {
        const said = await backed.command("restore", "--to", "latest");
        expect(said.code).toBe(1);
        expect(said.text).toMatch(/error: Nothing was changed: the recovery failed: /);
        expect(said.text).toMatch(words);
      } finally {
        await backed.inside(`cd ${REPOSITORY}; cp -a /tmp/keep $(cat /tmp/which)`);
      }
      expect(await backed.value("SELECT count(*)::int > 0 FROM late")).toBe(true);
      expect((await backed.report()).kept.filter((folder) => folder.includes("next"))).toEqual([]);
    },
  );
});

describe("a repository that is missing", () => {
  test("does not stop the database: WAL waits or becomes a gap, status reports it, and a full backup closes the gap", async () => {
    await backed.inside(`mv ${REPOSITORY}/archive ${REPOSITORY}/away`);
    await stack.as("owner", (client) => client.query("CREATE TABLE meanwhile AS SELECT generate_series(1, 1000) AS x"));
    await backed.value("SELECT pg_switch_wal()::text");
    await until("the failure", async () => ((await backed.report()).archiver?.failed ?? 0) > 0, 90);
    const said = await backed.command("status");
    expect(said.code).toBe(1);
    expect(said.text).toMatch(/TROUBLE {5}the repository is empty, missing or unreadable/);
    expect(said.text).toMatch(/TROUBLE {5}nothing has been archived since .*: \d+ WAL files wait there/);
    // An unreadable repository is not reported as one without backups.
    for (const [name, ...args] of [
      ["restore", "--to", "latest"],
      ["restore", "--to", "1 minute ago", "--dry-run"],
      ["backup", "--list"],
    ]) {
      const { code, text } = await backed.command(name ?? "", ...args);
      expect({ code, text }).toMatchObject({ code: 1, text: expect.not.stringContaining("no backup yet") });
    }
    // The image does not create it again by itself.
    await expect(backed.inside("sectorwars-backup init")).rejects.toThrow(
      "the repository is empty, but backups were made there",
    );

    // The disk is fuller than the limit. With one waiting file, and room for many, no WAL is dropped yet.
    const file = (await backed.inServer("ls $PGDATA/pg_wal/archive_status | sed -n 's/.ready$//p' | head -1")).trim();
    const push = () =>
      backed.inServer(`cd $PGDATA && BACKUP_WAL_DROP_PERCENT=1 sectorwars-backup pgbackrest-push pg_wal/${file}`);
    await expect(push()).rejects.toThrow("ERROR: ");
    for (let n = 0; n < 8; n += 1)
      await backed.value("SELECT pg_switch_wal()::text FROM pg_create_restore_point('more')");
    expect((await backed.report()).openGap).toBe("");
    // With many waiting files, the file is dropped, and the gap is recorded.
    await push();
    expect((await backed.command("status")).text).toContain(
      `the server dropped WAL that it could not archive (from ${file} on)`,
    );
    // The error contains the archiver's message, and not only that of a timeout.
    const begin = Date.now();
    await expect(stack.as("superuser", archiveEverything)).rejects.toThrow(
      /^the last changes could not be archived: ERROR: \[\d+\]/,
    );
    expect(Date.now() - begin).toBeLessThan(90_000);
    // A server that is started without archiving also leaves a gap, which is recorded once.
    const { names } = stack;
    for (let n = 0; n < 2; n += 1) {
      const volume = ["-v", `${names.volume}:/var/lib/postgresql/data`];
      await docker(["run", "--rm", "--network", "none", ...volume, `${names.image}:15`, "postgres", "--version"]);
    }
    // After nine failures, the next attempt is far off.
    await backed.inside(`echo 9 $(date +%s) >${STORE}/state/full.failures`);
    await backed.inside(`mv ${REPOSITORY}/away ${REPOSITORY}/archive`);
    // Both would try again within a minute. The test does not wait for that.
    await backed.value("SELECT pg_switch_wal()::text FROM pg_create_restore_point('back')");
    await until("the archive", async () => (await backed.report()).waiting === 0, 120);
    // All WAL is archived again, but no restore plan crosses the gap.
    await expect(stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client))).rejects.toThrow(
      `the server dropped WAL that it could not archive (from ${file} on): nothing later than`,
    );
    await backed.inside(`rm -f ${STORE}/state/full.failures`);
    await until(
      "a full backup that closes the gap",
      async () => (await backed.report()).openGap === "" && (await backed.report()).running === "",
      120,
    );
    const { gaps } = await backed.report();
    expect(gaps).toHaveLength(1);
    expect(gaps[0]).toMatch(new RegExp(`^\\d+ \\d+ ${file} off-\\d+ \\d{8}-\\d{6}F$`));
    expect((await backed.inside(`cat ${GAPS}`)).match(/ off-/g)).toHaveLength(1);
    expect(await backed.succeed("status")).not.toContain("TROUBLE");
  });
});
