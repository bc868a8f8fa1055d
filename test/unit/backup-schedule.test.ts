import { execFileSync } from "node:child_process";
import { CronExpressionParser } from "cron-parser";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { scheduleOf } from "../../components/backups/schedule.ts";

const DUE = "images/database/backup/due.awk";

/** The newest slot at or before a time (seconds since 1970), as the image computes it. */
function due(plan: string, now: number): number {
  const [minutes, hours, days, months, weekdays, either] = plan.split("|");
  const variables = { now, minutes, hours, days, months, weekdays, either };
  const flags = Object.entries(variables).flatMap(([name, value]) => ["-v", `${name}=${value}`]);
  return Number(execFileSync("awk", [...flags, "-f", DUE], { encoding: "utf8" }));
}

const at = (text: string) => Date.parse(text) / 1000;

describe("a backup schedule", () => {
  test.each([
    ["0 3 * * 0", "0|3|", "|0|0"],
    ["30 3 * * 7", "30|3|", "|0|0"],
    ["*/20 1-3 * * *", "0,20,40|1,2,3|", "|0,1,2,3,4,5,6|0"],
    ["5 4 1,15 * mon", "5|4|1,15|", "|1|1"],
  ])("%s is expanded into lists of numbers", (expression, start, end) => {
    const plan = scheduleOf(expression);
    expect(plan.startsWith(start)).toBe(true);
    expect(plan.endsWith(end)).toBe(true);
  });

  test("is empty for never", () => expect(scheduleOf(" never ")).toBe(""));

  test.each(["", "daily", "@daily", "* * * *", "0 0 0 * * *", "61 * * * *", "0 3 L * *", "0 3 * * 1#2", "0 3 ? * *"])(
    "%j is refused with an example",
    (expression) => expect(() => scheduleOf(expression)).toThrow('for instance "0 3 * * 0", or never'),
  );
});

describe("the newest slot of a schedule", () => {
  test.each([
    ["0 3 * * 0", "2026-11-23T05:00:00Z", "2026-11-22T03:00:00Z"],
    ["0 3 * * 0", "2026-11-22T03:00:00Z", "2026-11-22T03:00:00Z"],
    ["0 3 * * 0", "2026-11-22T02:59:59Z", "2026-11-15T03:00:00Z"],
    ["0 0 29 2 *", "2027-01-01T00:00:00Z", "2024-02-29T00:00:00Z"],
    ["59 23 31 12 *", "2026-01-01T00:00:00Z", "2025-12-31T23:59:00Z"],
    // If both day fields are restricted, a day matches either of them.
    ["0 0 1 * 1", "2026-11-25T00:00:00Z", "2026-11-23T00:00:00Z"],
  ])("%s at %s is %s", (expression, now, slot) => expect(due(scheduleOf(expression), at(now))).toBe(at(slot)));

  test("is the one that cron-parser computes, for random schedules and times", () => {
    const list = (min: number, max: number) =>
      fc.oneof(
        fc.constant("*"),
        fc.integer({ min, max }).map(String),
        fc.uniqueArray(fc.integer({ min, max }), { minLength: 1, maxLength: 4 }).map((numbers) => numbers.join(",")),
      );
    fc.assert(
      fc.property(
        fc.tuple(list(0, 59), list(0, 23), list(1, 28), list(1, 12), list(0, 6)),
        fc.integer({ min: at("2020-01-01"), max: at("2040-01-01") }),
        (fields, now) => {
          const expression = fields.join(" ");
          // `prev` is strictly before the given time; the image's slot may be the current minute.
          const before = CronExpressionParser.parse(expression, {
            tz: "UTC",
            currentDate: new Date((Math.floor(now / 60) * 60 + 60) * 1000),
          }).prev();
          expect(due(scheduleOf(expression), now)).toBe(before.getTime() / 1000);
        },
      ),
      { numRuns: 60 },
    );
  });
});
