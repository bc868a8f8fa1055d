import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { asArguments, tune } from "../../components/server/tuning.ts";

/** Memory settings in MiB, which is how all of them are written. */
const inMiB = (value: string | undefined): number => {
  const [, number, unit] = /^(\d+)(MB|GB)$/.exec(value ?? "") ?? [];
  return Number(number) * (unit === "GB" ? 1024 : 1);
};

const limits = fc.record({
  memoryMiB: fc.integer({ min: 256, max: 4_194_304 }),
  cpus: fc.integer({ min: 1, max: 1024 }),
  maxConnections: fc.integer({ min: 10, max: 10_000 }),
});

describe("settings as PGTune computes them for a web application on solid-state storage", () => {
  test.each([
    // memory, CPUs, connections; shared_buffers, effective_cache_size, maintenance_work_mem, work_mem, wal_buffers
    [256, 1, 20, 64, 192, 16, 4, 1],
    [1024, 2, 100, 256, 768, 64, 4, 7],
    [4096, 4, 100, 1024, 3072, 256, 9, 16],
    [8192, 4, 200, 2048, 6144, 512, 10, 16],
    [16384, 8, 200, 4096, 12288, 1024, 19, 16],
    [65536, 16, 500, 16384, 49152, 4096, 31, 16],
    [262144, 32, 500, 65536, 196608, 8192, 123, 16],
  ])(
    "are the same for %i MiB, %i CPUs and %i connections",
    (memoryMiB, cpus, maxConnections, shared, cache, maintenance, work, wal) => {
      expect(tune({ memoryMiB, cpus, maxConnections }).settings).toMatchObject({
        max_connections: String(maxConnections),
        shared_buffers: `${shared}MB`,
        effective_cache_size: `${cache}MB`,
        maintenance_work_mem: `${maintenance}MB`,
        work_mem: `${work}MB`,
        wal_buffers: `${wal}MB`,
        random_page_cost: "1.1",
        effective_io_concurrency: "200",
        jit: "off",
        min_wal_size: "1GB",
        max_wal_size: "4GB",
      });
    },
  );

  // PGTune rounds values near 16 MiB up to 16 MiB.
  test("have wal_buffers of 16 MiB for the default settings", () => {
    expect(tune({ memoryMiB: 2048, cpus: 2, maxConnections: 100 }).settings.wal_buffers).toBe("16MB");
  });

  test.each([
    [1, undefined, undefined],
    [3, undefined, undefined],
    [4, "4", "2"],
    [5, "5", "3"],
    [8, "8", "4"],
    [32, "32", "4"],
  ])("on %i CPUs have %s parallel workers, %s per query", (cpus, workers, perGather) => {
    const { settings } = tune({ memoryMiB: 4096, cpus, maxConnections: 100 });
    expect(settings.max_worker_processes).toBe(workers);
    expect(settings.max_parallel_workers).toBe(workers);
    expect(settings.max_parallel_workers_per_gather).toBe(perGather);
    expect(settings.max_parallel_maintenance_workers).toBe(perGather);
  });
});

describe("settings for any limits", () => {
  test("are values that PostgreSQL accepts and the memory limit allows", () => {
    fc.assert(
      fc.property(limits, (limit) => {
        const { settings, shmMiB } = tune(limit);
        const { memoryMiB } = limit;
        expect(inMiB(settings.shared_buffers)).toBeGreaterThan(0);
        expect(inMiB(settings.shared_buffers)).toBeLessThanOrEqual(memoryMiB / 2);
        expect(inMiB(settings.effective_cache_size)).toBeLessThanOrEqual(memoryMiB);
        expect(inMiB(settings.work_mem)).toBeGreaterThanOrEqual(4);
        expect(inMiB(settings.wal_buffers)).toBeGreaterThanOrEqual(1);
        expect(inMiB(settings.wal_buffers)).toBeLessThanOrEqual(16);
        // work_mem and maintenance_work_mem are counted in kB in 32 bits.
        expect(inMiB(settings.work_mem)).toBeLessThan(2 ** 21);
        expect(inMiB(settings.maintenance_work_mem)).toBeLessThan(2 ** 21);
        expect(shmMiB).toBeGreaterThan(inMiB(settings.maintenance_work_mem));
        expect(shmMiB).toBeGreaterThan(64);
        expect(shmMiB).toBeLessThanOrEqual(memoryMiB);
        for (const value of Object.values(settings)) expect(value).toMatch(/^(\d+(\.\d+)?(MB|GB)?|off)$/);
      }),
    );
  });

  test("never become smaller with more memory", () => {
    fc.assert(
      fc.property(limits, fc.integer({ min: 0, max: 100_000 }), (limit, more) => {
        const small = tune(limit);
        const large = tune({ ...limit, memoryMiB: limit.memoryMiB + more });
        for (const name of [
          "shared_buffers",
          "effective_cache_size",
          "maintenance_work_mem",
          "work_mem",
          "wal_buffers",
        ]) {
          expect(inMiB(large.settings[name])).toBeGreaterThanOrEqual(inMiB(small.settings[name]));
        }
        expect(large.shmMiB).toBeGreaterThanOrEqual(small.shmMiB);
      }),
    );
  });

  test("never give each session more memory if there are more sessions", () => {
    fc.assert(
      fc.property(limits, fc.integer({ min: 0, max: 1000 }), (limit, more) => {
        const many = tune({ ...limit, maxConnections: limit.maxConnections + more });
        expect(inMiB(many.settings.work_mem)).toBeLessThanOrEqual(inMiB(tune(limit).settings.work_mem));
      }),
    );
  });
});

test("asArguments returns two arguments for each setting, in order", () => {
  expect(asArguments({ jit: "off", work_mem: "4MB" })).toEqual(["-c", "jit=off", "-c", "work_mem=4MB"]);
  expect(asArguments({})).toEqual([]);
});
