/** Waits for conditions. */
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Waits until a condition holds.
 * @throws {Error} if it does not hold within `minutes`: an endless wait would not show its cause.
 */
export async function until(what: string, condition: () => Promise<boolean>, minutes = 5): Promise<void> {
  for (const end = Date.now() + minutes * 60_000; !(await condition()); await sleep(500)) {
    if (Date.now() > end) throw new Error(`Timed out after ${minutes} minutes, waiting for ${what}`);
  }
}
