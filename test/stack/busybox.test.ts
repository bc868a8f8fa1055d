/**
 * The image's scripts with Alpine's shell and tools: busybox's tools precede Debian's on PATH. This takes a stack of its own, so it
 * runs only with BACKUPS=busybox in the environment, after `script/bootstrap busybox`.
 */
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { docker } from "../../lib/docker.ts";
import { BackedUp, REPOSITORY, STORE, until } from "../support/backed-up.ts";
import { images } from "../support/lab.ts";
import { TestStack } from "../support/test-stack.ts";

const DOCKERFILE = `
ARG BASE
FROM \${BASE}
COPY busybox /bin/busybox
RUN mkdir /alpine && for tool in $(/bin/busybox --list); do ln -s /bin/busybox "/alpine/$tool"; done && ln -sf busybox /bin/sh
ENV PATH=/alpine:$PATH
`;

describe.runIf(process.env.BACKUPS === "busybox")("with busybox", () => {
  let stack: TestStack;
  let backed: BackedUp;
  let image: string;
  const count = () => backed.value("SELECT count(*)::int FROM ledger");

  beforeAll(async () => {
    stack = await TestStack.make({ bootstrap: "empty", memory: "512", backups: "true" });
    backed = new BackedUp(stack);
    image = `${stack.names.image}-busybox`;
    const folder = await mkdtemp(join(tmpdir(), "sectorwars-busybox-"));
    try {
      await copyFile("/bin/busybox", join(folder, "busybox"));
      await writeFile(join(folder, "Dockerfile"), DOCKERFILE);
      await docker(["build", "-q", "-t", image, "--build-arg", `BASE=${images().databaseBase}`, folder]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    const yearly = "0 3 1 1 *";
    const plans = { backupFull: yearly, backupDifferential: yearly, backupDrill: yearly, backupCompression: "lz4" };
    for (const [key, value] of Object.entries({ ...plans, baseImage: image })) await stack.set(key, value);
    await stack.up();
    await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
    await stack.as("owner", (client) =>
      client.query("CREATE TABLE ledger AS SELECT i AS n, md5(i::text) AS hash FROM generate_series(1, 2000) i"),
    );
  });
  afterAll(async () => {
    await stack.end();
    await docker(["image", "rm", image]).catch(() => {});
  });

  test("the scripts use busybox's tools", async () => {
    const tools = ["sh", "awk", "sed", "stat", "find", "df"];
    const ask = `for tool in ${tools.join(" ")}; do $tool --help 2>&1 | grep -o "^BusyBox"; done`;
    expect(await backed.inside(ask)).toBe("BusyBox\n".repeat(tools.length));
  });

  test("backups, drills and the schedule work", async () => {
    expect(await backed.succeed("backup")).toMatch(/F_\d{8}-\d{6}D: /);
    expect(await backed.succeed("drill")).toContain("all as recorded");
    const before = (await backed.report()).drill.ok?.finished ?? 0;
    await sleep(1100);
    await backed.inside(`echo 1000000000 >${STORE}/state/drill.slot`);
    await until("the drill that was missed", async () => ((await backed.report()).drill.ok?.finished ?? 0) > before);
    expect(await backed.succeed("status")).not.toContain("TROUBLE");
    expect(await backed.succeed("backup", "--figures")).toMatch(/^sectorwars_backup_data_free_bytes [1-9]\d+$/m);
  });

  test("a restore to a time and its undo work; damaged or missing WAL fails a recovery", async () => {
    const point = await stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client));
    await stack.as("owner", (client) => client.query("DELETE FROM ledger WHERE n > 5"));
    const text = await backed.succeed("restore", "--to", point?.at ?? "");
    expect(await count()).toBe(2000);
    await backed.quiet();
    await backed.succeed("restore", "--undo", /--undo (\w+)/.exec(text)?.[1] ?? "");
    expect(await count()).toBe(5);
    await backed.quiet();
    await stack.as("owner", (client) => client.query("INSERT INTO ledger SELECT i FROM generate_series(6, 100) i"));
    const file = await backed.value("SELECT pg_walfile_name(pg_current_wal_lsn())");
    await stack.as("superuser", archiveEverything);
    await stack.as("superuser", archiveEverything);
    for (const [harm, message] of [
      [
        "printf '\\377\\0\\377\\0' | dd of=$f bs=1 seek=2000 conv=notrunc",
        /is damaged in the repository|could not restore file/,
      ],
      ["rm $f", /is missing in the repository, while later ones are there/],
    ] as const) {
      await backed.inside(
        `cd ${REPOSITORY}; f=$(ls archive/main/15-1/*/${file}-*); cp -a $f /tmp/keep; echo $f >/tmp/which; ${harm}`,
      );
      const { text: said } = await backed.command("restore", "--to", "latest");
      await backed.inside(`cd ${REPOSITORY}; cp -a /tmp/keep $(cat /tmp/which)`);
      expect(said).toContain("Nothing was changed: the recovery failed: ");
      expect(said).toMatch(message);
    }
    expect(await backed.succeed("drill")).toContain("all as recorded");
  });

  test("dropped WAL is a gap, closed by a full backup", async () => {
    await backed.inServer(`echo "$(date +%s) 00000009000000000000000A" >>/var/lib/postgresql/data/archiving-gaps`);
    expect((await backed.command("status")).text).toContain(
      "the server dropped WAL that it could not archive (from 00000009000000000000000A on)",
    );
    await until("the full backup after the gap", async () => (await backed.report()).gaps.length === 1, 120);
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
  });

  test("a lost volume is restored along the latest timeline", async () => {
    const { names, name } = stack;
    await stack.as("superuser", archiveEverything);
    await docker(["rm", "-f", names.container, names.backups]);
    await docker(["volume", "rm", names.volume]);
    const lost = ["**Volume::*data", "**Container::*server", "**Container::backup*"];
    await stack.succeed("refresh", "--yes", ...lost.flatMap((urn) => ["--target", urn]), "--stack", name);
    await stack.set("bootstrap", "backup");
    await stack.up();
    expect(await count()).toBe(100);
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
  });
});
