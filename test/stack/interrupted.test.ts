/** An update that is stopped, killed or concurrent: the next update completes its work. All tests share one stack. */
import { readdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { helperLabel } from "../../components/import/schema/schema.ts";
import { docker } from "../../lib/docker.ts";
import { type CommandResult, run, TestStack } from "../support/test-stack.ts";

/**
 * Milliseconds in which the import, or another step, must clean up and report that. On an idle machine it takes 3 to 4 seconds, and 5 are
 * documented; here two other test files use the processors and the disk. A step that ignores the signal would take a minute.
 */
const STOPS_WITHIN_MS = 10_000;
/** Milliseconds in which Pulumi then writes its state and ends its plugins: about 300 ms on an idle machine. */
const ENGINE_ENDS_WITHIN_MS = 4000;

let stack: TestStack;
beforeAll(async () => {
  stack = await TestStack.make({ memory: "512" });
});
afterAll(() => stack.end());

/** Runs SQL over the container's socket, because the interrupted update has no outputs with a URL yet. */
const psql = async (sql: string): Promise<string[]> => {
  const said = await docker(["exec", "-u", "postgres", stack.names.container, "psql", "-XAtc", sql]);
  return said.split("\n").filter(Boolean);
};

const helpers = async () =>
  (await docker(["ps", "-a", "--filter", `label=${helperLabel(stack.name)}`, "--format", "{{.Names}}"])).trim();

const sessions = () =>
  psql("SELECT application_name, query FROM pg_stat_activity WHERE application_name ~ '^(sectorwars|pg_dump)'");

/** Checks that the interrupted import has left no container, session, staging database or changed setting. */
async function expectNoLeftovers(): Promise<void> {
  expect(await helpers()).toBe("");
  expect(await sessions()).toEqual([]);
  expect(await psql("SELECT datname FROM pg_database WHERE datname ~ '_import$'")).toEqual([]);
  expect(await psql("SELECT name FROM pg_settings WHERE sourcefile LIKE '%auto.conf'")).toEqual([]);
}

/** Pulumi's locks on the state. */
const locks = async () =>
  (await readdir(`${stack.stateFolder}/.pulumi/locks`, { recursive: true }).catch(() => [])).filter((name) =>
    name.endsWith(".json"),
  );

describe("Ctrl-C", () => {
  test.each<[string, string, NodeJS.Signals[]]>([
    ["while the sample starts", "starting the sample source", ["SIGINT"]],
    ["while pg_dump reads", "copying the schema with pg_dump", ["SIGTERM"]],
    ["twice, while rows are copied", "copying the rows of", ["SIGINT", "SIGINT"]],
    ["while source and target are compared", "comparing schemas and sequences", ["SIGINT"]],
  ])("%s: the update ends in time, and the import leaves nothing", async (_when, line, signals) => {
    const update = stack.begin();
    await update.until(`import: ${line}`);
    const signalled = Date.now();
    let stoppedAt = Number.NaN;
    void update.until("stopped").then(
      () => {
        stoppedAt = Date.now();
      },
      () => {},
    );
    for (const signal of signals) {
      process.kill(update.pid, signal);
      await sleep(300);
    }
    expect(await update.ended).not.toBe(0);
    expect(Date.now() - signalled, update.text).toBeLessThan(STOPS_WITHIN_MS + ENGINE_ENDS_WITHIN_MS);
    // After a second signal, Pulumi no longer prints its providers' output.
    if (signals.length === 1) expect(stoppedAt - signalled, update.text).toBeLessThan(STOPS_WITHIN_MS);
    else expect(update.text).toMatch(/update cancell?ed|was stopped/);
    // After a second signal, Pulumi kills the import. The next update, in the next test, removes what it left.
    if (signals.length === 1) await expectNoLeftovers();
    expect(await locks()).toEqual([]);
  });
});

describe("killed", () => {
  test("only the Pulumi engine: the import stops by itself and cleans up", async () => {
    const update = stack.begin();
    await update.until("import: copying the rows of");
    process.kill(update.pid, "SIGKILL");
    await update.ended;
    try {
      // Pulumi's own plugins keep running. The process that runs the import notices the kill, cleans up and ends.
      for (let tries = 0; tries < 300 && (await stack.processes("node")).length > 0; tries += 1) await sleep(100);
      expect(await stack.processes("node")).toEqual([]);
      await expectNoLeftovers();
    } finally {
      await stack.killAll(update);
      await stack.succeed("cancel", "--yes", "--stack", stack.name);
    }
  });

  test("all processes, while rows are copied: pulumi cancel removes the lock", async () => {
    const update = stack.begin();
    await update.until("import: copying the rows of");
    await stack.killAll(update);
    await stack.succeed("cancel", "--yes", "--stack", stack.name);
  });
});

describe("two concurrent first runs of script/up", () => {
  let fresh: TestStack;
  beforeAll(async () => {
    fresh = await TestStack.make({ memory: "512", bootstrap: "empty" });
    // script/up creates a stack that does not exist.
    await fresh.succeed("stack", "rm", "--yes", "--preserve-config", "--stack", fresh.name);
  });
  afterAll(() => fresh.end());
  const scriptUp = () => run("script/up", ["--stack", fresh.name], fresh.env);

  test("one creates the stack, the other reports that and changes nothing; the next finds nothing to repair", async () => {
    const both = await Promise.all([scriptUp(), scriptUp()]);
    const [winner, other] = both.sort((a, b) => a.code - b.code) as [CommandResult, CommandResult];
    expect(winner.code, winner.text).toBe(0);
    expect(winner.text).toContain("state       running, healthy");
    expect(other.code, other.text).toBe(1);
    const said = `error: another script/up of the stack ${fresh.name} is running \\(process \\d+\\)\\. Wait for it to end, then try again\\.`;
    expect(other.text.trim()).toMatch(new RegExp(`^${said}$`, "m"));
    expect(other.text).not.toContain("Created stack");
    const next = await scriptUp();
    expect(next.code, next.text).toBe(0);
    expect(next.text).not.toMatch(/was killed|cleared|removed|warning|error/);
    await fresh.up("--expect-no-changes");
  });
});

describe("two concurrent updates, then a kill after the swap", () => {
  test("the second reports that the stack is locked; the first continues", async () => {
    const first = stack.begin();
    await first.until("import: exporting one snapshot");
    expect(await stack.upFails()).toMatch(/currently locked by 1 lock/);
    await first.until("proven equal");
    // The swap is done. Whether Pulumi has recorded it depends on timing.
    await stack.killAll(first);
    await stack.succeed("cancel", "--yes", "--stack", stack.name);
  });

  test("the next update adopts the imported database without another import", async () => {
    const mark = "SELECT summary->>'finishedAt' FROM sectorwars_stack.import";
    const database = "sectorwars_dev";
    const marks = () =>
      docker(["exec", "-u", "postgres", stack.names.container, "psql", "-XAt", "-d", database, "-c", mark]);
    const before = await marks();
    expect(before.trim()).not.toBe("");
    const { text } = await stack.up();
    expect(text).not.toContain("import: copying the rows of");
    expect(await marks()).toBe(before);
    await expectNoLeftovers();
    await stack.up("--expect-no-changes");
  });
});
