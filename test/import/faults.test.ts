/** Servers that die or hang, and networks that break or fall silent, in every phase of an import. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PHASES, type Phase } from "../../components/import/run/import-run.ts";
import { helperLabel } from "../../components/import/schema/schema.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import {
  atPhase,
  attempt,
  expectComplete,
  expectSameRows,
  expectUntouchedOrComplete,
  importInChild,
} from "../support/attempt.ts";
import { expectNoTrace, phasesOr, settingsOf, THOROUGH, through } from "../support/faults.ts";
import { DENY_LIST, type Lab, openBothEnds, type Server, type SourceServer } from "../support/lab.ts";
import { TcpProxy } from "../support/proxy.ts";
import { LARGE, SMALL } from "../support/small.ts";

let lab: Lab;
let source: SourceServer;
let target: Server;
let toSource: TcpProxy;
let toTarget: TcpProxy;
let settings: Record<string, unknown>[];

/** Short enough for a test: a silent server is lost after about 2 s. */
const monitorTimeouts = { silenceMs: 400, answerMs: 1200 };
/** Time in which an import must notice the fault, report it and clean up; the machine may be busy. */
const BOUND_MS = 20_000;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  [toSource, toTarget] = await Promise.all([TcpProxy.open(source.admin), TcpProxy.open(target.admin)]);
  await source.makeDatabase("small", SMALL);
  settings = await settingsOf(target);
});
afterAll(async () => {
  await toSource?.close();
  await toTarget?.close();
  await lab?.close();
});

interface Fault {
  name: string;
  strike: () => Promise<unknown> | unknown;
  mend: () => Promise<unknown> | unknown;
  /** What the message must say. */
  says: RegExp;
  /** Phases in which it is always tested. Thorough runs test all of them. */
  at: Phase[];
}

const bad = (spec: ImportSpec) => through(spec, { source: toSource, target: toTarget });
const kill = (server: () => Server) => ({ strike: () => server().kill(), mend: () => server().start() });
const freeze = (server: () => Server) => ({ strike: () => server().freeze(), mend: () => server().thaw() });

const FAULTS: Fault[] = [
  { name: "the source is killed", ...kill(() => source), says: /source/, at: ["schema", "rows", "swap"] },
  { name: "the target is killed", ...kill(() => target), says: /target/, at: ["schema", "rows", "swap"] },
  {
    name: "the source is frozen",
    ...freeze(() => source),
    says: /source .*no answer from it/,
    at: ["schema"],
  },
  { name: "the target is frozen", ...freeze(() => target), says: /target.*no answer from it/, at: ["swap"] },
  {
    name: "the connection to the source is cut",
    strike: () => toSource.cut(),
    mend: () => {},
    says: /source/,
    at: ["rows"],
  },
  {
    name: "the connection to the target is cut",
    strike: () => toTarget.cut(),
    mend: () => {},
    says: /target/,
    at: ["rows"],
  },
  {
    name: "the network to the source falls silent",
    strike: () => toSource.silence(),
    mend: () => toSource.heal(),
    says: /source .*no answer from it/,
    at: ["rows"],
  },
  {
    name: "the network to the target falls silent",
    strike: () => toTarget.silence(),
    mend: () => toTarget.heal(),
    says: /target.*no answer from it/,
    at: ["schema"],
  },
];

/** Milliseconds for a source that does not answer yet. It may be suspended, so the import waits 60 s (session.ts) plus one attempt. */
const WAKING_MS = 80_000;
/** Phases that begin before any session on the source is open. */
const NOT_YET_HELD: readonly Phase[] = ["preflight", "snapshot"];

describe.each(FAULTS)("$name", ({ name, strike, mend, says, at }) => {
  test.each(phasesOr(...at).map((phase) => [phase] as const))(
    "at the start of the phase %s: the error comes in time, the target is untouched or complete, the next run converges",
    async (phase) => {
      const spec = await lab.newImport(source.source("small"), target);
      const mayBeAsleep = /source/.test(name) && NOT_YET_HELD.includes(phase);
      const begun = Date.now();
      const { error } = await attempt(bad(spec), { monitorTimeouts, ...atPhase(phase, async () => strike()) });
      const took = Date.now() - begun;
      await mend();
      expect(took).toBeLessThan(BOUND_MS + (mayBeAsleep ? WAKING_MS : 0));
      const state = await expectUntouchedOrComplete(spec);
      // The import may miss the loss of a server that it no longer needs, and no other.
      expect(state).toBe(error === "" ? "complete" : "untouched");
      if (error !== "") expect(error).toMatch(mayBeAsleep ? /source/ : says);
      for (const password of [spec.source.address.password, spec.target.address.password]) {
        expect(error.includes(password)).toBe(false);
      }
      await expectComplete(lab, target, spec);
      await expectNoTrace(lab, spec, source, target, settings);
    },
  );
});

describe("silence of a live server", () => {
  test("during a long statement is not taken for a loss, and neither is that of the source, which waits for it", async () => {
    await source.makeDatabase(
      "slow",
      `CREATE TABLE slow (id integer PRIMARY KEY);
       CREATE FUNCTION slowly(i integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.15); RETURN i; END';
       INSERT INTO slow SELECT generate_series(1, 20);
       CREATE TABLE other AS SELECT i FROM generate_series(1, 1000) i`,
    );
    await source.sql("slow", "CREATE INDEX slow_idx ON slow (slowly(id))");
    const spec = await lab.newImport(source.source("slow"), target);
    const { error } = await attempt(bad(spec), { monitorTimeouts: { silenceMs: 200, answerMs: 5000 } });
    expect(error).toBe("");
    await expectSameRows(spec);
  });

  test("on a slow connection, where each end mostly waits for the other, is not taken for a loss", async () => {
    await source.makeDatabase("bulky", LARGE.replace("60000", "4000"));
    const spec = await lab.newImport(source.source("bulky"), target);
    toTarget.set({ bytesPerSecond: 3_000_000 });
    try {
      const { error } = await attempt(bad(spec), { monitorTimeouts: { silenceMs: 200, answerMs: 5000 } });
      expect(error).toBe("");
    } finally {
      toTarget.set({ bytesPerSecond: 0 });
    }
    await expectSameRows(spec);
  });
});

/** Mulberry32: small, and the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

test("imports that are killed at random times never leave a partial copy, and the last run converges", async () => {
  const seed = Number(process.env.FAULTS_SEED ?? Date.now() % 1_000_000);
  const random = randomOf(seed);
  let spec = await lab.newImport(source.source("small"), target);
  const trial = await lab.newImport(source.source("small"), target);
  const begun = Date.now();
  expect((await importInChild(trial, DENY_LIST)).end).toBe("0");
  const length = Date.now() - begun;
  const moments: string[] = [];
  for (let i = 0; i < (THOROUGH ? 40 : 6); i += 1) {
    const afterMs = Math.round(random() * length);
    const { end, phases } = await importInChild(spec, DENY_LIST, { afterMs });
    const state = await expectUntouchedOrComplete(spec);
    moments.push(`${afterMs} ms: ${phases.at(-1) ?? "before the first phase"}, ${state}`);
    if (end === "0") expect(state).toBe("complete");
    // A finished import cannot be killed.
    if (state === "complete") spec = await lab.newImport(source.source("small"), target);
  }
  console.log(`seed ${seed}, an import takes ${length} ms; killed after ${moments.join("; ")}`);
  await expectComplete(lab, target, spec);
  await expectNoTrace(lab, spec, source, target, settings);
});

describe("an import stops within 5 s of a signal", () => {
  /** Stops an import at a given time, and checks how long that takes and what is left. */
  async function expectStopped(spec: ImportSpec, when: (stop: () => void) => Parameters<typeof attempt>[1]) {
    const controller = new AbortController();
    let stoppedAt = 0;
    const stop = () => {
      stoppedAt = Date.now();
      controller.abort();
    };
    const { error } = await attempt(spec, when(stop), controller.signal);
    const took = Date.now() - stoppedAt;
    expect(stoppedAt).toBeGreaterThan(0);
    expect(took, `stopping took ${took} ms`).toBeLessThan(5000);
    const state = await expectUntouchedOrComplete(spec);
    if (state === "complete") expect(error).toBe("");
    else
      expect(error).toBe("The import was stopped; the target's database is as it was. Run pulumi up to begin again.");
    return state;
  }

  test.each(PHASES)("at the start of the phase %s", async (phase) => {
    const spec = await lab.newImport(source.source("small"), target);
    const state = await expectStopped(spec, (stop) => atPhase(phase, async () => stop()));
    expect(state).toBe("untouched");
    await expectNoTrace(lab, spec, source, target, settings);
    if (phase === "rows" || THOROUGH) await expectComplete(lab, target, spec);
  });

  test.each<[Phase, number]>([
    ["schema", 250],
    ["compare", 150],
    ["swap", 3],
  ])("during the phase %s", async (phase, afterMs) => {
    const spec = await lab.newImport(source.source("small"), target);
    await expectStopped(spec, (stop) => atPhase(phase, async () => void sleep(afterMs).then(stop)));
    await expectNoTrace(lab, spec, source, target, settings);
  });

  test("while it waits for a source that is suspended", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    toSource.silence();
    try {
      await expectStopped(bad(spec), (stop) => atPhase("preflight", async () => void sleep(500).then(stop)));
    } finally {
      toSource.heal();
    }
    await expectNoTrace(lab, spec, source, target, settings);
  });

  test("while a large table is copied", async () => {
    await source.makeDatabase("large", LARGE);
    const spec = await lab.newImport(source.source("large"), target);
    toSource.set({ bytesPerSecond: 10_000_000 });
    try {
      await expectStopped(bad(spec), (stop) => atPhase("rows", async () => void sleep(500).then(stop)));
    } finally {
      toSource.set({ bytesPerSecond: 0 });
    }
    await expectNoTrace(lab, spec, source, target, settings);
  });

  test("while an index is built", async () => {
    const spec = await lab.newImport(source.source("slow"), target);
    await expectStopped(spec, (stop) => ({
      onLoaded: async ({ name }) => void (name === "slow" && sleep(800).then(stop)),
    }));
    await expectNoTrace(lab, spec, source, target, settings);
  });

  test("while pg_dump waits in its container", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    try {
      await expectStopped(spec, (stop) =>
        atPhase("schema", async () => {
          await source.freeze();
          void sleep(1500).then(stop);
        }),
      );
    } finally {
      await source.thaw();
    }
    await expectNoTrace(lab, spec, source, target, settings);
  });
});

test("a pg_dump ends when its import is killed, although the server that it waits for hangs", async () => {
  const spec = await lab.newImport(source.source("small"), target);
  const helpers = async () => (await docker(["ps", "-q", "--filter", `label=${helperLabel(lab.id)}`])).trim();
  const dying = importInChild(spec, DENY_LIST, { phase: "schema", afterMs: 2500 });
  while ((await helpers()) === "") await sleep(20);
  await source.freeze();
  try {
    const { end } = await dying;
    expect(end).toBe("SIGKILL");
    expect(await lab.leftContainers()).toEqual([]);
  } finally {
    await source.thaw();
  }
  await expectComplete(lab, target, spec);
});

test("a copy that was swapped in just before a crash is adopted, and not imported again", async () => {
  const spec = await lab.newImport(source.source("small"), target);
  const { end } = await importInChild(spec, DENY_LIST, { phase: "swapped", afterMs: 0 });
  expect(end).toBe("SIGKILL");
  expect(await expectUntouchedOrComplete(spec)).toBe("complete");
  const connections = await source.connectionsTo("small");
  const { error, lines } = await attempt(spec);
  expect(error).toBe("");
  expect(lines.join("\n")).toContain("nothing to do");
  expect(await source.connectionsTo("small")).toBe(connections);
  await expectNoTrace(lab, spec, source, target, settings);
});
