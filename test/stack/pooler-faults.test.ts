/** The pooler in trouble: killed updates, a port in use, a restore to a time with another password, two stacks, and the hand-over. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { overrideFile } from "../../components/handover/compose-paths.ts";
import { valuesOf } from "../../components/handover/env-values.ts";
import { readPooler } from "../../components/pooler/pooler-container.ts";
import { docker } from "../../lib/docker.ts";
import { composeWords } from "../../lib/docker-compose.ts";
import { Application } from "../support/application.ts";
import { BACKED_UP, BackedUp, until } from "../support/backed-up.ts";
import { killAt, withholdAnswer } from "../support/kill-points.ts";
import { brokenOf, clientsImage, startClients } from "../support/pooled-clients.ts";
import { withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

let stack: TestStack;
let image: string;

const pooledOf = async (of: TestStack) => {
  const { urls, pooler } = await of.outputs();
  return { ...urlAddress(urls.app), port: (pooler as { port: number }).port };
};
/** Returns when the server was started to which a stack's pooler leads. */
const serverOf = async (of: TestStack): Promise<string> =>
  withConnection(
    await pooledOf(of),
    async (client) => (await client.query("SELECT pg_postmaster_start_time()::text AS at")).rows[0].at,
  );
const scriptUp = () => run("script/up", ["--stack", stack.name], stack.env);

async function expectConvergence(): Promise<void> {
  const said = await scriptUp();
  expect(said.code, said.text).toBe(0);
  stack.forgetOutputs();
  await withConnection(await pooledOf(stack), (client) => client.query("SELECT 1"));
  const status = await stack.db("status", "--json");
  expect(JSON.parse(status.stdout)).toMatchObject({ healthy: true, pooler: { troubles: [] } });
  await stack.up("--expect-no-changes");
}

beforeAll(async () => {
  image = await clientsImage();
  stack = await TestStack.make({ ...BACKED_UP, pooler: "true" });
});
afterAll(() => stack.end());

describe("an update of a stack with a pooler", () => {
  test("that is killed after it created the container is completed by the next one", async () => {
    await killAt(stack, ["script/up", "--stack", stack.name], {
      judge: withholdAnswer(({ names }) => new RegExp(`^POST \\S+/containers/create\\?\\S*name=${names.pooler}[& ]`)),
    });
    await expectConvergence();
  });

  test("that is killed while it replaces the server lets the queries go on, and is completed by the next one", async () => {
    await stack.set("maxConnections", "101");
    await killAt(stack, ["script/up", "--stack", stack.name], {
      judge: withholdAnswer(() => /^DELETE \S+\/containers\//),
    });
    const isHeld = async () => (await readPooler({ stack: stack.name })).paused.length > 0;
    await until("the end of the hold", async () => !(await isHeld()), 20);
    await expectConvergence();
  });

  test("stops at a port in use, with the remedy, and keeps the pooler that it has", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    try {
      await stack.set("poolerPort", String(port));
      expect(await stack.upFails()).toMatch(
        new RegExp(
          `Port ${port} on 127\\.0\\.0\\.1 is in use by another program\\. Stop it, or choose another port: pulumi config set poolerPort \\d+`,
        ),
      );
      await withConnection(await pooledOf(stack), (client) => client.query("SELECT 1"));
    } finally {
      server.close();
      await stack.unset("poolerPort");
    }
    await expectConvergence();
  });

  test("puts back a container that was removed by hand", async () => {
    await docker(["rm", "-f", stack.names.pooler]);
    const doctor = await stack.db("doctor");
    expect(doctor.text).toMatch(
      /WRONG {2}Pooler .*does not exist\s+pulumi refresh --yes --target '\*\*Container::pooler-container'/,
    );
    await expectConvergence();
  });

  test("does not touch a pooler that was restarted, which has its configuration", async () => {
    await docker(["restart", stack.names.pooler]);
    await withConnection(await pooledOf(stack), (client) => client.query("SELECT 1"), { patienceMs: 10_000 });
    await stack.up("--expect-no-changes");
  });

  test("leads to its own server beside another stack", async () => {
    const other = await TestStack.make({ bootstrap: "empty", memory: "512", pooler: "true" });
    try {
      await other.up();
      expect(await serverOf(other)).not.toBe(await serverOf(stack));
      await other.succeed("destroy", "--yes", "--skip-preview", "--stack", other.name);
      expect(await other.leftovers()).toEqual([]);
    } finally {
      await other.end();
    }
  });
});

describe("a restore of the server", () => {
  test("keeps the clients' statements right, and today's password of the pooler", async () => {
    const backed = new BackedUp(stack);
    await stack.as("owner", (client) =>
      client.query(
        "CREATE TABLE pilots AS SELECT i AS id, 0 AS visits FROM generate_series(1, 100) i; ALTER TABLE pilots ADD PRIMARY KEY (id)",
      ),
    );
    await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
    await backed.succeed("backup");
    const before = new Date().toISOString();
    await sleep(1500);
    // In the restored data, the pooler's role has another password, and the table has no such column.
    await stack.set("passwordVersion", "2");
    await stack.up();
    await stack.as("owner", (client) => client.query("ALTER TABLE pilots ADD COLUMN note text"));
    const { password } = urlAddress((await stack.outputs()).urls.app);
    const clients = await startClients(image, stack.names.network, {
      url: `postgresql://sectorwars_app:${password}@pooler:6432/sectorwars_dev`,
      clients: { psycopg2: 2, psycopg: 2, asyncpg: 2, "asyncpg-pool": 2 },
      statement: "SELECT * FROM pilots WHERE id = :n",
      pause: 0.02,
    });
    const said = await backed.command("restore", "--to", before);
    await sleep(2500);
    const seen = await clients.stop();
    expect(said.code, said.text).toBe(0);
    expect(brokenOf(seen)).toEqual([]);
    await withConnection(await pooledOf(stack), (client) => client.query("SELECT 1"));
    expect((await stack.db("status")).text).not.toMatch(/TROUBLE {5}.*pooler/);
  });
});

describe("the hand-over through the pooler", () => {
  const project = `swgame${randomBytes(4).toString("hex")}`;
  let game: Application;
  const compose = (...args: string[]) =>
    run("sh", ["-c", 'cd "$0" && exec "$@"', game.folder, ...composeWords(), ...args], { DATABASE_URL: undefined });

  beforeAll(async () => {
    game = await Application.make();
    await game.checkIn(`JWT_SECRET=a-secret-of-the-game\nCOMPOSE_PROJECT_NAME=${project}\n`);
    Object.assign(stack.env, game.buildEnvironment);
    await stack.up();
  });
  afterAll(async () => {
    await compose("down", "--volumes", "--remove-orphans", "--timeout", "0");
    await docker(["image", "rm", `${project}-gameserver`]).catch(() => {});
    await game.end();
  });

  test("refuses a service that does not exist, and names the one that was meant", async () => {
    await stack.set("handoverFolder", game.folder);
    await stack.set("handoverPooled", "true");
    await stack.succeed("config", "set", "--path", "handoverDirect[0]", "gamesever", "--stack", stack.name);
    expect(await stack.upFails()).toMatch(
      /handoverDirect names "gamesever", which is not a service of .*\. Did you mean gameserver\?/,
    );
    await stack.unset("handoverDirect");
  });

  test("gives services the pooler's URL and the direct one, and the application runs on it", async () => {
    await stack.set("alembic", game.gameserver);
    const said = await stack.up();
    expect(said.text).toContain("gameserver (through the pooler), region-manager (superuser)");
    const { password, port: direct } = urlAddress((await stack.outputs()).urls.app);
    const { port } = await pooledOf(stack);
    expect(valuesOf(await game.read(".env"))).toMatchObject({
      DATABASE_URL: `postgresql://sectorwars_app:${password}@localhost:${port}/sectorwars_dev`,
      DATABASE_URL_DIRECT: `postgresql://sectorwars_app:${password}@localhost:${direct}/sectorwars_dev`,
      DATABASE_TEST_URL: `postgresql://sectorwars_app:${password}@localhost:${direct}/sectorwars_dev_test`,
    });
    const override = parse(await readFile(overrideFile(".", stack.name), "utf8"), { logLevel: "silent" });
    expect(override.services.gameserver.environment.DATABASE_URL).toContain("@pooler:6432/");
    expect(override.services["region-manager"].environment.DATABASE_URL).toContain("@database:5432/");
    expect((await stack.db("status")).text).toMatch(
      /pools {7}pooler 20 x 1 database \+ direct 1 service x .* = 50 of \d+ /,
    );

    const up = await compose("up", "--wait", "gameserver");
    expect(up.code, up.text).toBe(0);
    const http = (await compose("port", "gameserver", "8080")).stdout.trim().split(":").pop();
    const health = (await (await fetch(`http://127.0.0.1:${http}/health`)).json()) as {
      sync: unknown[];
      async: unknown[];
    };
    expect([health.sync[0], health.async[0]]).toEqual(["sectorwars_app", "sectorwars_app"]);
    const [pooler] = JSON.parse(await docker(["inspect", stack.names.pooler]));
    const address = pooler.NetworkSettings.Networks[stack.names.network].IPAddress;
    await stack.as("superuser", async (client) => {
      const { rows } = await client.query(
        "SELECT DISTINCT host(client_addr) AS at FROM pg_stat_activity WHERE usename = 'sectorwars_app'",
      );
      expect(rows).toEqual([{ at: address }]);
    });
  });

  test("is taken back by one setting", async () => {
    await compose("down", "--timeout", "0");
    await stack.set("handoverPooled", "false");
    await stack.up();
    const values = valuesOf(await game.read(".env"));
    expect(values).not.toHaveProperty("DATABASE_URL_DIRECT");
    expect(values.DATABASE_URL).toContain(`:${urlAddress((await stack.outputs()).urls.app).port}/`);
  });
});
