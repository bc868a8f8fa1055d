/** What a full pg_dump contains and the import's flags leave out is copied in another way, or listed. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ImportSpec, Report } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { attempt } from "../support/attempt.ts";
import { type Lab, openBothEnds, readReport, type Server, type SourceServer } from "../support/lab.ts";

/** Properties of objects that are easily lost. The source's owner runs each line. */
const DETAILS = `
  CREATE TABLE ships (
    id int PRIMARY KEY, name text NOT NULL, notes text, picture bytea, speed int,
    CONSTRAINT ships_name_key UNIQUE (name)
  ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = false, toast.vacuum_truncate = off, parallel_workers = 2);
  ALTER TABLE ships ALTER speed SET STATISTICS 321, ALTER name SET (n_distinct = -0.5, n_distinct_inherited = 7);
  ALTER TABLE ships ALTER notes SET STORAGE EXTERNAL, ALTER picture SET COMPRESSION pglz, ALTER speed SET DEFAULT 3;
  CREATE STATISTICS ships_stats (ndistinct, mcv) ON speed, name FROM ships;
  ALTER STATISTICS ships_stats SET STATISTICS 77;
  CREATE INDEX ships_lower ON ships (lower(name)) WITH (fillfactor = 60);
  ALTER INDEX ships_lower ALTER COLUMN 1 SET STATISTICS 555;
  CREATE UNIQUE INDEX ships_identity ON ships (name, id); ALTER TABLE ships ALTER id SET NOT NULL;
  ALTER TABLE ships CLUSTER ON ships_lower;
  ALTER TABLE ships REPLICA IDENTITY USING INDEX ships_identity;
  CREATE TABLE whole (id int); ALTER TABLE whole REPLICA IDENTITY FULL;
  CREATE TABLE none (id int PRIMARY KEY); ALTER TABLE none REPLICA IDENTITY NOTHING; ALTER TABLE none CLUSTER ON none_pkey;
  CREATE UNLOGGED TABLE quick (id int);
  CREATE VIEW guarded WITH (security_barrier) AS SELECT id FROM ships WHERE speed > 1;
  CREATE VIEW invoker WITH (security_invoker = true) AS SELECT id FROM ships;
  CREATE VIEW checked WITH (check_option = local) AS SELECT id, name, speed FROM ships WHERE speed > 1;
  CREATE MATERIALIZED VIEW sums WITH (fillfactor = 50) AS SELECT count(*) AS n FROM ships; CREATE UNIQUE INDEX sums_n ON sums (n);
  ALTER MATERIALIZED VIEW sums ALTER n SET STATISTICS 99; ALTER MATERIALIZED VIEW sums CLUSTER ON sums_n;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql COST 7 PARALLEL SAFE AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER t_always BEFORE UPDATE ON ships FOR EACH ROW EXECUTE FUNCTION touch(); ALTER TABLE ships ENABLE ALWAYS TRIGGER t_always;
  CREATE TRIGGER t_off BEFORE UPDATE ON ships FOR EACH ROW EXECUTE FUNCTION touch(); ALTER TABLE ships DISABLE TRIGGER t_off;
  CREATE RULE r_replica AS ON DELETE TO whole DO INSTEAD NOTHING; ALTER TABLE whole ENABLE REPLICA RULE r_replica;
  ALTER TABLE whole ENABLE ROW LEVEL SECURITY; ALTER TABLE whole FORCE ROW LEVEL SECURITY; CREATE POLICY p ON whole FOR SELECT USING (id > 0);
  CREATE SEQUENCE steps INCREMENT 5 CACHE 20 CYCLE MAXVALUE 500;
  CREATE DOMAIN name_of AS text COLLATE "C" CONSTRAINT not_empty CHECK (VALUE <> '');
  COMMENT ON CONSTRAINT not_empty ON DOMAIN name_of IS 'c1'; COMMENT ON COLUMN ships.name IS 'c2'; COMMENT ON INDEX ships_lower IS 'c3';
  COMMENT ON STATISTICS ships_stats IS 'c4'; COMMENT ON TRIGGER t_off ON ships IS 'c5'; COMMENT ON RULE r_replica ON whole IS 'c6';
  COMMENT ON POLICY p ON whole IS 'c7'; COMMENT ON CONSTRAINT ships_name_key ON ships IS 'c8'; COMMENT ON SCHEMA public IS 'c9'`;

/** Objects of the server or of the database, which a superuser creates. */
const AROUND = `
  COMMENT ON DATABASE flags IS 'theirs';
  ALTER DATABASE flags CONNECTION LIMIT 50;
  CREATE PUBLICATION news FOR TABLE ships;
  CREATE ROLE reader; CREATE ROLE caller; CREATE ROLE guest; GRANT CONNECT ON DATABASE flags TO guest; GRANT SELECT ON ships TO reader; GRANT SELECT (id) ON whole TO reader; GRANT EXECUTE ON FUNCTION touch() TO caller;
  ALTER DEFAULT PRIVILEGES FOR ROLE game_owner GRANT SELECT ON TABLES TO reader`;

let lab: Lab;
let source: SourceServer;
let target: Server;
let spec: ImportSpec;
let report: Report;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("flags", DETAILS);
  await source.sql("flags", AROUND);
  spec = await lab.newImport(source.source("flags", "superuser"), target);
  expect((await attempt(spec)).error).toBe("");
  report = await readReport(spec);
});
afterAll(() => lab.close());

/** A full dump, statement by statement. */
async function dumpOf(server: Server, database: string): Promise<string[]> {
  const text = await docker([
    ...["exec", "-u", "postgres", server.container, "pg_dump", "--schema-only", "--create", "-U", server.admin.user],
    ...["--exclude-schema=sectorwars_stack", database],
  ]);
  return text
    .replaceAll(/^(--.*|\\.*|SET .*;|SELECT pg_catalog\.set_config.*)$/gm, "")
    .split(/;\n+/)
    .map((statement) => statement.trim().replaceAll(/\s+/g, " "))
    .filter((statement) => statement !== "");
}

describe("a full pg_dump of both", () => {
  let missing: string[];

  beforeAll(async () => {
    const { database } = spec.target.address;
    const ours = new Set(await dumpOf(target, database));
    const owned = (statement: string) =>
      statement.replaceAll(source.user, ROLE_NAMES.owner).replaceAll(/\bflags\b/g, database);
    missing = (await dumpOf(source, "flags")).map(owned).filter((statement) => !ours.has(statement));
  });

  test("differs only in what the import lists", () => {
    const { database } = spec.target.address;
    // Statements of the source that the copy does not have, each with the report's entry for it.
    const explained: [RegExp, RegExp | undefined][] = [
      // The copy's database is the stack's own: its locale is in the report under collations.
      [new RegExp(`^CREATE DATABASE ${database} `), undefined],
      [/^ALTER DATABASE \S+ OWNER TO /, undefined],
      [/^COMMENT ON DATABASE /, /^comment of the database$/],
      [
        /^ALTER DATABASE \S+ CONNECTION LIMIT = 50$|^UPDATE pg_catalog\.pg_database/,
        /^connection limit of the database$/,
      ],
      [/^CREATE PUBLICATION news|^ALTER PUBLICATION news/, /^publication news$/],
      [
        /^GRANT SELECT ON TABLE public\.ships TO reader$|^GRANT SELECT\(id\) ON TABLE public\.whole TO reader$/,
        /^grants to reader$/,
      ],
      [/^ALTER DEFAULT PRIVILEGES /, /^default privileges that game_owner gives$/],
      [/^GRANT CONNECT ON DATABASE \S+ TO guest$/, /^grants to guest$/],
      [/^GRANT ALL ON FUNCTION public\.touch\(\) TO caller$/, /^grants to caller$/],
      // The stack decides who owns and uses a schema.
      [/^(REVOKE|GRANT) .* ON SCHEMA public (FROM|TO) /, undefined],
      [/^ALTER SCHEMA public OWNER TO /, undefined],
    ];
    expect(missing.filter((statement) => !explained.some(([pattern]) => pattern.test(statement)))).toEqual([]);
    const skipped = report.skipped.map(({ what }) => what);
    for (const [pattern, listed] of explained) {
      if (listed && missing.some((statement) => pattern.test(statement))) {
        expect(skipped.filter((what) => listed.test(what))).toHaveLength(1);
      }
    }
    // If nothing were missing, the explanations would prove nothing.
    expect(missing.some((statement) => statement.startsWith("CREATE PUBLICATION"))).toBe(true);
    expect(missing.some((statement) => statement.startsWith("COMMENT ON DATABASE"))).toBe(true);
  });
});

/** Catalog columns with what pg_dump must not lose, read on source and target. */
const CATALOG = `
  WITH own AS (SELECT oid FROM pg_class c WHERE relnamespace = 'public'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))
  SELECT 'relation ' || c.relname AS object, concat_ws(' ', c.relkind, c.relpersistence, c.reloptions, t.reloptions, c.relreplident,
      c.relrowsecurity, c.relforcerowsecurity) AS state
    FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid IN (SELECT oid FROM own)
  UNION ALL SELECT 'column ' || attrelid::regclass || '.' || attname, concat_ws(' ', attstattarget, attstorage, attcompression,
      -- A flag that the server keeps there, in some minor releases.
      nullif(ARRAY(SELECT o FROM unnest(attoptions) o WHERE o NOT LIKE 'pg_attver=%'), '{}'))
    FROM pg_attribute WHERE attrelid IN (SELECT oid FROM own) AND attnum > 0
  UNION ALL SELECT 'statistics ' || stxname, stxstattarget::text FROM pg_statistic_ext
  UNION ALL SELECT 'index ' || indexrelid::regclass, concat_ws(' ', indisclustered, indisreplident, indisunique)
    FROM pg_index WHERE indrelid IN (SELECT oid FROM own)
  UNION ALL SELECT 'trigger ' || tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL SELECT 'rule ' || rulename, ev_enabled::text FROM pg_rewrite WHERE rulename = 'r_replica'
  UNION ALL SELECT 'comment ' || d.description, count(*)::text FROM pg_description d WHERE d.description ~ '^c[0-9]$' GROUP BY d.description
  ORDER BY 1`;

test("targets, storage, options, flags and states are in both catalogs", async () => {
  const theirs = await source.sql("flags", CATALOG);
  expect(theirs.length).toBeGreaterThan(50);
  expect(theirs).toContainEqual({ object: "column ships.speed", state: "321 p " });
  expect(theirs).toContainEqual({ object: "statistics ships_stats", state: "77" });
  expect(await target.sql(spec.target.address.database, CATALOG)).toEqual(theirs);
});
