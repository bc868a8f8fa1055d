import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runTasks, type Task } from "../../lib/schedule.ts";

interface Plan {
  name: string;
  after: string[];
  cost: number;
  /** Turns of the event loop that it takes. */
  turns?: number;
  fails?: boolean;
  lane?: string;
}

/** Runs the plans. Returns the events in order, the most tasks at one time, and the failure. */
async function run(plans: readonly Plan[], slotCount: number) {
  const slots = Array.from({ length: slotCount }, (_, index) => ({ index }));
  const events: string[] = [];
  const busy = new Set<object>();
  let most = 0;
  const tasks = plans.map(
    ({ name, after, cost, turns = 1, fails = false, lane }): Task<object> => ({
      name,
      after,
      cost,
      lane,
      run: async (slot) => {
        expect(busy.has(slot), "a slot is one task's alone").toBe(false);
        busy.add(slot);
        most = Math.max(most, busy.size);
        events.push(`+${name}`);
        for (let n = 0; n < turns; n += 1) await turn();
        busy.delete(slot);
        events.push(`-${name}`);
        if (fails) throw new Error(`${name} failed`);
      },
    }),
  );
  const failure = await runTasks(tasks, slots).then(
    () => undefined,
    (error: Error) => error.message,
  );
  return { events, most, failure, running: busy.size };
}

const starts = (events: string[]) => events.filter((event) => event.startsWith("+")).map((event) => event.slice(1));

/** Plans without a cycle: each may wait for earlier ones. They are shuffled afterwards. */
const acyclic = fc
  .array(
    fc.record({
      waits: fc.array(fc.nat(100), { maxLength: 3 }),
      cost: fc.nat(10),
      turns: fc.integer({ min: 0, max: 4 }),
    }),
    { maxLength: 14 },
  )
  .map((made) =>
    made.map(
      ({ waits, cost, turns }, index): Plan => ({
        name: `t${index}`,
        after: index === 0 ? [] : [...new Set(waits.map((wait) => `t${wait % index}`))],
        cost,
        turns,
      }),
    ),
  )
  .chain((plans) => fc.shuffledSubarray(plans, { minLength: plans.length }));

describe("tasks", () => {
  test("start with the task that has the longest chain of dependents", async () => {
    const { events } = await run(
      [
        { name: "large", after: [], cost: 9 },
        { name: "middle", after: [], cost: 5 },
        { name: "small", after: [], cost: 1 },
        { name: "first of a chain", after: [], cost: 2 },
        { name: "second", after: ["first of a chain"], cost: 3 },
        { name: "third", after: ["second"], cost: 6 },
      ],
      1,
    );
    expect(starts(events)).toEqual(["first of a chain", "large", "second", "third", "middle", "small"]);
  });

  test("of one lane run one after the other, while other tasks overtake them", async () => {
    const { events } = await run(
      [
        { name: "a", after: [], cost: 9, turns: 5, lane: "keys" },
        { name: "b", after: [], cost: 8, lane: "keys" },
        { name: "c", after: [], cost: 1 },
      ],
      3,
    );
    expect(events).toEqual(["+a", "+c", "-c", "-a", "+b", "-b"]);
  });

  test("of equal cost keep their order", async () => {
    const { events } = await run(
      ["a", "b", "c"].map((name) => ({ name, after: [], cost: 1 })),
      1,
    );
    expect(starts(events)).toEqual(["a", "b", "c"]);
  });

  test("start as soon as a slot is free, while a slower one still runs", async () => {
    const { events, most } = await run(
      [
        { name: "slow", after: [], cost: 9, turns: 30 },
        { name: "quick", after: [], cost: 8 },
        { name: "next", after: ["quick"], cost: 1 },
      ],
      2,
    );
    expect(most).toBe(2);
    expect(events).toEqual(["+slow", "+quick", "-quick", "+next", "-next", "-slow"]);
  });

  test("run once each, after the tasks that they wait for, and at most one per slot", async () => {
    await fc.assert(
      fc.asyncProperty(acyclic, fc.integer({ min: 1, max: 4 }), async (plans, slots) => {
        const { events, most, failure } = await run(plans, slots);
        expect(failure).toBeUndefined();
        expect(starts(events).sort()).toEqual(plans.map(({ name }) => name).sort());
        expect(most).toBeLessThanOrEqual(slots);
        for (const { name, after } of plans) {
          for (const before of after) expect(events.indexOf(`-${before}`)).toBeLessThan(events.indexOf(`+${name}`));
        }
      }),
    );
  });

  test("may be an empty list", async () => {
    expect(await run([], 2)).toMatchObject({ events: [], failure: undefined });
  });

  // Otherwise, nothing would be copied and no error reported.
  test("without a slot are not silently left out", async () => {
    const { events, failure } = await run([{ name: "a", after: [], cost: 1 }], 0);
    expect(events.length > 0 || failure !== undefined).toBe(true);
  });
});

describe("a failed task", () => {
  test("lets running tasks end, starts no other task, and then throws", async () => {
    const { events, failure, running } = await run(
      [
        { name: "bad", after: [], cost: 9, turns: 2, fails: true },
        { name: "long", after: [], cost: 8, turns: 20 },
        { name: "next", after: [], cost: 7 },
        { name: "behind", after: ["bad"], cost: 6 },
      ],
      2,
    );
    expect(failure).toBe("bad failed");
    expect(events).toEqual(["+bad", "+long", "-bad", "-long"]);
    expect(running).toBe(0);
  });

  test("that failed first is the one whose error is thrown", async () => {
    const { failure } = await run(
      [
        { name: "later", after: [], cost: 9, turns: 9, fails: true },
        { name: "sooner", after: [], cost: 8, turns: 2, fails: true },
      ],
      2,
    );
    expect(failure).toBe("sooner failed");
  });

  test("prevents every later start, and leaves nothing running", async () => {
    await fc.assert(
      fc.asyncProperty(acyclic, fc.integer({ min: 1, max: 4 }), fc.nat(13), async (plans, slots, which) => {
        fc.pre(plans.length > 0);
        const bad = plans[which % plans.length] as Plan;
        const { events, failure, running } = await run(
          // At least one turn of the event loop, because the failure is unknown before that.
          plans.map((plan) => ({ ...plan, turns: Math.max(plan.turns ?? 1, 1), fails: plan === bad })),
          slots,
        );
        expect(failure).toBe(`${bad.name} failed`);
        expect(running).toBe(0);
        const end = events.indexOf(`-${bad.name}`);
        expect(events.slice(end + 1).filter((event) => event.startsWith("+"))).toEqual([]);
      }),
    );
  });

  // A task may throw instead of rejecting. The others must still be awaited.
  test("that throws synchronously still waits for the running tasks", async () => {
    let ended = false;
    const tasks: Task<number>[] = [
      {
        name: "long",
        after: [],
        cost: 9,
        run: async () => {
          await turn();
          ended = true;
        },
      },
      {
        name: "bad",
        after: [],
        cost: 8,
        run: () => {
          throw new Error("at once");
        },
      },
    ];
    await expect(runTasks(tasks, [1, 2])).rejects.toThrow("at once");
    expect(ended).toBe(true);
  });
});

describe("the check of tasks before they run", () => {
  test("refuses a dependency that does not exist", async () => {
    const { events, failure } = await run(
      [
        { name: "a", after: [], cost: 1 },
        { name: "b", after: ["a", "c"], cost: 1 },
      ],
      1,
    );
    expect(failure).toBe("the task b waits for c, which does not exist");
    expect(events).toEqual([]);
  });

  test.each<[string, Plan[], string]>([
    ["of one task", [{ name: "a", after: ["a"], cost: 1 }], "the task a waits for itself"],
    [
      "of three tasks after one that could start",
      [
        { name: "free", after: [], cost: 9 },
        { name: "a", after: ["b"], cost: 1 },
        { name: "b", after: ["c"], cost: 1 },
        { name: "c", after: ["free", "a"], cost: 1 },
      ],
      "the task a waits for itself",
    ],
  ])("refuses a cycle %s", async (_what, plans, message) => {
    const { events, failure } = await run(plans, 2);
    expect(failure).toBe(message);
    expect(events).toEqual([]);
  });

  test("accepts a task that two others wait for", async () => {
    const plans = [
      { name: "d", after: ["b", "c"], cost: 1 },
      { name: "b", after: ["a"], cost: 1 },
      { name: "c", after: ["a"], cost: 1 },
      { name: "a", after: [], cost: 1 },
    ];
    expect((await run(plans, 2)).failure).toBeUndefined();
  });
});
