/** Snapshots and portable copies, on one stack with the sample's data and without backups. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, chmod, mkdir, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makePortableCopy, type PortableOrder, verifyPortableCopy } from "../../components/backups/portable.ts";
import {
  deleteSnapshot,
  listSnapshots,
  restoreSnapshot,
  type SnapshotPlace,
  saveSnapshot,
} from "../../components/snapshots/snapshots.ts";
import { LOCK_KEY as MIGRATIONS_LOCK } from "../../lib/connection-lock.ts";
import { docker } from "../../lib/docker.ts";
import { readIdentity } from "../../lib/identity.ts";
import { handToolsImage } from "../support/hand-tools.ts";
import { connect, withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

let stack: TestStack;
let place: SnapshotPlace;
let database: string;

const succeed = async (name: string, ...args: string[]) => {
  const said = await stack.db(name, ...args);
  if (said.code !== 0) throw new Error(`${name} ${args.join(" ")} failed:\n${said.text}`);
  return said.stdout;
};
const message = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "it went well",
    (error: Error) => error.message,
  );
/** Connects as the superuser to the database postgres, to which a snapshot does not block connections. */
const onServer = <T>(work: (client: pg.Client) => Promise<T>): Promise<T> =>
  withConnection({ ...place.address, database: "postgres" }, work, { patienceMs: 20_000 });
const names = async () => (await onServer((client) => listSnapshots(client, database))).map(({ name }) => name);
const value = (sql: string): Promise<unknown> =>
  stack.as(
    "superuser",
    async (client) => (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows[0]?.[0],
  );
/** Returns a hash of all rows of the table that the tests change. */
const players = () => value("SELECT md5(string_agg(p::text, ',' ORDER BY p::text)) FROM players p");
const access = () =>
  value(`SELECT concat_ws(' ', (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) a), pg_get_userbyid(datdba),
    shobj_description(d.oid, 'pg_database'), datallowconn, datconnlimit,
    (SELECT string_agg(setrole || setconfig::text, ' ' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid))
    FROM pg_database d WHERE datname = current_database()`);
/** Waits until the server copies the database, or waits for its other sessions before that. */
const copying = async () => {
  await onServer(async (client) => {
    const sql = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE DATABASE %'";
    for (const end = Date.now() + 20_000; (await client.query(sql)).rowCount === 0; await sleep(10)) {
      if (Date.now() > end) throw new Error("CREATE DATABASE did not start");
    }
  });
};
/** Runs a subcommand of ./db in a terminal, and types the answer to its question. */
async function onTerminal(
  answer: string,
  subcommand: string,
  ...args: string[]
): Promise<{ code: number; text: string }> {
  const command = ["./db", subcommand, "--stack", stack.name, ...args].join(" ");
  const env = { ...process.env, ...stack.env } as NodeJS.ProcessEnv;
  const child = spawn("script", ["-qec", command, "/dev/null"], { env, stdio: ["pipe", "pipe", "inherit"] });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
    if (chunk.toString().includes("[y/N]")) child.stdin.write(answer);
  });
  const [code] = await once(child, "close");
  return { code, text };
}
const asApp = async (): Promise<pg.Client> => connect(urlAddress((await stack.outputs()).urls.app));

beforeAll(async () => {
  stack = await TestStack.make({ memory: "512" });
  await stack.up();
  const address = urlAddress((await stack.outputs()).urls.superuser);
  place = { address, container: stack.names.container };
  database = address.database;
});
afterAll(() => stack.end());

test("reset restores the snapshot that the import made, and keeps the former data; Pulumi sees no change", async () => {
  expect(await names()).toEqual(["imported"]);
  const imported = await players();
  await stack.as("owner", (client) => client.query("TRUNCATE players CASCADE"));
  const emptied = await players();
  // reset asks on a terminal. Ctrl-C and every answer except yes change nothing.
  for (const answer of ["\x03", "\n", "no\n"]) {
    const said = await onTerminal(answer, "reset");
    expect(said.text).toContain(
      `This restores the database ${database} of the stack ${stack.name} to its state after the import.`,
    );
    expect(said.text).toMatch(/Continue\? \[y\/N\] [\s\S]*Nothing was changed\.\s*$/);
    expect(said.code).toBe(1);
  }
  expect(await players()).toBe(emptied);
  expect(await succeed("reset", "--yes")).toContain("The database is in its state after the import.");
  expect(await players()).toBe(imported);
  await restoreSnapshot(place, "before_restore");
  expect(await players()).toBe(emptied);
  await restoreSnapshot(place, "imported");
  expect(await names()).toEqual(["imported", "before_restore"]);
  await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
});

test("restoring a snapshot restores every row, and keeps the current privileges, settings and comment", async () => {
  await value(`ALTER DATABASE ${database} SET search_path = "$user", public, "a, b"`);
  await value(`ALTER DATABASE ${database} SET temp_tablespaces = ''`);
  await value(`ALTER DATABASE ${database} SET sectorwars.colour = 'red'`);
  await value(`ALTER ROLE sectorwars_app IN DATABASE ${database} SET application_name = 'it''s, me'`);
  await value(`COMMENT ON DATABASE ${database} IS 'the game''s'`);
  const [rows, grants] = [await players(), await access()];
  expect(grants).toContain("a, b");
  expect(await succeed("snapshot", "save", "one")).toMatch(/Saved [\d.]+ MB as one in [\d.]+ s/);
  await stack.as("app", (client) => client.query("UPDATE players SET credits = credits + 1"));
  expect(await players()).not.toBe(rows);
  const restored = await onTerminal("y\n", "snapshot", "restore", "one");
  expect(restored.text).toMatch(/Continue\? \[y\/N\] [\s\S]*To restore the former data: .* restore before_restore/);
  expect(restored.code).toBe(0);
  expect(await players()).toBe(rows);
  expect(await access()).toBe(grants);
  expect(JSON.parse(await succeed("snapshot", "list", "--json"))).toMatchObject([
    { name: "imported" },
    { name: "one", bytes: expect.any(Number) },
    { name: "before_restore" },
  ]);
  expect(await succeed("status")).toMatch(/snapshots {3}3, [\d.]+ MB/);
  const port = urlAddress((await stack.outputs()).urls.app);
  // No role can connect to a snapshot, so none can change it.
  await expect(connect({ ...port, database: "save__one" })).rejects.toThrow("not currently accepting connections");
});

test("other sessions: idle ones get an error, new ones wait, busy ones are waited for, reported, or ended with --force", async () => {
  const idle = await asApp();
  const errors: string[] = [];
  idle.on("error", (error) => errors.push(error.message));
  const busy = await asApp();
  await busy.query("BEGIN; UPDATE players SET credits = 0");
  const rows = await players();
  const refused = message(restoreSnapshot(place, "one"));
  expect(await refused).toMatch(/The database \w+ is in use by sectorwars_app .*idle in transaction\. Wait .*--force$/);
  expect(errors.join()).toContain("terminating connection due to administrator command");
  await expect(idle.query("SELECT 1")).rejects.toThrow();

  // A session that connects while the copy waits for a busy one waits too, and then works.
  const saving = saveSnapshot(place, "late");
  await copying();
  const newcomer = players();
  await busy.query("ROLLBACK");
  expect((await saving).name).toBe("late");
  expect(await newcomer).toBe(rows);

  const stubborn = await asApp();
  await stubborn.query("BEGIN; UPDATE players SET credits = 0");
  await restoreSnapshot(place, "late", true);
  await expect(stubborn.query("SELECT 1")).rejects.toThrow();
  expect(await players()).toBe(rows);
  await Promise.all([idle, busy, stubborn].map((client) => client.end().catch(() => {})));
});

describe("interrupted or concurrent", () => {
  test("killed while it copies: sessions can connect, no data is lost, and the next one removes the leftovers", async () => {
    const rows = await players();
    const busy = await asApp();
    await busy.query("BEGIN; SELECT count(*) FROM players");
    const child = spawn("./db", ["snapshot", "--stack", stack.name, "save", "never"], {
      env: { ...process.env, ...stack.env } as NodeJS.ProcessEnv,
    });
    const ended = once(child, "exit");
    await copying();
    child.kill("SIGKILL");
    await ended;
    await busy.query("COMMIT");
    await busy.end();
    expect(await players()).toBe(rows);
    expect(await names()).not.toContain("never");
    // The server finishes the copy, and holds the lock until then.
    await expect.poll(() => message(saveSnapshot(place, "next")), { timeout: 20_000 }).toBe("it went well");
    await deleteSnapshot(place, "next");
    expect(await value("SELECT count(*)::int FROM pg_database WHERE datname ~ '__(restoring|former)$'")).toBe(0);
  });

  test("the server is killed: the data is unchanged", async () => {
    const rows = await players();
    const busy = await asApp();
    busy.on("error", () => {});
    await busy.query("BEGIN; SELECT count(*) FROM players");
    const restoring = message(saveSnapshot(place, "never"));
    await copying();
    await busy.end();
    await docker(["kill", stack.names.container]);
    expect(await restoring).not.toBe("");
    await docker(["start", stack.names.container]);
    await onServer(async () => {});
    expect(await players()).toBe(rows);
    await saveSnapshot(place, "after");
    await deleteSnapshot(place, "after");
  });

  test("two at the same time: only one is made, and the other reports that", async () => {
    const both = await Promise.all([message(saveSnapshot(place, "two")), message(saveSnapshot(place, "three"))]);
    expect(both.filter((text) => text === "it went well")).toHaveLength(1);
    expect(both.join()).toContain("Another snapshot is being made or restored.");
  });
});

test("a command that is refused says why, with the remedy, and changes nothing", async () => {
  const before = await names();
  for (const [work, expected] of [
    [() => saveSnapshot(place, "one"), "The snapshot one already exists. Delete it first: ./db snapshot"],
    [
      () => saveSnapshot(place, "My point"),
      '"My point" is not a valid name for a snapshot: use at most 40 lowercase letters',
    ],
    [
      () => saveSnapshot(place, "before_restore"),
      "The name before_restore is reserved for the snapshot that a restore makes. Choose another name",
    ],
    [() => saveSnapshot(place, "big", { share: 1e-9 }), /The copy needs [\d.]+ MB, but of/],
    [() => restoreSnapshot(place, "nosuch"), "There is no snapshot nosuch. Existing snapshots: imported, one"],
    [() => deleteSnapshot(place, "nosuch"), "There is no snapshot nosuch"],
  ] as const) {
    expect(await message(work())).toMatch(expected);
  }
  await onServer(async (client) => {
    await client.query(`SELECT pg_advisory_lock(${MIGRATIONS_LOCK})`);
    expect(await message(restoreSnapshot(place, "one"))).toContain("Migrations are running on this server. Wait");
    await client.query(`SELECT pg_advisory_unlock(${MIGRATIONS_LOCK})`);
    // A foreign database of that name is not touched.
    await client.query(`CREATE DATABASE ${database}__restoring`);
    expect(await message(saveSnapshot(place, "five"))).toContain(
      `The database ${database}__restoring already exists and is not a snapshot`,
    );
    await client.query(`DROP DATABASE ${database}__restoring`);
    for (let i = before.length; i < 13; i += 1) {
      await client.query(`CREATE DATABASE save__many${i} TEMPLATE template0`);
      await client.query(`COMMENT ON DATABASE save__many${i} IS 'save point of ${database} at 2026-01-01T00:00:00Z'`);
    }
  });
  expect(await message(saveSnapshot(place, "five"))).toContain(
    "There are already 12 snapshots, the maximum. Delete one:",
  );
  for (const name of (await names()).filter((name) => name.startsWith("many"))) await deleteSnapshot(place, name);
  expect(await names()).toEqual(before);
  for (const [args, expected] of [
    [["save"], "missing required argument 'name'\nSee ./db snapshot save --help"],
    [["rename", "one"], "unknown command 'rename'"],
    [["restore", "one"], "There is no terminal to ask for confirmation. To confirm, add --yes."],
    [["delete", "one"], "This permanently deletes the snapshot one of the stack"],
  ] as const) {
    expect(await message(succeed("snapshot", ...args))).toContain(expected);
  }
});

test("during a base backup, a snapshot is copied through the WAL, because a recovery could not replay a file copy", async () => {
  const strategy = (client: pg.Client) =>
    client
      .query("SELECT query FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE DATABASE %'")
      .then(({ rows }) => /STRATEGY (\w+)/.exec(rows[0]?.query ?? "")?.[1]);
  const seen = async () => {
    const saving = saveSnapshot(place, "beside");
    const found = await onServer(async (client) => {
      for (const end = Date.now() + 20_000; Date.now() < end; await sleep(5)) {
        const said = await strategy(client);
        if (said) return said;
      }
      return "none";
    });
    await saving;
    await deleteSnapshot(place, "beside");
    return found;
  };
  // The advisory lock that pgBackRest holds during a backup.
  await onServer(async (client) => {
    await client.query("SELECT pg_advisory_lock(12340078987004321)");
    expect(await seen()).toBe("wal_log");
  });
  expect(await seen()).toBe("file_copy");
  expect(await value("SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory'")).toBe(0);
});

describe("a portable copy", () => {
  const folder = () => resolve(stack.stateFolder, "portable");
  const identityFile = () => resolve(stack.stateFolder, "settings/sectorwars/age-identity.txt");
  const order = (more: Partial<PortableOrder> = {}): PortableOrder => ({
    stack: stack.name,
    container: place.container,
    server: place.address,
    databases: [database],
    folder: folder(),
    recipient: undefined,
    identityFile: identityFile(),
    onNewIdentity: () => {},
    say: () => {},
    ...more,
  });
  let path: string;

  test("is complete, encrypted and readable only by its owner; leftovers of a killed run are removed", async () => {
    await mkdir(join(folder(), `${stack.name}-20260101T000000Z.partial`), { recursive: true });
    // A database that is not in the stack's settings is copied too.
    await onServer((client) => client.query('CREATE DATABASE "by=hand"'));
    const made = JSON.parse(await succeed("backup", "--portable", "--folder", folder(), "--json"));
    expect(made).toMatchObject({ databases: ["by=hand", database], verified: "decrypted" });
    path = made.path;
    expect(await readdir(folder())).toEqual([made.name]);
    const files = (await readdir(path)).sort();
    const dumps = ["by=hand.dump.age", `${database}.dump.age`];
    expect(files.filter((file) => file.endsWith(".dump.age"))).toEqual(dumps);
    expect(files).toEqual(["README.txt", ...dumps, "checksums.txt", "globals.sql.age", "restore.sh"].sort());
    for (const file of files) {
      expect((await stat(join(path, file))).mode & 0o077, file).toBe(0);
      const text = await readFile(join(path, file), "latin1");
      if (file.endsWith(".age")) expect(text).toMatch(/^age-encryption\.org\/v1\n/);
      for (const clear of ["SCRAM-SHA-256", "sectorwars_owner", "players", "PGDMP"]) expect(text).not.toContain(clear);
    }
    expect((await stat(path)).mode & 0o077).toBe(0);
    expect(await succeed("backup", "--check", path)).toContain(
      `is complete: the roles, and by=hand, ${database}, decrypted`,
    );
  });

  test("is restored on another machine by its own script: completely, or one database under a new name", async () => {
    const name = `${stack.names.container}-elsewhere`;
    const rows = await players();
    const inside = (...args: string[]) => docker(["exec", "-w", "/copy", "-e", "PGUSER=postgres", name, ...args]);
    const image = await handToolsImage();
    const server = ["-e", "POSTGRES_HOST_AUTH_METHOD=trust", image, "postgres", "-c", "fsync=off"];
    await docker(["run", "-d", "--name", name, "--network", "none", ...server]);
    try {
      await docker(["cp", path, `${name}:/copy`]);
      await docker(["cp", identityFile(), `${name}:/identity.txt`]);
      const tcp = ["pg_isready", "-q", "-h", "127.0.0.1"];
      await expect.poll(() => message(inside(...tcp)), { timeout: 30_000, interval: 200 }).toBe("it went well");
      await inside("./restore.sh", "/identity.txt");
      await inside("./restore.sh", "/identity.txt", database, "beside");
      const query = "SELECT md5(string_agg(p::text, ',' ORDER BY p::text)) FROM players p";
      for (const restored of [database, "beside"]) {
        expect((await inside("psql", "-X", "-A", "-t", "-d", restored, "-c", query)).trim()).toBe(rows);
      }
      const owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'players'";
      expect(await inside("psql", "-X", "-A", "-t", "-d", database, "-c", owner)).toBe("sectorwars_owner\n");
      const again = inside("./restore.sh", "/identity.txt", database, "beside");
      await expect(again).rejects.toThrow("already exists");
      const halve = `truncate -s 1M ${database}.dump.age && sha256sum *.age README.txt restore.sh >checksums.txt`;
      await inside("sh", "-c", halve);
      const half = inside("./restore.sh", "/identity.txt", database, "half");
      await expect(half).rejects.toThrow(/pg_restore: error|cannot be read/);
    } finally {
      await docker(["rm", "-f", "-v", name]);
    }
  });

  test("reports damage and errors, and a failed one leaves nothing behind", async () => {
    const { secret = "" } = (await readIdentity(identityFile())) ?? {};
    const check = () => message(verifyPortableCopy(path, secret, place.container));
    const dump = join(path, `${database}.dump.age`);
    const { size } = await stat(dump);
    await appendFile(dump, "x");
    expect(await check()).toContain(`${dump} cannot be read: it was changed after it was written`);
    // With matching checksums, as an attacker would write.
    const { stdout } = await run("sh", ["-c", `cd ${path} && sha256sum *.age README.txt restore.sh`]);
    await writeFile(join(path, "checksums.txt"), stdout);
    expect(await check()).toContain(`${dump} cannot be read: it was changed or truncated`);
    await truncate(dump, size);

    const before = await readdir(folder());
    const made = (more: Partial<PortableOrder>) => message(makePortableCopy(order(more)));
    expect(await made({ databases: ["nosuch"] })).toMatch(
      /nosuch\.dump\.age could not be written: .*"nosuch" does not exist/,
    );
    expect(await made({ recipient: "age1x" })).toContain('"age1x" is not an age public key');
    await onServer(async (client) => {
      await client.query("SELECT pg_advisory_lock(8101820098838424677)");
      expect(await made({})).toBe("Another portable copy of this server is being made. Wait until it is done.");
    });
    await chmod(identityFile(), 0o644);
    expect(await made({})).toContain("Other users can read the identity file");
    await chmod(identityFile(), 0o600);
    expect(await readdir(folder())).toEqual(before);
    const foreign = "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z";
    expect(await makePortableCopy(order({ recipient: foreign }))).toMatchObject({
      verified: "as written",
      recipient: foreign,
    });
  });
});
