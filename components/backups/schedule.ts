/** Schedules: converts cron expressions to the lists that images/database/backup/due.awk reads. */
import { CronExpressionParser } from "cron-parser";

/** The expression for no schedule. */
const NEVER = "never";

/**
 * Converts a cron expression of five fields to lists of numbers: minutes|hours|days|months|weekdays|either. `either` is 1 if a day
 * matches by its date or by its weekday, which is cron's rule when both are given. Times are UTC. Returns "" for "never".
 * @throws {Error} with {@link SCHEDULE_RULE} for any other expression.
 */
export function scheduleOf(expression: string): string {
  const text = expression.trim();
  if (text === NEVER) return "";
  // The library also accepts seconds, last days and random values, which due.awk does not.
  if (!/^(\S+\s+){4}\S+$/.test(text) || /[#LWHR?@]/i.test(text.replaceAll(/[A-Z]{3}/gi, "")))
    throw new Error(SCHEDULE_RULE);
  try {
    const { minute, hour, dayOfMonth, month, dayOfWeek } = CronExpressionParser.parse(text).fields;
    const lists = [minute, hour, dayOfMonth, month, dayOfWeek].map((field) => [
      ...new Set(field.values.map((value) => (field === dayOfWeek ? Number(value) % 7 : Number(value)))),
    ]);
    const either = !dayOfMonth.isWildcard && !dayOfWeek.isWildcard;
    return [...lists.map((list) => list.sort((a, b) => a - b).join(",")), either ? "1" : "0"].join("|");
  } catch {
    throw new Error(SCHEDULE_RULE);
  }
}

/** The syntax of an expression, as an instruction. */
export const SCHEDULE_RULE =
  'give a cron expression of minute, hour, day, month and weekday, for instance "0 3 * * 0", or never';
