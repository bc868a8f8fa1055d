/** Runs tasks that depend on each other, a few at a time. */

/** One piece of work. */
export interface Task<Slot> {
  name: string;
  /** Names of tasks that must have ended. */
  after: string[];
  /** How much work it is, in any unit. */
  cost: number;
  /** Of the tasks that share a lane, one runs at a time. */
  lane?: string;
  run(slot: Slot): Promise<void>;
}

/**
 * Runs all tasks, each in one of the slots (a slot is what one task needs exclusively, such as a pair of connections). Of the tasks
 * that may start, the one with the longest chain of dependents starts first, because that chain decides when everything is done. After
 * a failure no further task starts; the running ones are awaited, then the first failure is thrown.
 * @throws {Error} before anything runs, for a dependency that does not exist, a cycle, or an empty list of slots.
 */
export async function runTasks<Slot>(tasks: readonly Task<Slot>[], slots: readonly Slot[]): Promise<void> {
  const order = checkOrder(tasks);
  if (slots.length === 0 && tasks.length > 0) throw new Error("there is no slot to run the tasks in");
  const weight = chainWeights(order);
  const waiting = new Set([...tasks].sort((a, b) => (weight.get(b.name) ?? 0) - (weight.get(a.name) ?? 0)));
  const busyLanes = new Set<string | undefined>();
  const ended = new Set<string>();
  const failures: unknown[] = [];
  const free = [...slots];
  const running = new Set<Promise<void>>();

  const startWhatCan = () => {
    for (const task of waiting) {
      if (failures.length > 0 || free.length === 0) return;
      if (busyLanes.has(task.lane) || !task.after.every((name) => ended.has(name))) continue;
      waiting.delete(task);
      if (task.lane !== undefined) busyLanes.add(task.lane);
      const slot = free.pop() as Slot;
      const work = Promise.try(() => task.run(slot))
        .then(() => void ended.add(task.name))
        .catch((error) => void failures.push(error))
        .finally(() => {
          free.push(slot);
          busyLanes.delete(task.lane);
          running.delete(work);
        });
      running.add(work);
    }
  };

  startWhatCan();
  while (running.size > 0) {
    await Promise.race(running);
    startWhatCan();
  }
  if (failures.length > 0) throw failures[0];
}

/** Returns the tasks in an order in which each follows its dependencies. */
function checkOrder<T extends Pick<Task<never>, "name" | "after" | "cost">>(tasks: readonly T[]): T[] {
  const byName = new Map(tasks.map((task) => [task.name, task]));
  const state = new Map<string, "open" | "closed">();
  const order: T[] = [];
  const visit = (name: string, asker: string) => {
    const task = byName.get(name);
    if (task === undefined) throw new Error(`the task ${asker} waits for ${name}, which does not exist`);
    if (state.get(name) === "closed") return;
    if (state.get(name) === "open") throw new Error(`the task ${name} waits for itself`);
    state.set(name, "open");
    for (const before of task.after) visit(before, name);
    state.set(name, "closed");
    order.push(task);
  };
  for (const { name } of tasks) visit(name, name);
  return order;
}

/** Returns for each task its own cost plus that of its most expensive chain of dependents. */
function chainWeights(order: readonly Pick<Task<never>, "name" | "after" | "cost">[]): Map<string, number> {
  const dependents = new Map<string, number>();
  const weight = new Map<string, number>();
  for (const { name, after, cost } of order.toReversed()) {
    const own = cost + (dependents.get(name) ?? 0);
    weight.set(name, own);
    for (const before of after) dependents.set(before, Math.max(dependents.get(before) ?? 0, own));
  }
  return weight;
}
