/** One pass over real servers finds every problem, reports all of them together, and leaves no trace. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Code, type Finding, PreflightError } from "../../components/import/preflight/findings.ts";
import { examine } from "../../components/import/preflight/preflight.ts";
import { trySchema } from "../../components/import/preflight/schema-trial.ts";
import { dumpVersion } from "../../components/import/preflight/target-info.ts";
import { parseSourceUrl } from "../../components/import/source/source-url.ts";
import { LOCK_KEY } from "../../components/import/staging/swap.ts";
import type { Catalog, ImportSpec, Source } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import { ident } from "../../lib/postgres.ts";
import { attempt } from "../support/attempt.ts";
import { catalogDigest } from "../support/compare.ts";
import { images, Lab, type Server, type SourceServer } from "../support/lab.ts";
import { haveOtherVersions, imageOfVersion } from "../support/other-versions.ts";
import { connect } from "../support/session.ts";

/** An extension that only the source has, with a table of its own to which users add rows. */
const SECTOR_MAP = `
cd "$0/extension"
echo "default_version = '1.2'" >sector_map.control
cat >sector_map--1.2.sql <<'SQL'
CREATE TABLE map_places (name text);
SELECT pg_extension_config_dump('map_places', '');
SQL
# A version that the target's image does not know.
touch pgcrypto--1.3--9.9.sql
`;

/** Run by the superuser in a database of another encoding: unreadable, uncopied and locked objects. */
const NASTY = `
  CREATE EXTENSION sector_map;
  CREATE EXTENSION pgcrypto; ALTER EXTENSION pgcrypto UPDATE TO '9.9';
  CREATE ROLE authenticated;
  CREATE SCHEMA closed; CREATE TABLE closed.inner (id int PRIMARY KEY);
  CREATE TABLE unreadable (id int PRIMARY KEY);
  CREATE SEQUENCE unreadable_seq;
  CREATE TABLE hidden (id int PRIMARY KEY, who text); GRANT SELECT ON hidden TO game_owner;
  ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON hidden TO authenticated USING (id > 0);
  CREATE TABLE forced (id int PRIMARY KEY); ALTER TABLE forced OWNER TO game_owner;
  ALTER TABLE forced ENABLE ROW LEVEL SECURITY; ALTER TABLE forced FORCE ROW LEVEL SECURITY;
  CREATE FUNCTION in_c() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
  CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
  CREATE FOREIGN TABLE far_away (id int) SERVER nowhere;
  SELECT lo_create(4711);
  CREATE TABLE held (id int PRIMARY KEY); CREATE TABLE prepared (id int PRIMARY KEY);
  CREATE TABLE alembic_version (version_num text PRIMARY KEY);
  CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  CREATE TABLE names (id int PRIMARY KEY, name text CHECK (name < 'zzz'), nick text COLLATE loose UNIQUE,
    low text GENERATED ALWAYS AS (lower(name)) STORED);
  CREATE UNIQUE INDEX names_folded ON names (lower(name));
  CREATE TABLE ranges (name text) PARTITION BY RANGE (name);
  CREATE TABLE ranges_a PARTITION OF ranges FOR VALUES FROM ('a') TO ('m');
  CREATE UNLOGGED TABLE quick (id int);
  CREATE TABLE child () INHERITS (quick);
  CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
  CREATE TABLE twice (id int); INSERT INTO twice VALUES (1), (1);
  GRANT SELECT ON far_away, held, prepared, alembic_version, names, ranges, ranges_a, quick, child, numbered, twice TO game_owner;
  GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO game_owner; REVOKE SELECT ON unreadable_seq FROM game_owner;
  GRANT SELECT ON map_places TO game_owner;
  INSERT INTO alembic_version VALUES ('a1'), ('b2');
  UPDATE pg_database SET datcollversion = '1' WHERE datname = current_database();
`;

/** Run by the plain owner on a source of version 17: what 15 does not know. */
const NEWER = `
  CREATE TABLE alembic_version (version_num text PRIMARY KEY);
  CREATE TABLE rooms (id int PRIMARY KEY, kind text);
  CREATE TABLE parts (id int GENERATED ALWAYS AS IDENTITY, k int) PARTITION BY RANGE (k);
  CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
  CREATE TABLE booked (k int, during int4range, EXCLUDE USING btree (k WITH =)) PARTITION BY RANGE (k);
  CREATE VIEW json_rows AS SELECT * FROM json_table('[1]'::jsonb, '$[*]' COLUMNS (x int PATH '$')) j;
  CREATE VIEW json_tests AS SELECT '{}'::text IS JSON AS a, json_object('a' : 1) AS b;
  CREATE VIEW any_kind AS SELECT any_value(kind) AS kind FROM rooms;
  CREATE FUNCTION dice() RETURNS int BEGIN ATOMIC SELECT random(1, 6); END;
  CREATE FUNCTION merged() RETURNS SETOF int BEGIN ATOMIC
    MERGE INTO rooms r USING (VALUES (1)) v (id) ON r.id = v.id WHEN MATCHED THEN DO NOTHING
    WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'x') RETURNING r.id; END;
  CREATE FUNCTION shuffled() RETURNS int[] LANGUAGE sql AS 'SELECT array_shuffle(ARRAY[1, 2])';
  CREATE FUNCTION plain() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN length(lower(''X'')); END';
  CREATE TABLE indented (doc text DEFAULT xmlserialize(CONTENT '<a/>' AS text INDENT), PRIMARY KEY (doc));
  CREATE TABLE sorted (name text COLLATE pg_c_utf8 PRIMARY KEY);
  CREATE COLLATION own_rules (provider = icu, locale = 'en', rules = '&a < b');
  CREATE TABLE ruled (name text COLLATE own_rules PRIMARY KEY);
`;

let lab: Lab;
let old: SourceServer;
let newer: SourceServer;
let target: Server;
/** Sessions that hold something open for the whole test. */
const holders: pg.Client[] = [];

beforeAll(async () => {
  lab = await Lab.open();
  const withPrepared = { "05-prepared.sh": `echo "max_prepared_transactions = 5" >>"$PGDATA/postgresql.conf"` };
  [old, newer, target] = await Promise.all([
    lab.startSource({ image: images().databaseBase, init: withPrepared }),
    lab.startSource({ image: images().newerPostgres }),
    lab.startTarget(),
  ]);
  const folder = await old.value<string>("postgres", "SELECT setting FROM pg_config WHERE name = 'SHAREDIR'");
  await docker(["exec", old.container, "sh", "-c", SECTOR_MAP, folder]);
  await newer.makeDatabase("newer", NEWER);
  await old.sql("postgres", CLEAN_DATABASE);
  await old.sql("clean", CLEAN);
});
afterAll(async () => {
  for (const client of holders) await client.end().catch(() => {});
  await lab?.close();
});

/** With the target's collation, and without any problem. */
const CLEAN_DATABASE =
  "CREATE DATABASE clean OWNER game_owner TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'";
const CLEAN = `
  CREATE EXTENSION "uuid-ossp"; SET ROLE game_owner;
  CREATE SCHEMA game AUTHORIZATION game_owner;
  CREATE TABLE game.ships (id serial PRIMARY KEY, name text UNIQUE);
  CREATE INDEX ON game.ships (lower(name));
  CREATE TABLE alembic_version (version_num text PRIMARY KEY); INSERT INTO alembic_version VALUES ('a1b2');
  INSERT INTO game.ships (name) SELECT 'ship ' || i FROM generate_series(1, 100) i; ANALYZE`;

const codesOf = (found: readonly Finding[], ...levels: Finding["level"][]): Code[] =>
  [...new Set(found.filter(({ level }) => levels.includes(level)).map(({ code }) => code))].sort();
const subjectsOf = (found: readonly Finding[], code: Code) =>
  found.filter((one) => one.code === code).map(({ subject }) => subject);

/** The source with a URL that requires less than the import does. */
function byUrl(server: SourceServer, database: string): Source {
  const { user, password, port } = server.source(database).address;
  const url = `postgresql://${user}:${password}@localhost:${port}/${database}?sslmode=require&application_name=mine`;
  return { ...parseSourceUrl(url, server.certificate.authority), fromContainer: server.source(database).fromContainer };
}

/** A session whose lock on a table blocks readers. */
async function hold(server: Server, database: string, sql: string): Promise<pg.Client> {
  const client = await connect(server.in(database), { applicationName: "a slow migration" });
  holders.push(client);
  await client.query(sql);
  return client;
}

describe("a source with every problem", () => {
  let spec: ImportSpec;
  let found: Finding[];
  let before: [string, string];
  let after: [string, string];

  beforeAll(async () => {
    await old.sql(
      "postgres",
      "CREATE DATABASE nasty OWNER game_owner ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    await old.sql("nasty", NASTY);
    // A failed CREATE INDEX CONCURRENTLY leaves an invalid index.
    await old.sql("nasty", "CREATE UNIQUE INDEX CONCURRENTLY twice_key ON twice (id)").catch(() => {});
    await old.sql("postgres", "ALTER ROLE game_owner CONNECTION LIMIT 2");
    await hold(old, "nasty", "BEGIN; LOCK TABLE held");
    const twoPhase = await hold(old, "nasty", "BEGIN; LOCK TABLE prepared; PREPARE TRANSACTION 'forgotten'");
    await twoPhase.end();

    spec = await lab.newImport(byUrl(old, "nasty"), target);
    const { database } = spec.target.address;
    await target.sql(database, "CREATE TABLE mine (id int)");
    await target.sql("postgres", `CREATE DATABASE ${ident(`${database}_import`)}`);
    // A container with a disk of 1 MB stands for a machine with a full disk.
    const small = `${lab.id}-small`;
    await docker([
      ...["run", "-d", "--name", small, "--label", `sectorwars.test.run=${lab.id}`, "--label", "sectorwars.test=1"],
      ...["--tmpfs", "/small:size=1m", "-e", "PGDATA=/small", "--entrypoint", "sleep", images().databaseBase, "600"],
    ]);
    spec = { ...spec, target: { ...spec.target, container: small } };
    const elsewhere = await hold(target, "postgres", `SELECT pg_advisory_lock(${LOCK_KEY})`);

    before = [await catalogDigest(old.in("nasty")), await catalogDigest(target.in(database))];
    found = (await examine(spec)).findings;
    after = [await catalogDigest(old.in("nasty")), await catalogDigest(target.in(database))];
    await elsewhere.end();
  });
  afterAll(async () => {
    await old.sql("nasty", "ROLLBACK PREPARED 'forgotten'");
    await old.sql("postgres", "ALTER ROLE game_owner CONNECTION LIMIT -1");
  });

  test("gets all findings at once", () => {
    expect(codesOf(found, "blocker")).toEqual([
      "connections-exhausted",
      "disk-too-small",
      "encoding-unsupported",
      "extension-missing",
      "import-running",
      "privilege-missing",
      "role-missing",
      "rows-hidden",
      "superuser-needed",
      "table-locked",
      "target-name-taken",
      "target-not-empty",
    ]);
    expect(codesOf(found, "warning")).toEqual([
      "collation-bounds",
      "collation-computed",
      "collation-order",
      "collation-uniqueness",
      "collation-version",
      "extension-older",
      "extension-rows",
      "foreign-table",
      "invalid-index",
      "prepared-transactions",
    ]);
    expect(codesOf(found, "fact")).toEqual([
      "connection-changed",
      "generated-column",
      "identity-column",
      "inherited-table",
      "large-objects",
      "no-primary-key",
      "partitioned-table",
      "source-size",
      "tls",
      "unlogged-table",
    ]);
  });

  test.each<[Code, string[]]>([
    ["connection-changed", ["localhost", "localhost"]],
    [
      "privilege-missing",
      ["schema closed", "closed.inner", "public.unreadable", "sequence public.unreadable_seq", "large object 4711"],
    ],
    ["rows-hidden", ["public.hidden", "public.forced"]],
    ["table-locked", ["public.held", "public.prepared"]],
    ["extension-missing", ["extension sector_map 1.2"]],
    ["extension-older", ["extension pgcrypto 9.9"]],
    ["role-missing", ["role authenticated"]],
    ["superuser-needed", ["function public.in_c() (c)", "foreign-data wrapper nowhere"]],
    ["collation-uniqueness", ["public.names_folded on public.names", "public.names_nick_key on public.names"]],
    ["collation-bounds", ["public.ranges"]],
    ["collation-computed", ["check public.names.names_name_check", "generated column public.names.low"]],
    ["invalid-index", ["public.twice_key"]],
    ["foreign-table", ["public.far_away"]],
    ["unlogged-table", ["public.quick"]],
    ["inherited-table", ["public.child"]],
    ["partitioned-table", ["public.ranges"]],
    ["generated-column", ["public.names"]],
    ["identity-column", ["public.numbered"]],
    ["no-primary-key", ["public.child", "public.quick", "public.ranges_a", "public.twice"]],
  ])("gets the finding %s with the names of its objects", (code, subjects) => {
    expect(subjectsOf(found, code).map((subject) => subject.replace(/^localhost.*/, "localhost"))).toEqual(subjects);
  });

  test("gets a remedy with each blocker and warning", () => {
    expect(found.filter(({ level, remedy }) => level !== "fact" && !remedy)).toEqual([]);
  });

  test("gets the name of the session or prepared transaction that holds a lock", () => {
    const locked = found.filter(({ code }) => code === "table-locked").map(({ what }) => what);
    // A server shows the start time only for the role's own sessions.
    expect(locked[0]).toMatch(/by process \d+ \(a slow migration\)$/);
    expect(locked[1]).toMatch(/by a prepared transaction$/);
  });

  test("is not changed by the preflight, and neither is the target", () => expect(after).toEqual(before));

  test("fails to import with one error that contains all blockers and no password", async () => {
    const { error } = await attempt(spec);
    expect(error).toMatch(/^The import cannot start, and nothing was changed:\n {2}- /);
    const wanted = codesOf(found, "blocker").filter((code) => code !== "import-running");
    expect([...new Set([...error.matchAll(/\[([a-z-]+)\]$/gm)].map(([, code]) => code))].sort()).toEqual(wanted);
    for (const password of [spec.source.address.password, target.admin.password]) {
      expect(error + JSON.stringify(found)).not.toContain(password);
    }
    expect([await catalogDigest(old.in("nasty")), await catalogDigest(spec.target.address)]).toEqual(before);
  });
});

describe("a source of a newer version", () => {
  let found: Finding[];
  beforeAll(async () => {
    const spec = await lab.newImport(newer.source("newer"), target);
    // An image whose pg_dump is too old stands for a machine that has no newer one.
    found = (await examine({ ...spec, newerImage: spec.image })).findings;
  });

  test("gets findings for what the target does not support", () => {
    expect(codesOf(found, "blocker")).toEqual([
      "collation-missing",
      "dump-missing",
      "feature-expression",
      "feature-function",
      "feature-partitioned-exclusion",
    ]);
    expect(codesOf(found, "warning")).toEqual([
      "alembic-empty",
      "collation-order",
      "feature-in-body",
      "feature-partition-identity",
    ]);
    expect(codesOf(found, "fact")).toContain("version-newer");
  });

  test("gets findings that name the objects", () => {
    expect(subjectsOf(found, "feature-expression").sort()).toEqual([
      "default of public.indented.doc",
      "function public.merged()",
      "view public.json_rows",
      "view public.json_tests",
    ]);
    expect(subjectsOf(found, "feature-function")).toEqual(["view public.any_kind", "function public.dice()"]);
    expect(subjectsOf(found, "feature-in-body")).toEqual(["function public.shuffled()"]);
    expect(subjectsOf(found, "feature-partitioned-exclusion")).toEqual(["public.booked.booked_k_excl"]);
    expect(subjectsOf(found, "feature-partition-identity")).toEqual(["public.parts_1.id"]);
    expect(subjectsOf(found, "collation-missing")).toEqual([
      "collation pg_catalog.pg_c_utf8",
      "collation public.own_rules",
    ]);
  });

  test("the versions of pg_dump in the images are read without running them, and 0 for a missing image", async () => {
    expect(await dumpVersion(images().databaseBase, undefined)).toBe(15);
    expect(await dumpVersion(images().newerPostgres, undefined)).toBeGreaterThanOrEqual(17);
    expect(await dumpVersion("sectorwars-no-such-image:0", undefined)).toBe(0);
  });
});

/** Features of 18. The image's pg_dump is version 17 unless it is the official image. */
const NEWEST = `
  CREATE TABLE doubled (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL);
  CREATE TABLE stays (room int4range, during daterange, PRIMARY KEY (room, during WITHOUT OVERLAPS));
  CREATE TABLE loose (id int PRIMARY KEY, other int REFERENCES doubled NOT ENFORCED, n int CONSTRAINT later NOT NULL NO INHERIT);
  CREATE TABLE eager (id int PRIMARY KEY) WITH (vacuum_max_eager_freeze_failure_rate = 0.1);
  CREATE FUNCTION replaced() RETURNS SETOF int BEGIN ATOMIC UPDATE doubled SET id = 2 RETURNING old.id; END;
`;

describe.skipIf(!haveOtherVersions)("a source of PostgreSQL 18", () => {
  test("gets findings for what the target does not support, by name", async () => {
    const newest = await lab.startSource({ image: await imageOfVersion(18) });
    await newest.makeDatabase("newest", NEWEST);
    const { findings } = await examine(await lab.newImport(newest.source("newest"), target));
    expect(subjectsOf(findings, "version-newer")).toEqual([expect.stringContaining("18.")]);
    const told = codesOf(findings, "blocker").filter((code) => code !== "dump-missing");
    expect(Object.fromEntries(told.map((code) => [code, subjectsOf(findings, code)]))).toEqual({
      "feature-expression": ["function public.replaced()"],
      "feature-not-enforced": ["public.loose.loose_other_fkey"],
      "feature-not-null": ["public.loose.later"],
      "feature-storage-parameter": ["public.eager"],
      "feature-temporal-constraint": ["public.stays.stays_pkey"],
      "feature-virtual-column": ["public.doubled.twice"],
    });
  });
});

describe("a source without problems", () => {
  test("yields only facts, with at most 12 statements", async () => {
    const spec = await lab.newImport(old.source("clean"), target);
    const { findings, catalog } = await examine(spec);
    expect(codesOf(findings, "blocker", "warning")).toEqual([]);
    expect(codesOf(findings, "fact")).toEqual([
      "alembic-revision",
      "disk-room",
      "source-size",
      "time-estimate",
      "tls",
      "wire-estimate",
    ]);
    expect(subjectsOf(findings, "alembic-revision")).toEqual(["revision a1b2"]);
    expect(catalog?.tables.map(({ name }) => name).sort()).toEqual(["alembic_version", "ships"]);
    const asked = (await old.log())
      .split("\n")
      .filter((line) => line.includes("@clean sectorwars-import ") && /LOG: {2}(statement|execute \S+):/.test(line));
    expect(asked.length).toBeGreaterThan(3);
    expect(asked.length).toBeLessThanOrEqual(12);
  });

  test("is checked alone if there is no target", async () => {
    const { target: _, ...alone } = await lab.newImport(old.source("clean"), target);
    expect(codesOf((await examine(alone)).findings, "blocker", "warning")).toEqual([]);
  });

  test("the preflight waits for a short lock", async () => {
    const spec = await lab.newImport(old.source("clean"), target);
    const client = await hold(old, "clean", "BEGIN; LOCK TABLE game.ships");
    const examined = examine(spec);
    await sleep(800);
    await client.query("COMMIT");
    expect(codesOf((await examined).findings, "blocker")).toEqual([]);
  });
});

describe("a source or target that cannot be read", () => {
  test("a wrong password and a target that is not empty are reported together", async () => {
    const known = old.source("clean");
    const spec = await lab.newImport({ ...known, address: { ...known.address, password: "entirely-wrong" } }, target);
    await target.sql(spec.target.address.database, "CREATE TABLE mine (id int)");
    const { findings, cause } = await examine(spec);
    expect(codesOf(findings, "blocker")).toEqual(["password-wrong", "target-not-empty"]);
    const { message } = new PreflightError(findings, cause);
    expect(message).toMatch(/\[target-not-empty\]\n {2}- .*cannot be read: password authentication failed/);
  });

  test("an unreachable target and a table that the source's role cannot read are reported together", async () => {
    const spec = await lab.newImport(old.source("clean"), target);
    const { address } = spec.target;
    const down = { ...spec, target: { ...spec.target, address: { ...address, password: "entirely-wrong" } } };
    await old.sql("clean", "CREATE TABLE closed (id int)");
    const { findings } = await examine(down);
    await old.sql("clean", "DROP TABLE closed");
    expect(codesOf(findings, "blocker")).toEqual(["privilege-missing", "target-unreachable"]);
  });
});

describe("the trial of the schema on the target", () => {
  const trial = async (source: Source) => {
    const spec = await lab.newImport(source, target);
    const { catalog } = await examine(spec);
    const before = await catalogDigest(spec.target.address);
    const found = await trySchema(spec, catalog as Catalog);
    // Nothing of it is left, neither a staging database nor objects in the database.
    expect((await target.databases()).filter((name) => name.startsWith(`${spec.target.address.database}_`))).toEqual(
      [],
    );
    expect(await catalogDigest(spec.target.address)).toEqual(before);
    return found;
  };

  test("reports every object that the target cannot create, and invalid bodies", async () => {
    const found = await trial(newer.source("newer"));
    const refused = subjectsOf(found, "object-not-made");
    for (const object of ["view public.json_rows", "view public.json_tests", "view public.any_kind"]) {
      expect(refused).toContain(object);
    }
    expect(found.find(({ subject }) => subject === "collation public.own_rules")?.what).toMatch(
      /; these depend on it and cannot be created: table public\.ruled/,
    );
    expect(refused).toContain("function public.dice()");
    expect(refused).toContain("constraint public.booked booked_k_excl");
    expect(refused).not.toContain("table public.rooms");
    expect(subjectsOf(found, "body-not-valid")).toEqual(["function public.shuffled()"]);
    // The trial confirms the catalog's findings about expressions.
    const { findings } = await examine(await lab.newImport(newer.source("newer"), target));
    for (const object of subjectsOf(findings, "feature-function")) expect(refused.map(bare)).toContain(bare(object));
  });

  test("reports nothing about a schema that it can create", async () => {
    const found = await trial(old.source("clean"));
    expect(found.map(({ code, what }) => `${code}: ${what}`)).toEqual([
      expect.stringMatching(/^schema-tried: (\d+) of \1 objects were created on the target as a trial, and dropped$/),
    ]);
  });
});

/** The object in both forms: pg_dump's entry in the trial, the server's name in the catalog. */
const bare = (object: string) => object.replace(/\(.*/, "");

describe("./db preflight", () => {
  const run = async (url: string | undefined, ...args: string[]) => {
    const roots = join(lab.folder, "roots.pem");
    // Both servers' authorities have the same name: in one bundle, only the first would be tried.
    const asked = url?.includes(`:${newer.admin.port}/`) ? newer : old;
    await writeFile(roots, asked.certificate.authority);
    const { NEON_DATABASE_URL: _, ...env } = process.env;
    const child = spawn("./db", ["preflight", "--stack", `${lab.id}-none`, ...args], {
      env: { ...env, NEON_ROOT_CERTIFICATES: roots, ...(url ? { NEON_DATABASE_URL: url } : {}) },
    });
    const said: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => said.push(chunk));
    const [code] = await once(child, "close");
    const output = Buffer.concat(said).toString();
    expect(output).not.toContain(old.userPassword);
    expect(output).not.toContain(newer.userPassword);
    return { code, output };
  };
  const urlOf = (server: SourceServer, database: string) => {
    const { user, password, port } = server.source(database).address;
    return `postgresql://${user}:${password}@localhost:${port}/${database}?sslmode=verify-full`;
  };

  test("exits with 0 if an import can start, even without a running stack", async () => {
    const { code, output } = await run(urlOf(old, "clean"));
    expect(output).toMatch(/^Preflight of localhost:\d+\/clean for the stack /);
    expect(output).toMatch(/• stack \S+: only the source was checked: .* \[target-not-seen\]/);
    expect(output.trimEnd().split("\n").at(-1)).toBe("The import can start.");
    expect(code).toBe(0);
  });

  test("exits with 1 and the codes if it cannot, also with --json", async () => {
    const { code, output } = await run(urlOf(newer, "newer"), "--json");
    const told = JSON.parse(output);
    expect(told).toMatchObject({ ready: false, source: expect.stringMatching(/^localhost:\d+\/newer$/) });
    expect(codesOf(told.findings, "blocker")).toEqual(["feature-expression", "feature-partitioned-exclusion"]);
    expect(code).toBe(1);
  });

  test("reports an invalid URL without showing it", async () => {
    const { code, output } = await run(`mysql://game_owner:${old.userPassword}@localhost/clean`);
    expect(output).toMatch(
      /NEON_DATABASE_URL begins with mysql:\/\/, but must begin with postgresql:\/\/.*\[url-invalid\]/,
    );
    expect(code).toBe(1);
  });

  test("exits with 2 if there is nothing to check, or an option is wrong", async () => {
    const nothing = await run(undefined);
    expect(nothing.output).toMatch(/^error: NEON_DATABASE_URL is not set/);
    const wrong = await run(urlOf(old, "clean"), "--jsno");
    expect(wrong.output).toMatch(/^error: .*--jsno/);
    expect([nothing.code, wrong.code]).toEqual([2, 2]);
  });
});
