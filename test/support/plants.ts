/** Differences of every kind, each to be planted into its own table or object, in one of two compared databases. */

export type PlantSide = "source" | "target";

/** One difference. */
export interface Plant {
  what: string;
  /** SQL to run on the source before the import. */
  setup: string;
  /** SQL that plants the difference in the database where it runs. */
  spoil: string;
  /** Exactly the objects that must be reported. */
  objects: string[];
  /** Texts that the report must contain. */
  says?: (string | RegExp)[];
  /** The database in which it can be planted; by default either. */
  only?: PlantSide;
  /** A rule for the target, independent of the import. */
  timeless?: true;
}

/** The number of rows of each planted table. */
export const ROWS = 20;

/** A type, a value, and the nearest other value, which a fingerprint could confuse with it. */
export const CELLS: [type: string, value: string, other: string][] = [
  ["jsonb", `'{"a": 1.0}'`, `'{"a": 1.00}'`],
  ["jsonb", "'null'", "NULL"],
  ["json", `'{"a": 1}'`, `'{"a":  1}'`],
  ["json", `'{"a": 1, "b": 2}'`, `'{"b": 2, "a": 1}'`],
  ["jsonpath", "'$.a'", "'$.b'"],
  ["double precision", "0.1", "0.10000000000000002"],
  ["double precision", "0", "'-0'"],
  ["double precision", "'NaN'", "'Infinity'"],
  ["real", "0.1", "0.10000001"],
  ["numeric", "1.0", "1.00"],
  ["numeric", "'NaN'", "'Infinity'"],
  ["bigint", "9007199254740992", "9007199254740993"],
  ["boolean", "true", "false"],
  ["text", "NULL", "''"],
  ["text", "'a'", "'a '"],
  ["text", "U&'\\00e9'", "U&'e\\0301'"],
  ["text", "E'a\\\\n'", "E'a\\n'"],
  ["varchar(9)", "'O''Neil'", "'O\"Neil'"],
  ["bpchar", "'a'", "'a '"],
  ["char(3)", "'a'", "'A'"],
  ['"char"', "'a'", "'b'"],
  ["bytea", "'\\x00'", "'\\x0000'"],
  ["bytea", "''", "NULL"],
  ["timestamptz", "'2026-01-01 00:00:00.000001+00'", "'2026-01-01 00:00:00.000002+00'"],
  ["timestamp", "'2026-03-29 02:30'", "'2026-03-29 03:30'"],
  ["date", "'infinity'", "'-infinity'"],
  ["time", "'24:00'", "'00:00'"],
  ["timetz", "'10:00+01'", "'09:00+00'"],
  ["interval", "'1 day'", "'24 hours'"],
  ["interval", "'1 mon'", "'30 days'"],
  ["integer[]", "'{1,2}'", "'[0:1]={1,2}'"],
  ["integer[]", "'{}'", "NULL"],
  ["integer[]", "'{{1},{2}}'", "'{1,2}'"],
  ["text[]", "'{NULL}'", `'{"NULL"}'`],
  ["text[]", `'{"a,b"}'`, "'{a,b}'"],
  ["mood[]", "'{calm}'", "'{calm,angry}'"],
  ["mood", "'calm'", "'angry'"],
  ["pair", "ROW(NULL, '')::pair", "ROW(NULL, NULL)::pair"],
  ["pair", "ROW(NULL, NULL)::pair", "NULL"],
  ["short", "'a'", "'b'"],
  ["int4range", "'[1,5)'", "'[1,6)'"],
  ["numrange", "'(1,2]'", "'[1,2]'"],
  ["numrange", "'empty'", "'(,)'"],
  ["int4multirange", "'{[1,2),[5,6)}'", "'{[1,2),[5,7)}'"],
  ["uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000010'"],
  ["inet", "'10.0.0.1'", "'10.0.0.1/24'"],
  ["cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"],
  ["macaddr8", "'08:00:2b:01:02:03:04:05'", "'08:00:2b:01:02:03:04:06'"],
  ["xml", "'<a/>'", "'<a />'"],
  ["bit(3)", "B'101'", "B'100'"],
  ["varbit", "B'1'", "B'10'"],
  ["tsvector", "'ship:1'", "'ship:1A'"],
  ["tsquery", "'a & b'", "'a | b'"],
  ["regclass", "'pg_class'", "'pg_type'"],
  ["regtype", "'integer'", "'bigint'"],
  ["oid", "1", "4294967295"],
  ["pg_lsn", "'0/1'", "'0/2'"],
  ["money", "'1.00'", "'1.01'"],
  ["point", "'(0,0)'", "'(0,-0)'"],
  ["box", "'(1,1),(0,0)'", "'(1,2),(0,0)'"],
  ["path", "'((0,0),(1,1))'", "'[(0,0),(1,1)]'"],
];

const TYPES = `
  CREATE TYPE mood AS ENUM ('calm', 'angry');
  CREATE TYPE pair AS (a integer, b text);
  CREATE DOMAIN short AS varchar(9);
  CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;`;

/** One changed cell of each type, in the row of a key. */
const cells = (row: number): Plant[] =>
  CELLS.map(([type, value, other], index) => {
    const name = `cell_${index}`;
    return {
      what: `${type}: ${other} for ${value}`,
      setup: `CREATE TABLE ${name} (id integer PRIMARY KEY, t text, value ${type});
        INSERT INTO ${name} SELECT i, 'other', ${value} FROM generate_series(1, ${ROWS}) i`,
      spoil: `UPDATE ${name} SET value = ${other} WHERE id = ${row}`,
      objects: [`rows of public.${name}`],
      says: [`(id) = (${row}): value`],
    };
  });

const numbered = (name: string, more = "") =>
  `CREATE TABLE ${name} (id integer PRIMARY KEY, value text${more});
   INSERT INTO ${name} SELECT i, 'value ' || i FROM generate_series(1, ${ROWS}) i`;

/** Whole rows. `row` and `next` are keys. */
const rows = (row: number, next: number): Plant[] => [
  {
    what: "values of two rows swapped",
    setup: numbered("swapped"),
    spoil: `UPDATE swapped SET value = 'value ' || ${row + next} - id WHERE id IN (${row}, ${next})`,
    objects: ["rows of public.swapped"],
    says: [`(id) = (${row}): value`, `(id) = (${next}): value`],
  },
  {
    what: "a row doubled and another lost, in a table without a key",
    setup: `CREATE TABLE keyless (value text, t text); INSERT INTO keyless SELECT 'value ' || i, 'same' FROM generate_series(1, ${ROWS}) i`,
    spoil: `UPDATE keyless SET value = 'value ${next}' WHERE value = 'value ${row}'`,
    objects: ["rows of public.keyless"],
    says: ["2 rows; the table has no key to name them by"],
  },
  {
    what: "a pair of equal rows turned into another pair",
    setup: "CREATE TABLE twins (value integer); INSERT INTO twins SELECT i / 2 FROM generate_series(2, 41) i",
    spoil: `UPDATE twins SET value = 99 WHERE value = ${row}`,
    objects: ["rows of public.twins"],
    says: ["2 rows"],
  },
  {
    what: "a row lost",
    setup: numbered("lost"),
    spoil: `DELETE FROM lost WHERE id = ${row}`,
    objects: ["rows of public.lost"],
    says: [new RegExp(`\\(id\\) = \\(${row}\\), (missing on the target|not on the source)`)],
  },
  {
    what: "a row added",
    setup: numbered("added"),
    spoil: `INSERT INTO added VALUES (${1000 + row}, NULL)`,
    objects: ["rows of public.added"],
    says: [
      new RegExp(`\\(id\\) = \\(${1000 + row}\\), (missing on the target|not on the source)`),
      /20 rows on the|21/,
    ],
  },
  {
    what: "all rows lost",
    setup: numbered("emptied"),
    spoil: "TRUNCATE emptied",
    objects: ["rows of public.emptied"],
    says: ["(id) = (1)", "and 10 more"],
  },
  {
    what: "a key with quotes, commas and backslashes",
    setup: `CREATE TABLE "odd ""table""" ("the key" text, "Other" integer, value text, PRIMARY KEY ("the key", "Other"));
      INSERT INTO "odd ""table""" SELECT 'a, "b" \\ (' || i, -i, '' FROM generate_series(1, ${ROWS}) i`,
    spoil: `UPDATE "odd ""table""" SET value = NULL WHERE "Other" = -${row}`,
    objects: ['rows of public."odd ""table"""'],
    says: [`(the key, Other) = ("a, ""b"" \\\\ (${row}",-${row}): value`],
  },
  {
    what: "a table with a column that is called as the proof calls its tables",
    setup: `CREATE TABLE t (t text, r integer, k integer, x integer UNIQUE NOT NULL); INSERT INTO t SELECT 't', 1, 1, i FROM generate_series(1, ${ROWS}) i`,
    spoil: `UPDATE t SET r = 2 WHERE x = ${row}`,
    objects: ["rows of public.t"],
    says: [`(x) = (${row}): r`],
  },
  {
    what: "a row of a partition",
    setup: `CREATE TABLE parted (id integer PRIMARY KEY, value text) PARTITION BY RANGE (id);
      CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (1) TO (11); CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
      INSERT INTO parted SELECT i, '' FROM generate_series(1, ${ROWS}) i`,
    spoil: `UPDATE parted SET value = 'x' WHERE id = ${row}`,
    objects: [`rows of public.parted_${row < 11 ? "low" : "rest"}`],
    says: [`(id) = (${row}): value`],
  },
  {
    what: "a row that moved from a child to its parent",
    setup: `CREATE TABLE parent (id integer); CREATE TABLE child () INHERITS (parent); INSERT INTO child SELECT generate_series(1, ${ROWS})`,
    spoil: `DELETE FROM child WHERE id = ${row}; INSERT INTO parent VALUES (${row})`,
    objects: ["rows of public.child", "rows of public.parent"],
    says: ["1 rows;"],
  },
  {
    what: "a row of a table without columns",
    setup: "CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES",
    spoil: "INSERT INTO bare DEFAULT VALUES",
    objects: ["rows of public.bare"],
    says: [/1 rows on the (source|target)|2 rows on the source/],
  },
  {
    what: "a column that is computed otherwise",
    setup: numbered("computed", ", twice integer GENERATED ALWAYS AS (id * 2) STORED"),
    spoil: `ALTER TABLE computed ALTER twice DROP EXPRESSION; UPDATE computed SET twice = -1 WHERE id = ${row}`,
    objects: ["rows of public.computed", "table public.computed"],
    says: [`(id) = (${row}): twice`],
  },
  {
    what: "a materialized view that is out of date",
    setup: `${numbered("current")}; CREATE MATERIALIZED VIEW summary AS SELECT count(*) AS n, min(value) FROM current`,
    spoil: `UPDATE current SET value = 'a' WHERE id = ${row}; REFRESH MATERIALIZED VIEW summary`,
    objects: ["rows of public.current", "rows of public.summary"],
  },
];

const small = (name: string, columns = "id integer, value text") => `CREATE TABLE ${name} (${columns})`;

/** Definitions and their properties. */
const OBJECTS: Plant[] = [
  {
    what: "a column's type",
    setup: small("typed"),
    spoil: "ALTER TABLE typed ALTER id TYPE bigint",
    objects: ["table public.typed"],
  },
  {
    what: "a column's length",
    setup: small("sized", "value varchar(10)"),
    spoil: "ALTER TABLE sized ALTER value TYPE varchar(11)",
    objects: ["table public.sized"],
  },
  {
    what: "a column's collation",
    setup: small("collated"),
    spoil: 'ALTER TABLE collated ALTER value TYPE text COLLATE "C"',
    objects: ["table public.collated"],
  },
  {
    what: "a column added, with rows that are otherwise equal",
    setup: numbered("widened"),
    spoil: "ALTER TABLE widened ADD more integer DEFAULT 7",
    objects: ["table public.widened"],
  },
  {
    what: "a column's name",
    setup: small("renamed"),
    spoil: "ALTER TABLE renamed RENAME value TO worth",
    objects: ["table public.renamed"],
  },
  {
    what: "a default",
    setup: small("defaulted", "value integer DEFAULT 1"),
    spoil: "ALTER TABLE defaulted ALTER value SET DEFAULT 2",
    objects: ["table public.defaulted"],
  },
  {
    what: "nullability",
    setup: small("nullable"),
    spoil: "ALTER TABLE nullable ALTER value SET NOT NULL",
    objects: ["table public.nullable"],
  },
  {
    what: "an identity's kind",
    setup: small("counted", "id integer GENERATED ALWAYS AS IDENTITY"),
    spoil: "ALTER TABLE counted ALTER id SET GENERATED BY DEFAULT",
    objects: ["sequence public.counted_id_seq"],
  },
  {
    what: "a CHECK",
    setup: small("checked", "value integer CONSTRAINT positive CHECK (value > 0)"),
    spoil: "ALTER TABLE checked DROP CONSTRAINT positive, ADD CONSTRAINT positive CHECK (value >= 0)",
    objects: ["table public.checked"],
  },
  {
    what: "a CHECK that is not valid",
    setup: small("unchecked", "value integer CONSTRAINT positive CHECK (value > 0)"),
    spoil: "ALTER TABLE unchecked DROP CONSTRAINT positive, ADD CONSTRAINT positive CHECK (value > 0) NOT VALID",
    objects: ["check constraint public.unchecked positive", "table public.unchecked"],
  },
  {
    what: "a foreign key that is not valid",
    setup: `CREATE TABLE owners (id integer PRIMARY KEY); ${small("owned", "owner integer CONSTRAINT owned_fkey REFERENCES owners")}`,
    spoil:
      "ALTER TABLE owned DROP CONSTRAINT owned_fkey, ADD CONSTRAINT owned_fkey FOREIGN KEY (owner) REFERENCES owners NOT VALID",
    objects: ["fk constraint public.owned owned_fkey"],
  },
  {
    what: "what a foreign key does on deletion",
    setup: `CREATE TABLE hosts (id integer PRIMARY KEY); ${small("guests", "host integer CONSTRAINT guests_fkey REFERENCES hosts")}`,
    spoil:
      "ALTER TABLE guests DROP CONSTRAINT guests_fkey, ADD CONSTRAINT guests_fkey FOREIGN KEY (host) REFERENCES hosts ON DELETE CASCADE",
    objects: ["fk constraint public.guests guests_fkey"],
  },
  {
    what: "a UNIQUE constraint that can be deferred",
    setup: small("lone", "value integer CONSTRAINT lone_key UNIQUE"),
    spoil: "ALTER TABLE lone DROP CONSTRAINT lone_key, ADD CONSTRAINT lone_key UNIQUE (value) DEFERRABLE",
    objects: ["constraint public.lone lone_key"],
  },
  {
    what: "a primary key dropped",
    setup: small("unkeyed", "id integer CONSTRAINT unkeyed_pkey PRIMARY KEY"),
    spoil: "ALTER TABLE unkeyed DROP CONSTRAINT unkeyed_pkey",
    objects: ["constraint public.unkeyed unkeyed_pkey"],
  },
  {
    what: "an exclusion constraint dropped",
    setup: small("booked", "during int4range, CONSTRAINT alone EXCLUDE USING gist (during WITH &&)"),
    spoil: "ALTER TABLE booked DROP CONSTRAINT alone",
    objects: ["constraint public.booked alone"],
  },
  {
    what: "an index dropped",
    setup: `${small("unindexed")}; CREATE INDEX unindexed_idx ON unindexed (value)`,
    spoil: "DROP INDEX unindexed_idx",
    objects: ["index public.unindexed_idx"],
  },
  {
    what: "an index too many",
    setup: small("overindexed"),
    spoil: "CREATE INDEX overindexed_idx ON overindexed (value)",
    objects: ["index public.overindexed_idx"],
  },
  {
    what: "an index of another definition",
    setup: `${small("reindexed")}; CREATE INDEX reindexed_idx ON reindexed (lower(value)) WHERE id > 0`,
    spoil: "DROP INDEX reindexed_idx; CREATE INDEX reindexed_idx ON reindexed (lower(value)) WHERE id >= 0",
    objects: ["index public.reindexed_idx"],
  },
  {
    what: "where NULLs stand in an index",
    setup: `${small("nulls")}; CREATE INDEX nulls_idx ON nulls (value DESC)`,
    spoil: "DROP INDEX nulls_idx; CREATE INDEX nulls_idx ON nulls (value DESC NULLS LAST)",
    objects: ["index public.nulls_idx"],
  },
  {
    what: "a partitioned index that lost its partition's",
    setup: `CREATE TABLE split (id integer) PARTITION BY LIST (id); CREATE TABLE split_1 PARTITION OF split FOR VALUES IN (1);
      CREATE INDEX split_idx ON ONLY split (id); CREATE INDEX split_1_idx ON split_1 (id); ALTER INDEX split_idx ATTACH PARTITION split_1_idx`,
    spoil: "DROP INDEX split_idx; CREATE INDEX split_idx ON ONLY split (id); CREATE INDEX split_1_idx ON split_1 (id)",
    objects: ["index attach public.split_1_idx", "validity of index public.split_idx"],
  },
  {
    what: "a trigger disabled",
    setup: `${small("triggered")}; CREATE TRIGGER acts BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION nothing()`,
    spoil: "ALTER TABLE triggered DISABLE TRIGGER acts",
    objects: ["trigger public.triggered acts"],
  },
  {
    what: "a trigger for replicas",
    setup: `${small("replayed")}; CREATE TRIGGER acts BEFORE UPDATE ON replayed FOR EACH ROW EXECUTE FUNCTION nothing()`,
    spoil: "ALTER TABLE replayed ENABLE ALWAYS TRIGGER acts",
    objects: ["trigger public.replayed acts"],
  },
  {
    what: "a trigger's moment",
    setup: `${small("timed")}; CREATE TRIGGER acts BEFORE UPDATE ON timed FOR EACH ROW EXECUTE FUNCTION nothing()`,
    spoil: "CREATE OR REPLACE TRIGGER acts AFTER UPDATE ON timed FOR EACH ROW EXECUTE FUNCTION nothing()",
    objects: ["trigger public.timed acts"],
  },
  {
    what: "a rule",
    setup: `${small("ruled")}; CREATE RULE quiet AS ON INSERT TO ruled DO NOTHING`,
    spoil: "DROP RULE quiet ON ruled",
    objects: ["rule public.ruled quiet"],
  },
  {
    what: "row security switched on",
    setup: small("secured"),
    spoil: "ALTER TABLE secured ENABLE ROW LEVEL SECURITY",
    objects: ["row security public.secured"],
  },
  {
    what: "row security forced",
    setup: `${small("forced")}; ALTER TABLE forced ENABLE ROW LEVEL SECURITY`,
    spoil: "ALTER TABLE forced FORCE ROW LEVEL SECURITY",
    objects: ["table public.forced"],
    only: "target",
  },
  {
    what: "a policy",
    setup: `${small("governed")}; CREATE POLICY own ON governed USING (id > 0)`,
    spoil: "ALTER POLICY own ON governed USING (id >= 0)",
    objects: ["policy public.governed own"],
  },
  {
    what: "a view's query",
    setup: `${small("looked_at")}; CREATE VIEW look AS SELECT id, value FROM looked_at`,
    spoil: "CREATE OR REPLACE VIEW look AS SELECT id, value FROM looked_at WHERE id > 0",
    objects: ["view public.look"],
  },
  {
    what: "a view's option",
    setup: `${small("peeked_at")}; CREATE VIEW peek AS SELECT id FROM peeked_at`,
    spoil: "ALTER VIEW peek SET (security_invoker = true)",
    objects: ["view public.peek"],
  },
  {
    what: "a materialized view that was emptied",
    setup: `${small("digested")}; CREATE MATERIALIZED VIEW digest AS SELECT count(*) FROM digested`,
    spoil: "REFRESH MATERIALIZED VIEW digest WITH NO DATA",
    objects: ["content of materialized view public.digest"],
  },
  {
    what: "a function's body",
    setup: "CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    spoil: "CREATE OR REPLACE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 2'",
    objects: ["function public.one()"],
  },
  {
    what: "one of two overloads",
    setup: `CREATE FUNCTION loaded(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
      CREATE FUNCTION loaded(text) RETURNS integer LANGUAGE sql AS 'SELECT 1'`,
    spoil: "ALTER FUNCTION loaded(text) IMMUTABLE",
    objects: ["function public.loaded(text)"],
  },
  {
    what: "a function that runs with its owner's rights",
    setup: "CREATE FUNCTION trusted() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    spoil: "ALTER FUNCTION trusted() SECURITY DEFINER",
    objects: ["function public.trusted()"],
  },
  {
    what: "a function's setting",
    setup: "CREATE FUNCTION tuned() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    spoil: "ALTER FUNCTION tuned() SET work_mem = '1MB'",
    objects: ["function public.tuned()"],
  },
  {
    what: "a procedure",
    setup: "CREATE PROCEDURE proceed() LANGUAGE sql AS 'SELECT 1'",
    spoil: "DROP PROCEDURE proceed()",
    objects: ["procedure public.proceed()"],
  },
  {
    what: "an aggregate's start",
    setup: "CREATE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0')",
    spoil: "CREATE OR REPLACE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '1')",
    objects: ["aggregate public.total(integer)"],
  },
  {
    what: "an operator",
    setup: "CREATE OPERATOR === (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq)",
    spoil: "DROP OPERATOR === (integer, integer)",
    objects: ["operator public.==="],
  },
  {
    what: "a cast",
    setup: `CREATE TYPE glass AS (a integer); CREATE FUNCTION fill(glass) RETURNS integer LANGUAGE sql AS 'SELECT $1.a';
      CREATE CAST (glass AS integer) WITH FUNCTION fill(glass)`,
    spoil: "DROP CAST (glass AS integer); CREATE CAST (glass AS integer) WITH FUNCTION fill(glass) AS ASSIGNMENT",
    objects: ["cast CAST (public.glass AS integer)"],
  },
  {
    what: "a text search configuration",
    setup: "CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple)",
    spoil: "ALTER TEXT SEARCH CONFIGURATION plain DROP MAPPING FOR url",
    objects: ["text search configuration public.plain"],
  },
  {
    what: "a text search dictionary",
    setup: "CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple, ACCEPT = true)",
    spoil: "ALTER TEXT SEARCH DICTIONARY words (ACCEPT = false)",
    objects: ["text search dictionary public.words"],
  },
  {
    what: "a collation",
    setup: `CREATE COLLATION german (provider = icu, locale = 'de-u-co-phonebk')`,
    spoil: `DROP COLLATION german; CREATE COLLATION german (provider = icu, locale = 'de')`,
    objects: ["collation public.german"],
  },
  {
    what: "an enum's order",
    setup: "CREATE TYPE rank AS ENUM ('cadet', 'captain')",
    spoil:
      "ALTER TYPE rank RENAME VALUE 'cadet' TO 'x'; ALTER TYPE rank RENAME VALUE 'captain' TO 'cadet'; ALTER TYPE rank RENAME VALUE 'x' TO 'captain'",
    objects: ["type public.rank"],
  },
  {
    what: "an enum's value added",
    setup: "CREATE TYPE size AS ENUM ('s', 'l')",
    spoil: "ALTER TYPE size ADD VALUE 'm' BEFORE 'l'",
    objects: ["type public.size"],
  },
  {
    what: "a domain's check",
    setup: "CREATE DOMAIN percent AS integer CONSTRAINT hundred CHECK (VALUE <= 100)",
    spoil: "ALTER DOMAIN percent DROP CONSTRAINT hundred",
    objects: ["domain public.percent"],
  },
  {
    what: "a domain's default",
    setup: "CREATE DOMAIN level AS integer",
    spoil: "ALTER DOMAIN level SET DEFAULT 1",
    objects: ["domain public.level"],
  },
  {
    what: "a composite type",
    setup: "CREATE TYPE spot AS (x integer)",
    spoil: "ALTER TYPE spot ADD ATTRIBUTE y integer",
    objects: ["type public.spot"],
  },
  {
    what: "a range type",
    setup: "CREATE TYPE span AS RANGE (subtype = double precision)",
    spoil: "DROP TYPE span",
    objects: ["type public.span"],
  },
  {
    what: "a sequence one further",
    setup: "CREATE SEQUENCE further; SELECT setval('further', 41)",
    spoil: "SELECT nextval('further')",
    objects: ['position of sequence "public"."further"'],
    says: [/4[12] on the source, 4[12] on the target/],
  },
  {
    what: "a sequence whose value has been handed out",
    setup: "CREATE SEQUENCE fresh",
    spoil: "SELECT setval('fresh', 1, true)",
    objects: ['position of sequence "public"."fresh"'],
    says: ["1 (not used yet) on the"],
  },
  {
    what: "a sequence's step",
    setup: "CREATE SEQUENCE striding",
    spoil: "ALTER SEQUENCE striding INCREMENT 2",
    objects: ["sequence public.striding"],
  },
  {
    what: "a sequence's table",
    setup: `${small("belonging")}; CREATE SEQUENCE kept OWNED BY belonging.id`,
    spoil: "ALTER SEQUENCE kept OWNED BY NONE",
    objects: ["sequence owned by public.kept"],
  },
  {
    what: "a sequence's end, and whether it goes round",
    setup: "CREATE SEQUENCE ending MAXVALUE 100",
    spoil: "ALTER SEQUENCE ending CYCLE",
    objects: ["sequence public.ending"],
  },
  {
    what: "a table's comment",
    setup: `${small("described")}; COMMENT ON TABLE described IS 'as it was'`,
    spoil: "COMMENT ON TABLE described IS 'as it is'",
    objects: ["comment public.TABLE described"],
  },
  {
    what: "a column's comment",
    setup: small("annotated"),
    spoil: "COMMENT ON COLUMN annotated.id IS 'new'",
    objects: ["comment public.COLUMN annotated.id"],
  },
  {
    what: "how a column is stored",
    setup: small("stored"),
    spoil: "ALTER TABLE stored ALTER value SET STORAGE EXTERNAL",
    objects: ["table public.stored"],
  },
  {
    what: "how a column is compressed",
    setup: small("compressed"),
    spoil: "ALTER TABLE compressed ALTER value SET COMPRESSION pglz",
    objects: ["table public.compressed"],
  },
  {
    what: "how much is sampled of a column",
    setup: small("sampled"),
    spoil: "ALTER TABLE sampled ALTER value SET STATISTICS 500",
    objects: ["table public.sampled"],
  },
  {
    what: "a table's storage parameter",
    setup: small("filled"),
    spoil: "ALTER TABLE filled SET (fillfactor = 70)",
    objects: ["table public.filled"],
  },
  {
    what: "extended statistics",
    setup: `${small("correlated")}; CREATE STATISTICS correlation ON id, value FROM correlated`,
    spoil: "DROP STATISTICS correlation",
    objects: ["statistics public.correlation"],
  },
  {
    what: "a replica identity",
    setup: small("replicated"),
    spoil: "ALTER TABLE replicated REPLICA IDENTITY FULL",
    objects: ["table public.replicated"],
  },
  {
    what: "the index that a table is clustered on",
    setup: `${small("clustered")}; CREATE INDEX clustered_idx ON clustered (id)`,
    spoil: "ALTER TABLE clustered CLUSTER ON clustered_idx",
    objects: ["index public.clustered_idx"],
  },
  {
    what: "a table that is not logged",
    setup: small("unlogged"),
    spoil: "ALTER TABLE unlogged SET UNLOGGED",
    objects: ["table public.unlogged"],
  },
  {
    what: "a partition's bounds",
    setup: `CREATE TABLE ranged (id integer) PARTITION BY RANGE (id); CREATE TABLE ranged_1 PARTITION OF ranged FOR VALUES FROM (1) TO (5)`,
    spoil:
      "ALTER TABLE ranged DETACH PARTITION ranged_1; ALTER TABLE ranged ATTACH PARTITION ranged_1 FOR VALUES FROM (1) TO (6)",
    objects: ["table attach public.ranged_1"],
  },
  {
    what: "a child that left its parent",
    setup: `CREATE TABLE elder (id integer); CREATE TABLE younger () INHERITS (elder)`,
    spoil: "ALTER TABLE younger NO INHERIT elder",
    objects: ["table public.younger"],
  },
  {
    what: "a table lost",
    setup: small("vanishing"),
    spoil: "DROP TABLE vanishing",
    objects: ["table public.vanishing"],
  },
  {
    what: "a table too many",
    setup: "",
    spoil: small("surplus"),
    objects: ["table public.surplus"],
    only: "target",
  },
  {
    what: "a schema too many",
    setup: "",
    spoil: 'CREATE SCHEMA "Another"; ALTER SCHEMA "Another" OWNER TO CURRENT_USER',
    objects: ["schema Another"],
  },
  {
    what: "another version of an extension",
    setup: "CREATE EXTENSION pg_trgm VERSION '1.5'",
    spoil: "ALTER EXTENSION pg_trgm UPDATE TO '1.6'",
    objects: ["extension pg_trgm"],
    says: [/version 1\.[56] in the schema public on the source, version 1\.[56] in the schema public on the target/],
  },
  {
    what: "an extension lost",
    setup: "CREATE EXTENSION citext",
    spoil: "DROP EXTENSION citext",
    objects: ["extension citext"],
    only: "target",
  },
  {
    what: "an extension in another schema",
    setup: "CREATE SCHEMA additions; CREATE EXTENSION unaccent SCHEMA additions",
    spoil: "ALTER EXTENSION unaccent SET SCHEMA public",
    objects: ["extension unaccent"],
  },
];

/** A varchar column that is compared with literals: PostgreSQL prints the expression differently after a restore. */
const worded = (name: string) =>
  `CREATE TABLE ${name} (id integer PRIMARY KEY, kind varchar(9) CONSTRAINT known CHECK (kind IN ('a', 'b')))`;

/** Objects whose definitions differ in their text in both databases before anything is planted. */
const REWORDED: Plant[] = [
  {
    what: "another literal in a check that is worded anew",
    setup: worded("kinds"),
    spoil: "ALTER TABLE kinds DROP CONSTRAINT known; ALTER TABLE kinds ADD CONSTRAINT known CHECK (kind IN ('a', 'c'))",
    objects: ["table public.kinds"],
  },
  {
    what: "a check that is worded anew and no longer validated",
    setup: worded("kinds_unchecked"),
    spoil: `ALTER TABLE kinds_unchecked DROP CONSTRAINT known;
      ALTER TABLE kinds_unchecked ADD CONSTRAINT known CHECK (kind IN ('a', 'b')) NOT VALID`,
    objects: ["table public.kinds_unchecked", "check constraint public.kinds_unchecked known"],
  },
  {
    what: "another default beside a check that is worded anew",
    setup: worded("kinds_default"),
    spoil: "ALTER TABLE kinds_default ALTER kind SET DEFAULT 'b'",
    objects: ["table public.kinds_default"],
  },
  {
    what: "a literal less in a view that is worded anew",
    setup: `${worded("kinds_seen")}; CREATE VIEW kinds_view AS SELECT id FROM kinds_seen WHERE kind IN ('a', 'b')`,
    spoil: "CREATE OR REPLACE VIEW kinds_view AS SELECT id FROM kinds_seen WHERE kind IN ('a')",
    objects: ["view public.kinds_view"],
  },
  {
    what: "NOT before an expression that is worded anew",
    setup: `${worded("kinds_policed")}; CREATE POLICY own ON kinds_policed USING (kind IN ('a', 'b'))`,
    spoil: "ALTER POLICY own ON kinds_policed USING (kind NOT IN ('a', 'b'))",
    objects: ["policy public.kinds_policed own"],
  },
  {
    what: "another literal in an index that is worded anew",
    setup: `${worded("kinds_found")}; CREATE INDEX kinds_idx ON kinds_found (id) WHERE kind IN ('a', 'b')`,
    spoil: "DROP INDEX kinds_idx; CREATE INDEX kinds_idx ON kinds_found (id) WHERE kind IN ('a', 'b ')",
    objects: ["index public.kinds_idx"],
  },
  {
    what: "a trigger whose condition is worded anew, switched off",
    setup: `${worded("kinds_watched")};
      CREATE TRIGGER watch BEFORE UPDATE ON kinds_watched FOR EACH ROW WHEN (NEW.kind IN ('a', 'b')) EXECUTE FUNCTION nothing()`,
    spoil: "ALTER TABLE kinds_watched DISABLE TRIGGER watch",
    objects: ["trigger public.kinds_watched watch"],
  },
];

/** Rules for the target: ownership, and revoked privileges of roles with the same name. */
const ACCESS: Plant[] = [
  {
    what: "a table's owner",
    setup: small("stolen"),
    spoil: "ALTER TABLE stolen OWNER TO postgres",
    objects: ["owner of table public.stolen"],
    says: ["postgres on the target, where sectorwars_owner should own everything"],
    only: "target",
    timeless: true,
  },
  {
    what: "a partitioned table's owner",
    setup: "CREATE TABLE stolen_parts (id integer) PARTITION BY LIST (id)",
    spoil: "ALTER TABLE stolen_parts OWNER TO postgres",
    objects: ["owner of table public.stolen_parts"],
    only: "target",
    timeless: true,
  },
  {
    what: "a function's owner",
    setup: "CREATE FUNCTION borrowed() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    spoil: "ALTER FUNCTION borrowed() OWNER TO postgres",
    objects: ["owner of function public.borrowed()"],
    only: "target",
    timeless: true,
  },
  {
    what: "a type's owner",
    setup: "CREATE TYPE lent AS ENUM ('a')",
    spoil: "ALTER TYPE lent OWNER TO postgres",
    objects: ["owner of type public.lent"],
    only: "target",
    timeless: true,
  },
  {
    what: "a privilege that was revoked",
    setup: `${small("audited")}; GRANT SELECT, INSERT ON audited TO sectorwars_app`,
    spoil: "GRANT DELETE ON audited TO sectorwars_app",
    objects: ["privileges on public.audited"],
    says: ["sectorwars_app has DELETE on the target, and not on the source"],
    only: "target",
    timeless: true,
  },
  {
    what: "a whole table's privilege in place of some columns'",
    setup: `${small("columned")}; GRANT SELECT (id) ON columned TO sectorwars_app`,
    spoil: "GRANT SELECT ON columned TO sectorwars_app",
    objects: ["privileges on public.columned"],
    says: ["sectorwars_app has SELECT on the target, and not on the source"],
    only: "target",
    timeless: true,
  },
  {
    what: "a column's privilege that is missing",
    setup: `${small("narrowed")}; GRANT SELECT (id), INSERT ON narrowed TO sectorwars_app`,
    spoil: "REVOKE SELECT (id) ON narrowed FROM sectorwars_app",
    objects: ["privileges on public.narrowed"],
    says: ["sectorwars_app has SELECT (id) on the source, and not on the target"],
    only: "target",
    timeless: true,
  },
  {
    what: "a sequence's privilege that was revoked",
    setup: "CREATE SEQUENCE ticked; GRANT USAGE, SELECT ON SEQUENCE ticked TO sectorwars_app",
    spoil: "GRANT UPDATE ON SEQUENCE ticked TO sectorwars_app",
    objects: ["privileges on sequence public.ticked"],
    only: "target",
    timeless: true,
  },
  {
    what: "a function that everybody may call again",
    setup: `CREATE FUNCTION guarded(integer, text[]) RETURNS integer LANGUAGE sql AS 'SELECT 1';
      REVOKE ALL ON FUNCTION guarded FROM PUBLIC`,
    spoil: "GRANT EXECUTE ON FUNCTION guarded TO PUBLIC",
    objects: ["privileges on function public.guarded(integer,text[])"],
    says: ["PUBLIC has EXECUTE on the target, and not on the source"],
    only: "target",
    timeless: true,
  },
  {
    what: "a procedure that the one role it was left to may not call",
    setup: `CREATE PROCEDURE entrusted() LANGUAGE sql AS 'SELECT 1';
      REVOKE ALL ON PROCEDURE entrusted FROM PUBLIC; GRANT EXECUTE ON PROCEDURE entrusted TO sectorwars_app`,
    spoil: "REVOKE EXECUTE ON PROCEDURE entrusted FROM sectorwars_app",
    objects: ["privileges on procedure public.entrusted()"],
    says: ["sectorwars_app has EXECUTE on the source, and not on the target"],
    only: "target",
    timeless: true,
  },
  {
    what: "a type that everybody may use again",
    setup: "CREATE DOMAIN reserved AS integer; REVOKE USAGE ON DOMAIN reserved FROM PUBLIC",
    spoil: "GRANT USAGE ON DOMAIN reserved TO PUBLIC",
    objects: ["privileges on type public.reserved"],
    only: "target",
    timeless: true,
  },
  {
    what: "a schema that a role may look into again",
    setup: "CREATE SCHEMA shut; GRANT CREATE ON SCHEMA shut TO sectorwars_app",
    spoil: "GRANT USAGE ON SCHEMA shut TO sectorwars_app",
    objects: ["privileges on schema shut"],
    only: "target",
    timeless: true,
  },
];

/** Returns the setup of the source, and the plants for a choice of rows. */
export function plants(row: number, next: number): { setup: string; plants: Plant[] } {
  const all = [...cells(row), ...rows(row, next), ...OBJECTS, ...REWORDED, ...ACCESS];
  return { setup: [TYPES, ...all.map(({ setup }) => setup)].filter((sql) => sql !== "").join(";\n"), plants: all };
}
