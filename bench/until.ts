/** Waiting for something that happens by itself. */
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Asks again and again until it is so.
 * @throws {Error} after some minutes: a benchmark that waits for ever tells nobody why.
 */
export async function until(what: string, isSo: () => Promise<boolean>, minutes = 5): Promise<void> {
  for (const end = Date.now() + minutes * 60_000; !(await isSo()); await sleep(500)) {
    if (Date.now() > end) throw new Error(`${what}: not within ${minutes} minutes`);
  }
}
