/** Read replicas: they stream, heal themselves, and never become a database of their own or serve rows that a restore has undone. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { overrideFile } from "../../components/handover/compose-paths.ts";
import { valuesOf } from "../../components/handover/env-values.ts";
import { holdQueries, readPooler } from "../../components/pooler/pooler-container.ts";
import { docker } from "../../lib/docker.ts";
import { Application } from "../support/application.ts";
import { BACKED_UP, BackedUp, until } from "../support/backed-up.ts";
import { withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

let stack: TestStack;
let backed: BackedUp;
const container = () => `${stack.names.container.replace(/database$/, "")}replica1`;

interface Replica {
  name: string;
  port: number;
}

/** Runs a query on the first replica as a role. */
async function onReplica(role: "readonly" | "app" | "superuser", sql: string): Promise<Record<string, unknown>[]> {
  const { urls, replicas } = await stack.outputs();
  const [first] = replicas as Replica[];
  const address = { ...urlAddress(urls[role]), port: first?.port ?? 0 };
  return withConnection(address, async (client) => (await client.query(sql)).rows, { patienceMs: 10_000 });
}

const rowsOnReplica = async () => (await onReplica("app", "SELECT count(*)::int AS n FROM public.ships"))[0]?.n;
/** Whether the replica has so many rows. It does not answer while it clones, or before the table itself has arrived. */
const sees = (rows: number) =>
  rowsOnReplica().then(
    (found) => found === rows,
    () => false,
  );
const streams = async () => (await stack.db("status", "--json")).stdout.includes('"streaming": true');
const primary = <T = Record<string, unknown>>(sql: string): Promise<T[]> =>
  stack.as("superuser", async (client) => (await client.query(sql)).rows as T[]);
const log = async () => {
  const { stdout, stderr } = await run("docker", ["logs", container()], {});
  return stdout + stderr;
};

beforeAll(async () => {
  stack = await TestStack.make({ ...BACKED_UP, replicas: "1" });
  backed = new BackedUp(stack);
  await stack.up();
  await stack.as("owner", async (client) => {
    await client.query("CREATE TABLE public.ships (id int PRIMARY KEY, name text)");
    await client.query("INSERT INTO public.ships SELECT i, 'ship ' || i FROM generate_series(1, 1000) i");
  });
});
afterAll(() => stack.end());

describe("a replica", () => {
  test("serves the primary's rows, and refuses writes", async () => {
    await until("the rows", () => sees(1000));
    await expect(onReplica("app", "INSERT INTO public.ships VALUES (0)")).rejects.toMatchObject({ code: "25006" });
  });

  test("is in the status with its lag, which is 0 while nothing is written, and in doctor", async () => {
    const said = await stack.db("status");
    expect(said.text).toMatch(/replicas {4}replica1 at 127\.0\.0\.1:\d+ streams, 0 B and 0\.0 s late/);
    expect((await stack.db("doctor")).text).toMatch(/ok +Replica: replica1 at 127\.0\.0\.1:\d+ streams/);
    const { replicas } = JSON.parse((await stack.db("status", "--json")).stdout);
    expect(replicas).toEqual([expect.objectContaining({ name: "replica1", streaming: true, lagSeconds: 0 })]);
  });

  test("has no change in a second update, and shows no password in Docker or in the process list", async () => {
    await stack.up("--expect-no-changes");
    const { replicatorUrl } = (await stack.outputs()) as { replicatorUrl?: string };
    const { password } = urlAddress(replicatorUrl ?? "");
    expect(password).toMatch(/^\w{32}$/);
    const shown = [
      await docker(["inspect", container()]),
      await docker(["exec", container(), "sh", "-c", "cat /proc/*/cmdline /proc/*/environ | tr '\\0' ' '"]),
      await log(),
      await stack.stateText(),
    ];
    for (const text of shown) expect(text).not.toContain(password);
    const mode = await docker(["exec", container(), "stat", "-c", "%a %U", "/var/lib/postgresql/data/primary.pass"]);
    expect(mode.trim()).toBe("600 postgres");
  });

  test("its role can do nothing but replicate", async () => {
    const { replicatorUrl } = (await stack.outputs()) as { replicatorUrl?: string };
    const address = { ...urlAddress(replicatorUrl ?? ""), database: "sectorwars_dev" };
    await expect(withConnection(address, (client) => client.query("SELECT * FROM public.ships"))).rejects.toThrow(
      /permission denied/,
    );
  });

  test("streams again after a restart of either side", async () => {
    for (const name of [container(), stack.names.container]) {
      await docker(["restart", name]);
      await until(`the stream after a restart of ${name}`, streams);
    }
    expect(await log()).not.toContain("cloning the data of database, because the primary");
    expect(await rowsOnReplica()).toBe(1000);
  });

  test("takes the new password of a rotation, and keeps its copy", async () => {
    await stack.set("passwordVersion", "2");
    await stack.up();
    expect(await streams()).toBe(true);
    expect((await log()).match(/cloning the data/g) ?? []).toHaveLength(0);
    expect(await rowsOnReplica()).toBe(1000);
  });

  test("follows when max_connections is raised and lowered", async () => {
    for (const maxConnections of ["150", "60"]) {
      await stack.set("maxConnections", maxConnections);
      await stack.up();
      await primary("INSERT INTO public.ships VALUES ((SELECT max(id) + 1 FROM public.ships))");
      await until("the stream", streams);
      expect((await onReplica("superuser", "SHOW max_connections"))[0]).toBeDefined();
    }
    await until("the new rows", () => sees(1002));
    await primary("DELETE FROM public.ships WHERE id > 1000");
    await stack.unset("maxConnections");
    await stack.up();
  });
});

describe("a replica that cannot follow", () => {
  test("clones the data anew, when its slot has lost WAL", async () => {
    await docker(["stop", container()]);
    await primary("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'");
    await primary("SELECT pg_reload_conf()");
    for (let i = 0; i < 6; i += 1) await primary("SELECT pg_switch_wal(), pg_current_xact_id(), txid_current()");
    await primary("CHECKPOINT");
    await until("the loss of the slot", async () => {
      await primary("SELECT pg_logical_emit_message(true, 'x', repeat('x', 9000000)), pg_switch_wal()");
      await primary("CHECKPOINT");
      return (await primary("SELECT FROM pg_replication_slots WHERE wal_status = 'lost'")).length === 1;
    });
    const status = await stack.db("status");
    expect(status.text).toContain(`REPLICA     replica1: its container ${container()} is exited: docker start`);
    expect(status.code).toBe(1);
    await docker(["start", container()]);
    await until("the stream", streams);
    expect(await log()).toContain("because the primary keeps no WAL for this replica: its replication slot is lost");
    await primary("ALTER SYSTEM RESET max_slot_wal_keep_size");
    await primary("SELECT pg_reload_conf()");
    expect(await rowsOnReplica()).toBe(1000);
  });

  test("never serves rows that a restore has undone, also after --undo", async () => {
    await backed.succeed("backup");
    await stack.as("owner", (client) => client.query("DELETE FROM public.ships WHERE id > 900"));
    const at = new Date().toISOString();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await stack.as("owner", (client) => client.query("DELETE FROM public.ships WHERE id > 1"));
    await until("the deletion on the replica", () => sees(1));

    const seen = new Set<unknown>();
    let isWatching = true;
    const watching = (async () => {
      while (isWatching) seen.add(await rowsOnReplica().catch(() => "no answer"));
    })();
    const said = await backed.succeed("restore", "--to", at);
    await until("the restored rows on the replica", () => sees(900));
    isWatching = false;
    await watching;
    expect([...seen].filter((rows) => rows !== "no answer").at(-1)).toBe(900);
    expect([...seen].indexOf(1)).toBeLessThan([...seen].indexOf(900));
    expect(await log()).toMatch(/cloning the data of database, because the primary is on timeline \d+, this copy on 1/);
    await until("the stream", streams);

    await backed.succeed("restore", "--undo", /--undo (\w+)/.exec(said)?.[1] ?? "");
    await until("the rows from before the restore", () => sees(1));
    await until("the stream", streams);
  });

  test("clones anew by itself, when the primary changes its timeline without a restore of this project", async () => {
    const data = "/var/lib/postgresql/data/pgdata";
    await primary("ALTER SYSTEM SET restore_command = 'false'");
    await docker(["exec", "-u", "postgres", stack.names.container, "touch", `${data}/recovery.signal`]);
    await docker(["restart", stack.names.container]);
    await primary("ALTER SYSTEM RESET restore_command");
    await until("the message", async () => /stopping, because the primary is on timeline/.test(await log()));
    await until("the stream", streams, 90);
    expect(await rowsOnReplica()).toBe(1);
  });

  test("refuses a volume whose data is not a copy, and changes nothing", async () => {
    await docker(["exec", "-u", "postgres", container(), "psql", "-d", "postgres", "-qc", "SELECT pg_promote()"]);
    await until("the refusal", async () => (await log()).includes("FATAL: the volume of replica1 contains a database"));
    expect(await log()).toContain("it was promoted. A replica of this stack must not become a database of its own");
    const said = await stack.db("status");
    expect(said.text).toContain("REPLICA     replica1: ");
    expect(said.code).toBe(1);
    await docker(["rm", "-f", container()]);
    await docker(["volume", "rm", `${container()}-data`]);
    await stack.succeed("refresh", "--yes", "--stack", stack.name);
    await stack.up();
    expect(await streams()).toBe(true);
  });
});

describe("the application of a stack with replicas", () => {
  test("gets a URL that reads from a replica, in .env and in the services' environment", async () => {
    const game = await Application.make();
    try {
      await stack.set("handoverFolder", game.folder);
      await stack.up();
      const url = valuesOf(await game.read(".env")).DATABASE_URL_READONLY ?? "";
      const address = urlAddress(url);
      expect(address).toMatchObject({ host: "localhost", user: "sectorwars_readonly", database: "sectorwars_dev" });
      const { rows } = await withConnection(address, (client) => client.query("SELECT pg_is_in_recovery() AS reads"));
      expect(rows).toEqual([{ reads: true }]);
      const override = await readFile(overrideFile(process.cwd(), stack.name), "utf8");
      const inNetwork =
        /"DATABASE_URL_READONLY": "postgresql:\/\/sectorwars_readonly:\w+@replica:5432\/sectorwars_dev"/g;
      expect(override.match(inNetwork)?.length).toBe(override.match(/"DATABASE_URL": /g)?.length);
    } finally {
      await stack.unset("handoverFolder");
      await stack.up();
      await game.end();
    }
  });
});

describe("the pooler of a stack with replicas", () => {
  test("leads to the replicas by a name of its own, which is held together with the database", async () => {
    const game = await Application.make();
    const place = { stack: stack.name };
    try {
      for (const [key, value] of Object.entries({
        pooler: "true",
        handoverPooled: "true",
        handoverFolder: game.folder,
      })) {
        await stack.set(key, value);
      }
      await stack.up();
      const address = urlAddress(valuesOf(await game.read(".env")).DATABASE_URL_READONLY ?? "");
      expect(address).toMatchObject({
        host: "localhost",
        user: "sectorwars_readonly",
        database: "sectorwars_dev_readonly",
      });
      const reads = () =>
        withConnection(address, async (client) => (await client.query("SELECT pg_is_in_recovery() AS is")).rows);
      expect(await reads()).toEqual([{ is: true }]);
      const held = await holdQueries(place, { databases: ["sectorwars_dev"] });
      expect((await readPooler(place)).paused.sort()).toEqual(["sectorwars_dev", "sectorwars_dev_readonly"]);
      await held.release("none");
      expect((await readPooler(place)).paused).toEqual([]);
      await docker(["restart", container()]);
      expect(await reads()).toEqual([{ is: true }]);
    } finally {
      for (const key of ["pooler", "handoverPooled", "handoverFolder"]) await stack.unset(key);
      await stack.up();
      await game.end();
    }
  });
});

describe("a second replica", () => {
  test("is created by the next update, if one is killed while it clones; services reach both by one name", async () => {
    await stack.set("replicas", "2");
    const update = stack.begin();
    await update.until("replicas-replica2-server");
    await until("the container", async () => (await docker(["ps", "-q", "--filter", "name=replica2"])) !== "");
    await stack.killAll(update);
    await stack.succeed("cancel", "--yes", "--stack", stack.name);
    await stack.up();
    const { replicas } = JSON.parse((await stack.db("status", "--json")).stdout);
    expect(replicas.map(({ name, streaming }: { name: string; streaming: boolean }) => [name, streaming])).toEqual([
      ["replica1", true],
      ["replica2", true],
    ]);
    const hosts = await docker(["exec", stack.names.container, "getent", "ahosts", "replica"]);
    expect(new Set(hosts.match(/^\S+/gm)).size).toBe(2);
  });
});

describe("fewer replicas", () => {
  test("the container, the volume and the slot are gone; the server is not replaced", async () => {
    const id = async () => docker(["inspect", "-f", "{{.Id}}", stack.names.container]);
    const before = await id();
    await stack.set("replicas", "0");
    await stack.up();
    expect(await id()).toBe(before);
    expect((await stack.leftovers()).filter((name) => name.includes("replica"))).toEqual([]);
    expect(await primary("SELECT slot_name FROM pg_replication_slots")).toEqual([]);
    expect(await primary("SELECT FROM pg_roles WHERE rolname = 'sectorwars_replicator'")).toEqual([]);
    await primary("SELECT pg_create_physical_replication_slot('forgotten')");
    const said = await stack.db("status");
    expect(said.text).toContain("SLOT        the replication slot forgotten keeps WAL");
    expect(said.code).toBe(1);
    await primary("SELECT pg_drop_replication_slot('forgotten')");
  });
});
