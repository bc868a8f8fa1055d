/** Save points, on one stack with the sample's data. With BACKUPS=all in the environment also backups off and on again. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseReport } from "../../components/backups/report.ts";
import { maintenance } from "../../components/import/swap.ts";
import { docker } from "../../lib/docker.ts";
import { connect, withConnection } from "../../lib/postgres.ts";
import { run, TestStack, urlAddress } from "./test-stack.ts";

let stack: TestStack;
const command = (name: string, ...args: string[]) =>
  run("node", [`commands/${name}.ts`, "--stack", stack.name, ...args], stack.env);
const succeed = async (name: string, ...args: string[]) => {
  const said = await command(name, ...args);
  if (said.code !== 0) throw new Error(`${name} ${args.join(" ")} failed:\n${said.text}`);
  return said.text;
};
const value = (sql: string): Promise<unknown> =>
  stack.as(
    "superuser",
    async (client) => (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows[0]?.[0],
  );
const asApp = async (): Promise<pg.Client> => connect(urlAddress((await stack.outputs()).urls.app));
const players = () => value("SELECT md5(string_agg(p::text, ',' ORDER BY p::text)) FROM players p");
const access = () =>
  value(`SELECT concat_ws(' ', (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a), pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'),
    (SELECT string_agg(setrole || setconfig::text, ' ' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid))
    FROM pg_database d WHERE datname = current_database()`);
const database = async () => urlAddress((await stack.outputs()).urls.superuser).database;

async function firstBackup(): Promise<void> {
  const report = async () => parseReport(await docker(["exec", stack.names.backups, "sectorwars-backup", "report"]));
  for (const end = Date.now() + 120_000; (await report()).full.ok === null; await sleep(500)) {
    if (Date.now() > end) throw new Error("there is no first backup");
  }
}

beforeAll(async () => {
  const never = { backupFull: "never", backupDifferential: "never", backupDrill: "never" };
  stack = await TestStack.make({ memory: "512", backups: "true", ...never });
  await stack.up();
  // A save point waits for nobody who reads for long, and the first backup writes down what the tables hold.
  await firstBackup();
});
afterAll(() => stack.end());

test("a save point brings back every row, who may connect and the settings; what was there meanwhile is kept", async () => {
  await value(`ALTER DATABASE ${await database()} SET search_path = "$user", public, "a, b"`);
  await value(`ALTER ROLE sectorwars_app IN DATABASE ${await database()} SET application_name = 'it''s, me'`);
  await value(`COMMENT ON DATABASE ${await database()} IS 'the game''s'`);
  const [rows, grants] = [await players(), await access()];
  expect(grants).toContain("a, b");
  expect(await succeed("snapshot", "save", "one")).toMatch(/Saved [\d.]+ MB as one in [\d.]+ s/);
  await stack.as("app", (client) => client.query("UPDATE players SET credits = credits + 1"));
  const changed = await players();
  expect(changed).not.toBe(rows);
  await succeed("snapshot", "restore", "one");
  expect(await players()).toBe(rows);
  expect(await access()).toBe(grants);
  await stack.up("--expect-no-changes");
  await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  await succeed("snapshot", "restore", "before_restore");
  expect(await players()).toBe(changed);
});

test("reset is the state right after the import", async () => {
  const before = await players();
  await succeed("snapshot", "restore", "one");
  const imported = await players();
  await stack.as("owner", (client) => client.query("TRUNCATE players CASCADE"));
  await succeed("reset");
  expect(await players()).toBe(imported);
  expect(await players()).not.toBe(before);
});

describe("others", () => {
  test("that are idle are told so; one that works is waited for, then named, unless it is forced out", async () => {
    const idle = await asApp();
    const told: string[] = [];
    idle.on("error", (error) => told.push(error.message));
    const busy = await asApp();
    await busy.query("BEGIN; UPDATE players SET credits = 0");
    const refused = await command("snapshot", "restore", "one");
    expect(refused.code).toBe(1);
    expect(refused.text).toMatch(/Somebody works in the database: sectorwars_app .*idle in transaction.*--force/);
    expect(told.join()).toContain("terminating connection due to administrator command");
    await expect(idle.query("SELECT 1")).rejects.toThrow();

    // Ctrl-C while it waits: the door is not left shut.
    const child = spawn("node", ["commands/snapshot.ts", "--stack", stack.name, "save", "never"], {
      env: { ...process.env, ...stack.env } as NodeJS.ProcessEnv,
    });
    const ended = once(child, "exit");
    const server = maintenance(urlAddress((await stack.outputs()).urls.superuser));
    await withConnection(server, async (client) => {
      const shut = "SELECT FROM pg_database WHERE datname = $1 AND NOT datallowconn";
      while ((await client.query(shut, [await database()])).rowCount === 0) {
        if (child.exitCode !== null) throw new Error("the database was never shut");
        await sleep(20);
      }
    });
    child.kill("SIGINT");
    expect((await ended)[0]).toBe(130);
    await stack.as("app", (client) => client.query("SELECT 1"));

    // The one that was waited for goes on, and the door is open again.
    await busy.query("ROLLBACK");
    await busy.query("BEGIN; SELECT count(*) FROM players");
    await stack.as("app", (client) => client.query("SELECT 1"));
    await succeed("snapshot", "restore", "one", "--force");
    await expect(busy.query("SELECT 1")).rejects.toThrow();
    await Promise.all([idle.end().catch(() => {}), busy.end().catch(() => {})]);
    await stack.as("app", (client) => client.query("SELECT 1"));
  });
});

test("what cannot be is said, with the remedy", async () => {
  for (const [args, words] of [
    [["save", "one"], "There is a save point one already. Delete it first"],
    [["save", "My point"], '"My point" cannot name a save point'],
    [["restore", "nosuch"], "There is no save point nosuch. There are: "],
    [["delete", "nosuch"], "There is no save point nosuch"],
    [["save"], "Which save point? npm run snapshot -- save NAME"],
    [["rename", "one"], "Say save, list, restore or delete"],
  ] as const) {
    const said = await command("snapshot", ...args);
    expect(said.code, args.join(" ")).toBe(1);
    expect(said.text).toContain(words);
  }
});

test("two at once: one is made, the other says so; one that was cut short is cleared", async () => {
  const both = await Promise.all([command("snapshot", "save", "two"), command("snapshot", "save", "three")]);
  expect(both.map(({ code }) => code).sort()).not.toEqual([1, 1]);
  for (const { code, text } of both) if (code === 1) expect(text).toContain("Another save point is being made");
  await value(`CREATE DATABASE "${await database()}__restoring"`);
  expect(JSON.parse(await succeed("snapshot", "list", "--json")).length).toBeGreaterThanOrEqual(3);
  await succeed("snapshot", "save", "four");
  expect(await value(`SELECT count(*)::int FROM pg_database WHERE datname LIKE '%restoring'`)).toBe(0);
  await succeed("snapshot", "delete", "four");
});

test.runIf(process.env.BACKUPS === "all")(
  "backups go off and on again, into a folder, and the data stays",
  async () => {
    const before = await players();
    await succeed("snapshot", "delete", "imported");
    await stack.unset("backups");
    await stack.up();
    expect((await stack.leftovers()).join("\n")).not.toMatch(/backups|socket/);
    expect(await players()).toBe(before);
    expect(await succeed("status")).not.toMatch(/^ {2}(backups|key) /m);
    expect((await command("backup")).text).toContain(`The stack ${stack.name} takes no backups. Switch them on`);
    expect((await command("reset")).text).toContain(
      "There is no save point imported. The update that imports makes it",
    );
    const folder = resolve(stack.stateFolder, "repository");
    await stack.set("backups", "true");
    await stack.set("backupRepository", folder);
    await stack.up();
    expect(await players()).toBe(before);
    // What is there now is of another day than the import.
    expect((await command("reset")).code).toBe(1);
    await firstBackup();
    expect(await succeed("drill")).toContain("all as recorded");
    expect((await readdir(folder)).sort()).toEqual(["archive", "backup"]);
    await stack.up("--expect-no-changes");
    // The files are the server's user's, whoever runs this test.
    await docker(["exec", stack.names.backups, "sh", "-c", "rm -rf /var/lib/sectorwars-backups/repository/*"]);
  },
);
