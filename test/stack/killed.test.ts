/**
 * Kills an update after Docker or PostgreSQL has created something and before Pulumi records it. Then `script/up` alone must bring the
 * stack up, with its data. KILLS=all tests each kill point separately, which takes 35 minutes.
 */
import { readdir } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { BACKED_UP, BackedUp, until } from "../support/backed-up.ts";
import { commitOf, type KillPoint, killAt, newRole, withholdAnswer, withholdRequest } from "../support/kill-points.ts";
import { run, TestStack } from "../support/test-stack.ts";

const ROLES = ["superuser", "owner", "app", "readonly", "monitor"] as const;

const scriptUp = (stack: TestStack) => ["script/up", "--stack", stack.name];

const created = (name: "container" | "backups"): KillPoint => ({
  judge: withholdAnswer((stack) => new RegExp(`^POST \\S+/containers/create\\?\\S*name=${stack.names[name]}[& ]`)),
});

/** The n-th start of a container. Requests name containers by id; a new stack starts the server first, then the backup container. */
const started = (count: number, verdict: "unsent" | "unheard"): KillPoint => ({
  judge: () => {
    let left = count;
    return (request) => {
      if (!/^POST \S+\/containers\/\w+\/start /.test(request)) return undefined;
      left -= 1;
      return left === 0 ? verdict : undefined;
    };
  },
});

/** The end of the image build. BuildKit's session has a connection of its own; after the build, the provider lists the images. */
const built: KillPoint = {
  judge: () => {
    let isBuilding = false;
    return (request) => {
      if (isBuilding && /^GET \S+\/images\/json/.test(request)) return "unsent";
      isBuilding ||= /^POST \S*\/session/.test(request);
      return undefined;
    };
  },
};

/** Kill points while a new stack is created. */
const NEW = {
  "its network": { judge: withholdAnswer(() => /^POST \S+\/networks\/create /) },
  "a volume": { judge: withholdAnswer(() => /^POST \S+\/volumes\/create /) },
  "its image": built,
  "the server's container": created("container"),
  "the server's container on the network": { judge: withholdAnswer(() => /^POST \S+\/networks\/\S+\/connect /) },
  "the server's container with its files": started(1, "unsent"),
  "a running server": started(1, "unheard"),
  "the owner role": newRole(1),
  "the app role": newRole(2),
  "the readonly role": newRole(3),
  "the monitor role": newRole(4),
  "the backup container": created("backups"),
  "a running backup container": started(2, "unheard"),
} satisfies Record<string, KillPoint>;

/** Kill points while the containers of a stack with data are replaced. */
const REPLACED = {
  "the server's former container is removed": { judge: withholdAnswer(() => /^DELETE \S+\/containers\//) },
  "the server's container is created": created("container"),
  "the server's container is started": started(1, "unheard"),
  "the backup container is created": created("backups"),
} satisfies Record<string, KillPoint>;

/** Kill points while a stack with data gets a further database. */
const FURTHER = {
  "the role of another database": commitOf((application) => /terraform|pulumi/i.test(application)),
  "another database without its mark": commitOf((_, statement) => statement.startsWith("CREATE DATABASE")),
  "another database without its name": commitOf((_, statement) => statement.startsWith("COMMENT ON DATABASE")),
  "another database": commitOf((_, statement) => /^ALTER DATABASE .* RENAME/.test(statement)),
} satisfies Record<string, KillPoint>;

/** Kill points while a restore swaps the data directories. */
const RESTORED = {
  "the server is asked to restart": { judge: withholdRequest(() => /^POST \S+\/containers\/\S+\/restart\?/) },
  "the server has restarted": { judge: withholdAnswer(() => /^POST \S+\/containers\/\S+\/restart\?/) },
} satisfies Record<string, KillPoint>;

/** Runs script/up and checks that the stack is complete and that no trace of the killed run is left. Returns the output. */
async function expectConvergence(stack: TestStack): Promise<string> {
  const said = await run("script/up", ["--stack", stack.name], stack.env);
  expect(said.code, said.text).toBe(0);
  expect(said.text).not.toContain("pending operations from");
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
async function expectRegion(stack: TestStack): Promise<void> {
  const urls = (await stack.outputs()).databaseUrls as { region: Record<string, string> };
  expect(Object.keys(urls.region).sort()).toEqual(["app", "owner", "readonly"]);
  const names = "SELECT datname FROM pg_database WHERE datname LIKE 'region%'";
  const found = await stack.as("superuser", (client) => client.query(names));
  expect(found.rows).toEqual([{ datname: "region" }]);
}

/** Changes a setting of each container, so that the next update replaces both. */
async function replaceBoth(stack: TestStack): Promise<void> {
  await stack.set("maxConnections", "101");
  await stack.set("backupGiveUpAt", "91");
}

/** Waits for the first full backup: replacing the server would interrupt it, which status would report as trouble. */
async function firstBackup(stack: TestStack): Promise<BackedUp> {
  const backed = new BackedUp(stack);
  await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
  return backed;
}
const restore = (stack: TestStack) => ["./db", "restore", "--stack", stack.name, "--to", "latest", "--yes"];

describe("killed repeatedly", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await TestStack.make(BACKED_UP);
  });
  afterAll(() => stack.end());

  test("a new stack, once it has its network, a running server, and its owner role", async () => {
    await killAt(stack, scriptUp(stack), NEW["its network"]);
    await killAt(stack, scriptUp(stack), NEW["a running server"]);
    await killAt(stack, scriptUp(stack), NEW["the owner role"]);
    const said = await expectConvergence(stack);
    expect(said).toMatch(/an update was killed \(\S+@\S+, process \d+, since \S+\): removed its lock/);
    expect(said).toContain("cleared its pending operations: roles-owner");
  });

  test("a stack with data, while its server is replaced and another database is created", async () => {
    await fill(stack);
    await firstBackup(stack);
    await replaceBoth(stack);
    await killAt(stack, scriptUp(stack), REPLACED["the server's former container is removed"]);
    await killAt(stack, scriptUp(stack), REPLACED["the server's container is created"]);
    await addRegion(stack);
    await expectConvergence(stack);
    await expectRegion(stack);
    expect(await rows(stack)).toBe(1000);
  });

  test("a restore, while it swaps the data directories", async () => {
    await firstBackup(stack);
    await killAt(stack, restore(stack), RESTORED["the server is asked to restart"]);
    expect(await expectConvergence(stack)).toMatch(/To restore it: {2}\.\/db restore --undo \d+T\d+Z/);
    expect(await rows(stack)).toBe(1000);
  });
});

describe("a running update", () => {
  test("keeps its lock and its objects: script/up names the process that has the stack", async () => {
    const stack = await TestStack.make(BACKED_UP);
    const objectsAndLocks = async () => [
      await stack.leftovers(),
      await readdir(`${stack.stateFolder}/.pulumi/locks`, { recursive: true }),
    ];
    // pulumi itself: a second script/up would stop at the first one's own lock.
    const update = ["pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", stack.name];
    let during: unknown;
    try {
      await expect(
        killAt(stack, update, {
          ...NEW["its network"],
          async next(_, proxy) {
            during = await objectsAndLocks();
            const other = await run("script/up", ["--stack", stack.name], stack.env);
            expect(other.code).toBe(1);
            expect(other.text).toMatch(
              /Another update of the stack \w+ is running \(\S+@\S+, process \d+, since \S+\)\. Wait/,
            );
            expect(await objectsAndLocks()).toEqual(during);
            proxy.release();
            // Never resolves, so that the update runs to its end instead of being killed.
            return new Promise(() => {});
          },
        }),
      ).rejects.toThrow(/ended before it reached the kill point:.*Resources:\s+\+ \d+ created/s);
      await expectConvergence(stack);
    } finally {
      await stack.end();
    }
  });
});

describe("an object that is missing in Pulumi's state", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await TestStack.make(BACKED_UP);
  });
  afterAll(() => stack.end());
  const container = async () =>
    (await docker(["ps", "-aq", "--no-trunc", "--filter", `name=${stack.names.container}`])).trim();

  test("is not touched by a preview; after pulumi cancel, pulumi up alone replaces it", async () => {
    await killAt(stack, scriptUp(stack), NEW["the server's container"]);
    await stack.succeed("cancel", "--yes", "--stack", stack.name);
    const before = await container();
    expect(before).not.toBe("");
    // The preview may fail, because it reads the roles of a server that has not started.
    await stack.pulumi("preview", "--stack", stack.name);
    expect(await container()).toBe(before);
    await stack.up();
    expect(await container()).not.toBe(before);
    await expectConvergence(stack);
  });

  test("is not touched if another state created it, even if its label names this stack", async () => {
    const { network, container: name, backups } = stack.names;
    await docker(["rm", "-f", name, backups]);
    await stack.loseState(BACKED_UP);
    const id = () => docker(["network", "inspect", "--format", "{{.Id}}", network]);
    const before = await id();
    expect(await stack.upFails()).toContain(`The network ${network} already exists, and this stack did not create it`);
    expect(await id()).toBe(before);
  });
});

describe.runIf(process.env.KILLS === "all")("killed once", () => {
  const withStack = async (work: (stack: TestStack) => Promise<void>) => {
    const stack = await TestStack.make(BACKED_UP);
    try {
      await work(stack);
    } finally {
      await stack.end();
    }
  };

  test.each(Object.entries<KillPoint>(NEW))("a new stack, once it has %s", (_title, point) =>
    withStack(async (stack) => {
      await killAt(stack, scriptUp(stack), point);
      await expectConvergence(stack);
    }),
  );

  test.each(Object.entries<KillPoint>(REPLACED))("a stack with data, once %s", (_title, point) =>
    withStack(async (stack) => {
      await stack.up();
      await fill(stack);
      await firstBackup(stack);
      await replaceBoth(stack);
      await killAt(stack, scriptUp(stack), point);
      await expectConvergence(stack);
      expect(await rows(stack)).toBe(1000);
    }),
  );

  test.each(Object.entries<KillPoint>(FURTHER))("a stack with data, once it has %s", (_title, point) =>
    withStack(async (stack) => {
      await stack.up();
      await fill(stack);
      await addRegion(stack);
      await killAt(stack, scriptUp(stack), point);
      await expectConvergence(stack);
      await expectRegion(stack);
      expect(await rows(stack)).toBe(1000);
    }),
  );

  test.each(Object.entries<KillPoint>(RESTORED))("a restore, once %s", (_title, point) =>
    withStack(async (stack) => {
      await stack.up();
      await fill(stack);
      await firstBackup(stack);
      await killAt(stack, restore(stack), point);
      await expectConvergence(stack);
      expect(await rows(stack)).toBe(1000);
      const backed = new BackedUp(stack);
      expect(await backed.succeed("restore", "--to", "latest")).toContain("Done.");
    }),
  );
});
