/** A source whose owner plants code wherever PostgreSQL runs code by itself: none of it ever runs with a superuser's privileges. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { trySchema } from "../../components/import/preflight/schema-trial.ts";
import { restoreCopy } from "../../components/import/safety-copy/restore.ts";
import { readCatalog } from "../../components/import/schema/catalog.ts";
import { openSource } from "../../components/import/session/session.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { preparationScript } from "../../components/privileges/scripts.ts";
import { docker } from "../../lib/docker.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { atTable, attempt, stagingOf } from "../support/attempt.ts";
import { compareSourceAndTarget } from "../support/compare-databases.ts";
import { deedsIn, HOSTILE_PLACES, hostileFunctions, hostileScript } from "../support/hostile.ts";
import { DENY_LIST, type Lab, openBothEnds, type Server, type SourceServer } from "../support/lab.ts";

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("hostile", hostileScript("hostile"));
});
afterAll(() => lab.close());

/** Files that a program started by the code would leave in the target's container. */
const tracks = () => docker(["exec", target.container, "sh", "-c", "ls /tmp | grep -E 'by-source' || true"]);

/** Returns what the code reports to have done in the target's server, and checks that the roles are unchanged. */
async function expectHarmless(): Promise<string[]> {
  const deeds = deedsIn(await target.log());
  expect(deeds.ruled.slice(0, 20)).toEqual([]);
  expect(deeds.succeeded).toEqual([]);
  expect(await tracks()).toBe("");
  expect(
    await target.sql(
      "postgres",
      `SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls)`,
    ),
  ).toEqual([]);
  return deeds.ran;
}

describe("an import of a source with code in every place", () => {
  let spec: ImportSpec;
  const identityFile = () => join(lab.folder, "identity.txt");

  test("succeeds and is proven, and the code runs only as the owner, in the owner's session", async () => {
    spec = await lab.newImport(source.source("hostile"), target);
    const safetyCopy = { folder: join(lab.folder, "safety"), identityFile: identityFile(), recipient: undefined };
    const { error, summary } = await attempt({ ...spec, safetyCopy });
    expect(error).toBe("");
    expect(summary?.tables).toBeGreaterThan(25);
    const ran = await expectHarmless();
    // The code is in place and runs: otherwise, this test would prove nothing.
    expect(ran).toEqual(
      expect.arrayContaining([
        "check",
        "domain",
        "domain of an array",
        "domain in a composite",
        "domain over a domain",
        "exclusion constraint",
        "extended statistics",
        "generated column",
        "index expression",
        "index of a constant",
        "index of a materialized view",
        "index predicate",
        "materialized view",
        "aggregate",
        "operator",
        "partition key",
        "predicate of a constant",
        "security definer",
        "statistics of a constant",
        "subtype difference",
        "unique index",
      ]),
    );
    expect(ran).not.toContain("cast of rows");
    expect(ran).not.toContain("search path");
    expect(Object.keys(HOSTILE_PLACES).length).toBeGreaterThanOrEqual(30);
    spec.safetyCopy = safetyCopy;
  });

  test("can be verified, tried again and restored from its safety copy in the same way", async () => {
    expect((await compareSourceAndTarget(spec)).differences).toEqual([]);
    const client = await openSource(spec.source.address);
    const catalog = await readCatalog(client).finally(() => client.end());
    const again = await lab.newImport(spec.source, target);
    expect((await trySchema(again, catalog)).filter(({ code }) => code === "object-not-made")).toEqual([]);
    const { readdir } = await import("node:fs/promises");
    const { readIdentity } = await import("../../lib/identity.ts");
    const [copy = ""] = await readdir(join(lab.folder, "safety"));
    await restoreCopy({
      copy: join(lab.folder, "safety", copy),
      secret: (await readIdentity(identityFile()))?.secret ?? "",
      server: target.admin,
      database: "rescued",
      owner: spec.target.owner,
      ownerPassword: spec.target.ownerPassword,
      roles: spec.target.roles,
      preparation: (name) => preparationScript(name, DENY_LIST),
      say: () => {},
    });
    await expectHarmless();
  });

  test("cannot make different rows look equal", async () => {
    const damaged = await lab.newImport(source.source("hostile"), target);
    const { error } = await attempt(
      damaged,
      atTable("t_cast", () =>
        target.sql(stagingOf(damaged), "UPDATE public.t_cast SET secret = 'forged' WHERE id = 2"),
      ),
    );
    expect(error).toContain("public.t_cast: (id) = (2): secret");
    await expectHarmless();
  });
});

test("a source that is read as its superuser, like an adopted volume, runs none of its code as superuser", async () => {
  await source.makeDatabase(
    "adopted",
    `${hostileScript("nowhere")}
     CREATE TABLE alembic_version (version_num varchar(32) NOT NULL); INSERT INTO alembic_version VALUES ('0001');
     CREATE INDEX ON alembic_version ((version_num || evil.constant('alembic')))`,
  );
  // What its superuser may have done by mistake.
  await source.sql(
    "adopted",
    `CREATE FUNCTION public.on_command() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.constant('event'); END $$;
     CREATE EVENT TRIGGER planted ON ddl_command_end EXECUTE FUNCTION public.on_command();
     CREATE EVENT TRIGGER planted_always ON ddl_command_start EXECUTE FUNCTION public.on_command();
     ALTER EVENT TRIGGER planted_always ENABLE ALWAYS`,
  );
  const before = (await source.log()).length;
  const spec = await lab.newImport(source.source("adopted", "superuser"), target);
  expect((await attempt(spec)).error).toBe("");
  expect((await compareSourceAndTarget(spec)).differences).toEqual([]);
  const deeds = deedsIn((await source.log()).slice(before));
  expect(deeds.ruled).toEqual([]);
  expect(deeds.succeeded).toEqual([]);
  await expectHarmless();
});

test("a database whose owner wrote the import's comment on it is not dropped by the next import", async () => {
  await target.sql("postgres", `CREATE DATABASE marked OWNER ${ROLE_NAMES.owner}`);
  await target.sql("postgres", "COMMENT ON DATABASE marked IS 'made by the import, and dropped by it'");
  expect((await attempt(await lab.newImport(source.source("hostile"), target))).error).toBe("");
  expect(await target.sql("postgres", "SELECT datname FROM pg_database WHERE datname = 'marked'")).toHaveLength(1);
});

test("code that changes what the owner may change outside the copy ends the import, which names the change", async () => {
  await source.makeDatabase(
    "outside",
    `${hostileFunctions("outside")}
     CREATE FUNCTION evil.outside() RETURNS boolean LANGUAGE plpgsql AS $f$
     BEGIN
       IF pg_catalog.current_database() <> 'outside' THEN
         EXECUTE 'ALTER ROLE ${ROLE_NAMES.owner} PASSWORD ''known to the source''';
         EXECUTE pg_catalog.format('COMMENT ON DATABASE %I IS ''made by the import, and dropped by it''', pg_catalog.replace(pg_catalog.current_database(), '_import', ''));
         EXECUTE pg_catalog.format('ALTER DATABASE %I SET search_path = evil', pg_catalog.replace(pg_catalog.current_database(), '_import', ''));
       END IF;
       RETURN true;
     END $f$;
     CREATE TABLE t (id int PRIMARY KEY CHECK (evil.outside())); INSERT INTO t VALUES (1)`,
  );
  const spec = await lab.newImport(source.source("outside"), target);
  const database = spec.target.address.database;
  await target.sql("postgres", `ALTER DATABASE ${database} OWNER TO ${ROLE_NAMES.owner}`);
  const { error } = await attempt(spec);
  expect(error).toContain("changed outside the copy while the import ran");
  for (const object of [
    `database ${database}`,
    `role ${ROLE_NAMES.owner}`,
    `settings of all roles in database ${database}`,
  ]) {
    expect(error).toContain(`  - ${object}\n`.trimEnd());
  }
  expect(await target.databases()).not.toContain(stagingOf(spec));
  // The owner's password is the stack's again, so that the next run can log in.
  await source.makeDatabase("harmless", "CREATE TABLE t (id int PRIMARY KEY)");
  expect((await attempt(await lab.newImport(source.source("harmless"), target))).error).toBe("");
});

test("05-malicious-source.sql is imported, and none of it runs as superuser", async () => {
  await source.makeDatabase("game", await readFile("test/cases/security/05-malicious-source.sql", "utf8"));
  const { error } = await attempt(await lab.newImport(source.source("game"), target));
  expect(error).toBe("");
  await expectHarmless();
});
