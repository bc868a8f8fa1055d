/** What goes wrong on people's machines: each ends with a clear error, and nothing half done. */

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
import { run, TestStack, urlAddress } from "./test-stack.ts";

describe("before anything is made", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await TestStack.make({ bootstrap: "empty", memory: "512" });
  });
  afterAll(() => stack.end());

  test("a port that is in use is named, with another to take", async () => {
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

  test("a container of the same name that is somebody else's is left alone", async () => {
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
    // The application's own database has that name, most often.
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

  test("wrong settings are all named at once", async () => {
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

  test("an unknown setting is an error that names the most similar one", async () => {
    const wrong = await TestStack.make({ memroy: "1024" });
    try {
      expect(await wrong.upFails()).toContain("memroy is not a setting. Did you mean memory?");
    } finally {
      await wrong.end();
    }
  });
});

describe("two stacks side by side, and the commands on them", () => {
  const stacks: TestStack[] = [];
  const games: Application[] = [];
  beforeAll(async () => {
    // Both at once, as two people would.
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

  test("hand over to an application each; the second that is led to the same one is refused by name", async () => {
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
    expect(said.text).toContain(`has the block of the stack ${one.name}. Two stacks cannot hand over to one file`);
    expect(await Promise.all(games.map((game) => game.read(".env")))).toEqual(files);
  });

  test("status tells people and machines how it is, and never a password", async () => {
    const words = await command("status", stacks[0]);
    expect(words.code).toBe(0);
    expect(words.text).toMatch(/state {7}running, healthy/);
    expect(words.text).toContain("roles       app ok, monitor ok, owner ok, readonly ok, superuser ok");
    expect(words.text).toContain("backups     off; for any moment back: pulumi config set backups true");
    const machine = JSON.parse((await command("status", stacks[0], "--json")).stdout);
    expect(machine).toMatchObject({ healthy: true, connections: { max: 100 }, roles: { app: "ok" } });
    for (const url of Object.values((await stacks[0]?.outputs())?.urls ?? {})) {
      expect(words.text + JSON.stringify(machine)).not.toContain(new URL(url).password);
    }
  });

  test("psql runs as the role that is asked for", async () => {
    const said = await command("psql", stacks[0], "--role", "readonly", "--", "-Atc", "SELECT current_user");
    expect(said.text.trim()).toBe("sectorwars_readonly");
    const wrong = await command("psql", stacks[0], "--role", "king");
    expect(wrong).toMatchObject({ code: 2 });
    expect(wrong.text).toContain("Allowed choices are owner, app, readonly, monitor, superuser.");
  });

  test("./db works in another folder, through a link, with nothing sourced", async () => {
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
        stderr: `error: The stack ${stack.name} has no further database other. It has none.\n`,
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("report says where it would come from when there is none", async () => {
    const said = await command("report", stacks[0]);
    expect(said.code).toBe(1);
    expect(said.text).toContain("There is no report in");
  });

  test("doctor is content, and when the server is stopped says what to do and exits with 1", async () => {
    const [, stack] = stacks as [TestStack, TestStack];
    const well = await command("doctor", stack);
    expect(well.text).toContain("All is well.");
    expect(well.text).toMatch(/ok {5}Disk of the data: [\d.]+ [GT]B free/);
    expect(well.code).toBe(0);
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

  test("a container that was removed by hand is made anew by what doctor says, with its rows", async () => {
    const [, stack] = stacks as [TestStack, TestStack];
    await stack.as("owner", (client) => client.query("CREATE TABLE IF NOT EXISTS kept (id int)"));
    await docker(["rm", "-f", stack.names.container]);
    const ill = await command("doctor", stack);
    expect(ill.text).toContain(
      "pulumi refresh --yes --target '**Container::server', then pulumi up --skip-preview; the volume keeps the data",
    );
    await stack.succeed("refresh", "--yes", "--target", "**Container::server", "--stack", stack.name);
    await stack.up();
    await stack.as("owner", (client) => client.query("SELECT * FROM kept"));
    await stack.up("--expect-no-changes");
  });

  test("a command for a stack that does not exist says how to make it", async () => {
    const said = await run("./db", ["status", "--stack", "nosuch"], stacks[0]?.env);
    expect(said.code).toBe(2);
    expect(said.text).toContain("There is no stack nosuch. Make it with: script/up --stack nosuch\nThere are: ");
  });
});
