/** Sources from public bug reports: imported and proven, or rejected with the object's name and a remedy. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { trySchema } from "../../components/import/preflight/schema-trial.ts";
import { restoreCopy } from "../../components/import/safety-copy/restore.ts";
import { readCatalog } from "../../components/import/schema/catalog.ts";
import { openSource } from "../../components/import/session/session.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import { readIdentity } from "../../lib/identity.ts";
import { type Attempt, attempt, expectSameRows, expectUntouched, reportText } from "../support/attempt.ts";
import { compareSourceAndTarget } from "../support/compare-databases.ts";
import { type Lab, openBothEnds, readReport, type Server, type SourceServer, secret } from "../support/lab.ts";

const CASES = "test/cases/import";

let lab: Lab;
let source: SourceServer;
let target: Server;
let made = 0;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
});
afterAll(() => lab?.close());

/** Creates a source from a case's file; lines `-- ;;` separate what is sent together, `-- name:` names the database. */
async function makeCase(script: string): Promise<ImportSpec> {
  made += 1;
  const database = /^-- name: (\w+)$/m.exec(script)?.[1] ?? `case_${made}`;
  await source.sql("postgres", `CREATE DATABASE ${database}`);
  for (const part of script.split(/^-- ;;$/m)) await source.sql(database, part);
  return lab.newImport(source.source(database, "superuser"), target, database);
}

const makeReport = async (file: string) => makeCase(await readFile(join(CASES, "reports", `${file}.sql`), "utf8"));

interface Imported extends Attempt {
  spec: ImportSpec;
  remarks: string[];
}

/** Imports a source, which must succeed, and then compares source and target again. */
async function expectImported(spec: ImportSpec): Promise<Imported> {
  const done = await attempt(spec);
  expect(done.error).toBe("");
  const remarks = (await readReport(spec)).remarks.filter((remark) => !remark.endsWith("[collation-order]"));
  const { differences } = await compareSourceAndTarget(spec);
  expect(differences).toEqual([]);
  return { ...done, spec, remarks };
}

/** Imports a source, which must fail. */
async function expectRefused(spec: ImportSpec): Promise<string> {
  const { error } = await attempt(spec);
  expect(error).not.toBe("");
  await expectUntouched(lab, target, spec);
  return error;
}

/** All rows of the tables of c01_hash_enum.sql. */
const SHIPS = "SELECT md5(string_agg(s::text, ',' ORDER BY id)) FROM ships s";

const columnsOf = (server: Server, database: string, table: string) =>
  server.value<string>(
    database,
    `SELECT string_agg(concat_ws(' ', attname, attislocal, attinhcount, attnotnull, attgenerated), ', ' ORDER BY attnum)
     FROM pg_attribute WHERE attrelid = '${table}'::regclass AND attnum > 0 AND NOT attisdropped`,
  );

const checksOf = (server: Server, database: string) =>
  server.sql(
    database,
    `SELECT conrelid::regclass::text AS "table", conname, conislocal, coninhcount, connoinherit, pg_get_constraintdef(oid) AS sql
     FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0 AND connamespace = 'public'::regnamespace ORDER BY 1, 2`,
  );

/** Columns in the source's order, each local and inherited as there; and the same CHECKs. */
async function expectSameInheritance(spec: ImportSpec, tables: readonly string[]): Promise<void> {
  const theirs = spec.source.address.database;
  const ours = spec.target.address.database;
  for (const table of tables) {
    expect([table, await columnsOf(target, ours, table)]).toEqual([table, await columnsOf(source, theirs, table)]);
  }
  expect(await checksOf(target, ours)).toEqual(await checksOf(source, theirs));
}

describe("tables that inherit keep the source's order of columns", () => {
  test("in inherited-column-order.sql", async () => {
    const spec = await makeCase(await readFile(join(CASES, "inherited-column-order.sql"), "utf8"));
    await source.sql(spec.source.address.database, "INSERT INTO child VALUES (2, 1); INSERT INTO c2 VALUES (3, 4, 5)");
    const { remarks } = await expectImported(spec);
    await expectSameInheritance(spec, ["parent", "child", "p2", "c2"]);
    await expectSameRows(spec);
    expect(remarks).toEqual([]);
    // The temporary parent is gone, and the real parent still controls the inherited columns.
    const ours = spec.target.address.database;
    await target.sql(ours, "ALTER TABLE p2 DROP COLUMN z; ALTER TABLE parent DROP COLUMN a");
    expect(await columnsOf(target, ours, "c2")).toBe("a f 1 f , x t 0 f ");
    expect(await columnsOf(target, ours, "child")).toBe("b t 1 f , a t 0 f ");
  });

  test("c24: columns and generated columns added later, overridden defaults, several parents, grandchildren", async () => {
    const spec = await makeReport("c24_inherit");
    await expectImported(spec);
    await expectSameInheritance(spec, ["base", "other", "kid", "grandkid", "adopted", "was"]);
    await expectSameRows(spec);
  });

  test("with storage, options, collations, generated and unlogged ones, and defaults of sequences", async () => {
    const spec = await makeCase(`
      CREATE TYPE mood AS ENUM ('a; b', 'c');
      CREATE TABLE "Par;ent" (a text COLLATE "C" DEFAULT 'x; ''y''', CONSTRAINT "c;k" CHECK (a <> 'a;b'));
      CREATE UNLOGGED TABLE kid (s serial, m mood DEFAULT 'a; b', big text) INHERITS ("Par;ent") WITH (fillfactor = 70, toast.autovacuum_enabled = off);
      ALTER TABLE "Par;ent" ADD COLUMN z varchar(10) NOT NULL DEFAULT 'z', ADD COLUMN g int GENERATED ALWAYS AS (length(a)) STORED;
      ALTER TABLE "Par;ent" ADD CONSTRAINT later CHECK (z <> '' AND a <> '');
      ALTER TABLE kid ALTER big SET STORAGE EXTERNAL, ALTER z SET DEFAULT 'kid', ALTER big SET STATISTICS 42, ADD CONSTRAINT own CHECK (big <> ';');
      ALTER TABLE kid ADD COLUMN late int GENERATED ALWAYS AS IDENTITY;
      INSERT INTO "Par;ent" (a) VALUES ('p'); INSERT INTO kid (a, big) VALUES ('k', 'b'), ('l', 'c');
      CREATE INDEX ON kid (z); COMMENT ON COLUMN kid.z IS 'z; z';`);
    const { remarks } = await expectImported(spec);
    await expectSameInheritance(spec, ['"Par;ent"', "kid"]);
    await expectSameRows(spec);
    expect(remarks).toEqual([]);
    const state =
      "SELECT relpersistence::text || array_to_string(reloptions, ',') AS state FROM pg_class WHERE relname = 'kid'";
    expect(await target.value(spec.target.address.database, state)).toBe("ufillfactor=70");
  });
});

describe("rows that may belong to another partition on the target are inserted through the partitioned table", () => {
  test("c01: hash partitions on an enum", async () => {
    const spec = await makeReport("c01_hash_enum");
    await expectImported(spec);
    const { tables } = await readReport(spec);
    expect(tables).toMatchObject([{ table: "public.ships", rows: 600 }]);
    expect(["equal", "equal as a set"]).toContain(tables[0]?.verdict);
    expect(await target.value(spec.target.address.database, SHIPS)).toBe(
      await source.value(spec.source.address.database, SHIPS),
    );
  });

  test("a difference in a row of such a table is found", async () => {
    const spec = await makeReport("c01_hash_enum");
    const { error } = await attempt(spec, {
      onLoaded: async () => {
        await target.sql(`${spec.target.address.database}_import`, "UPDATE ships SET note = 'other' WHERE id = 7");
      },
    });
    expect(error).toMatch(/public\.ships: \(id, c\) = \(7,green\): note/);
  });

  test("ranges of text under a collation, several levels deep, and a row of the wrong partition", async () => {
    const spec = await makeCase(`
      CREATE TYPE kind AS ENUM ('x', 'y', 'z');
      CREATE TABLE logs (name text, k kind, n int) PARTITION BY RANGE (name);
      CREATE TABLE logs_a PARTITION OF logs FOR VALUES FROM (MINVALUE) TO ('m') PARTITION BY HASH (k);
      CREATE TABLE logs_a0 PARTITION OF logs_a FOR VALUES WITH (MODULUS 2, REMAINDER 0);
      CREATE TABLE logs_a1 PARTITION OF logs_a FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      CREATE TABLE logs_b PARTITION OF logs FOR VALUES FROM ('m') TO (MAXVALUE);
      CREATE INDEX ON logs (name);
      INSERT INTO logs SELECT chr(97 + g % 26) || g, (enum_range(NULL::kind))[1 + g % 3], g FROM generate_series(1, 300) g;
      INSERT INTO logs VALUES ('Zebra', 'x', 1), ('Äpfel', 'y', 2);
      CREATE TABLE plain (id int) PARTITION BY HASH (id); CREATE TABLE plain_0 PARTITION OF plain FOR VALUES WITH (MODULUS 1, REMAINDER 0);
      INSERT INTO plain SELECT generate_series(1, 9)`);
    await expectImported(spec);
    const { tables } = await readReport(spec);
    expect(tables.map(({ table, rows }) => [table, rows]).sort()).toEqual([
      ["public.logs", 302],
      ["public.plain_0", 9],
    ]);
  });
});

describe("functions that depend on the search path", () => {
  for (const [file, object] of [
    ["c02_check_fn", "rows of s1.tbl_data"],
    ["c03_gen_slugify", "rows of public.towns"],
    ["c04_index_fn", "index public.barcode_slices"],
    ["c06_matview_tsstat", "materialized view public.documents_word"],
  ] as const) {
    test(`${file}: imported with the source's search path, with a remark`, async () => {
      const { remarks } = await expectImported(await makeReport(file));
      const remark = remarks.find((line) => line.startsWith(`${object} depends on the search path`));
      expect(remark).toMatch(/ALTER FUNCTION .* SET search_path = /);
    });
  }

  test.each(["owner", "superuser"] as const)(
    "an index with an SQL function that the planner inlines does not break the proof or verify (%s)",
    async (user) => {
      const database = `planned_${user}`;
      await source.makeDatabase(
        database,
        `CREATE FUNCTION suffix() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '!' $$;
         CREATE FUNCTION label(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT t || suffix()';
         CREATE TABLE labels (id int PRIMARY KEY, t text, twice text GENERATED ALWAYS AS (t || t) STORED);
         INSERT INTO labels (id, t) SELECT i, 'label ' || i FROM generate_series(1, 9) i;
         CREATE INDEX labels_label ON labels (label(t))`,
      );
      const spec = await lab.newImport(source.source(database, user), target, database);
      await expectImported(spec);
      await target.sql(
        spec.target.address.database,
        "SET search_path = public; UPDATE labels SET t = 'other' WHERE id = 7",
      );
      expect((await compareSourceAndTarget(spec)).differences).toMatchObject([
        { object: "rows of public.labels", details: [expect.stringContaining("(id) = (7): t, twice")] },
      ]);
    },
  );

  test("large tables are sent again from the same snapshot", async () => {
    const spec = await makeCase(`
      CREATE FUNCTION lowest() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT min(n) FROM bounds); END $$;
      CREATE TABLE bounds (n int); INSERT INTO bounds VALUES (1);
      CREATE TABLE facts (id int CHECK (id >= lowest()), t text);
      INSERT INTO facts SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 5000) g`);
    const { remarks } = await expectImported(spec);
    await expectSameRows(spec);
    expect(remarks.filter((line) => line.includes("depends on the search path"))).toHaveLength(1);
  });
});

describe("safety copies of these sources", () => {
  test.each(["c01_hash_enum", "c02_check_fn", "c03_gen_slugify", "c04_index_fn", "c06_matview_tsstat", "c24_inherit"])(
    "%s is restored, with the rows that the source sent",
    async (file) => {
      const identityFile = join(lab.folder, "identity.txt");
      const folder = join(lab.folder, file);
      const spec = { ...(await makeReport(file)), safetyCopy: { folder, identityFile, recipient: undefined } };
      expect((await attempt(spec)).error).toBe("");
      const [copy = ""] = await readdir(folder);
      const database = `restored_${file}`;
      await restoreCopy({
        copy: join(folder, copy),
        secret: (await readIdentity(identityFile))?.secret ?? "",
        server: target.admin,
        database,
        owner: spec.target.owner,
        ownerPassword: spec.target.ownerPassword,
        roles: spec.target.roles,
        preparation: spec.target.preparation,
        say: () => {},
      });
      if (file === "c01_hash_enum") {
        // Each server decides which partition holds a row.
        expect(await target.value(database, SHIPS)).toBe(await source.value(spec.source.address.database, SHIPS));
      } else await expectSameRows({ ...spec, target: { ...spec.target, address: target.in(database) } });
    },
  );
});

describe("the import copies what pg_dump copies", () => {
  test("c07: a materialized view that needs a primary key is computed", async () => {
    const spec = await makeReport("c07_matview_pk");
    const { remarks } = await expectImported(spec);
    expect(remarks.join("\n")).toContain("public.leaderboard was computed again and has the same 20 rows");
    await expectSameRows(spec);
  });

  test("c28: a foreign server and its tables, but no user mapping", async () => {
    const spec = await makeReport("c28_fdw");
    const { error, lines } = await attempt(spec);
    expect(error).toBe("");
    const ours = spec.target.address.database;
    expect(await target.value(ours, "SELECT array_to_string(srvoptions, ' ') FROM pg_foreign_server")).toContain(
      "elsewhere",
    );
    expect(await target.sql(ours, "SELECT FROM pg_user_mappings")).toEqual([]);
    const { skipped } = await readReport(spec);
    expect(skipped.map(({ what }) => what)).toEqual(
      expect.arrayContaining([
        "user mapping of lab_admin for the server other",
        "user mapping of public for the server other",
      ]),
    );
    // The owner may create more of them, as the restore of a safety copy does.
    const may = (role: string) => `SELECT has_foreign_data_wrapper_privilege('${role}', 'postgres_fdw', 'USAGE')`;
    expect(await target.value(ours, may("sectorwars_owner"))).toBe(true);
    expect(await target.value(ours, may("sectorwars_app"))).toBe(false);
    for (const role of ["app", "readonly"]) {
      expect(await target.value(ours, `SELECT has_server_privilege('sectorwars_${role}', 'other', 'USAGE')`)).toBe(
        false,
      );
    }
    // The preflight's trial creates the same objects, and reports it.
    const client = await openSource(spec.source.address);
    const catalog = await readCatalog(client).finally(() => client.end());
    const again = await lab.newImport(spec.source, target);
    expect((await trySchema(again, catalog)).filter(({ code }) => code === "object-not-made")).toEqual([]);
    const told = [await reportText(spec), ...lines, await target.log()].join("\n");
    expect(/topsecret\d/.exec(told)).toBeNull();
  });

  test("c74: extensions in the source's versions, and a view over a column that newer ones lack", async () => {
    const spec = await makeReport("c74_old_extension");
    await expectImported(spec);
    const version = "SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements'";
    expect(await target.value(spec.target.address.database, version)).toBe("1.4");
  });

  test("c78: the source's own uuid_generate_v4() replaces the extension, with a remark", async () => {
    const spec = await makeReport("c78_uuid_wrapper");
    const { remarks } = await expectImported(spec);
    expect(remarks.join("\n")).toContain("public.uuid_generate_v4() and not the extension uuid-ossp");
    const ours = spec.target.address.database;
    await target.sql(ours, "INSERT INTO players (name) VALUES ('b')");
    // The stack prepares the database again after each change.
    await target.sql(ours, spec.target.preparation(ours));
    expect(await target.sql(ours, "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")).toEqual([
      { extname: "pg_stat_statements" },
      { extname: "pgcrypto" },
    ]);
  });

  test("c84: a CHECK that reads a setting of the database", async () => {
    await expectImported(await makeReport("c84_matview_setting"));
  });

  test("c42c: a value of 540 MB is imported, and verified", async () => {
    await expectImported(await makeReport("c42c_bytea_540"));
  }, 600_000);
});

test("a password that begins and ends with a space reaches pg_dump, too", async () => {
  const password = ` ${secret()} ${secret()} `;
  await source.sql("postgres", `CREATE ROLE spaced LOGIN PASSWORD '${password}'`);
  await source.sql("postgres", "CREATE DATABASE spaced OWNER spaced");
  // pg_dump connects through the loopback, which the image trusts.
  const demand = 'sed -i "1ihostssl spaced spaced all scram-sha-256" "$PGDATA/pg_hba.conf"';
  await docker(["exec", source.container, "sh", "-c", demand]);
  await source.sql("postgres", "SELECT pg_reload_conf()");
  const login = { user: "spaced", password };
  const known = source.source("spaced");
  const spec = await lab.newImport({ ...known, address: { ...known.address, ...login } }, target);
  expect((await attempt(spec)).error).toBe("");
});

describe("everything that cannot be copied is named with PostgreSQL's message and a remedy", () => {
  test("c13: rows that refer to missing rows", async () => {
    const error = await expectRefused(await makeReport("c13_fk_orphans"));
    expect(error).toMatch(/- fk constraint public\.child child_p_fkey: insert or update on table "child" violates/);
    expect(error).toMatch(/DETAIL: Key \(p\)=\(7[78]\) is not present in table "parent"/);
    expect(error).toMatch(/On the source, delete them, add the missing rows/);
  });

  test("c14: a row that no longer satisfies its CHECK", async () => {
    const error = await expectRefused(await makeReport("c14_check_now"));
    expect(error).toMatch(/- rows of public\.sessions: new row for relation "sessions" violates check constraint/);
    expect(error).toMatch(/DETAIL: Failing row contains \(1, .*\); CONTEXT: COPY sessions, line 1/);
    expect(error).toMatch(/On the source, change the row or the constraint/);
  });

  test("each of several, in each phase", async () => {
    const orphans = (n: number) => `
      CREATE TABLE p${n} (id int PRIMARY KEY); CREATE TABLE c${n} (id int REFERENCES p${n});
      ALTER TABLE c${n} DISABLE TRIGGER ALL; INSERT INTO c${n} VALUES (${n}); ALTER TABLE c${n} ENABLE TRIGGER ALL`;
    const expired = (n: number) => `
      CREATE TABLE e${n} (t timestamptz CHECK (t > now())); INSERT INTO e${n} VALUES (now() + interval '1 second')`;
    const spec = await makeCase(
      `${[1, 2].map(orphans).join(";")}; ${[3, 4].map(expired).join(";")};\n-- ;;\nSELECT pg_sleep(1.2)`,
    );
    const error = await expectRefused(spec);
    for (const object of [
      "fk constraint public.c1",
      "fk constraint public.c2",
      "rows of public.e3",
      "rows of public.e4",
    ]) {
      expect(error).toContain(`- ${object}`);
    }
  });
});
