/** The safety copy: made during the import, complete, encrypted, and restored with and without this program. */
import { execFile } from "node:child_process";
import { chmod, cp, mkdir, readdir, readFile, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkCopy } from "../../components/import/safety-copy/check.ts";
import { listCopies, readManifest } from "../../components/import/safety-copy/files.ts";
import { restoreCopy } from "../../components/import/safety-copy/restore.ts";
import type { ImportSpec, SafetyCopyFacts } from "../../components/import/types.ts";
import { preparationScript } from "../../components/privileges/scripts.ts";
import { docker } from "../../lib/docker.ts";
import { readIdentity } from "../../lib/identity.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { atPhase, atTable, attempt, expectComplete, expectUntouched, reportText } from "../support/attempt.ts";
import { contentsOf } from "../support/compare.ts";
import { handsFor } from "../support/hand-tools.ts";
import { type Lab, openBothEnds, ROLES_PASSWORD, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { LARGE, SMALL } from "../support/small.ts";

/** What a copy must contain besides plain tables. */
const MORE = `${SMALL}
CREATE EXTENSION citext;
CREATE SCHEMA audit;
CREATE TABLE audit.changes (at date NOT NULL, who citext, "odd name" text) PARTITION BY RANGE (at);
CREATE TABLE audit.changes_2026 PARTITION OF audit.changes FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO audit.changes SELECT '2026-03-03', 'Someone', E'tab\\there, \\\\ and "quotes"' FROM generate_series(1, 20);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
CREATE MATERIALIZED VIEW ranks AS SELECT rank, count(*) AS pilots FROM pilots GROUP BY rank;
CREATE MATERIALIZED VIEW never AS SELECT 1 AS one WITH NO DATA;
CREATE FUNCTION promote() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
SET LOCAL application_name = 'promoting';
RETURN NEW;
END $$;
CREATE TRIGGER promotion BEFORE UPDATE ON pilots FOR EACH ROW EXECUTE FUNCTION promote();
COMMENT ON TABLE pilots IS 'who flies';
`;
/** In the source's rows or names; must not be visible outside the encrypted files. */
const CLEAR = ["Pilot 1", "銀河", "drones", "visits_at_idx"];

let lab: Lab;
let source: SourceServer;
let target: Server;
let spec: ImportSpec;
let facts: SafetyCopyFacts;
let secret: string;
let lines: string[];

const settingsOf = (name: string, more: Partial<ImportSpec["safetyCopy"]> = {}) => ({
  folder: join(lab.folder, name),
  identityFile: join(lab.folder, "settings", "identity.txt"),
  recipient: undefined,
  ...more,
});

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("more", MORE);
  await source.makeDatabase("small", SMALL);
  spec = { ...(await lab.newImport(source.source("more"), target)), safetyCopy: settingsOf("safety") };
  const done = await attempt(spec);
  expect(done.error).toBe("");
  lines = done.lines;
  facts = (await readReport(spec)).safetyCopy as SafetyCopyFacts;
  secret = (await readIdentity(settingsOf("safety").identityFile))?.secret ?? "";
});
afterAll(() => lab?.close());

const filesOf = async (folder: string) =>
  (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

describe("the safety copy of an import", () => {
  test("is complete, and named in report, page, summary and output", async () => {
    expect(await readdir(settingsOf("safety").folder)).toEqual([facts.name]);
    expect(facts.verified).toBe("decrypted");
    const files = await filesOf(facts.path);
    const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
    expect([files.length, sizes.reduce((sum, size) => sum + size, 0)]).toEqual([facts.files, facts.bytes]);
    const [found] = await listCopies(settingsOf("safety").folder);
    expect(found).toMatchObject({ name: facts.name, bytes: facts.bytes, files: facts.files, sha256: facts.sha256 });
    const checked = await checkCopy(facts.path, secret);
    const report = await readReport(spec);
    expect(checked).toMatchObject({ rows: report.rows, bytes: report.bytes });
    expect(Object.fromEntries(checked.manifest.tables.map(({ table, sha256 }) => [table, sha256]))).toEqual(
      Object.fromEntries(report.tables.map(({ table, source: sent }) => [table, sent])),
    );
    const page = await readFile(join(spec.reportFolder, "import.html"), "utf8");
    for (const part of [facts.name, facts.sha256]) expect(page).toContain(part);
    expect(lines.join("\n")).toContain(`safety copy ${facts.path}`);
    const [mark] = await target.sql(
      spec.target.address.database,
      "SELECT summary->'safetyCopy' AS copy FROM sectorwars_stack.import",
    );
    expect(mark?.copy).toEqual({ name: facts.name, sha256: facts.sha256 });
  });

  test("comes with one explanation of what losing the key means, and the key is never printed", async () => {
    const told = lines.filter((line) => line.includes("created the key for safety copies"));
    expect(told).toHaveLength(1);
    expect(told[0]).toContain("Without this file, no safety copy can be decrypted");
    const everything = `${lines.join("\n")}${await reportText(spec)}${JSON.stringify(facts)}`;
    expect(everything).not.toContain("AGE-SECRET-KEY");
  });

  test("reveals nothing: only the owner may read the files, and nothing of the source is unencrypted", async () => {
    expect((await stat(facts.path)).mode & 0o777).toBe(0o700);
    for (const file of await filesOf(facts.path)) {
      expect((await stat(file)).mode & 0o077, file).toBe(0);
      const text = await readFile(file, "latin1");
      for (const clear of [...CLEAR, source.userPassword, target.admin.password, "AGE-SECRET-KEY", "game_owner"]) {
        expect(text.includes(Buffer.from(clear).toString("latin1")), `${clear} in ${file}`).toBe(false);
      }
    }
  });

  test("is restored by this program into a new database that equals the source, and never into an existing one", async () => {
    const order = {
      copy: facts.path,
      secret,
      server: target.admin,
      database: "rescued",
      owner: ROLE_NAMES.owner,
      ownerPassword: ROLES_PASSWORD,
      roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
      preparation: (name: string) => preparationScript(name, ["*"]),
      say: () => {},
    };
    const summary = await restoreCopy(order);
    expect(summary.rows).toBe((await readReport(spec)).rows);
    const [theirs, ours] = await Promise.all([contentsOf(source.in("more")), contentsOf(target.in("rescued"))]);
    expect(Object.keys(theirs.tables).length).toBeGreaterThan(8);
    expect(ours).toEqual(theirs);
    expect(
      await target.value(
        "rescued",
        "SELECT string_agg(DISTINCT tableowner, ',') FROM pg_tables WHERE schemaname IN ('public', 'audit')",
      ),
    ).toBe(ROLE_NAMES.owner);
    await expect(restoreCopy(order)).rejects.toThrow("The database rescued exists, and a restore never overwrites one");
    // A restore that fails half-way leaves no partial database.
    const broken = await damagedCopy("half", (copy) => truncate(join(copy, "tables/0003.copy.zst.age"), 300));
    await expect(restoreCopy({ ...order, copy: broken, database: "halved" })).rejects.toThrow(
      /0003.*cannot be read: it was changed or truncated/,
    );
    expect(await target.databases()).not.toContain("halved");
  });

  test("a restore that is killed half-way leaves no database of that name, and the next one cleans up", async () => {
    const order = {
      copy: facts.path,
      secret,
      server: { ...target.admin, password: "" },
      database: "killed",
      owner: ROLE_NAMES.owner,
      ownerPassword: ROLES_PASSWORD,
      roles: [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly],
    };
    const program = `
      import { restoreCopy } from "./components/import/safety-copy/restore.ts";
      import { preparationScript } from "./components/privileges/scripts.ts";
      const order = JSON.parse(process.env.ORDER);
      order.server.password = process.env.PASSWORD;
      order.preparation = (name) => preparationScript(name, ["*"]);
      order.say = (line) => { if (line.includes("pilots")) process.kill(process.pid, "SIGKILL"); };
      await restoreCopy(order);`;
    const env = { ...process.env, ORDER: JSON.stringify(order), PASSWORD: target.admin.password };
    const died = promisify(execFile)(process.execPath, ["--input-type=module-typescript", "-e", program], { env });
    await expect(died).rejects.toMatchObject({ signal: "SIGKILL" });
    const left = await target.databases();
    expect(left).not.toContain("killed");
    expect(left).toContain("killed_import");
    // A restore with another name also drops what the killed one has left.
    await restoreCopy({
      ...order,
      server: target.admin,
      database: "alive",
      preparation: (name) => preparationScript(name, ["*"]),
      say: () => {},
    });
    const now = await target.databases();
    expect(now).toContain("alive");
    expect(now.filter((name) => name.startsWith("killed") || name.endsWith("_import"))).toEqual([]);
    expect(await contentsOf(target.in("alive"))).toEqual(await contentsOf(source.in("more")));
  });

  test("is restored by hand with only age, zstd and psql", async () => {
    await target.sql("postgres", "CREATE DATABASE by_hand");
    const { container, restore } = await handsFor(lab, target, {
      copy: facts.path,
      identityFile: settingsOf("safety").identityFile,
      database: "by_hand",
    });
    expect(await restore()).toMatch(/restored\n$/);
    expect(await contentsOf(target.in("by_hand"))).toEqual(await contentsOf(source.in("more")));
    // A changed file is found before anything is written, and a truncated one although a pipe hides its error.
    await target.sql("postgres", "DROP DATABASE by_hand; ");
    await target.sql("postgres", "CREATE DATABASE by_hand");
    await docker(["exec", container, "truncate", "-s", "400", "/hands/copy/tables/0002.copy.zst.age"]);
    await expect(restore()).rejects.toThrow(/0002|checksum/);
    await docker([
      "exec",
      container,
      "sh",
      "-c",
      "cd /hands/copy && sha256sum tables/* *.age README.txt restore.sh >checksums.txt",
    ]);
    await expect(restore()).rejects.toThrow(/0002\.copy\.zst\.age cannot be read|expected|COPY/);
  });
});

/** A damaged duplicate of the copy. */
async function damagedCopy(name: string, damage: (copy: string) => Promise<unknown>): Promise<string> {
  const copy = join(lab.folder, "damaged", name);
  await cp(facts.path, copy, { recursive: true });
  await damage(copy);
  return copy;
}

const flip = async (file: string) => {
  const bytes = await readFile(file);
  const at = bytes.length - 40;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(file, bytes);
};
/** Writes checksums that match the damaged copy, as an attacker could. */
const withNewSums = async (copy: string) => {
  const sum = promisify(execFile);
  const { stdout } = await sum("sh", ["-c", "sha256sum tables/* *.age README.txt restore.sh"], { cwd: copy });
  await writeFile(join(copy, "checksums.txt"), stdout);
};

describe("a check finds", () => {
  const table = "tables/0002.copy.zst.age";
  test.each<[string, (copy: string) => Promise<unknown>, RegExp]>([
    ["one bit that changed", (copy) => flip(join(copy, table)), /0002\.copy\.zst\.age cannot be read: its SHA-256 is/],
    [
      "one bit that changed, with its checksum",
      (copy) => flip(join(copy, table)).then(() => withNewSums(copy)),
      /0002\.copy\.zst\.age cannot be read: it was changed or truncated/,
    ],
    [
      "a file cut short, with its checksum",
      (copy) => truncate(join(copy, table), 500).then(() => withNewSums(copy)),
      /0002\.copy\.zst\.age cannot be read: it was changed or truncated/,
    ],
    [
      "two tables in each other's place",
      async (copy) => {
        await cp(join(facts.path, table), join(copy, "tables/0001.copy.zst.age"));
        await cp(join(facts.path, "tables/0001.copy.zst.age"), join(copy, table));
        await withNewSums(copy);
      },
      /0001\.copy\.zst\.age does not hold what the source sent for/,
    ],
    ["a missing file", (copy) => rm(join(copy, table)), /is incomplete: tables\/0002\.copy\.zst\.age is missing/],
    ["an unexpected file", (copy) => writeFile(join(copy, "tables/x"), ""), /contains unexpected files: tables\/x/],
    ["a manifest that was cut", (copy) => truncate(join(copy, "manifest.json.zst.age"), 200), /manifest\.json/],
    ["a folder that is not a copy", (copy) => rm(join(copy, "checksums.txt")), /is not a safety copy/],
  ])("%s", async (what, damage, message) => {
    const copy = await damagedCopy(what, damage);
    await expect(checkCopy(copy, secret)).rejects.toThrow(message);
  });

  test("that the copy is for another identity", async () => {
    await expect(checkCopy(facts.path, await generateX25519Identity())).rejects.toThrow(
      "it was encrypted for another identity",
    );
  });
});

describe("./db safety-copy", () => {
  const run = async (...words: string[]) => {
    const { folder, identityFile } = settingsOf("safety");
    const place = ["--folder", folder, ...(words[0] === "list" ? [] : ["--identity", identityFile])];
    return promisify(execFile)("./db", [
      "safety-copy",
      "--stack",
      "none",
      words[0] ?? "",
      ...place,
      ...words.slice(1),
    ]).then(
      ({ stdout }) => stdout,
      (error: { stderr: string }) => error.stderr,
    );
  };

  test("lists and verifies copies, also without a stack", async () => {
    expect(await run("list")).toContain(`${facts.name}  `);
    expect(JSON.parse(await run("list", "--json"))[0].sha256).toBe(facts.sha256);
    expect(await run("verify", facts.name)).toMatch(
      /is complete: \d+ tables, [\d,]+ rows, .* decrypted and equal to what/,
    );
    expect(JSON.parse(await run("verify", facts.name, "--json"))).toMatchObject({ name: facts.name, selected: 0 });
  });

  test("names the problem, and the copies that exist", async () => {
    expect(await run("verify", "dev-1")).toBe(
      `error: The safety copy dev-1 does not exist. There are: ${facts.name}\n`,
    );
    expect(await run("verify", facts.name, "--identity", "/nowhere")).toMatch(
      /The identity file \/nowhere does not exist/,
    );
    expect(await run("restore", facts.name, "--into", "Bad name")).toMatch(
      /argument 'Bad name' is invalid. Use at most 41 lowercase letters/,
    );
    expect(await run("verif")).toMatch(/unknown command 'verif'\n\(Did you mean verify\?\)/);
  });
});

describe("an import whose copy", () => {
  const withCopy = async (safetyCopy: ImportSpec["safetyCopy"], database = "small") => ({
    ...(await lab.newImport(source.source(database), target)),
    safetyCopy,
  });

  test("cannot be started fails before the source is read, with a remedy", async () => {
    const settings = settingsOf("occupied");
    await writeFile(settings.folder, "a file");
    const order = await withCopy(settings);
    const { error } = await attempt(order);
    expect(error).toMatch(
      /The safety copy cannot be written to .*occupied: part of its path is a file\. Nothing was changed\. Fix that, set another/,
    );
    expect(error).toContain("pulumi config set safetyCopy false");
    await expectUntouched(lab, target, order);
    // Without it, the same import succeeds.
    await expectComplete(lab, target, { ...order, safetyCopy: undefined });
  });

  test("runs out of disk space fails before the swap, and the next one cleans up and succeeds", async () => {
    await source.makeDatabase("large", LARGE);
    const settings = settingsOf("full");
    const order = await withCopy(settings, "large");
    const partial = async () => join(settings.folder, (await readdir(settings.folder))[0] ?? "");
    const { error } = await attempt(
      order,
      atPhase("rows", async () => symlink("/dev/full", join(await partial(), "tables/0001.copy.zst.age"))),
    );
    expect(error).toMatch(/The safety copy cannot be written to .*full: its disk is full/);
    await expectUntouched(lab, target, order);
    expect(await readdir(settings.folder)).toEqual([]);
    // A killed run leaves its partial copy. Another stack's must not be removed.
    const dead = [`${lab.id}-20260101T000000Z.partial`, `${lab.id}-two-20260101T000000Z.partial`];
    for (const name of dead) await mkdir(join(settings.folder, name));
    await expectComplete(lab, target, order);
    const left = await readdir(settings.folder);
    expect(left).toHaveLength(2);
    expect(left).toContain(dead[1]);
  });

  test("was damaged on the disk fails before the swap", async () => {
    const settings = settingsOf("spoilt");
    const order = await withCopy(settings);
    const { error } = await attempt(
      order,
      atPhase("constraints", async () => {
        const [partial = ""] = await readdir(settings.folder);
        await truncate(join(settings.folder, partial, "manifest.json.zst.age"), 0).catch(() => {});
        await rm(join(settings.folder, partial, "tables"), { recursive: true });
      }),
    );
    expect(error).toMatch(/The safety copy cannot be written to/);
    await expectUntouched(lab, target, order);
  });

  test("belongs to a failed import is removed", async () => {
    const settings = settingsOf("removed");
    const order = await withCopy(settings);
    const { error } = await attempt(
      order,
      atTable("pilots", () => target.sql(`${order.target.address.database}_import`, "DELETE FROM pilots WHERE id = 7")),
    );
    expect(error).toContain("The copy differs from the source");
    expect(await readdir(settings.folder)).toEqual([]);
    expect((await readReport(order)).safetyCopy).toBeUndefined();
  });

  test("is for a key on another machine says that it was not decrypted, and that key decrypts it", async () => {
    const key = await generateX25519Identity();
    const recipient = await identityToRecipient(key);
    const settings = settingsOf("elsewhere", { recipient, identityFile: join(lab.folder, "no-such-identity.txt") });
    const order = await withCopy(settings);
    const { error, lines: said } = await attempt(order);
    expect(error).toBe("");
    expect(said.join("\n")).toContain("it was not decrypted");
    const copy = (await readReport(order)).safetyCopy;
    expect(copy).toMatchObject({ verified: "as written", recipient });
    expect((await readManifest(copy?.path ?? "", key)).tables).toHaveLength(5);
    await expect(stat(settings.identityFile)).rejects.toThrow("ENOENT");
  });

  test("would use an identity that other users may read fails at once", async () => {
    const identityFile = join(lab.folder, "open.txt");
    await writeFile(identityFile, await generateX25519Identity());
    await chmod(identityFile, 0o644);
    const order = await withCopy(settingsOf("open", { identityFile }));
    expect((await attempt(order)).error).toContain(`Other users can read the identity file ${identityFile}`);
  });
});

test("the name of a safety copy begins with the stack's name", () => {
  expect(basename(facts.path)).toMatch(new RegExp(`^${lab.id}-\\d{8}T\\d{6}Z$`));
});
