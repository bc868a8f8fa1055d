/** The pooler with real drivers: who can log in, what it shows, and changes of the database under 20 clients. */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { poolerPassword } from "../../components/pooler/pooler-container.ts";
import { docker } from "../../lib/docker.ts";
import { Application } from "../support/application.ts";
import { until } from "../support/backed-up.ts";
import {
  brokenOf,
  clientsImage,
  failureCount,
  failuresOf,
  type PooledClients,
  type Seen,
  startClients,
} from "../support/pooled-clients.ts";
import { withConnection } from "../support/session.ts";
import { TestStack, urlAddress } from "../support/test-stack.ts";

const DRIVERS = ["psycopg2", "psycopg", "asyncpg", "asyncpg-pool"];
/** Twenty clients, five of each driver. */
const TWENTY = Object.fromEntries(DRIVERS.map((driver) => [driver, 5]));
/** Names its columns, so that a new column does not change its result. */
const NAMED = "UPDATE pilots SET visits = visits + 1 WHERE id = :n RETURNING id, visits";

let stack: TestStack;
let game: Application;
let image: string;
let last = "0002ships";

const password = async () => urlAddress((await stack.outputs()).urls.app).password;
const port = async () => ((await stack.outputs()).pooler as { port: number }).port;
/** Returns the address of the pooler on this machine. */
const pooled = async (role: "app" | "owner" | "readonly" | "monitor" | "superuser", database?: string) => {
  const address = urlAddress((await stack.outputs()).urls[role]);
  return { ...address, port: await port(), ...(database && { database }) };
};
const value = (sql: string): Promise<unknown> =>
  stack.as("superuser", async (client) => (await client.query({ text: sql, rowMode: "array" })).rows[0]?.[0]);
const asOwner = (sql: string) => stack.as("owner", (client) => client.query(sql));
const inPooler = (...command: string[]) => docker(["exec", stack.names.pooler, ...command]);

/** Adds a revision to the application, and runs it by an update. */
async function migrate(id: string, sql: string): Promise<void> {
  await game.addRevision(id, last, sql);
  last = id;
  await stack.up();
}

async function begin(clients: Record<string, number>, statement: string, pause = 0.02): Promise<PooledClients> {
  const url = `postgresql://sectorwars_app:${await password()}@pooler:6432/sectorwars_dev`;
  return startClients(image, stack.names.network, { url, clients, statement, pause });
}

/** Starts 20 clients, makes a change, and lets them go on for two seconds. */
async function under20(change: () => Promise<unknown>, statement = NAMED): Promise<Seen[]> {
  const clients = await begin(TWENTY, statement);
  try {
    await sleep(1000);
    await change();
    await sleep(2000);
  } finally {
    // biome-ignore lint/correctness/noUnsafeFinally: the clients must end whatever happens, and tell what they saw.
    return clients.stop();
  }
}

beforeAll(async () => {
  [game, image] = await Promise.all([Application.makePlain(), clientsImage()]);
  stack = await TestStack.make({
    bootstrap: "empty",
    memory: "512",
    alembic: game.gameserver,
    alembicImage: "generic",
    pooler: "true",
  });
  await stack.up();
  await asOwner(
    "CREATE TABLE pilots (id int PRIMARY KEY, visits int NOT NULL DEFAULT 0, note text NOT NULL DEFAULT '')",
  );
  await asOwner("INSERT INTO pilots SELECT generate_series(1, 100)");
});
afterAll(async () => {
  await stack.end();
  await game.end();
});

describe("the pooler", () => {
  test("admits the roles by their own passwords, and neither the superuser nor other databases", async () => {
    for (const role of ["app", "owner", "readonly", "monitor"] as const) {
      const user = await withConnection(
        await pooled(role),
        async (client) => (await client.query("SELECT current_user")).rows[0].current_user,
      );
      expect(user).toBe(`sectorwars_${role}`);
    }
    const refused = async (address: object) => {
      const client = new pg.Client({ ...(await pooled("app")), ...address });
      client.on("error", () => {});
      return client.connect().then(
        () => client.end().then(() => "admitted"),
        (error: Error) => error.message,
      );
    };
    expect(await refused({ password: "wrong" })).toMatch(/SASL authentication failed|password/);
    expect(await refused(await pooled("superuser"))).toMatch(/no such user|authentication failed/);
    expect(await refused({ database: "nope" })).toMatch(/no such database|authentication failed/);
    expect(await refused({ database: "postgres" })).toMatch(/permission denied for database/);
    expect(await refused({ database: "pgbouncer" })).toMatch(/not allowed/);
  });

  test("has a role that can look up passwords, and nothing else", async () => {
    const address = { ...(await pooled("app", "postgres")), user: "sectorwars_pooler" };
    const own = { ...address, port: urlAddress((await stack.outputs()).urls.app).port };
    const secret = (await poolerPassword({ stack: stack.name })) ?? "";
    await withConnection({ ...own, password: secret }, async (client) => {
      const login = async (name: string) =>
        (await client.query("SELECT count(*)::int AS n FROM pooler.login($1)", [name])).rows[0].n;
      expect([await login("sectorwars_app"), await login("postgres"), await login("sectorwars_pooler")]).toEqual([
        1, 0, 1,
      ]);
      for (const sql of ["SELECT rolpassword FROM pg_authid", "CREATE TABLE x (y int)", "SELECT * FROM pg_shadow"]) {
        await expect(client.query(sql)).rejects.toMatchObject({ code: "42501" });
      }
    });
    const elsewhere = withConnection({ ...own, password: secret, database: "sectorwars_dev" }, async () => {});
    await expect(elsewhere).rejects.toMatchObject({ code: "42501" });
  });

  test("shows no password in docker inspect, ps, its log or the state, and is published on 127.0.0.1 only", async () => {
    const secret = (await poolerPassword({ stack: stack.name })) ?? "";
    expect(secret).toMatch(/^\w{32}$/);
    const shown = await Promise.all([
      docker(["inspect", stack.names.pooler]),
      inPooler("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
      docker(["logs", stack.names.pooler]),
      docker(["history", "--no-trunc", `${stack.names.poolerImage}:latest`]),
      stack.stateText(),
    ]);
    expect(shown.join("\n")).not.toContain(secret);
    expect(shown.join("\n")).not.toContain(await password());
    expect(await inPooler("stat", "-c", "%a %U", "/etc/pgbouncer/users.txt")).toBe("600 pooler\n");
    const [found] = JSON.parse(shown[0]);
    expect(found.NetworkSettings.Ports).toEqual({
      "6432/tcp": [{ HostIp: "127.0.0.1", HostPort: String(await port()) }],
    });
    expect(found.Config.User).toBe("pooler");
  });

  test("is in the status and passes doctor; its URL works", async () => {
    const status = await stack.db("status");
    expect(status.text).toMatch(
      /pooler {6}PgBouncer 1\.\d+\.\d+, \d+ clients? \(0 waiting\) on \d+ server connections?, at 127\.0\.0\.1:\d+/,
    );
    expect(status.code, status.text).toBe(0);
    expect((await stack.db("doctor")).text).toMatch(new RegExp(`ok {5}Pooler ${stack.names.pooler}: PgBouncer`));
    const url = (await stack.db("url", "--pooled")).stdout.trim();
    expect(urlAddress(url)).toMatchObject({ host: "127.0.0.1", port: await port(), user: "sectorwars_app" });
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    expect((await client.query({ name: "a", text: "SELECT $1::int AS n", values: [7] })).rows).toEqual([{ n: 7 }]);
    await client.end();
  });

  test("changes nothing in a second update, and a refresh finds no drift", async () => {
    await stack.up("--expect-no-changes");
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  });

  test("opens at most poolerSize server connections, however many clients there are", async () => {
    await stack.set("poolerSize", "4");
    const clients = await begin(TWENTY, "SELECT pg_sleep(0.005), CAST(:n AS int)", 0);
    await stack.up();
    await sleep(1000);
    const most = await value("SELECT count(*)::int FROM pg_stat_activity WHERE usename = 'sectorwars_app'");
    const seen = await clients.stop();
    expect(failuresOf(seen)).toEqual([]);
    expect(most).toBeLessThanOrEqual(4);
    await stack.unset("poolerSize");
    await stack.up();
  });

  test("whose role or function was changed by hand is found by status and doctor, and repaired by up", async () => {
    const server = { ...urlAddress((await stack.outputs()).urls.superuser), database: "postgres" };
    await withConnection(server, (client) =>
      client.query("DROP FUNCTION pooler.login(text); GRANT pg_monitor TO sectorwars_pooler"),
    );
    const status = await stack.db("status");
    expect(status.code).toBe(1);
    expect(status.text).toMatch(/TROUBLE {5}sectorwars_pooler is a member of a role/);
    expect((await stack.db("doctor")).text).toMatch(/WRONG {2}Pooler .*pulumi up/s);
    await stack.up();
    expect((await stack.db("status")).code).toBe(0);
    await stack.up("--expect-no-changes");
  });
});

describe("under 20 clients", () => {
  test("new passwords work at once, the old ones fail, and no query fails", async () => {
    const before = await pooled("app");
    const seen = await under20(async () => {
      await stack.set("passwordVersion", "2");
      await stack.up();
    });
    expect(failuresOf(seen)).toEqual([]);
    const after = await pooled("app");
    expect(after.password).not.toBe(before.password);
    await withConnection(after, (client) => client.query("SELECT 1"));
    await expect(withConnection(before, async () => {})).rejects.toThrow();
  });

  test("an update that replaces the server's container fails no query", async () => {
    const id = () => docker(["inspect", "-f", "{{.Id}}", stack.names.container]);
    const before = await id();
    const seen = await under20(async () => {
      await stack.set("memory", "640");
      await stack.up();
    });
    expect(await id()).not.toBe(before);
    expect(failuresOf(seen)).toEqual([]);
  });

  test("a migration that creates a table fails no query", async () => {
    const seen = await under20(() => migrate("0003crew", "CREATE TABLE crew (id serial PRIMARY KEY, name text)"));
    expect(failuresOf(seen)).toEqual([]);
  });

  test("a snapshot fails no query", async () => {
    const seen = await under20(() => stack.db("snapshot", "save", "clients"));
    expect(failuresOf(seen)).toEqual([]);
  });
});

describe("statements that were prepared before a change", () => {
  const ALL = "SELECT * FROM pilots WHERE id = :n";

  test("work after a migration that changed their result types", async () => {
    const seen = await under20(
      () =>
        migrate(
          "0004ranks",
          "ALTER TABLE pilots ADD COLUMN rank int; ALTER TABLE pilots ALTER COLUMN visits TYPE bigint",
        ),
      ALL,
    );
    expect(brokenOf(seen)).toEqual([]);
    // The clients with prepared statements connected again: one failure at most for each.
    for (const { driver, failures } of seen) expect(failures.length, driver).toBeLessThanOrEqual(1);
    // psycopg2 prepares none.
    expect(failuresOf(seen).filter((failure) => failure.startsWith("psycopg2"))).toEqual([]);
  });

  // This is why a migration disconnects clients.
  test("fail again and again after a change by hand, which disconnects no client", async () => {
    const seen = await under20(() => asOwner("ALTER TABLE pilots ADD COLUMN home text"), ALL);
    // Five clients of each driver fail again and again, as they get server connections that have prepared the old statement.
    for (const driver of ["psycopg", "asyncpg", "asyncpg-pool"])
      expect(failureCount(seen, driver), driver).toBeGreaterThan(5);
    expect(failureCount(seen, "psycopg2")).toBe(0);
    await inPooler("psql", "-h", "/run/pgbouncer", "-p", "6432", "-U", "pgbouncer", "pgbouncer", "-c", "RECONNECT");
  });

  test("work after an undo, and after a snapshot was restored", async () => {
    const undone = await under20(() => stack.db("migrations", "undo", "--yes"), ALL);
    expect(brokenOf(undone)).toEqual([]);
    await stack.db("migrations", "forget", "--yes");
    const restored = await under20(async () => {
      const said = await stack.db("snapshot", "restore", "clients", "--yes");
      expect(said.code, said.text).toBe(0);
    }, ALL);
    expect(brokenOf(restored)).toEqual([]);
  });
});

describe("statements that were prepared before the data was replaced", () => {
  const ALL = "SELECT * FROM pilots WHERE id = :n";
  const succeed = async (...words: [string, ...string[]]) => {
    const said = await stack.db(...words);
    expect(said.code, said.text).toBe(0);
  };

  test("work after a refresh, and after a reset", async () => {
    const { urls } = await stack.outputs();
    await withConnection({ ...urlAddress(urls.superuser), database: "postgres" }, async (client) => {
      // The pooler keeps idle server connections.
      await client.query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'sectorwars_dev'",
      );
      await client.query("CREATE DATABASE origin TEMPLATE sectorwars_dev");
    });
    await withConnection({ ...urlAddress(urls.superuser), database: "origin" }, (client) =>
      client.query("DROP SCHEMA sectorwars_stack CASCADE; ALTER TABLE pilots ADD COLUMN source text"),
    );
    stack.env.NEON_DATABASE_URL = `${urls.superuser.replace("127.0.0.1", "localhost").replace("sectorwars_dev", "origin")}?sslmode=disable`;
    expect(brokenOf(await under20(() => succeed("refresh", "--yes"), ALL))).toEqual([]);
    await asOwner("ALTER TABLE pilots DROP COLUMN source");
    await inPooler("psql", "-h", "/run/pgbouncer", "-p", "6432", "-U", "pgbouncer", "pgbouncer", "-c", "RECONNECT");
    expect(brokenOf(await under20(() => succeed("reset", "--yes"), ALL))).toEqual([]);
    expect(
      await value("SELECT count(*)::int FROM pg_attribute WHERE attrelid = 'pilots'::regclass AND attname = 'source'"),
    ).toBe(1);
    stack.env.NEON_DATABASE_URL = undefined;
  });
});

describe("a hold of queries", () => {
  test("waits 10 s at most for a transaction that does not end", async () => {
    const client = new pg.Client(await pooled("app"));
    client.on("error", () => {});
    await client.connect();
    await client.query("BEGIN; SELECT 1");
    const begun = Date.now();
    const said = await stack.db("snapshot", "save", "forced", "--force");
    expect(said.code, said.text).toBe(0);
    expect(Date.now() - begun).toBeGreaterThan(10_000);
    expect(Date.now() - begun).toBeLessThan(30_000);
    await client.end().catch(() => {});
    await withConnection(await pooled("app"), (other) => other.query("SELECT 1"));
  });

  test("ends when the process that asked for it is killed", async () => {
    const held = stack.beginProgram("docker", ["exec", "-i", stack.names.pooler, "sectorwars-pooler", "hold"]);
    await held.until("held");
    expect((await stack.db("status")).text).toMatch(/TROUBLE {5}The pooler holds all queries to sectorwars_dev/);
    process.kill(held.pid, "SIGKILL");
    await until(
      "the end of the hold",
      async () => (await inPooler("sectorwars-pooler", "report")).includes(",0,0\n"),
      20,
    );
    await withConnection(await pooled("app"), (client) => client.query("SELECT 1"));
    expect((await stack.db("status")).code).toBe(0);
  });
});

describe("pooler false", () => {
  test("removes the container, the role and the function; true brings them back, and the server keeps running", async () => {
    const server = () => docker(["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", stack.names.container]);
    const before = await server();
    await stack.unset("pooler");
    await stack.up();
    expect(await docker(["ps", "-aq", "--filter", `name=^${stack.names.pooler}$`])).toBe("");
    expect(await value("SELECT count(*)::int FROM pg_roles WHERE rolname = 'sectorwars_pooler'")).toBe(0);
    expect(await value("SELECT has_database_privilege('sectorwars_monitor', 'postgres', 'CONNECT')")).toBe(true);
    expect((await stack.db("status")).text).not.toContain("pooler");
    expect((await stack.db("url", "--pooled")).text).toContain(`The stack ${stack.name} has no pooler`);
    await stack.set("pooler", "true");
    await stack.up();
    await withConnection(await pooled("app"), (client) => client.query("SELECT 1"));
    expect(await server()).toBe(before);
    await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);
  });
});
