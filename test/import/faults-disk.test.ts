/** Full disks, and disks that lack writes when the power fails. */
import { mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readBack } from "../../components/import/rows/rows.ts";
import type { ImportHooks } from "../../components/import/run/import-run.ts";
import { readCatalog } from "../../components/import/schema/catalog.ts";
import { openTarget } from "../../components/import/session/session.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { containerState, docker } from "../../lib/docker.ts";
import { atPhase, attempt, expectComplete, expectSameRows, expectUntouchedOrComplete } from "../support/attempt.ts";
import { expectNoTrace, settingsOf, THOROUGH } from "../support/faults.ts";
import { images, Lab, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { LARGE, SMALL } from "../support/small.ts";

let lab: Lab;
let source: SourceServer;

beforeAll(async () => {
  lab = await Lab.open();
  source = await lab.startSource({ image: images().databaseBase });
  await source.makeDatabase("small", SMALL);
  await source.makeDatabase("large", LARGE);
});
afterAll(() => lab?.close());

describe("a target whose disk is full", () => {
  const VOLUME = "/var/lib/postgresql/data";
  let target: Server;
  let settings: Record<string, unknown>[];

  beforeAll(async () => {
    const volume = await lab.makeSmallVolume(320);
    target = await lab.startTarget(
      ["fsync=off", "min_wal_size=32MB", "max_wal_size=64MB"],
      ["-v", `${volume}:${VOLUME}`],
    );
    settings = await settingsOf(target);
  });

  const inside = (script: string) => docker(["exec", "-u", "postgres", target.container, "sh", "-c", script]);
  /** Fills the disk except for a number of bytes. */
  const fill = (leaveKiB: number) =>
    inside(
      `dd if=/dev/zero of=${VOLUME}/filler bs=256k 2>/dev/null; size=$(wc -c <${VOLUME}/filler)
       truncate -s $((size - ${leaveKiB} * 1024)) ${VOLUME}/filler`,
    );
  /**
   * Frees the disk. A server that could not write its WAL stops, at once or during recovery, and must be
   * started again.
   */
  const free = async () => {
    for (let tries = 1; ; tries++) {
      try {
        if ((await containerState(target.container))?.status !== "running") await docker(["start", target.container]);
        await inside(`rm -f ${VOLUME}/filler`);
        return await target.awake();
      } catch (error) {
        if (tries === 3) throw error;
      }
    }
  };

  const atIndexes = (work: () => Promise<unknown>): Pick<ImportHooks, "onLoaded"> => ({
    onLoaded: async () => void (await work()),
  });
  const moments: [string, (work: () => Promise<unknown>) => Partial<ImportHooks>, number][] = [
    ["while rows are copied", (work) => atPhase("rows", work), 3000],
    ["while indexes are built", atIndexes, 500],
    ["during the swap", (work) => atPhase("swap", work), 0],
    ...(THOROUGH
      ? ([
          ["while the schema is created", (work) => atPhase("schema", work), 100],
          ["at once while rows are copied", (work) => atPhase("rows", work), 0],
          ["while constraints are created", (work) => atPhase("constraints", work), 0],
          ["while statistics are gathered", (work) => atPhase("sequences", work), 0],
          ["while source and target are compared", (work) => atPhase("compare", work), 0],
        ] as [string, (work: () => Promise<unknown>) => Partial<ImportHooks>, number][])
      : []),
  ];

  test.each(moments)(
    "%s is untouched or complete, and the next run converges once there is room",
    async (_name, at, leave) => {
      const spec = await lab.newImport(source.source("large"), target);
      const { error } = await attempt(
        spec,
        at(() => fill(leave)),
      );
      await free();
      const state = await expectUntouchedOrComplete(spec);
      expect(state).toBe(error === "" ? "complete" : "untouched");
      if (error !== "") expect(error).toMatch(/The target's disk is full|The target's server went away/);
      await expectComplete(lab, target, spec);
      await expectNoTrace(lab, spec, source, target, settings);
      await target.sql("postgres", `DROP DATABASE ${spec.target.address.database} WITH (FORCE)`);
    },
  );
});

describe("a report that cannot be written", () => {
  let target: Server;
  beforeAll(async () => {
    target = await lab.startTarget();
  });

  /** The kernel reports a full disk for every write to it. */
  async function fullFolder(spec: ImportSpec): Promise<void> {
    await mkdir(spec.reportFolder, { recursive: true });
    for (const name of ["import.json", "import.html"])
      await symlink("/dev/full", join(spec.reportFolder, `${name}.partial`));
  }

  test("does not undo a successful import, and its last line mentions it", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    await fullFolder(spec);
    const { error, lines } = await attempt(spec);
    expect(error).toBe("");
    expect(lines.at(-1)).toMatch(/^import: identical; the report could not be written: ENOSPC/);
    await expectSameRows(spec);
  });

  test("does not hide the error of a failed import", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    await fullFolder(spec);
    const { error, lines } = await attempt(
      spec,
      atPhase("rows", () => Promise.reject(new Error("the real reason"))),
    );
    expect(error).toBe("the real reason");
    expect(lines.at(-1)).toMatch(/^import: failed; the report could not be written: ENOSPC/);
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");
  });
});

/**
 * What a crash can lose is tested in two ways. A killed server keeps the kernel's cache, so such a crash proves only recovery
 * from the WAL. A power failure would also lose the pages that the kernel has not written yet; those are
 * counted (cachestat, Linux 6.5), and there must be none.
 */
describe("a crash right after the swap", () => {
  let target: Server;
  let settings: Record<string, unknown>[];
  beforeAll(async () => {
    // Docker's default seccomp profile does not allow cachestat.
    target = await lab.startTarget(["fsync=on"], ["--security-opt", "seccomp=unconfined"]);
    settings = await settingsOf(target);
  });

  const inside = (script: string, ...args: string[]) =>
    docker(["exec", "-u", "root", target.container, "sh", "-c", script, "sh", ...args]);

  /** The rows' fingerprints, read again, equal those in the report. */
  async function expectProofAgain(spec: ImportSpec): Promise<void> {
    const { tables: proven } = await readReport(spec);
    const client = await openTarget(spec.target.address);
    try {
      const { tables } = await readCatalog(client);
      for (const proof of proven.filter(({ verdict }) => verdict === "equal")) {
        const table = tables.find(({ schema, name }) => `${schema}.${name}` === proof.table);
        if (table === undefined) throw new Error(`${proof.table} is not there`);
        const again = await readBack(table, client);
        expect([proof.table, again.rows, again.sha256]).toEqual([proof.table, proof.rows, proof.target]);
      }
      // Indexes must agree with the tables.
      await client.query("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA public");
      const { rows } = await client.query<{ checked: number }>(`
        SELECT count(public.bt_index_check(c.oid, true))::int AS checked FROM pg_class c JOIN pg_am a ON a.oid = c.relam
        JOIN pg_index i ON i.indexrelid = c.oid WHERE a.amname = 'btree' AND i.indisvalid`);
      expect(rows[0]?.checked).toBeGreaterThan(100);
    } finally {
      await client.end();
    }
    await expectSameRows(spec);
  }

  /** Returns files of a database, and of the cluster's commit log, with pages that are only in memory. */
  const CACHESTAT = `
    use strict; my $missing = 0;
    for my $file (@ARGV) {
      open(my $f, '<', $file) or next;
      my ($range, $stat) = (pack('QQ', 0, 0), "\\0" x 40);
      if (syscall(451, fileno($f), $range, $stat, 0) != 0) { print "cannot count: $!\\n"; exit 0 }
      my (undef, $dirty, $writeback) = unpack('Q5', $stat);
      print "$file: $dirty dirty, $writeback on their way\\n" if $dirty + $writeback > 0;
    }`;

  async function unwritten(database: string): Promise<string[]> {
    const oid = await target.value<number>(
      "postgres",
      `SELECT oid::int FROM pg_database WHERE datname = '${database}'`,
    );
    // Alpine's image has no Perl for counting them, so there this proves only the recovery.
    const said = await inside(
      `command -v perl >/dev/null || exit 0; cd "$PGDATA" && perl -e "$1" base/${oid}/* global/pg_control pg_xact/*`,
      CACHESTAT,
    );
    return said.split("\n").filter(Boolean);
  }

  test("of a server process: the server recovers, and rows and indexes are intact", async () => {
    const spec = await lab.newImport(source.source("large"), target);
    let left: string[] = [];
    const { error } = await attempt(spec, {
      onSwapped: async () => {
        left = await unwritten(spec.target.address.database);
        const pid = await target.value("postgres", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
        await inside(`kill -9 ${pid}`);
      },
    });
    expect(error).toBe("");
    expect(left).toEqual([]);
    await target.awake();
    expect(await target.log()).toContain("automatic recovery in progress");
    await expectProofAgain(spec);
    await expectNoTrace(lab, spec, source, target, settings);
  });

  test("is not confused with an error after the swap, which is reported unchanged", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const { error } = await attempt(spec, { onSwapped: () => Promise.reject(new Error("the real reason")) });
    expect(error).toBe("the real reason");
    await expectComplete(lab, target, spec);
  });

  test("of the whole container: rows and indexes are intact after a restart", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const { error } = await attempt(spec, { onSwapped: () => target.kill() });
    expect(error).toBe("");
    await target.start();
    await expectProofAgain(spec);
    await expectComplete(lab, target, spec);
    await expectNoTrace(lab, spec, source, target, settings);
  });
});
