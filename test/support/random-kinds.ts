/** Kinds of objects that the import treats specially, for random schemas. An ordinary owner can create all of them. */
import { ident, literal } from "../../lib/postgres.ts";

/** A column of a random table. */
export interface Col {
  name: string;
  type: string;
  /** Valid SQL values. */
  values: string[];
  notNull: boolean;
}

/** A random table. */
export interface Tab {
  name: string;
  sql: string;
  columns: Col[];
  /** The number of rows; their ids begin with 1. */
  rows: number;
  /** Whether id is a primary key, so that other tables may reference it. */
  keyed: boolean;
  logged: boolean;
}

/** A type of the schema or of PostgreSQL, with valid SQL values. */
export interface Kind {
  type: string;
  values: string[];
  /** Whether a B-tree can sort it. */
  sorted: boolean;
}

/** The state while a schema is generated: random choices, names, and the statements so far. */
export interface Maker {
  index: number;
  schema: string;
  out: string[];
  tables: Tab[];
  whole(min: number, max: number): number;
  pick<T>(items: readonly T[]): T;
  chance(percent: number): boolean;
  maybe(percent: number, text: string): string;
  /** Returns a name that is unique in the schema, at most 63 bytes. */
  newName(kind: string): string;
  /** Returns a name, qualified with the schema. */
  own(name: string): string;
  text(): string;
  /** Randomly adds a comment to an object. */
  comment(on: string): void;
  newColumn(): Col;
  columnSql(column: Col): string;
  valueFor(column: Col): string;
}

/** A schema in every random database, whose objects are found only through the database's search path. */
const HELPERS = 'Helper "functions"';

/** Functions that are created in every random database before its schemas. */
export const HELPER_STATEMENTS = `
  CREATE SCHEMA ${ident(HELPERS)};
  CREATE FUNCTION ${ident(HELPERS)}.is_known(what text) RETURNS boolean LANGUAGE sql IMMUTABLE
    AS 'SELECT coalesce(length(what), 0) < 100000';
  CREATE FUNCTION ${ident(HELPERS)}.shortened(what text) RETURNS text LANGUAGE plpgsql IMMUTABLE
    AS 'BEGIN RETURN left(what, 20); END'`;

/** Settings of every random database, in the syntax of SET. */
const SETTINGS = [
  `search_path = ${ident(HELPERS)}, public`,
  "app.highest = '1000000'",
  String.raw`game.mode = 'it''s; \on'`,
];

/** Sets the settings in a session. */
export const SETTINGS_SQL = SETTINGS.map((setting) => `SET ${setting}`).join("; ");

/** Sets them for a database. Names with a dot need a superuser (PostgreSQL 15). */
export const databaseSettings = (database: string): string =>
  SETTINGS.map((setting) => `ALTER DATABASE ${ident(database)} SET ${setting}`).join("; ");

const insert = (m: Maker, table: string, columns: string[], values: string[]) =>
  m.out.push(`INSERT INTO ${table} (${columns.join(", ")}) VALUES (${values.join(", ")})`);

/** Tables with two parents, whose columns are in another order than in pg_dump's output. */
function addFamily(m: Maker): void {
  const [left, right, child, adopted] = ["left", "right", "both", "adopted"].map((kind) => m.own(m.newName(kind)));
  const [note, check, late, extra] = ["note", "check", "late", "extra"].map((kind) => ident(m.newName(kind)));
  const shared = { ...m.newColumn(), notNull: false };
  const sharedSql = `${ident(shared.name)} ${shared.type}`;
  const row = ["id", note as string, ident(shared.name)];
  m.out.push(
    `CREATE TABLE ${left} (id integer ${m.maybe(50, "DEFAULT 5")}, ${note} text, CONSTRAINT ${check} CHECK (id > -5))`,
    `CREATE TABLE ${right} (${sharedSql}, id integer)`,
    `CREATE TABLE ${child} (${extra} text ${m.maybe(50, 'COLLATE "C"')} DEFAULT ${literal(m.text())}${m.maybe(50, ", id integer")})
     INHERITS (${m.pick([`${left}, ${right}`, `${right}, ${left}`])})`,
    `ALTER TABLE ${m.pick([left, right])} ADD ${late} varchar(30) DEFAULT 'late'`,
    `CREATE TABLE ${adopted} (${extra} text, ${note} text, gone text, ${sharedSql}, id integer, ${late} varchar(30), CONSTRAINT ${check} CHECK (id > -5))`,
    `ALTER TABLE ${adopted} DROP gone`,
  );
  const [one, other] = m.pick([
    [left, right],
    [right, left],
  ]);
  m.out.push(`ALTER TABLE ${adopted} INHERIT ${one}`);
  if (m.chance(50)) m.out.push(`ALTER TABLE ${adopted} INHERIT ${other}`);
  if (m.chance(30)) m.out.push(`ALTER TABLE ${child} ALTER id SET DEFAULT 9`);
  if (m.chance(30)) m.out.push(`ALTER TABLE ${child} ALTER ${note} SET NOT NULL`);
  if (m.chance(20)) m.out.push(`ALTER TABLE ${child} ADD PRIMARY KEY (id)`);
  insert(m, left as string, ["id", note as string], ["1", literal(m.text())]);
  insert(m, child as string, row, ["2", literal(m.text()), m.valueFor(shared)]);
  insert(m, adopted as string, row, ["3", literal(m.text()), m.valueFor(shared)]);
  m.comment(`TABLE ${child}`);
  m.comment(`COLUMN ${child}.id`);
  m.comment(`CONSTRAINT ${check} ON ${adopted}`);
}

/** Large objects, some of which rows refer to by number. */
function addLargeObjects(m: Maker): void {
  const table = m.own(m.newName("photos"));
  m.out.push(`CREATE TABLE ${table} (id integer PRIMARY KEY, photo oid)`);
  for (let n = 0, last = m.whole(1, 4); n < last; n += 1) {
    const oid = 500_000_000 + m.index * 10 + n;
    const bytes = m.pick([
      "''",
      "'\\x00ff5c'",
      `convert_to(${literal(m.text())}, 'UTF8')`,
      `decode(repeat('0a5c', 40000), 'hex')`,
    ]);
    m.out.push(m.chance(20) ? `SELECT lo_create(${oid})` : `SELECT lo_from_bytea(${oid}, ${bytes})`);
    m.comment(`LARGE OBJECT ${oid}`);
    if (m.chance(10)) m.out.push(`GRANT SELECT ON LARGE OBJECT ${oid} TO sectorwars_app`);
    if (m.chance(80)) insert(m, table, ["id", "photo"], [String(n), m.chance(90) ? String(oid) : "NULL"]);
  }
}

/** Partitions whose rows may belong to another partition on another server, so that rows are inserted through the partitioned table. */
function addMovingPartitions(m: Maker): void {
  const [type, parent] = [m.own(m.newName("rank")), m.own(m.newName("ranked"))];
  m.out.push(`CREATE TYPE ${type} AS ENUM ('low', 'middle', 'high')`);
  const byRange = m.chance(30);
  const key = m.maybe(40, ", PRIMARY KEY (id, rank)");
  m.out.push(
    `CREATE TABLE ${parent} (id integer, rank ${byRange ? "text" : type}, note text DEFAULT ${literal(m.text())}${key}) PARTITION BY ${byRange ? "RANGE" : "HASH"} (rank)`,
  );
  const bounds = byRange
    ? ["FOR VALUES FROM (MINVALUE) TO ('low')", "FOR VALUES FROM ('low') TO ('m')", "DEFAULT"]
    : [0, 1, 2].map((remainder) => `FOR VALUES WITH (MODULUS 3, REMAINDER ${remainder})`);
  for (const bound of bounds) {
    const part = m.own(m.newName("part"));
    if (m.chance(25)) {
      m.out.push(
        `CREATE TABLE ${part} (note text, gone int, rank ${byRange ? "text" : type}${key ? " NOT NULL" : ""}, id integer${key ? " NOT NULL" : ""})`,
      );
      m.out.push(`ALTER TABLE ${part} DROP gone`, `ALTER TABLE ${parent} ATTACH PARTITION ${part} ${bound}`);
    } else m.out.push(`CREATE TABLE ${part} PARTITION OF ${parent} ${bound}`);
    m.comment(`TABLE ${part}`);
  }
  for (let id = 1, last = m.whole(0, 9); id <= last; id += 1) {
    insert(m, parent, ["id", "rank", "note"], [String(id), m.pick(["'low'", "'middle'", "'high'"]), literal(m.text())]);
  }
  if (m.chance(50)) m.out.push(`CREATE INDEX ON ${parent} (rank, id)`);
}

/** Functions that find others through the search path, in every place for an expression. */
function addByPath(m: Maker): void {
  const [known, brief, table] = ["known", "brief", "bypath"].map((kind) => m.own(m.newName(kind)));
  const note = ident(m.newName("note"));
  const language = m.pick(["sql", "plpgsql"]);
  const body = (call: string) => literal(language === "sql" ? `SELECT ${call}` : `BEGIN RETURN ${call}; END`);
  m.out.push(
    `CREATE FUNCTION ${known}(what text) RETURNS boolean LANGUAGE ${language} IMMUTABLE AS ${body("is_known(what)")}`,
    `CREATE FUNCTION ${brief}(what text) RETURNS text LANGUAGE ${language} IMMUTABLE AS ${body("shortened(what)")}`,
    `CREATE TABLE ${table} (id integer PRIMARY KEY, ${note} text ${m.maybe(30, `DEFAULT ${brief}('x')`)})`,
  );
  const places = [
    `ALTER TABLE ${table} ADD CONSTRAINT ${ident(m.newName("check"))} CHECK (${known}(${note}))`,
    `ALTER TABLE ${table} ADD ${ident(m.newName("g"))} text GENERATED ALWAYS AS (${brief}(${note})) STORED`,
    `CREATE INDEX ${ident(m.newName("index"))} ON ${table} (${brief}(${note}))`,
    `CREATE INDEX ${ident(m.newName("index"))} ON ${table} (id) WHERE ${known}(${note})`,
    `CREATE MATERIALIZED VIEW ${m.own(m.newName("materialized"))} AS SELECT id, ${brief}(${note}) AS brief FROM ${table}`,
    `CREATE STATISTICS ${m.own(m.newName("statistics"))} ON (${brief}(${note})), id FROM ${table}`,
  ].filter(() => m.chance(40));
  m.out.push(...places.filter(() => m.chance(50)));
  for (let id = 0, last = m.whole(0, 5); id < last; id += 1)
    insert(m, table as string, ["id", note], [String(id), literal(m.text())]);
  m.out.push(...places.filter((place) => !m.out.includes(place)));
  m.comment(`FUNCTION ${known}(text)`);
}

/** Views that group by a primary key, and materialized views over each other. */
function addGroupedViews(m: Maker): void {
  const keyed = m.tables.filter((table) => table.keyed);
  if (keyed.length === 0) return;
  const table = m.pick(keyed);
  const [view, grouped, over] = ["view", "grouped", "over"].map((kind) => m.own(m.newName(kind)));
  if (m.chance(40)) m.out.push(`CREATE VIEW ${view} AS SELECT t.*, count(*) AS n FROM ${table.sql} t GROUP BY t.id`);
  const from = m.chance(40) && m.out.at(-1)?.startsWith("CREATE VIEW") ? view : table.sql;
  const data = m.maybe(15, "WITH NO DATA");
  const query =
    from === view ? `SELECT x.* FROM ${view} x` : `SELECT x.*, count(*) AS n FROM ${table.sql} x GROUP BY x.id`;
  m.out.push(`CREATE MATERIALIZED VIEW ${grouped} ${m.maybe(30, "WITH (fillfactor = 50)")} AS ${query} ${data}`);
  const index = ident(m.newName("index"));
  m.out.push(`CREATE UNIQUE INDEX ${index} ON ${grouped} (id)`);
  if (m.chance(40)) m.out.push(`ALTER MATERIALIZED VIEW ${grouped} CLUSTER ON ${index}`);
  if (m.chance(40)) m.out.push(`ALTER MATERIALIZED VIEW ${grouped} ALTER id SET STATISTICS ${m.whole(1, 900)}`);
  m.comment(`MATERIALIZED VIEW ${grouped}`);
  m.comment(`COLUMN ${grouped}.id`);
  if (!m.chance(60)) return;
  m.out.push(
    `CREATE MATERIALIZED VIEW ${over} AS SELECT a.id, b.n FROM ${grouped} a JOIN ${grouped} b USING (id) ${data || m.maybe(20, "WITH NO DATA")}`,
    `CREATE INDEX ${ident(m.newName("index"))} ON ${over} (n, id)`,
  );
}

/** Statistics targets, CLUSTER marks and replica identities on different indexes, options of columns. */
function addMarks(m: Maker): void {
  for (const { sql, columns, keyed } of m.tables) {
    const statistics = m.own(m.newName("statistics"));
    if (m.chance(30)) {
      m.out.push(
        `CREATE STATISTICS ${statistics} (${m.pick(["ndistinct", "dependencies", "mcv", "ndistinct, mcv"])}) ON ref, id FROM ${sql}`,
        `ALTER STATISTICS ${statistics} SET STATISTICS ${m.whole(0, 900)}`,
      );
      m.comment(`STATISTICS ${statistics}`);
    }
    if (keyed && m.chance(40)) {
      const [first, second] = [ident(m.newName("identity")), ident(m.newName("cluster"))];
      m.out.push(
        `CREATE UNIQUE INDEX ${first} ON ${sql} (id DESC) INCLUDE (ref) ${m.maybe(40, "WITH (fillfactor = 60)")}`,
        `CREATE INDEX ${second} ON ${sql} ((id % 10), ref)`,
        `ALTER INDEX ${ident(m.schema)}.${second} ALTER COLUMN 1 SET STATISTICS ${m.whole(1, 900)}`,
        `ALTER TABLE ${sql} REPLICA IDENTITY USING INDEX ${first}`,
        `ALTER TABLE ${sql} CLUSTER ON ${m.pick([first, second])}`,
      );
      m.comment(`INDEX ${ident(m.schema)}.${second}`);
    }
    for (const { name, type } of columns) {
      if (["text", "jsonb", "bytea"].includes(type) && m.chance(40)) {
        m.out.push(
          `ALTER TABLE ${sql} ALTER ${ident(name)} SET COMPRESSION ${m.pick(["pglz", "default"])}, ALTER ${ident(name)} SET STORAGE ${m.pick(["EXTERNAL", "MAIN", "EXTENDED"])}`,
        );
      }
      if (m.chance(15))
        m.out.push(`ALTER TABLE ${sql} ALTER ${ident(name)} SET (n_distinct = 3, n_distinct_inherited = -0.25)`);
      if (m.chance(10)) m.comment(`COLUMN ${sql}.${ident(name)}`);
    }
    if (m.chance(10)) m.out.push(`ALTER TABLE ${sql} SET (toast.autovacuum_enabled = off, parallel_workers = 3)`);
  }
}

/** Domains over domains, over arrays and over composite types; a table of them. */
function addNestedDomains(m: Maker): void {
  const [base, over, list, pair, pairs, table] = ["base", "over", "list", "pair", "pairs", "nested"].map((kind) =>
    m.own(m.newName(kind)),
  );
  const check = ident(m.newName("check"));
  m.out.push(
    `CREATE DOMAIN ${base} AS varchar(60) ${m.maybe(30, 'COLLATE "C"')} CONSTRAINT ${check} CHECK (VALUE NOT IN ('bad', ${literal(`worse ${m.text()}`)}))`,
    `CREATE DOMAIN ${over} AS ${base} ${m.maybe(50, "DEFAULT 'x'")} CHECK (length(VALUE) < 60) ${m.maybe(20, "NOT NULL")}`,
    `CREATE DOMAIN ${list} AS ${over}[] CHECK (cardinality(VALUE) < 9)`,
    `CREATE TYPE ${pair} AS (a integer, b ${base})`,
    `CREATE DOMAIN ${pairs} AS ${pair} CHECK ((VALUE).a IS DISTINCT FROM 13)`,
    `CREATE TABLE ${table} (id integer, a ${over}, b ${list}, c ${pairs}, d ${pairs}[])`,
  );
  m.comment(`DOMAIN ${over}`);
  m.comment(`CONSTRAINT ${check} ON DOMAIN ${base}`);
  m.comment(`TYPE ${pair}`);
  const some = () => literal(m.text().slice(0, 20));
  for (let id = 0, last = m.whole(0, 4); id < last; id += 1) {
    const values = [some(), `ARRAY[${some()}, 'y']::varchar[]::${list}`, `ROW(1, ${some()})::${pair}`];
    insert(m, table as string, ["id", "a", "b", "c", "d"], [String(id), ...values, m.pick(["NULL", "'{}'"])]);
  }
  if (m.chance(40)) m.out.push(`CREATE INDEX ON ${table} (a, id)`);
  if (m.chance(20)) m.out.push(`ALTER DOMAIN ${base} ADD CONSTRAINT late CHECK (VALUE <> 'late') NOT VALID`);
}

/** Checks, policies and defaults that read the settings of the database. */
function addSettings(m: Maker): void {
  for (const { sql } of m.tables) {
    if (m.chance(25))
      m.out.push(
        `ALTER TABLE ${sql} ADD CONSTRAINT ${ident(m.newName("check"))} CHECK (id < current_setting('app.highest')::integer)`,
      );
    if (m.chance(15))
      m.out.push(`ALTER TABLE ${sql} ADD ${ident(m.newName("mode"))} text DEFAULT current_setting('game.mode')`);
  }
}

/** Row security that applies to the owner too. */
function addForcedPolicies(m: Maker): void {
  const table = m.own(m.newName("forced"));
  const policy = ident(m.newName("policy"));
  m.out.push(`CREATE TABLE ${table} (id integer ${m.maybe(50, "PRIMARY KEY")}, owner name DEFAULT current_user)`);
  m.out.push(`INSERT INTO ${table} (id) SELECT generate_series(1, ${m.whole(1, 5)})`);
  m.out.push(
    `CREATE POLICY ${policy} ON ${table} FOR ${m.pick(["ALL", "UPDATE", "DELETE"])} USING (owner = current_user AND id < current_setting('app.highest')::integer)`,
    `ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY`,
    `ALTER TABLE ${table} FORCE ROW LEVEL SECURITY`,
  );
  m.comment(`POLICY ${policy} ON ${table}`);
}

/** Multiranges, also of a range type in the schema, with exclusion constraints. */
function addMultiranges(m: Maker): void {
  const [range, table] = [m.own(m.newName("span")), m.own(m.newName("spans"))];
  const multirange = m.own(m.newName("multispan"));
  const constraint = ident(m.newName("exclude"));
  m.out.push(
    `CREATE TYPE ${range} AS RANGE (subtype = ${m.pick(["integer", "bigint", "numeric"])}, multirange_type_name = ${multirange})`,
    `CREATE TABLE ${table} (id integer, spans int4multirange, wide ${multirange}, during tstzmultirange,
       CONSTRAINT ${constraint} EXCLUDE USING gist (spans WITH &&) ${m.maybe(40, "WHERE (id > 0)")} ${m.maybe(40, "DEFERRABLE INITIALLY DEFERRED")})`,
  );
  m.comment(`CONSTRAINT ${constraint} ON ${table}`);
  for (let id = 0, last = m.whole(0, 5); id < last; id += 1) {
    const spans = [`'{[${id * 10},${id * 10 + 3}),[${id * 10 + 5},${id * 10 + 6})}'`, "'{}'", "NULL"];
    const wide = ["'{(,3),[7,)}'", "'{}'", "'{[1,2],(5,6)}'"];
    const during = ["'{[\"2026-01-01 00:00+00\",infinity)}'", "NULL"];
    insert(m, table, ["id", "spans", "wide", "during"], [String(id), m.pick(spans), m.pick(wide), m.pick(during)]);
  }
  if (m.chance(40)) m.out.push(`CREATE INDEX ON ${table} USING gist (wide)`);
  if (m.chance(40))
    m.out.push(`ALTER TABLE ${table} ADD EXCLUDE USING gist (wide WITH =, int4range(id, id + 1) WITH &&)`);
}

/** Publications, which are not imported. After this, some tables accept no UPDATE. */
function addPublication(m: Maker): void {
  const logged = m.tables.filter((table) => table.logged);
  if (logged.length === 0) return;
  const name = ident(`${m.newName("publication")} ${m.index}`);
  m.out.push(`CREATE PUBLICATION ${name} FOR TABLE ${m.pick(logged).sql} (id) WHERE (id > 0)`);
  m.comment(`PUBLICATION ${name}`);
}

/** Each kind, with its percentage of schemas. */
const KINDS: readonly [percent: number, add: (m: Maker) => void][] = [
  [35, addFamily],
  [25, addLargeObjects],
  [30, addMovingPartitions],
  [35, addByPath],
  [35, addGroupedViews],
  [60, addMarks],
  [30, addNestedDomains],
  [30, addSettings],
  [25, addForcedPolicies],
  [30, addMultiranges],
  [15, addPublication],
];

/** Adds some of the kinds to a schema with tables. */
export function addKinds(m: Maker): void {
  for (const [percent, add] of KINDS) {
    if (m.chance(percent)) add(m);
  }
}
