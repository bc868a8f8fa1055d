/** The import as part of an update: it runs once and proves the data, and an error leaves nothing of it. */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Difference } from "../../components/import/compare/verify.ts";
import { makeServerCertificate } from "../../lib/certificates.ts";
import { docker } from "../../lib/docker.ts";
import { withConnection } from "../support/session.ts";
import { run, TestStack, urlAddress } from "../support/test-stack.ts";

const baseImage = async () => JSON.parse(await readFile(".local/images.json", "utf8")).databaseBase as string;

describe("an import from the sample", () => {
  let stack: TestStack;
  let firstUp: string;
  beforeAll(async () => {
    stack = await TestStack.make({ memory: "512" });
    firstUp = (await stack.up()).text;
  });
  afterAll(() => stack.end());

  test("shows its progress, and proves every table", async () => {
    expect(firstUp).toMatch(/import: copying the rows of 41 tables, 2 at a time/);
    expect(firstUp).toMatch(/import: 41 tables, [\d,]+ rows, .* proven equal/);
    const report = JSON.parse(await readFile(`reports/${stack.name}/import.json`, "utf8"));
    expect(report.verdict).toBe("identical");
    expect(report.rows).toBeGreaterThan(200_000);
    expect(report.tables.every((t: { source: string; target: string }) => t.source === t.target)).toBe(true);
    expect((await stack.outputs()).imported).toMatchObject({ tables: 41, rows: report.rows });
  });

  test("removes the sample's server, and the app role can read and write the imported rows", async () => {
    expect(await stack.leftovers()).toEqual([
      `container ${stack.names.container}`,
      `volume ${stack.names.volume}`,
      `network ${stack.names.network}`,
    ]);
    await stack.as("app", async (client) => {
      const { rows } = await client.query(
        "SELECT count(DISTINCT language)::int AS n FROM translations WHERE text ~ '[^[:ascii:]]'",
      );
      expect(rows[0].n).toBeGreaterThan(10);
      await client.query("UPDATE players SET credits = credits + 1");
      await expect(client.query("DELETE FROM admin_action_logs")).rejects.toMatchObject({ code: "42501" });
    });
    await expect(stack.as("readonly", (client) => client.query("SELECT * FROM mfa_secrets"))).rejects.toThrow("denied");
  });

  test("a second up imports nothing, a refresh finds no drift, and later rows stay", async () => {
    await stack.as("app", (client) =>
      client.query("INSERT INTO achievements VALUES ('mine', 1) ON CONFLICT DO NOTHING"),
    );
    const { text } = await stack.up("--expect-no-changes");
    expect(text).not.toContain("import:");
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
    await stack.as("app", async (client) => {
      expect((await client.query("SELECT FROM achievements WHERE code = 'mine'")).rowCount).toBe(1);
    });
  });

  test("another bootstrap is refused, by the preview too, with the remedy", async () => {
    await stack.set("bootstrap", "neon");
    try {
      const said = await stack.pulumi("preview", "--stack", stack.name);
      expect(said.code).not.toBe(0);
      expect(said.text).toContain(
        'bootstrap is now "neon", but this stack\'s data came from "sample", and existing data is never',
      );
    } finally {
      await stack.unset("bootstrap");
    }
    await stack.up("--expect-no-changes");
  });

  test("a rotated password updates the import's resource without another import", async () => {
    await stack.set("passwordVersion", "2");
    expect((await stack.up()).text).not.toContain("import: ");
    await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
  });
});

describe("an import from a server with TLS, like Neon", () => {
  const name = `sectorwars-test-neon-${randomBytes(4).toString("hex")}`;
  const password = `neon${randomBytes(16).toString("hex")}`;
  let folder: string;
  let url: string;
  let env: Record<string, string>;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sectorwars-test-"));
    const { authority, certificate, key } = await makeServerCertificate(["localhost"]);
    await writeFile(join(folder, "authority.pem"), authority);
    await writeFile(join(folder, "server.crt"), certificate);
    await writeFile(join(folder, "server.key"), key, { mode: 0o644 });
    await docker([
      "create",
      "--name",
      name,
      "-p",
      "127.0.0.1::5432",
      "-e",
      `POSTGRES_PASSWORD=${password}`,
      "-e",
      "PGDATA=/tmp/pgdata",
      "-e",
      "POSTGRES_DB=neondb",
      "--entrypoint",
      "sh",
      await baseImage(),
      "-c",
      "cp /tls/server.* /tmp/ && chmod 600 /tmp/server.key && chown postgres /tmp/server.* && exec docker-entrypoint.sh postgres -c ssl=on -c ssl_cert_file=/tmp/server.crt -c ssl_key_file=/tmp/server.key -c log_connections=on -c log_statement=all -c listen_addresses='*'",
    ]);
    await docker(["cp", folder, `${name}:/tls`]);
    await docker(["start", name]);
    const port = (await docker(["port", name, "5432/tcp"])).trim().split(":").pop();
    url = `postgresql://postgres:${password}@localhost:${port}/neondb?sslmode=verify-full&channel_binding=require`;
    env = { NEON_DATABASE_URL: url, NEON_ROOT_CERTIFICATES: join(folder, "authority.pem") };
    await withConnection(
      { host: "127.0.0.1", port: Number(port), user: "postgres", password, database: "neondb" },
      (client) =>
        client.query(
          "ALTER DATABASE neondb SET search_path = public, pg_catalog; ALTER DATABASE neondb SET app.secret = 'S3cret, of theirs'; CREATE TABLE players AS SELECT i AS id, 'player ' || i AS name FROM generate_series(1, 1000) i; ALTER TABLE players ADD PRIMARY KEY (id); ALTER TABLE players ADD tier varchar(9) CHECK (tier IN ('gold', 'none'))",
        ),
      { patienceMs: 60_000 },
    );
  });
  afterAll(async () => {
    await docker(["rm", "-f", "-v", name]).catch(() => {});
    await rm(folder, { recursive: true, force: true });
  });

  /** Checks that `backups: auto` backs up data from Neon, also in an update without the URL, and that destroy names what it deletes. */
  const expectBackups = async (stack: TestStack) => {
    stack.env.NEON_DATABASE_URL = undefined;
    await stack.up("--expect-no-changes");
    stack.env.NEON_DATABASE_URL = url;
    const onDestroy = "deletes all data and all backups; to keep: pulumi config set ";
    expect(await stack.outputs()).toMatchObject({
      backups: stack.names.backups,
      onDestroy: expect.stringContaining(onDestroy),
    });
    const preview = await stack.succeed("destroy", "--preview-only", "--stack", stack.name);
    expect(preview.text).toContain(onDestroy);
    const status = await stack.db("status");
    expect(status.text).toContain(`on destroy  ${onDestroy}`);
  };

  const connections = async () => {
    const { text } = await run("docker", ["logs", name]);
    return (text.match(/connection authorized/g) ?? []).length;
  };

  test("preview never connects, a wrong password is an error, the right one imports once, and no secret leaks", async () => {
    const before = await connections();
    const wrong = url.replace(password, "not-the-password");
    const stack = await TestStack.make({ memory: "512", backups: "auto" }, { ...env, NEON_DATABASE_URL: wrong });
    try {
      await stack.succeed("preview", "--stack", stack.name);
      expect(await connections()).toBe(before);

      const failed = await stack.upFails();
      expect(failed).toContain("The password is wrong. Copy NEON_DATABASE_URL again from the Neon console");
      expect(failed).not.toContain("not-the-password");
      expect(await connections()).toBe(before);

      // After the failed update the server runs, and the commands use it.
      const status = await stack.db("status", "--json");
      expect(JSON.parse(status.stdout)).toMatchObject({ unfinished: true, healthy: false, roles: { app: "ok" } });
      const doctor = await stack.db("doctor");
      expect(doctor.text).toMatch(
        /WRONG {2}Stack \w+: its first update failed\n +Correct the error that it reported, then run: script\/up/,
      );
      const judged = await stack.db("preflight");
      expect(judged.text).toContain("[password-wrong]");
      expect(judged.text).not.toContain("[target-not-seen]");
      expect(status.text + doctor.text + judged.text).not.toContain("not-the-password");

      // Without the URL, the stack must not fall back to the sample.
      stack.env.NEON_DATABASE_URL = undefined;
      await docker(["stop", stack.names.container]);
      const revived = await run("script/up", ["--stack", stack.name], stack.env);
      expect(revived.text).toContain(`starting the container ${stack.names.container}`);
      const forgotten =
        "An earlier update of this stack tried to import from Neon, and NEON_DATABASE_URL is not set now.";
      expect(revived.stderr.trimEnd().split("\n").at(-1)).toContain(
        `error: ${forgotten} Set it again: export NEON_DATABASE_URL=`,
      );
      stack.env.NEON_DATABSE_URL = wrong;
      const misspelt = await stack.upFails();
      expect(misspelt).toContain(
        "NEON_DATABASE_URL is not set, but NEON_DATABSE_URL is, which was probably meant instead.",
      );
      expect(misspelt).not.toContain("not-the-password");
      stack.env.NEON_DATABSE_URL = undefined;

      stack.env.NEON_DATABASE_URL = url;
      const first = await stack.up();
      expect(first.text).toContain("1 tables, 1,000 rows");
      const after = await connections();
      expect(after).toBeGreaterThan(before);

      const second = await stack.up("--expect-no-changes");
      expect(second.text).toMatch(/NEON_DATABASE_URL is set, but not used: this stack's data was imported at \d{4}-/);
      await stack.succeed("refresh", "--preview-only", "--expect-no-changes", "--stack", stack.name);
      expect(await connections()).toBe(after);
      await expectBackups(stack);

      // preflight and verify still connect to Neon.
      const looked = await stack.db("preflight", "--try-schema");
      expect(looked.text).toMatch(/: was imported at \S+ from localhost:.* \[imported-before\]/);
      expect(looked.text).toMatch(/the target's disk: .* free, .* \[disk-room\]/);
      expect(looked.text).toMatch(/the safety copy's disk: .* free.* \[disk-room\]/);
      expect(looked.text).toMatch(
        /(\d+) of \1 objects were created on the target as a trial, and dropped \[schema-tried\]/,
      );
      expect(looked.text.trimEnd()).toMatch(
        /\nThere are no blockers, but this database was imported before, so pulumi up imports nothing\.[^\n]*$/,
      );
      expect(looked.code).toBe(0);
      const verify = (...args: string[]) => stack.db("verify", "--json", ...args);
      const same = await verify();
      expect(same).toMatchObject({ code: 0 });
      expect(JSON.parse(same.stdout)).toMatchObject({ verdict: "equal", tables: 1, rows: 1000, differences: [] });
      await stack.as("app", (client) => client.query("UPDATE players SET name = 'mine' WHERE id = 77"));
      const other = await verify();
      expect(other.code).toBe(1);
      expect(JSON.parse(other.stdout).differences).toEqual([
        { object: "rows of public.players", details: ["(id) = (77): name"], changed: "here" },
      ]);
      // verify reports a migration's changes as made here, and still compares everything else.
      await stack.as("owner", (client) =>
        client.query("CREATE TABLE crew (id int PRIMARY KEY); ALTER TABLE players ADD COLUMN crew int REFERENCES crew"),
      );
      const migrated = JSON.parse((await verify()).stdout);
      const changes = migrated.differences.map(({ object, changed }: Difference) => `${object}: ${changed}`);
      expect(changes).toEqual(expect.arrayContaining(["rows of public.players: here", "table public.players: here"]));
      expect(changes).toContain("table public.crew: here");
      expect(changes.filter((change: string) => !change.endsWith(": here"))).toEqual([]);
      await stack.as("owner", (client) => client.query("ALTER TABLE players DROP COLUMN crew; DROP TABLE crew"));

      const report = await readFile(`reports/${stack.name}/import.json`, "utf8");
      const page = await readFile(`reports/${stack.name}/import.html`, "utf8");
      const shown = [
        first.text,
        second.text,
        looked.text,
        same.text,
        other.text,
        JSON.stringify(migrated),
        report,
        page,
        await stack.stateText(),
        await docker(["logs", stack.names.container]),
      ];
      expect(shown.join("\n")).not.toContain(password);
      // The values of the database's settings are not shown either, but the application finds them here.
      expect(shown.join("\n")).not.toContain("S3cret");
      await stack.as("app", async (client) => {
        const { rows } = await client.query(
          "SELECT current_setting('app.secret') AS secret, current_setting('search_path') AS path",
        );
        expect(rows).toEqual([{ secret: "S3cret, of theirs", path: "public, pg_catalog" }]);
      });
      // The state holds the stack's own passwords, but never in clear text.
      const { urls } = await stack.outputs();
      for (const own of Object.values(urls)) expect(shown.join("\n")).not.toContain(new URL(own).password);

      // The import also made a safety copy, which can be restored next to the stack's database.
      const [copy = ""] = await stack.safetyCopies();
      const command = (...words: string[]) => stack.db("safety-copy", ...words);
      const restored = await command("restore", basename(copy), "--into", "rescued");
      expect(restored.text).toContain("rescued: 1 tables, 1,000 rows, as the source sent them");
      const rescued = { ...urlAddress(urls.superuser), database: "rescued" };
      const count = await withConnection(rescued, (client) => client.query("SELECT count(*)::int AS n FROM players"));
      expect(count.rows).toEqual([{ n: 1000 }]);
      const changedHere = [{ object: "rows of public.players", details: ["(id) = (77): name"], changed: "here" }];
      const beside = await verify("--database", "rescued");
      expect(beside.code, beside.text).toBe(1);
      expect(JSON.parse(beside.stdout)).toMatchObject({ source: "the database rescued", differences: changedHere });
      const withCopy = await verify("--safety-copy", basename(copy));
      expect(withCopy.code, withCopy.text).toBe(1);
      expect(JSON.parse(withCopy.stdout)).toMatchObject({ rows: 1000, differences: changedHere });
      await stack.as("app", (client) => client.query("UPDATE players SET name = 'player 77' WHERE id = 77"));
      expect(await verify("--safety-copy", basename(copy))).toMatchObject({ code: 0 });
      const databases = await stack.as("superuser", (client) =>
        client.query("SELECT datname FROM pg_database WHERE datname ~ 'safety_copy'"),
      );
      expect(databases.rows).toEqual([]);
      const again = await command("restore", basename(copy), "--into", "rescued");
      expect(again).toMatchObject({ code: 1 });
      expect(again.text).toContain("error: The database rescued exists, and a restore never overwrites one");
    } finally {
      await stack.end();
    }
  });
});
