import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { placeFor } from "../../cli/url.ts";
import { changesResults } from "../../components/migrations/result-types.ts";
import { poolerConfiguration, poolerUsers } from "../../components/pooler/configuration.ts";
import { type FoundLogin, loginDrift, loginScript } from "../../components/pooler/login.ts";
import { parsePoolerReport, poolerSummary, poolerTroubles } from "../../components/pooler/report.ts";
import { poolerProblems, poolSize } from "../../components/pooler/settings.ts";

const VALUES = { pooler: true, poolerPort: 0, poolerSize: 0, maxConnections: 100, databases: [] as string[] };

describe("the number of server connections", () => {
  test.each([
    [{}, 20],
    [{ maxConnections: 30 }, 13],
    [{ maxConnections: 10 }, 1],
    [{ maxConnections: 60, databases: ["nexus", "region"] }, 14],
    [{ poolerSize: 33 }, 33],
  ])("with %j is %i for each database", (more, size) => {
    expect(poolSize({ ...VALUES, ...more })).toBe(size);
  });

  test("leaves connections for everything that does not use the pooler", () => {
    fc.assert(
      fc.property(fc.integer({ min: 30, max: 10_000 }), fc.integer({ min: 0, max: 10 }), (maxConnections, count) => {
        const values = { ...VALUES, maxConnections, databases: Array.from({ length: count }, (_, i) => `d${i}`) };
        expect(poolSize(values) * (1 + count)).toBeLessThanOrEqual(maxConnections - 17);
        expect(poolerProblems(values, 5433, 6432)).toEqual([]);
      }),
    );
  });

  test("is refused if the server has not that many", () => {
    expect(poolerProblems({ ...VALUES, poolerSize: 50, databases: ["nexus"] }, 5433, 6432)).toEqual([
      "maxConnections is 100: the pooler's server connections do not fit. 50 for each of 2 databases = 100 of 95 (max_connections 100 " +
        "less 5 reserved). Raise maxConnections, or lower poolerSize",
    ]);
    expect(poolerProblems({ ...VALUES, pooler: false, poolerSize: 500 }, 5433, 5433)).toEqual([]);
  });
});

describe("PgBouncer's configuration", () => {
  const ini = poolerConfiguration({ host: "database", port: 5432, databases: ["game", "nexus"], size: 7 });

  test("lists the databases, each with its limit, and no others", () => {
    expect(ini).toContain("game = host=database port=5432 dbname=game pool_size=7 max_db_connections=7\n");
    expect(ini).toContain("nexus = host=database port=5432 dbname=nexus pool_size=7 max_db_connections=7\n");
    expect(ini).toContain("postgres = host=database port=5432 dbname=postgres pool_size=2 max_db_connections=2\n");
    expect(ini).not.toMatch(/^\*/m);
  });

  test("lists each database once more for the replicas, unless a database has that name", () => {
    const databases = ["game", "nexus", "nexus_readonly"];
    const copies = poolerConfiguration({ host: "database", port: 5432, databases, size: 7, replicas: "replica" });
    expect(copies).toContain("game_readonly = host=replica port=5432 dbname=game pool_size=7 max_db_connections=7\n");
    expect(copies.match(/^nexus_readonly = .*$/gm)).toEqual([
      "nexus_readonly = host=database port=5432 dbname=nexus_readonly pool_size=7 max_db_connections=7",
    ]);
    expect(ini).not.toContain("_readonly");
  });

  test("contains no password; the pooler's own is in the other file", () => {
    expect(ini).not.toMatch(/password=/);
    expect(ini).toContain("\nauth_type = scram-sha-256\n");
    expect(poolerUsers("secret")).toBe('"sectorwars_pooler" "secret"\n');
  });

  test("does not hold a name's address for longer than a second, because a new container has another one", () => {
    expect(ini).toContain("\ndns_max_ttl = 1\ndns_nxdomain_ttl = 1\n");
  });
});

describe("the pooler's login", () => {
  const found: FoundLogin = { role: "t f f f f f f -1 t", memberships: 0, function: "digest", connects: true };

  test("is granted one function only", () => {
    const grants = loginScript().match(/^GRANT .*$/gm);
    expect(grants).toEqual([
      'GRANT CONNECT ON DATABASE postgres TO "sectorwars_pooler";',
      'GRANT USAGE ON SCHEMA pooler TO "sectorwars_pooler";',
      'GRANT EXECUTE ON FUNCTION pooler.login(text) TO "sectorwars_pooler";',
    ]);
  });

  test.each<[string, Partial<FoundLogin>, string[]]>([
    ["as declared", {}, []],
    ["without the role", { role: null }, ["sectorwars_pooler does not exist in postgres"]],
    ["of a superuser", { role: "t f t f f f f -1 t" }, ["sectorwars_pooler has other attributes than declared"]],
    ["with a membership", { memberships: 1 }, ["sectorwars_pooler is a member of a role, or a role is a member of it"]],
    ["without CONNECT", { connects: false }, ["sectorwars_pooler may not connect to postgres"]],
    ["without its function", { function: null }, ["the function pooler.login does not exist"]],
    ["with another function", { function: "other" }, ["the function pooler.login was changed"]],
  ])("%s is %j: %j", (_title, more, drift) => {
    expect(loginDrift({ ...found, ...more }, "digest")).toEqual(drift);
  });
});

const DATABASES = (paused: number) => `name,host,port,paused,disabled
game,database,5432,${paused},0
pgbouncer,,6432,0,0
`;
const POOLS = (
  waiting: number,
  maxwait: number,
) => `database,user,cl_active,cl_waiting,sv_active,sv_idle,sv_used,sv_tested,sv_login,maxwait
game,app,3,${waiting},2,1,0,0,0,${maxwait}
pgbouncer,pgbouncer,1,0,0,0,0,0,0,0
postgres,sectorwars_pooler,0,0,0,1,0,0,0,0
`;
const reportOf = (paused = 0, waiting = 0, maxwait = 0) =>
  parsePoolerReport(`version\nPgBouncer 1.24.1\n--\n${DATABASES(paused)}--\n${POOLS(waiting, maxwait)}`);

describe("the report", () => {
  test("counts clients and server connections, without the admin console's", () => {
    const report = reportOf(0, 2, 1);
    expect(report).toEqual({ version: "1.24.1", clients: 5, waiting: 2, maxWait: 1, servers: 4, paused: [] });
    expect(poolerSummary(report)).toBe("PgBouncer 1.24.1, 5 clients (2 waiting) on 4 server connections");
    expect(poolerTroubles(report, "dev", "sectorwars-pooler")).toEqual([]);
  });

  test("says how to end a hold that was forgotten, and what to do about a long queue", () => {
    expect(poolerTroubles(reportOf(1, 5, 9), "dev", "sectorwars-pooler")).toEqual([
      "The pooler holds all queries to game. A migration, a restore or an update may be running; otherwise: docker exec " +
        "sectorwars-pooler sectorwars-pooler resume",
    ]);
    expect(poolerTroubles(reportOf(0, 1, 9), "dev", "sectorwars-pooler")).toEqual([
      "1 client waits for a server connection, the first one for 9 s. End long transactions, or raise poolerSize: pulumi config set " +
        "poolerSize NUMBER --stack dev, then pulumi up",
    ]);
  });
});

describe("a migration", () => {
  const before = new Map([
    ["relation 1", "a"],
    ["function 2", "b"],
  ]);
  test.each<[string, [string, string][], boolean]>([
    ["changes nothing", [], false],
    ["creates a table", [["relation 3", "c"]], false],
    ["changes a column", [["relation 1", "other"]], true],
    ["changes a function's result", [["function 2", "other"]], true],
  ])("that %s: clients with prepared statements connect again: %j", (_title, changes, expected) => {
    expect(changesResults(before, new Map([...before, ...changes]))).toBe(expected);
  });

  test("that drops a table makes clients with prepared statements connect again", () => {
    expect(changesResults(before, new Map([["function 2", "b"]]))).toBe(true);
  });
});

describe("the URL through the pooler", () => {
  const stack = { stack: "ci", pooler: { container: "sectorwars-ci-pooler", port: 20_000 } };
  test("has the pooler's place, on this machine and in the network", () => {
    expect(placeFor(stack, "app", { pooled: true })).toEqual({ host: "127.0.0.1", port: 20_000 });
    expect(placeFor(stack, "app", { pooled: true, inNetwork: true })).toEqual({ host: "pooler", port: 6432 });
    expect(placeFor(stack, "app", { inNetwork: true })).toEqual({ host: "database", port: 5432 });
    expect(placeFor(stack, "app", {})).toBeUndefined();
  });

  test("is refused without a pooler, and for the superuser", () => {
    expect(() => placeFor({ stack: "ci" }, "app", { pooled: true })).toThrow(
      "The stack ci has no pooler. To add one: pulumi config set pooler true, then pulumi up",
    );
    expect(() => placeFor(stack, "superuser", { pooled: true })).toThrow("The pooler does not admit the superuser");
  });
});
