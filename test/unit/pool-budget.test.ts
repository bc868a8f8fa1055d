import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { poolBudget, pooledBudget } from "../../lib/pool-budget.ts";

describe("poolBudget", () => {
  test("explains the number of connections as a sum", () => {
    expect(poolBudget({ services: 1, workers: 4, size: 5, overflow: 10 }, 100)).toEqual({
      wanted: 120,
      available: 97,
      fits: false,
      sum: "1 service x 4 workers x 2 engines (sync, async) x (pool 5 + overflow 10) = 120 of 97 (max_connections 100 less 3 reserved)",
    });
  });

  test("fits exactly if max_connections covers all connections and the 3 reserved ones", () => {
    const n = fc.integer({ min: 1, max: 20 });
    fc.assert(
      fc.property(n, n, n, n, (services, workers, size, overflow) => {
        const pools = { services, workers, size, overflow };
        const { wanted } = poolBudget(pools, 100);
        expect(poolBudget(pools, wanted + 3).fits).toBe(true);
        expect(poolBudget(pools, wanted + 2).fits).toBe(false);
      }),
    );
  });
});

describe("the pools' budget through a pooler", () => {
  const pools = { services: 3, workers: 4, size: 5, overflow: 10 };
  const share = { direct: 1, size: 20, databases: 2, mostClients: 1000 };

  test("counts server connections, and those of direct services", () => {
    expect(pooledBudget(pools, 200, share)).toEqual({
      wanted: 160,
      available: 197,
      fits: true,
      sum:
        "pooler 20 x 2 databases + direct 1 service x 4 workers x 2 engines (sync, async) x (pool 5 + overflow 10) = 160 of 197 " +
        "(max_connections 200 less 3 reserved), for 240 of 1000 clients",
    });
    expect(pooledBudget(pools, 100, { ...share, direct: 0 })).toMatchObject({ wanted: 40, fits: true });
  });

  test("does not fit with too few server connections, or too many clients", () => {
    expect(pooledBudget(pools, 100, share).fits).toBe(false);
    expect(pooledBudget(pools, 200, { ...share, mostClients: 239 }).fits).toBe(false);
  });
});
