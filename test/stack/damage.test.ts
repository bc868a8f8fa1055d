/**
 * Pages damaged on the disk: backups, drills and the server find them, and every command that shows backups reports them until the
 * data is sound again.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { BACKED_UP, BackedUp, STORE, until } from "../support/backed-up.ts";
import { TestStack } from "../support/test-stack.ts";

const DATA = "/var/lib/postgresql/data/pgdata";
const ALL = process.env.BACKUPS === "all";
const SETTINGS = {
  ...BACKED_UP,
  // The shortest retention: backups that are no longer needed expire at once.
  ...{ backupKeepDays: "0", backupKeepFulls: "1" },
};

let stack: TestStack;
let backed: BackedUp;

const labels = async () => ((await backed.report()).info?.[0]?.backup ?? []).map(({ label }) => label);
const figures = () => backed.succeed("backup", "--figures");

/** Overwrites pages of a table or index while the server is stopped, so that its buffers neither hide nor repair them. */
async function damage(relation: string, ...blocks: number[]): Promise<string> {
  const path = String(await backed.value(`SELECT pg_relation_filepath('${relation}')`));
  await backed.value("CHECKPOINT");
  await docker(["stop", "-t", "60", stack.names.container]);
  const write = blocks.map(
    (block) => `printf DAMAGED | dd of=${DATA}/${path} bs=1 seek=$((${block} * 8192 + 5000)) conv=notrunc`,
  );
  const touch = ["run", "--rm", "-v", `${stack.names.volume}:/var/lib/postgresql/data`, "--entrypoint", "sh"];
  await docker([...touch, `${stack.names.image}:15`, "-c", `${write.join(" && ")} 2>/dev/null`]);
  await docker(["start", stack.names.container]);
  await until("the server", () =>
    backed.value("SELECT true").then(
      () => true,
      () => false,
    ),
  );
  return path;
}

beforeAll(async () => {
  stack = await TestStack.make(SETTINGS);
  backed = new BackedUp(stack);
  await stack.up();
  await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
  await stack.as("owner", (client) =>
    client.query(`
      CREATE SCHEMA "Bücher";
      CREATE TABLE "Bücher"."worlds and more" (n int, note text);
      ALTER TABLE "Bücher"."worlds and more" SET (autovacuum_enabled = false);
      INSERT INTO "Bücher"."worlds and more" SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 4000) i;
      CREATE INDEX by_n ON "Bücher"."worlds and more" (n)`),
  );
  await backed.value(`VACUUM (FREEZE) "Bücher"."worlds and more"`);
});
afterAll(() => stack?.end());

describe("damaged pages", () => {
  const table = `"Bücher"."worlds and more"`;
  const contentQuery = `SELECT md5(string_agg(n || note, ',' ORDER BY n)) FROM ${table}`;
  let sound: string | undefined;
  let before: unknown;

  test("fail the backup that finds them, and status, doctor, the figures and the list report them", async () => {
    await backed.succeed("backup", "--full");
    [sound] = await labels();
    expect(await figures()).toContain("\nsectorwars_backup_damage_findings 0\n");
    before = await backed.value(contentQuery);
    const file = await damage(table, 3, 4, 5, 9);
    const made = await backed.command("backup", "--full");
    expect(made.code).toBe(1);
    expect(made.text).toMatch(/error: the data is damaged: the backup \d{8}-\d{6}F holds damaged pages: /);
    expect(made.text).toContain(`${file} at pages 3-5, 9`);
    const status = await backed.command("status");
    expect(status.code).toBe(1);
    expect(status.text).toContain(`TROUBLE     DATA IS DAMAGED. It was found at `);
    expect(status.text).toContain(
      `(the backup before that, ${sound}, has no damaged page). Backups without damaged pages: ${sound}.`,
    );
    expect(status.text).toContain("./db restore --to latest");
    expect(status.text).toContain(`damaged: database sectorwars_dev, ${table}, file ${file}, blocks 3-5, 9 (found at `);
    expect(status.text).toContain("(and 1 with damaged pages)");
    const doctor = await backed.command("doctor");
    expect(doctor.code).toBe(1);
    expect(doctor.text).toContain(`${table}, file ${file}, blocks 3-5, 9`);
    expect(await figures()).toMatch(/^sectorwars_backup_damage_findings 1$/m);
    expect(await figures()).toMatch(/^sectorwars_backup_failed\{kind="full"\} 0$/m);
    expect((await backed.command("backup", "--list")).text).toMatch(/F +full .* in the repository {2}DAMAGED PAGES\n/);
    const log = await docker(["logs", stack.names.backups]);
    expect(log).toContain('"run":"full","result":"damaged"');
  });

  test("keep the last sound backup beyond its retention; a damaged one is restored only by its label with --unsound", async () => {
    await backed.command("backup", "--full");
    const all = await labels();
    expect(all).toHaveLength(3);
    expect(all).toContain(sound);
    const refused = await backed.command("restore", "--to", all.at(-1) ?? "", "--dry-run");
    expect(refused.text).toContain("contains damaged pages. Restore latest, or a time");
    expect(await backed.succeed("restore", "--to", all.at(-1) ?? "", "--dry-run", "--unsound")).toContain(
      `From:  ${all.at(-1)}`,
    );
    expect(await backed.succeed("restore", "--to", "latest", "--dry-run")).toContain(`From:  ${sound},`);
  });

  test("leave the sound backup for a drill to restore", async () => {
    expect(await backed.succeed("drill")).toContain(`${sound}: `);
    expect((await backed.command("status")).text).toContain("DATA IS DAMAGED");
  });

  test("are gone after the restore that status recommends, which keeps later changes; the next full backup reports none", async () => {
    await stack.as("owner", (client) => client.query("CREATE TABLE later AS SELECT 7 AS n"));
    expect(await backed.succeed("restore", "--to", "latest")).toContain("Done.");
    expect(await backed.value(contentQuery)).toBe(before);
    expect(await backed.value("SELECT n FROM later")).toBe(7);
    await until("the full backup that follows", async () => (await backed.report()).damage?.length === 0, 120);
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
    const { code, text } = await backed.command("status");
    expect(text).not.toContain("TROUBLE");
    expect(code).toBe(0);
    expect(await labels()).not.toContain(sound);
    expect(await figures()).toMatch(/^sectorwars_backup_damage_findings 0$/m);
  });

  test("that a query reads are reported before a backup reads them, and after the server loses its count", async () => {
    await damage(table, 2);
    await expect(backed.value(contentQuery)).rejects.toThrow("invalid page in block 2");
    await until("the server's count", async () => (await backed.report()).damage?.[0]?.source === "checksums");
    expect((await backed.command("status")).text).toMatch(
      /damaged: database sectorwars_dev: the server read \d+ pages? with a wrong checksum/,
    );
    await docker(["kill", stack.names.container]);
    await docker(["start", stack.names.container]);
    await until("the server", () =>
      backed.value("SELECT true").then(
        () => true,
        () => false,
      ),
    );
    expect(await backed.value("SELECT sum(checksum_failures)::int FROM pg_stat_database")).toBe(0);
    expect((await backed.command("status")).text).toContain("DATA IS DAMAGED");
    // A differential backup skips a file that looks unchanged, but counting the rows reads its pages.
    await backed.command("backup", "--diff");
    expect((await backed.command("status")).text).toMatch(/"worlds and more", file base\/\d+\/\d+, block 2 \(found at/);
  });

  test.runIf(ALL)("a wrong index is found by a drill", async () => {
    await backed.succeed("restore", "--to", "latest");
    await until("the full backup that follows", async () => (await backed.report()).damage?.length === 0, 120);
    await backed.quiet();
    // pgBackRest does not notice this: the pages' checksums are right, the order of the index is not.
    await stack.as("owner", (client) =>
      client.query(`
        CREATE FUNCTION place(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n';
        CREATE INDEX wrong ON ${table} (place(n));
        CREATE OR REPLACE FUNCTION place(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n + 1'`),
    );
    await backed.succeed("backup", "--diff");
    expect((await backed.command("drill")).text).toMatch(/pg_amcheck: .*wrong/);
    const { code, text } = await backed.command("status");
    expect(code).toBe(1);
    expect(text).toMatch(
      /damaged: the data that a drill restored from the backup \S+ \(at .*\): pg_amcheck: .*sectorwars_dev\.Bücher\.wrong/,
    );
    await stack.as("owner", (client) => client.query('DROP INDEX "Bücher".wrong'));
    await backed.succeed("backup", "--diff");
    await backed.succeed("drill");
    expect((await backed.command("status")).text).not.toContain("DAMAGED");
  });

  test.runIf(ALL)("of a TOAST table, a catalog and a shared catalog are reported by name", async () => {
    await stack.as("owner", (client) =>
      client.query(`
      CREATE TABLE long_values (t text);
      ALTER TABLE long_values ALTER t SET STORAGE EXTERNAL;
      INSERT INTO long_values SELECT repeat(md5(i::text), 200) FROM generate_series(1, 50) i`),
    );
    const toast = String(
      await backed.value("SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'long_values'::regclass"),
    );
    await backed.value("VACUUM (FREEZE) long_values");
    await damage(toast, 1);
    await damage(`pg_toast.${toast.replace("pg_toast.", "")}_index`, 1);
    await damage("pg_description", 0);
    await damage("pg_shdescription", 0);
    await backed.command("backup", "--full");
    const { text } = await backed.command("status");
    expect(text).toContain("database sectorwars_dev, public.long_values (its long values), file");
    expect(text).toContain(`index ${toast}_index of public.long_values, file`);
    expect(text).toMatch(/database sectorwars_dev, pg_description, file base\/\d+\/\d+, block 0/);
    expect(text).toMatch(/database postgres, pg_shdescription, file global\/\d+, block 0/);
    expect(await backed.inside(`ls ${STORE}/state`)).toContain("damage");
  });
});
