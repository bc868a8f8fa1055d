/**
 * Everything is killed in the moment between a thing's making, in Docker or in PostgreSQL, and Pulumi's note of it. Then script/up
 * alone brings the stack up, with its data. KILLS=all tries each moment by itself, which takes about half an hour.
 */
import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { BackedUp, until } from "./backed-up.ts";
import { commitOf, killAt, type Moment, newRole, unheard, withheldFrom } from "./killed-at.ts";
import { run, TestStack } from "./test-stack.ts";

const NEVER = { backupFull: "never", backupDifferential: "never", backupDrill: "never" };
const SETTINGS = { bootstrap: "empty", memory: "512", backups: "true", ...NEVER };
const ROLES = ["superuser", "owner", "app", "readonly", "monitor"] as const;

const scriptUp = (stack: TestStack) => ["script/up", "--stack", stack.name];

const created = (name: "container" | "backups"): Moment => ({
  judge: unheard((stack) => new RegExp(`^POST \\S+/containers/create\\?\\S*name=${stack.names[name]}[& ]`)),
});

/** Containers are started by their ids; a new stack starts the server first, then the backups. */
const started = (count: number, verdict: "unsent" | "unheard"): Moment => ({
  judge: () => {
    let left = count;
    return (request) => {
      if (!/^POST \S+\/containers\/\w+\/start /.test(request)) return undefined;
      left -= 1;
      return left === 0 ? verdict : undefined;
    };
  },
});

/** The builder has its session on a connection of its own; once it has built, the provider asks which images there are. */
const built: Moment = {
  judge: () => {
    let isBuilding = false;
    return (request) => {
      if (isBuilding && /^GET \S+\/images\/json/.test(request)) return "unsent";
      isBuilding ||= /^POST \S*\/session/.test(request);
      return undefined;
    };
  },
};

/** While a new stack comes up. */
const NEW = {
  "its network": { judge: unheard(() => /^POST \S+\/networks\/create /) },
  "a volume": { judge: unheard(() => /^POST \S+\/volumes\/create /) },
  "its image": built,
  "the server's container": created("container"),
  "the server's container, on the network": { judge: unheard(() => /^POST \S+\/networks\/\S+\/connect /) },
  "the server's container, with its files": started(1, "unsent"),
  "the server's container, started": started(1, "unheard"),
  "the owner": newRole(1),
  "the app's role": newRole(2),
  "the readonly role": newRole(3),
  "the monitor": newRole(4),
  "the backups' container": created("backups"),
  "the backups' container, started": started(2, "unheard"),
} satisfies Record<string, Moment>;

/** While the containers of a stack with data are replaced. */
const REPLACED = {
  "its server's former container is gone": { judge: unheard(() => /^DELETE \S+\/containers\//) },
  "its server's container is made": created("container"),
  "its server's container is started": started(1, "unheard"),
  "its backups' container is made": created("backups"),
} satisfies Record<string, Moment>;

/** While a stack with data gets a further database. */
const FURTHER = {
  "the role of another database": commitOf((application) => /terraform|pulumi/i.test(application)),
  "another database without its mark": commitOf((_, statement) => statement.startsWith("CREATE DATABASE")),
  "another database without its name": commitOf((_, statement) => statement.startsWith("COMMENT ON DATABASE")),
  "another database": commitOf((_, statement) => /^ALTER DATABASE .* RENAME/.test(statement)),
} satisfies Record<string, Moment>;

/** While a restore exchanges the data. */
const RESTORED = {
  "the server is asked to restart": { judge: withheldFrom(() => /^POST \S+\/containers\/\S+\/restart\?/) },
  "the server has restarted": { judge: unheard(() => /^POST \S+\/containers\/\S+\/restart\?/) },
} satisfies Record<string, Moment>;

/** script/up alone, then all is as if nothing had been. */
async function converges(stack: TestStack): Promise<string> {
  const said = await run("script/up", ["--stack", stack.name], stack.env);
  expect(said.code, said.text).toBe(0);
  expect(said.text).not.toContain("pending operations");
  stack.forgetOutputs();
  for (const role of ROLES) await stack.as(role, (client) => client.query("SELECT 1"));
  const pgMonitor = "SELECT pg_has_role('sectorwars_monitor', 'pg_monitor', 'MEMBER') AS is";
  await stack.as("monitor", async (client) => expect((await client.query(pgMonitor)).rows).toEqual([{ is: true }]));
  const roles = await stack.as("superuser", (client) =>
    client.query("SELECT rolname FROM pg_roles WHERE rolname LIKE '%\\_\\_kept'"),
  );
  expect(roles.rows).toEqual([]);
  const status = await stack.db("status", "--json");
  expect(JSON.parse(status.stdout)).toMatchObject({ healthy: true });
  const again = await stack.up("--expect-no-changes");
  expect(again.text).not.toMatch(/pending operations|warning/);
  expect(await stack.leftovers()).toHaveLength(6);
  return said.text;
}

const fill = (stack: TestStack) =>
  stack.as("owner", (client) =>
    client.query("CREATE TABLE ledger (n int PRIMARY KEY); INSERT INTO ledger SELECT generate_series(1, 1000)"),
  );
const rows = (stack: TestStack): Promise<number> =>
  stack.as("app", async (client) => (await client.query("SELECT count(*)::int AS n FROM ledger")).rows[0].n);

const addRegion = (stack: TestStack) =>
  stack.succeed("config", "set", "--stack", stack.name, "--path", "databases[0]", "region");
async function hasRegion(stack: TestStack): Promise<void> {
  const urls = (await stack.outputs()).databaseUrls as { region: Record<string, string> };
  expect(Object.keys(urls.region).sort()).toEqual(["app", "owner", "readonly"]);
  const names = "SELECT datname FROM pg_database WHERE datname LIKE 'region%'";
  const found = await stack.as("superuser", (client) => client.query(names));
  expect(found.rows).toEqual([{ datname: "region" }]);
}

/** Settings that are part of both containers: the next update replaces them. */
async function replaceBoth(stack: TestStack): Promise<void> {
  await stack.set("maxConnections", "101");
  await stack.set("backupGiveUpAt", "91");
}

/** A backup that a replaced server cuts off would be trouble of its own. */
async function firstBackup(stack: TestStack): Promise<BackedUp> {
  const backed = new BackedUp(stack);
  await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
  return backed;
}
const restore = (stack: TestStack) => ["./db", "restore", "--stack", stack.name, "--to", "latest", "--yes"];

describe("killed one time after the other", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await TestStack.make(SETTINGS);
  });
  afterAll(() => stack.end());

  test("a new stack, when it has its network, its server's container, its owner", async () => {
    await killAt(stack, scriptUp(stack), NEW["its network"]);
    await killAt(stack, scriptUp(stack), NEW["the server's container, started"]);
    await killAt(stack, scriptUp(stack), NEW["the owner"]);
    const said = await converges(stack);
    expect(said).toMatch(/an update was killed \(\S+@\S+, process \d+, since \S+\): removed its lock/);
    expect(said).toContain("cleared its pending operations: owner");
  });

  test("a stack with data, while its server is replaced and another database is made", async () => {
    await fill(stack);
    await firstBackup(stack);
    await replaceBoth(stack);
    await killAt(stack, scriptUp(stack), REPLACED["its server's former container is gone"]);
    await killAt(stack, scriptUp(stack), REPLACED["its server's container is made"]);
    await addRegion(stack);
    await converges(stack);
    await hasRegion(stack);
    expect(await rows(stack)).toBe(1000);
  });

  test("a restore, while it exchanges the data", async () => {
    await firstBackup(stack);
    await killAt(stack, restore(stack), RESTORED["the server is asked to restart"]);
    expect(await converges(stack)).toMatch(/To restore it: {2}\.\/db restore --undo \d+T\d+Z/);
    expect(await rows(stack)).toBe(1000);
  });
});

describe("an update that lives", () => {
  test("keeps its lock and all that it makes: script/up beside it says who has the stack", async () => {
    const stack = await TestStack.make(SETTINGS);
    const things = async () => [
      await stack.leftovers(),
      await readdir(`${stack.stateFolder}/.pulumi/locks`, { recursive: true }),
    ];
    let during: unknown;
    try {
      await expect(
        killAt(stack, scriptUp(stack), {
          ...NEW["its network"],
          async next(_, proxy) {
            during = await things();
            const other = await run("script/up", ["--stack", stack.name], stack.env);
            expect(other.code).toBe(1);
            expect(other.text).toMatch(
              /Another update of the stack \w+ is running \(\S+@\S+, process \d+, since \S+\)\. Wait/,
            );
            expect(await things()).toEqual(during);
            proxy.release();
            // Nothing is killed: it goes on to its end.
            return new Promise(() => {});
          },
        }),
      ).rejects.toThrow(/ended before the moment came:.*state +running, healthy/s);
      await converges(stack);
    } finally {
      await stack.end();
    }
  });
});

describe("what Pulumi does not know", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await TestStack.make(SETTINGS);
  });
  afterAll(() => stack.end());
  const container = async () =>
    (await docker(["ps", "-aq", "--no-trunc", "--filter", `name=${stack.names.container}`])).trim();

  test("a preview leaves it alone, and after pulumi cancel an update does without script/up", async () => {
    await killAt(stack, scriptUp(stack), NEW["the server's container"]);
    await stack.succeed("cancel", "--yes", "--stack", stack.name);
    const before = await container();
    expect(before).not.toBe("");
    // Whether it succeeds: it asks the server about its roles, which has not started.
    await stack.pulumi("preview", "--stack", stack.name);
    expect(await container()).toBe(before);
    await stack.up();
    expect(await container()).not.toBe(before);
    await converges(stack);
  });

  test("another state's network is left alone, whatever stack it says it belongs to", async () => {
    const { network, container: name, backups } = stack.names;
    await docker(["rm", "-f", name, backups]);
    await stack.loseState(SETTINGS);
    const id = () => docker(["network", "inspect", "--format", "{{.Id}}", network]);
    const before = await id();
    expect(await stack.upFails()).toContain(
      `A network named ${network} exists already, and this stack did not make it`,
    );
    expect(await id()).toBe(before);
  });
});

describe.runIf(process.env.KILLS === "all")("killed once", () => {
  const withStack = async (work: (stack: TestStack) => Promise<void>) => {
    const stack = await TestStack.make(SETTINGS);
    try {
      await work(stack);
    } finally {
      await stack.end();
    }
  };

  test.each(Object.entries<Moment>(NEW))("a new stack, when it has %s", (_title, moment) =>
    withStack(async (stack) => {
      await killAt(stack, scriptUp(stack), moment);
      await converges(stack);
    }),
  );

  test.each(Object.entries<Moment>(REPLACED))("a stack with data, when %s", (_title, moment) =>
    withStack(async (stack) => {
      await stack.up();
      await fill(stack);
      await firstBackup(stack);
      await replaceBoth(stack);
      await killAt(stack, scriptUp(stack), moment);
      await converges(stack);
      expect(await rows(stack)).toBe(1000);
    }),
  );

  test.each(Object.entries<Moment>(FURTHER))("a stack with data, when it has %s", (_title, moment) =>
    withStack(async (stack) => {
      await stack.up();
      await fill(stack);
      await addRegion(stack);
      await killAt(stack, scriptUp(stack), moment);
      await converges(stack);
      await hasRegion(stack);
      expect(await rows(stack)).toBe(1000);
    }),
  );

  test.each(Object.entries<Moment>(RESTORED))("a restore, when %s", (_title, moment) =>
    withStack(async (stack) => {
      await stack.up();
      await fill(stack);
      await firstBackup(stack);
      await killAt(stack, restore(stack), moment);
      await converges(stack);
      expect(await rows(stack)).toBe(1000);
      const backed = new BackedUp(stack);
      expect(await backed.succeed("restore", "--to", "latest")).toContain("Done.");
    }),
  );
});
