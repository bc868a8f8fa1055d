/** A stack's life: up, up again, changes that keep every row, drift, and destroy. */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { withConnection } from "../support/session.ts";
import { TestStack, urlAddress } from "../support/test-stack.ts";

let stack: TestStack;
/** Runs a query as the superuser and returns its only value. */
const value = (sql: string): Promise<unknown> =>
  stack.as(
    "superuser",
    async (client) => (await client.query<unknown[]>({ text: sql, rowMode: "array" })).rows[0]?.[0],
  );
const containerId = async () => (await docker(["inspect", "-f", "{{.Id}}", stack.names.container])).trim();

beforeAll(async () => {
  stack = await TestStack.make({ bootstrap: "empty", memory: "1024" });
  await stack.up();
});
afterAll(() => stack.end());

/** A row that every change must keep. */
beforeEach(async () => {
  await stack.as("owner", (client) =>
    client.query(
      "CREATE TABLE IF NOT EXISTS kept (note text PRIMARY KEY); INSERT INTO kept VALUES ('still here') ON CONFLICT DO NOTHING",
    ),
  );
});
const rowsAreKept = async () => expect(await value("SELECT note FROM kept")).toBe("still here");

describe("the server", () => {
  test.each([
    ["SHOW config_file", "/etc/postgresql/postgresql.conf"],
    ["SHOW hba_file", "/etc/postgresql/pg_hba.conf"],
    ["SHOW shared_buffers", "256MB"],
    ["SHOW maintenance_work_mem", "64MB"],
    ["SHOW timezone", "UTC"],
    ["SHOW data_checksums", "on"],
    ["SHOW password_encryption", "scram-sha-256"],
    ["SHOW wal_compression", "lz4"],
    ["SHOW shared_preload_libraries", "pg_stat_statements"],
    ["SELECT current_setting('server_version_num')::int / 10000", 15],
    ["SELECT daticulocale FROM pg_database WHERE datname = current_database()", "en-US"],
    ["SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()", "UTF8"],
    // A bytewise order would sort Z before a, and ä last.
    ["SELECT string_agg(w, '' ORDER BY w) FROM unnest(ARRAY['Z', 'a', 'ä', 'b']) w", "aäbZ"],
    ["SELECT count(*)::int FROM pg_hba_file_rules WHERE auth_method = 'trust' OR error IS NOT NULL", 0],
    ["SELECT count(*)::int FROM pg_authid WHERE rolcanlogin AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'", 0],
    [
      "SELECT string_agg(extname, ' ' ORDER BY extname) FROM pg_extension",
      "pg_stat_statements pgcrypto plpgsql uuid-ossp",
    ],
  ])("%s is %s", async (sql, expected) => {
    expect(await value(sql)).toBe(expected);
  });

  test("is published on 127.0.0.1 only, and inside the network as `database`", async () => {
    const [found] = JSON.parse(await docker(["inspect", stack.names.container]));
    const { port } = urlAddress((await stack.outputs()).urls.owner);
    expect(found.NetworkSettings.Ports).toEqual({ "5432/tcp": [{ HostIp: "127.0.0.1", HostPort: String(port) }] });
    expect(found.NetworkSettings.Networks[stack.names.network].Aliases).toContain("database");
    expect(found.HostConfig.RestartPolicy.Name).toBe("unless-stopped");
    expect(found.HostConfig.ShmSize).toBeGreaterThan(64 * 1024 * 1024);
  });

  test("shows no password in docker inspect, ps or its log", async () => {
    const { urls } = await stack.outputs();
    const passwords = Object.values(urls).map((url) => urlAddress(url).password);
    const shown = await Promise.all([
      docker(["inspect", stack.names.container]),
      docker(["exec", stack.names.container, "sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '"]),
      docker(["logs", stack.names.container]),
      docker(["history", "--no-trunc", `${stack.names.image}:15`]),
    ]);
    const statements = await value("SELECT string_agg(query, ' ') FROM pg_stat_statements");
    for (const password of passwords) expect(`${shown.join("\n")}${statements}`).not.toContain(password);
  });

  test("shuts down cleanly, and restarts with its rows", async () => {
    await docker(["stop", stack.names.container]);
    expect(await docker(["logs", "--tail", "3", stack.names.container]).then(() => true)).toBe(true);
    const exit = await docker(["inspect", "-f", "{{.State.ExitCode}}", stack.names.container]);
    expect(exit.trim()).toBe("0");
    await docker(["start", stack.names.container]);
    await rowsAreKept();
  });
});

describe("without changes", () => {
  test("a second up changes nothing", async () => {
    expect((await stack.up("--expect-no-changes")).text).toContain("unchanged");
  });

  test("a refresh finds no drift", async () => {
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  });
});

describe("changes", () => {
  test("of passwordVersion: the new password works, the old one fails, nothing is recreated", async () => {
    const before = (await stack.outputs()).urls;
    const id = await containerId();
    await stack.set("passwordVersion", String(Date.now() % 1e9));
    await stack.up();
    const after = (await stack.outputs()).urls;
    for (const role of ["superuser", "owner", "app", "readonly", "monitor"] as const) {
      expect(after[role]).not.toBe(before[role]);
      expect(urlAddress(after[role]).password).toMatch(/^[A-Za-z0-9]{32}$/);
      await withConnection(urlAddress(after[role]), (client) => client.query("SELECT 1"));
      await expect(
        withConnection(urlAddress(before[role]), (client) => client.query("SELECT 1")),
      ).rejects.toMatchObject({
        code: "28P01",
      });
    }
    expect(await containerId()).toBe(id);
    await rowsAreKept();
    await stack.up("--expect-no-changes");
  });

  test("of the memory limit and the base image, and back: PostgreSQL's settings follow, the rows stay", async () => {
    const images = JSON.parse(await readFile(".local/images.json", "utf8"));
    // A label makes another base image, so the stack's image is built again.
    const dockerfile = `FROM ${images.databaseBase}\nLABEL sectorwars.test=1\n`;
    await docker(["build", "-q", "-t", `${stack.name}-base:1`, "-"], { input: dockerfile });
    const imageId = async () => (await docker(["inspect", "-f", "{{.Image}}", stack.names.container])).trim();
    const before = await imageId();
    try {
      await stack.set("memory", "1536");
      await stack.set("baseImage", `${stack.name}-base:1`);
      await stack.up();
      expect(await imageId()).not.toBe(before);
      expect(await value("SHOW shared_buffers")).toBe("384MB");
      await rowsAreKept();
    } finally {
      await stack.set("memory", "1024");
      await stack.unset("baseImage");
      await stack.up();
      await docker(["image", "rm", `${stack.name}-base:1`]);
    }
    expect(await imageId()).toBe(before);
    expect(await value("SHOW shared_buffers")).toBe("256MB");
    await rowsAreKept();
  });

  test("of the base image's system are refused by the preview, and the server keeps running", async () => {
    const { databaseBase } = JSON.parse(await readFile(".local/images.json", "utf8"));
    const other = `${stack.name}-other:1`;
    const dockerfile = `FROM ${databaseBase}\nRUN sed -i 's/^ID=.*/ID=elsewhere/; s/^VERSION_ID=.*/VERSION_ID="99.1"/' /etc/os-release\n`;
    await docker(["build", "-q", "-t", other, "-"], { input: dockerfile });
    try {
      await stack.set("baseImage", other);
      const preview = await stack.pulumi("preview", "--stack", stack.name);
      expect(preview.code).not.toBe(0);
      expect(preview.text).toMatch(
        new RegExp(
          `baseImage ${other} is PostgreSQL 15 on elsewhere 99, but this stack's data was made by PostgreSQL 15 on (debian 12|alpine),`,
        ),
      );
      await rowsAreKept();
    } finally {
      await stack.unset("baseImage");
      await docker(["image", "rm", other]);
    }
    await stack.up("--expect-no-changes");
  });

  test("of privileges by hand are found by a refresh and repaired by the next up", async () => {
    await stack.as("superuser", (client) => client.query("GRANT CREATE ON SCHEMA public TO PUBLIC"));
    await stack.succeed("refresh", "--yes", "--stack", stack.name);
    await stack.up();
    expect(await value("SELECT has_schema_privilege('sectorwars_app', 'public', 'CREATE')")).toBe(false);
    await stack.up("--expect-no-changes");
  });
});

describe("a server that cannot start", () => {
  test("the error shows its last log lines and the likely cause, and the remedy works", async () => {
    const note = (text: string) =>
      docker(["exec", stack.names.container, "sh", "-c", `printf '%s' '${text}' >/var/lib/postgresql/data/made-on`]);
    const right = (await docker(["exec", stack.names.container, "cat", "/var/lib/postgresql/data/made-on"])).trim();
    await note("plan9 4");
    await stack.set("memory", "1280");
    const text = await stack.upFails();
    expect(text).toContain("did not become ready");
    expect(text).toContain("Likely cause: the data was made on another operating system than this image");
    expect(text).toContain("| FATAL: the data in this volume was made on plan9 4");
    await docker([
      "run",
      "--rm",
      "-v",
      `${stack.names.volume}:/v`,
      "--entrypoint",
      "sh",
      `${stack.names.image}:15`,
      "-c",
      `echo '${right}' >/v/made-on`,
    ]);
    await stack.up();
    await rowsAreKept();
  });
});

describe("destroy", () => {
  test("leaves nothing; with keepDataOnDestroy it keeps the volume, which the next up uses again", async () => {
    await stack.as("owner", (client) => client.query("CREATE TABLE IF NOT EXISTS audit_log (x int)"));
    await stack.as("owner", (client) => client.query("REVOKE UPDATE ON audit_log FROM sectorwars_app"));
    await stack.set("keepDataOnDestroy", "true");
    await stack.up();
    await stack.succeed("destroy", "--yes", "--skip-preview", "--stack", stack.name);
    expect(await stack.leftovers()).toEqual([`volume ${stack.names.volume}`]);

    await stack.up();
    await rowsAreKept();
    // The roles are the same as before, with their objects and revoked privileges.
    expect(await value("SELECT tableowner FROM pg_tables WHERE tablename = 'kept'")).toBe("sectorwars_owner");
    expect(await value("SELECT has_table_privilege('sectorwars_app', 'audit_log', 'UPDATE')")).toBe(false);
    expect(await value("SELECT count(*)::int FROM pg_roles WHERE rolname LIKE '%kept%'")).toBe(0);
    await stack.as("app", (client) => client.query("SELECT * FROM kept"));
    await stack.up("--expect-no-changes");

    await stack.set("keepDataOnDestroy", "false");
    await stack.up();
    await stack.succeed("destroy", "--yes", "--skip-preview", "--stack", stack.name);
    expect(await stack.leftovers()).toEqual([]);
    await stack.up();
  });
});
