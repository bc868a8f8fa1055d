/** An update that is stopped, killed, or not alone: each time the next one goes on from there. One stack lives through it all. */
import { readdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { helperLabel } from "../../components/import/schema.ts";
import { docker } from "../../lib/docker.ts";
import { run, type Said, TestStack } from "./test-stack.ts";

/**
 * Milliseconds in which the import, or whatever else runs, has cleared up and said so. On a machine of its own it takes 3 to 4
 * seconds, of the 5 that are promised; here two other files of tests fill processors and disk. What does not hear waits for a minute.
 */
const STOPS_WITHIN_MS = 10_000;
/** Milliseconds for the engine, which then writes its state and ends its plugins: about 300, where nothing else runs. */
const ENGINE_ENDS_WITHIN_MS = 4000;

let stack: TestStack;
beforeAll(async () => {
  stack = await TestStack.make({ memory: "512" });
});
afterAll(() => stack.end());

/** A session over the container's socket: there are no outputs yet that would say how else to get in. */
const psql = async (sql: string): Promise<string[]> => {
  const said = await docker(["exec", "-u", "postgres", stack.names.container, "psql", "-XAtc", sql]);
  return said.split("\n").filter(Boolean);
};

const helpers = async () =>
  (await docker(["ps", "-a", "--filter", `label=${helperLabel(stack.name)}`, "--format", "{{.Names}}"])).trim();

const sessions = () =>
  psql("SELECT application_name, query FROM pg_stat_activity WHERE application_name ~ '^(sectorwars|pg_dump)'");

/** What an import that never came to its end may leave: nothing. */
async function expectNothing(): Promise<void> {
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
    ["twice, while rows come", "copying the rows of", ["SIGINT", "SIGINT"]],
    ["while both are compared", "comparing schemas and sequences", ["SIGINT"]],
  ])("%s: the update ends in time, and nothing of the import is left", async (_when, line, signals) => {
    const update = stack.begin();
    await update.until(`import: ${line}`);
    const begun = Date.now();
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
    expect(Date.now() - begun, update.text).toBeLessThan(STOPS_WITHIN_MS + ENGINE_ENDS_WITHIN_MS);
    // Told twice, the engine no longer listens to what its providers say.
    if (signals.length === 1) expect(stoppedAt - begun, update.text).toBeLessThan(STOPS_WITHIN_MS);
    else expect(update.text).toMatch(/update cancell?ed|was stopped/);
    // Told twice, it kills the import: what that leaves is cleared by the next update, of which the next test is one.
    if (signals.length === 1) await expectNothing();
    expect(await locks()).toEqual([]);
  });
});

describe("killed", () => {
  test("the engine alone: what it left behind stops by itself and clears up", async () => {
    const update = stack.begin();
    await update.until("import: copying the rows of");
    process.kill(update.pid, "SIGKILL");
    await update.ended;
    try {
      // Pulumi's own plugins live on, with nobody to serve; what runs the import notices, clears up and ends.
      for (let tries = 0; tries < 300 && (await stack.processes("node")).length > 0; tries += 1) await sleep(100);
      expect(await stack.processes("node")).toEqual([]);
      await expectNothing();
    } finally {
      await stack.killAll(update);
      await stack.succeed("cancel", "--yes", "--stack", stack.name);
    }
  });

  test("all of it, while rows come", async () => {
    const update = stack.begin();
    await update.until("import: copying the rows of");
    await stack.killAll(update);
    await stack.succeed("cancel", "--yes", "--stack", stack.name);
  });
});

describe("two first script/ups at once", () => {
  let fresh: TestStack;
  beforeAll(async () => {
    fresh = await TestStack.make({ memory: "512", bootstrap: "empty" });
    // As on a machine that has never seen it: script/up makes the stack itself.
    await fresh.succeed("stack", "rm", "--yes", "--preserve-config", "--stack", fresh.name);
  });
  afterAll(() => fresh.end());
  const scriptUp = () => run("script/up", ["--stack", fresh.name], fresh.env);

  test("one makes the stack, the other says that and changes nothing; the next finds nothing to mend", async () => {
    const both = await Promise.all([scriptUp(), scriptUp()]);
    const [winner, other] = both.sort((a, b) => a.code - b.code) as [Said, Said];
    expect(winner.code, winner.text).toBe(0);
    expect(winner.text).toContain("state       running, healthy");
    expect(other.code, other.text).toBe(1);
    const said = `error: another script/up of the stack ${fresh.name} is running here \\(process \\d+\\)\\. Wait for it to end, then try again\\.`;
    expect(other.text.trim()).toMatch(new RegExp(`^${said}$`));
    const next = await scriptUp();
    expect(next.code, next.text).toBe(0);
    expect(next.text).not.toMatch(/was killed|cleared|removed|warning|error/);
    await fresh.up("--expect-no-changes");
  });
});

describe("two at once, then killed behind the swap", () => {
  test("the second says that the first has the stack; the first goes on", async () => {
    const first = stack.begin();
    await first.until("import: exporting one snapshot");
    expect(await stack.upFails()).toMatch(/currently locked by 1 lock/);
    await first.until("proven equal");
    // The data is in place; whether Pulumi knows is a matter of chance.
    await stack.killAll(first);
    await stack.succeed("cancel", "--yes", "--stack", stack.name);
  });

  test("the next update adopts what is there, and the stack is whole", async () => {
    const mark = "SELECT summary->>'finishedAt' FROM sectorwars_stack.import";
    const database = "sectorwars_dev";
    const marks = () =>
      docker(["exec", "-u", "postgres", stack.names.container, "psql", "-XAt", "-d", database, "-c", mark]);
    const before = await marks();
    expect(before.trim()).not.toBe("");
    const { text } = await stack.up();
    expect(text).not.toContain("import: copying the rows of");
    expect(await marks()).toBe(before);
    await expectNothing();
    await stack.up("--expect-no-changes");
  });
});
