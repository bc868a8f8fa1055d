/** Common problems on users' machines: each ends with a clear error, and changes nothing. */

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { valuesOf } from "../../components/handover/env-values.ts";
import { provider } from "../../components/server/host-check.ts";
import { defaultPort } from "../../components/settings.ts";
import { docker } from "../../lib/docker.ts";
import { Application } from "../support/application.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

describe("an update fails before it creates anything:", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await TestStack.make({ bootstrap: "empty", memory: "512" });
  });
  afterAll(() => stack.end());

  test("a port in use, with a free port to choose", async () => {
    const port = defaultPort(stack.name);
    const servers = [port, port + 1].map((taken) => createServer().listen(taken, "127.0.0.1"));
    try {
      const text = await stack.upFails();
      expect(text).toContain(
        `Port ${port} on 127.0.0.1 is in use by another program. Stop it, or choose another port: pulumi config set port ${port + 2}`,
      );
      expect(await stack.leftovers()).toEqual([]);
    } finally {
      for (const server of servers) server.close();
    }
  });

  test("a foreign container of the same name, which is not touched", async () => {
    const { databaseBase } = JSON.parse(await readFile(".local/images.json", "utf8"));
    await docker(["create", "--name", stack.names.container, databaseBase]);
    try {
      expect(await stack.upFails()).toContain(
        `The container ${stack.names.container} already exists (created), and this stack did not create it`,
      );
      expect(await stack.leftovers()).toEqual([`container ${stack.names.container}`]);
    } finally {
      await docker(["rm", "-v", stack.names.container]);
    }
    // The application's own database often has that name.
    const label = "com.docker.compose.project=the-game";
    await docker(["create", "--name", stack.names.container, "--label", label, databaseBase]);
    try {
      const { container, volume } = stack.names;
      const inputs = { stack: stack.name, container, volume, port: 1, dockerHost: undefined };
      await expect(provider.create(inputs)).rejects.toThrow(
        `The container ${container} (created) belongs to the application's docker compose project the-game. Remove it first: ` +
          "docker compose -p the-game down. Its volume stays, and ./db adopt copies its data into the stack.",
      );
    } finally {
      await docker(["rm", "-v", stack.names.container]);
    }
  });

  test("no Docker engine", async () => {
    const away = await TestStack.make({ bootstrap: "empty" }, { DOCKER_HOST: "unix:///nowhere/docker.sock" });
    try {
      expect(await away.upFails()).toMatch(
        /No Docker engine answers \(.*nowhere.*\)\. Start Docker, or run script\/bootstrap/,
      );
    } finally {
      await away.end();
    }
  });

  test("wrong settings, all in one error", async () => {
    const wrong = await TestStack.make({ bootstrap: "oracle", port: "80", memory: "100", database: "My DB" });
    try {
      const text = await wrong.upFails();
      expect(text).toContain('bootstrap is "oracle": choose sample, neon, empty, backup or auto');
      expect(text).toContain("port is 80: choose 1024 to 65535, or 0 for the default");
      expect(text).toContain("memory is 100: give MiB, at least 256");
      expect(text).toContain('database is "My DB": use at most 41 lowercase letters');
    } finally {
      await wrong.end();
    }
  });

  test("an unknown setting, with the most similar one", async () => {
    const wrong = await TestStack.make({ memroy: "1024" });
    try {
      expect(await wrong.upFails()).toContain("memroy is not a setting. Did you mean memory?");
    } finally {
      await wrong.end();
    }
  });
});

describe("two stacks on one machine, and the commands for them", () => {
  const stacks: TestStack[] = [];
  const games: Application[] = [];
  beforeAll(async () => {
    // Both at the same time, as two users would.
    const make = async (i: number) => {
      const game = await Application.make();
      games[i] = game;
      const stack = await TestStack.make({ bootstrap: "empty", memory: "512", handoverFolder: game.folder });
      stacks[i] = stack;
      await stack.up();
    };
    await Promise.all([0, 1].map(make));
  });
  afterAll(async () => {
    await Promise.all(stacks.map((stack) => stack.end()));
    await Promise.all(games.map((game) => game.end()));
  });
  const command = (name: string, stack: TestStack | undefined, ...args: string[]) =>
    (stack as TestStack).db(name, ...args);

  test("share nothing", async () => {
    const [one, two] = stacks as [TestStack, TestStack];
    await one.as("owner", (client) => client.query("CREATE TABLE only_here (id int)"));
    await two.as("owner", async (client) => {
      await expect(client.query("SELECT * FROM only_here")).rejects.toThrow("does not exist");
    });
    const [a, b] = [(await one.outputs()).urls, (await two.outputs()).urls];
    for (const role of Object.keys(a) as (keyof typeof a)[])
      expect(new URL(a[role]).password).not.toBe(new URL(b[role]).password);
    expect(await one.leftovers()).toHaveLength(3);
    expect(await two.leftovers()).toHaveLength(3);
  });

  test("hand over to one application each; a second hand-over to the same one is an error that names the first stack", async () => {
    const [one, two] = stacks as [TestStack, TestStack];
    const files = await Promise.all(games.map((game) => game.read(".env")));
    for (const [i, stack] of stacks.entries()) {
      const { password, port } = urlAddress((await stack.outputs()).urls.app);
      const url = `postgresql://sectorwars_app:${password}@localhost:${port}/sectorwars_dev`;
      expect(valuesOf(files[i] ?? "").DATABASE_URL).toBe(url);
    }
    await two.set("handoverFolder", games[0]?.folder ?? "");
    const said = await two.pulumi("preview", "--stack", two.name);
    await two.set("handoverFolder", games[1]?.folder ?? "");
    expect(said.code).not.toBe(0);
    expect(said.text).toContain(`contains the block of the stack ${one.name}. Only one stack can hand over to a file`);
    expect(await Promise.all(games.map((game) => game.read(".env")))).toEqual(files);
  });

  test("status reports the state as text and as JSON, without passwords", async () => {
    const human = await command("status", stacks[0]);
    expect(human.code).toBe(0);
    expect(human.text).toMatch(/state {7}running, healthy/);
    expect(human.text).toContain("roles       app ok, monitor ok, owner ok, readonly ok, superuser ok");
    expect(human.text).toContain(
      "backups     off; to be able to restore to any point in time: pulumi config set backups true",
    );
    const machine = JSON.parse((await command("status", stacks[0], "--json")).stdout);
    expect(machine).toMatchObject({ healthy: true, connections: { max: 100 }, roles: { app: "ok" } });
    for (const url of Object.values((await stacks[0]?.outputs())?.urls ?? {})) {
      expect(human.text + JSON.stringify(machine)).not.toContain(new URL(url).password);
    }
  });

  test("status calls a server healthy as soon as it answers, before Docker's first check", async () => {
    const [stack] = stacks as [TestStack];
    await docker(["restart", stack.names.container]);
    const inspect = ["inspect", "--format", "{{.State.Health.Status}}", stack.names.container];
    let said = await command("status", stack);
    while (said.text.includes("does not answer")) said = await command("status", stack);
    expect(said.text).toMatch(/state {7}running, healthy/);
    await expect.poll(() => docker(inspect).then((text) => text.trim()), { timeout: 30_000 }).toBe("healthy");
  });

  test("psql runs as the chosen role", async () => {
    const said = await command("psql", stacks[0], "--role", "readonly", "--", "-Atc", "SELECT current_user");
    expect(said.text.trim()).toBe("sectorwars_readonly");
    const wrong = await command("psql", stacks[0], "--role", "king");
    expect(wrong).toMatchObject({ code: 2 });
    expect(wrong.text).toContain("Allowed choices are owner, app, readonly, monitor, superuser.");
  });

  test("./db works in another folder, through a link, without script/env", async () => {
    const [stack] = stacks as [TestStack];
    const folder = await mkdtemp(join(tmpdir(), "db-"));
    await symlink(resolve("db"), join(folder, "my-db"));
    const { DOCKER_HOST, HOME } = process.env;
    const bare = { DOCKER_HOST, HOME, PATH: "/usr/local/bin:/usr/bin:/bin" };
    const state = `file://${resolve(stack.stateFolder)}`;
    const db = async (...words: string[]) => {
      const options = { cwd: folder, env: { ...bare, PULUMI_BACKEND_URL: state } };
      return (await promisify(execFile)("./my-db", words, options)).stdout.trim();
    };
    try {
      const [status, url, inside, found, list] = await Promise.all([
        db("status", "--json", "--stack", stack.name),
        db("url", "--role", "readonly", "--stack", stack.name),
        db("--stack", stack.name, "url", "--in-network", "--json"),
        db(
          "psql",
          "--stack",
          stack.name,
          "--role",
          "monitor",
          "-Atc",
          "SELECT 'it''s ' || current_user",
          "-v",
          "x=--json",
        ),
        db("migrations", "--stack", stack.name, "--json"),
      ]);
      expect(JSON.parse(status)).toMatchObject({ stack: stack.name, healthy: true });
      expect(url).toBe((await stack.outputs()).urls.readonly);
      expect(found).toBe("it's sectorwars_monitor");
      expect(JSON.parse(list)).toEqual({ revisions: [], restorePoint: null });
      const { url: fromInside, ...place } = JSON.parse(inside);
      expect(place).toMatchObject({ role: "app", port: 5432, host: stack.names.alias, user: "sectorwars_app" });
      const query = ["psql", fromInside, "-Atc", "SELECT current_user"];
      expect((await docker(["exec", stack.names.container, ...query])).trim()).toBe("sectorwars_app");
      await expect(db("url", "--stack", stack.name, "--database", "other")).rejects.toMatchObject({
        code: 2,
        stderr: `error: The stack ${stack.name} has no further database other. It has no further databases.\n`,
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("report names the folder when there is no report", async () => {
    const said = await command("report", stacks[0]);
    expect(said.code).toBe(1);
    expect(said.text).toContain("There is no report in");
  });

  test("doctor succeeds, and for a stopped server prints the remedy and exits with 1", async () => {
    const [, stack] = stacks as [TestStack, TestStack];
    const healthy = await command("doctor", stack);
    expect(healthy.text).toContain("No problems found.");
    expect(healthy.text).toMatch(/ok {5}Disk of the data: [\d.]+ [GT]B free/);
    expect(healthy.code).toBe(0);
    await docker(["stop", stack.names.container]);
    try {
      const ill = await command("doctor", stack);
      expect(ill.code).toBe(1);
      expect(ill.text).toMatch(/WRONG {2}Container .*: exited/);
      expect(ill.text).toContain(`docker start ${stack.names.container}`);
      expect((await command("status", stack)).code).toBe(1);
    } finally {
      await docker(["start", stack.names.container]);
    }
    await stack.as("owner", (client) => client.query("SELECT 1"));
    expect((await command("status", stack)).code).toBe(0);
    await stack.up("--expect-no-changes");
  });

  test("doctor's remedy creates a removed container again, with its rows", async () => {
    const [, stack] = stacks as [TestStack, TestStack];
    await stack.as("owner", (client) => client.query("CREATE TABLE IF NOT EXISTS kept (id int)"));
    await docker(["rm", "-f", stack.names.container]);
    const ill = await command("doctor", stack);
    expect(ill.text).toContain(
      "pulumi refresh --yes --target '**Container::*server', then pulumi up --skip-preview; the volume keeps the data",
    );
    await stack.succeed("refresh", "--yes", "--target", "**Container::*server", "--stack", stack.name);
    await stack.up();
    await stack.as("owner", (client) => client.query("SELECT * FROM kept"));
    await stack.up("--expect-no-changes");
  });

  test("a command for a missing stack says how to create it", async () => {
    const said = await run("./db", ["status", "--stack", "nosuch"], stacks[0]?.env);
    expect(said.code).toBe(2);
    expect(said.text).toContain(
      "The stack nosuch does not exist. Create it: script/up --stack nosuch\nExisting stacks: ",
    );
  });
});
