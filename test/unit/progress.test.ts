import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Progress } from "../../components/import/progress.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import { makeTable } from "./table.ts";

const MIB = 1024 * 1024;

describe("humanBytes", () => {
  test.each([
    [0, "0 B"],
    [1, "1 B"],
    [1023, "1023 B"],
    [1024, "1.0 kB"],
    [1536, "1.5 kB"],
    [MIB, "1.0 MB"],
    [919 * MIB, "919.0 MB"],
    [1024 ** 3, "1.0 GB"],
    [2.5 * 1024 ** 4, "2.5 TB"],
    [1024 ** 5, "1024.0 TB"],
  ])("writes %d as %s", (bytes, text) => expect(humanBytes(bytes)).toBe(text));

  test("is within 5 % of the number", () => {
    const unit: Record<string, number> = { B: 1, kB: 1024, MB: MIB, GB: 1024 ** 3, TB: 1024 ** 4 };
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        const [number, name = ""] = humanBytes(bytes).split(" ");
        const read = Number(number) * (unit[name] ?? Number.NaN);
        expect(Math.abs(read - bytes)).toBeLessThanOrEqual(bytes * 0.05);
      }),
    );
  });

  // Rounded to one decimal, 1048575 bytes would be "1024.0 kB".
  test("uses the next unit instead of 1024 of a smaller one", () => {
    expect(humanBytes(MIB - 1)).toBe("1.0 MB");
  });
});

describe("progress lines of an import", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test("are printed at most every two seconds, however many chunks arrive", () => {
    const lines: string[] = [];
    const progress = new Progress((line) => lines.push(line));
    const table = makeTable("events", { bytes: 100 * MIB });
    progress.expect([table]);
    for (let n = 0; n < 10_000; n += 1) {
      vi.advanceTimersByTime(1);
      progress.count(table, 1024);
    }
    expect(lines).toHaveLength(5);
  });

  test("contain tables, rows, bytes, rate, remaining time and the current table", () => {
    const lines: string[] = [];
    const progress = new Progress((line) => lines.push(line));
    const small = makeTable("small", { bytes: 10 * MIB });
    const large = makeTable("large", { bytes: 90 * MIB });
    progress.expect([small, large]);
    vi.advanceTimersByTime(1000);
    progress.count(small, 10 * MIB);
    progress.loaded(1_234_567);
    vi.advanceTimersByTime(1000);
    progress.count(large, 10 * MIB);
    expect(lines).toEqual([
      "import: 1 of 2 tables, 1,234,567 rows, 20.0 MB at 10.0 MB/s, about 8 s left; now public.large",
    ]);
  });

  test("never contain a negative time, even if more bytes arrive than the source has on disk", () => {
    const lines: string[] = [];
    const progress = new Progress((line) => lines.push(line));
    const table = makeTable("packed", { bytes: MIB });
    progress.expect([table]);
    vi.advanceTimersByTime(2000);
    progress.count(table, 50 * MIB);
    expect(lines[0]).toContain("about 0 s left");
  });

  test("name each phase when it starts", () => {
    const lines: string[] = [];
    const progress = new Progress((line) => lines.push(line));
    progress.phase("one snapshot of 3 tables");
    progress.phase("the rows");
    expect(lines).toEqual(["import: one snapshot of 3 tables", "import: the rows"]);
  });

  test("are independent of spans, which are all recorded", () => {
    const progress = new Progress(() => {});
    vi.advanceTimersByTime(100);
    const endOuter = progress.begin("outer");
    vi.advanceTimersByTime(1000);
    const endInner = progress.begin("inner");
    vi.advanceTimersByTime(500);
    expect(endInner()).toBe(0.5);
    expect(endOuter()).toBe(1.5);
    expect(progress.spans).toEqual([
      { name: "inner", from: 1100, to: 1600 },
      { name: "outer", from: 100, to: 1600 },
    ]);
    expect(progress.seconds).toBe(1.6);
  });
});
