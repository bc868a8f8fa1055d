/** Schedules: cron's expressions as people write them, and the lists that images/database/backup/due.awk reads. */
import { CronExpressionParser } from "cron-parser";

/** Written for no schedule at all. */
const NEVER = "never";

/**
 * A cron expression of five fields as lists of numbers: minutes|hours|days|months|weekdays|either. The last is 1 where a
 * day fits by its date or by its weekday, as cron has it when both are given. Times are UTC. Empty for "never".
 * @throws {Error} that says what an expression looks like.
 */
export function planOf(expression: string): string {
  const text = expression.trim();
  if (text === NEVER) return "";
  // The library also knows seconds, last days and random ones: more than the evaluator in the image.
  if (!/^(\S+\s+){4}\S+$/.test(text) || /[#LWHR?@]/i.test(text.replaceAll(/[A-Z]{3}/gi, "")))
    throw new Error(PLAN_RULE);
  try {
    const { minute, hour, dayOfMonth, month, dayOfWeek } = CronExpressionParser.parse(text).fields;
    const lists = [minute, hour, dayOfMonth, month, dayOfWeek].map((field) => [
      ...new Set(field.values.map((value) => (field === dayOfWeek ? Number(value) % 7 : Number(value)))),
    ]);
    const either = !dayOfMonth.isWildcard && !dayOfWeek.isWildcard;
    return [...lists.map((list) => list.sort((a, b) => a - b).join(",")), either ? "1" : "0"].join("|");
  } catch {
    throw new Error(PLAN_RULE);
  }
}

/** What an expression looks like, as an instruction. */
export const PLAN_RULE =
  'give minute, hour, day, month and weekday as cron has them, for instance "0 3 * * 0", or never';
