/** Generates random schemas with everything that a plain owner can create, and with names and values that are easily corrupted. */
import fc, { type GeneratorValue } from "fast-check";
import { ident, literal } from "../../lib/postgres.ts";
import { CELLS } from "./plants.ts";
import { addKinds, type Col, type Kind, type Tab } from "./random-kinds.ts";

/** A schema as the statements that create it. */
export interface RandomSchema {
  name: string;
  statements: string[];
}

/** A name that looks like the end of a pg_dump header. As the name of a schema it is ambiguous even for a careful parser. */
const LIKE_A_HEADER = "Name: x; Type: TABLE; Schema: y; Owner: z";

/** Texts that break careless parsers of names and of pg_dump's output. */
const NASTY = [
  "Upper",
  "with space",
  'quo"te',
  "apo'strophe",
  "percent%s",
  "back\\slash",
  "new\nline",
  "carriage\r\nreturn",
  "\ttab",
  "ünïcödé",
  "銀河",
  "😀",
  "مجرة",
  "select",
  "user",
  "table",
  "a.b",
  "$dollar$",
  "$$",
  "--dash",
  "/*remark*/",
  ";semi;",
  "\u0001",
  "{brace}",
  ":colon",
  ':"psql"',
  "\\restrict x",
  "\\.",
  " lead",
  "trail ",
  "t",
  "r",
  "k",
  LIKE_A_HEADER,
  "x".repeat(50),
] as const;

/** A header like those that pg_dump writes between entries; in a function body or a text it begins no entry. */
const FALSE_HEADER = "--\n-- Name: ghost; Type: TABLE; Schema: public; Owner: -\n--\n\nCREATE TABLE ghost ();";

/** Types that no B-tree can sort. */
const UNSORTED = new Set(["json", "jsonpath", "xml", "point", "box", "path"]);
/** Index methods other than B-tree, by type. */
const METHODS: Record<string, string[]> = {
  jsonb: ["gin (%)", "gin (% jsonb_path_ops)", "hash (%)"],
  tsvector: ["gin (%)", "gist (%)"],
  "integer[]": ["gin (%)"],
  "text[]": ["gin (%)", "hash (%)"],
  int4range: ["gist (%)", "spgist (%)", "gist (% range_ops)"],
  numrange: ["gist (%)"],
  point: ["gist (%)", "spgist (%)"],
  inet: ["gist (% inet_ops)", "spgist (%)"],
  text: [
    "btree (% text_pattern_ops DESC)",
    "spgist (%)",
    "hash (%)",
    'btree (% COLLATE "C" NULLS FIRST)',
    "btree (lower(%))",
  ],
  date: ["brin (%) WITH (pages_per_range = 7)"],
  bigint: ["brin (%)", "btree (% DESC NULLS FIRST)", "btree ((% % 7) DESC)"],
  timestamptz: ["brin (%)"],
};

/** Generates one schema with fast-check's generator, so that a seed gives the same schema again. */
function build(g: GeneratorValue, index: number): RandomSchema {
  const whole = (min: number, max: number) => g(fc.integer, { min, max });
  const pick = <T>(items: readonly T[]): T => items[whole(0, items.length - 1)] as T;
  const chance = (percent: number) => whole(1, 100) <= percent;
  const some = (max: number) => Array.from({ length: whole(0, max) });
  const maybe = (percent: number, text: string) => (chance(percent) ? text : "");
  let names = 0;
  /** Returns a name that is unique in the schema, at most 63 bytes. */
  const newName = (kind: string) => {
    names += 1;
    return chance(50) ? `${kind}_${names}` : `${pick(NASTY)}${names}`;
  };
  const text = () =>
    chance(60)
      ? pick([...NASTY, FALSE_HEADER, "", "it's", "\\N", "a\tb\\c\nd", "NULL", '{"a"', "%1$s", "E'\\'"])
      : g(fc.string, { unit: "grapheme", maxLength: 12 }).replaceAll("\0", "");

  const schema = chance(50) ? `s${index}` : `${pick(NASTY.filter((name) => name !== LIKE_A_HEADER))} ${index}`;
  const out: string[] = [`CREATE SCHEMA ${ident(schema)}`];
  const own = (name: string) => `${ident(schema)}.${ident(name)}`;
  const comment = (on: string) => {
    if (chance(30)) out.push(`COMMENT ON ${on} IS ${literal(text())}`);
  };

  // Types of its own.
  const types: Kind[] = CELLS.filter(([type]) => !["mood", "mood[]", "pair", "short"].includes(type)).map(
    ([type, ...values]) => ({ type, values, sorted: !UNSORTED.has(type.replace(/\(.*/, "")) }),
  );
  types.push({ type: "text", values: [literal(text()), literal(text()), "''"], sorted: true });
  types.push({ type: "varchar(99)", values: [literal(text()), literal(text())], sorted: true });
  if (chance(60)) {
    const name = newName("enum");
    const labels = [...new Set([text().slice(0, 15), text().slice(0, 15), "a"])].filter((label) => label !== "");
    out.push(`CREATE TYPE ${own(name)} AS ENUM (${labels.map(literal).join(", ")})`);
    if (chance(30)) out.push(`ALTER TYPE ${own(name)} ADD VALUE 'first of all' BEFORE ${literal(labels[0] as string)}`);
    const values = labels.map(literal);
    types.push({ type: own(name), values, sorted: true });
    types.push({ type: `${own(name)}[]`, values: [`ARRAY[${values[0]}]::${own(name)}[]`, "'{}'"], sorted: true });
    comment(`TYPE ${own(name)}`);
  }
  if (chance(50)) {
    const name = newName("domain");
    const check = newName("check");
    out.push(
      `CREATE DOMAIN ${own(name)} AS text ${maybe(40, `DEFAULT ${literal(text())}`)} CONSTRAINT ${ident(check)} CHECK (VALUE <> ${literal(`not ${text()}`)})`,
    );
    if (chance(20)) out.push(`ALTER DOMAIN ${own(name)} ADD CONSTRAINT late CHECK (length(VALUE) < 1000) NOT VALID`);
    types.push({ type: own(name), values: [literal(text()), literal(text())], sorted: true });
    types.push({ type: `${own(name)}[]`, values: [`ARRAY[${literal(text())}]`, "NULL"], sorted: true });
    comment(`DOMAIN ${own(name)}`);
  }
  if (chance(50)) {
    const name = newName("composite");
    const [a, b] = [newName("a"), newName("b")];
    out.push(`CREATE TYPE ${own(name)} AS (${ident(a)} integer, ${ident(b)} text)`);
    const values = [`ROW(1, ${literal(text())})::${own(name)}`, `ROW(NULL, NULL)::${own(name)}`];
    types.push({ type: own(name), values, sorted: true });
    comment(`COLUMN ${own(name)}.${ident(a)}`);
  }
  if (chance(25)) {
    const name = newName("range");
    out.push(`CREATE TYPE ${own(name)} AS RANGE (subtype = ${pick(["text", "date", "double precision"])})`);
    types.push({ type: own(name), values: ["'empty'", "'(,)'"], sorted: true });
  }
  const sorted = new Set(types.filter((type) => type.sorted).map(({ type }) => type));

  // Sequences with parameters of their own.
  const sequences = some(2).map(() => {
    const name = newName("sequence");
    const [kind, min, max] = pick([
      ["smallint", -5, 500],
      ["integer", 1, 2_000_000_000],
      ["bigint", -9_000_000_000, 9_000_000_000],
    ] as const);
    const step = pick([1, 2, -1, 100]);
    const at = whole(Math.max(min, 1), 200);
    out.push(
      `CREATE SEQUENCE ${own(name)} AS ${kind} INCREMENT ${step} MINVALUE ${min} MAXVALUE ${max} START ${at} CACHE ${whole(1, 20)} ${maybe(30, "CYCLE")}`,
    );
    if (chance(60)) out.push(`SELECT setval(${literal(own(name))}, ${whole(1, 300)}, ${chance(50)})`);
    comment(`SEQUENCE ${own(name)}`);
    return name;
  });

  // Functions that defaults and indexes use.
  const shout = newName("shout");
  const body = pick(["$body$", "$_$", "$$"]);
  out.push(
    `CREATE FUNCTION ${own(shout)}(what text DEFAULT ${literal(text())}) RETURNS text LANGUAGE plpgsql IMMUTABLE ${maybe(50, "STRICT")} ${maybe(30, "PARALLEL SAFE")}
     ${maybe(30, "SET search_path = pg_catalog")} AS ${body}\n${pick([FALSE_HEADER.replaceAll(/^(?!--)/gm, "-- "), "-- it's; a 'remark", "", "\\restrict x"]).replaceAll(/^\\/gm, "-- \\")}\nBEGIN RETURN upper(what) || ${literal(text().replaceAll("$", ""))}; END ${body}`,
  );
  comment(`FUNCTION ${own(shout)}(text)`);

  const typeOf = () => pick(types);
  const newColumn = (): Col => {
    const { type, values } = typeOf();
    return { name: newName("c"), type, values, notNull: chance(20) };
  };
  const columnSql = ({ name, type, values, notNull }: Col) => {
    const first = values.find((value) => value !== "NULL") as string;
    const collation = type === "text" || type.startsWith("varchar") ? maybe(20, 'COLLATE "C"') : "";
    const byDefault = chance(40) ? `DEFAULT ${type === "text" && chance(40) ? `${own(shout)}('x')` : first}` : "";
    return `${ident(name)} ${type} ${collation} ${byDefault} ${notNull ? "NOT NULL" : maybe(10, "NULL")}`;
  };
  const valueFor = ({ values, notNull }: Col) =>
    notNull ? (values.find((value) => value !== "NULL") as string) : pick([...values, "NULL"]);
  const fill = (sql: string, columns: Col[], rows: number, from = 1, override = "") => {
    if (rows === 0) return;
    const list = ["id", "ref", ...columns.map(({ name }) => ident(name))].join(", ");
    for (let id = from; id < from + rows; id += 1) {
      out.push(
        `INSERT INTO ${sql} (${list}) ${override} VALUES (${[id, "NULL", ...columns.map(valueFor)].join(", ")})`,
      );
    }
  };

  // Tables.
  const tables: Tab[] = Array.from({ length: whole(1, 4) }, () => {
    const name = newName("table");
    const sql = own(name);
    const columns = some(5).map(newColumn);
    const rows = pick([0, 1, 3, 8]);
    const keyed = chance(75);
    const logged = chance(90);
    const identity = pick([
      "",
      "GENERATED ALWAYS AS IDENTITY",
      "GENERATED BY DEFAULT AS IDENTITY (START 100 INCREMENT 5)",
      "DEFAULT",
    ]);
    const idDefault =
      identity === "DEFAULT" ? (sequences[0] ? `DEFAULT nextval(${literal(own(sequences[0]))})` : "") : identity;
    const parts = [
      `id integer ${idDefault}`,
      "ref integer",
      ...columns.map(columnSql),
      ...(chance(30) ? [`${ident(newName("g"))} integer GENERATED ALWAYS AS (id * 2 + 1) STORED`] : []),
      ...(chance(30) ? [`CONSTRAINT ${ident(newName("check"))} CHECK (id > -1000) ${maybe(30, "NO INHERIT")}`] : []),
      ...(keyed
        ? [
            `${maybe(50, `CONSTRAINT ${ident(newName("pkey"))}`)} PRIMARY KEY (id) ${maybe(20, "INCLUDE (ref)")} ${maybe(20, "WITH (fillfactor = 80)")}`,
          ]
        : []),
      ...(chance(20)
        ? [
            `CONSTRAINT ${ident(newName("unique"))} UNIQUE ${maybe(50, "NULLS NOT DISTINCT")} (id, ref) DEFERRABLE ${maybe(50, "INITIALLY DEFERRED")}`,
          ]
        : []),
      ...(chance(15)
        ? [`CONSTRAINT ${ident(newName("exclude"))} EXCLUDE USING gist (int4range(id, id + 1) WITH &&) WHERE (id > 0)`]
        : []),
    ];
    out.push(
      `CREATE ${logged ? "" : "UNLOGGED"} TABLE ${sql} (${parts.join(", ")}) ${maybe(15, "WITH (fillfactor = 70, autovacuum_enabled = false)")}`,
    );
    fill(sql, columns, rows, 1, "OVERRIDING SYSTEM VALUE");
    comment(`TABLE ${sql}`);
    comment(`COLUMN ${sql}.id`);
    for (const column of columns) {
      if (chance(10)) out.push(`ALTER TABLE ${sql} ALTER ${ident(column.name)} SET STATISTICS ${whole(1, 900)}`);
      if (column.type === "text" && chance(30))
        out.push(`ALTER TABLE ${sql} ALTER ${ident(column.name)} SET STORAGE EXTERNAL`);
      if (column.type === "text" && chance(20))
        out.push(`ALTER TABLE ${sql} ALTER ${ident(column.name)} SET COMPRESSION pglz`);
      if (chance(10)) out.push(`ALTER TABLE ${sql} ALTER ${ident(column.name)} SET (n_distinct = -0.5)`);
    }
    return { name, sql, columns, rows, keyed, logged };
  });

  // A dropped column and a later one leave a gap in the column numbers.
  for (const { sql, columns } of tables) {
    if (!chance(20)) continue;
    out.push(`ALTER TABLE ${sql} ADD gone integer DEFAULT 5`, `ALTER TABLE ${sql} DROP gone`);
    const late = newColumn();
    columns.push({ ...late, notNull: false });
    out.push(`ALTER TABLE ${sql} ADD ${columnSql({ ...late, notNull: false })}`);
  }

  // Indexes.
  for (const { sql, columns } of tables) {
    for (const column of columns) {
      const at = ident(column.name);
      const methods = METHODS[column.type] ?? [];
      const options: string[] = methods.map((method) => method.replace("%", () => at));
      if (sorted.has(column.type)) options.push(`btree (${at})`, `btree (${at} DESC NULLS LAST, id) INCLUDE (ref)`);
      if (options.length === 0 || !chance(50)) continue;
      const name = newName("index");
      const using = pick(options);
      const where = maybe(30, `WHERE id > ${whole(0, 9)} AND ${at} IS NOT NULL`);
      out.push(`CREATE INDEX ${ident(name)} ON ${sql} USING ${using} ${where}`);
      comment(`INDEX ${own(name)}`);
      if (using.startsWith("btree") && where === "" && chance(10))
        out.push(`ALTER TABLE ${sql} CLUSTER ON ${ident(name)}`);
    }
    if (chance(30))
      out.push(
        `CREATE UNIQUE INDEX ${ident(newName("unique"))} ON ${sql} ((id + 1), ${own(shout)}(id::text)) WHERE id IS NOT NULL`,
      );
    if (chance(15)) out.push(`CREATE STATISTICS ${own(newName("statistics"))} ON id, ref FROM ${sql}`);
    if (chance(15)) out.push(`CREATE STATISTICS ${own(newName("statistics"))} (mcv) ON (id % 3), ref FROM ${sql}`);
  }

  // Expressions that PostgreSQL prints differently after a restore, in every place for an expression.
  for (const { sql } of tables) {
    if (!chance(25)) continue;
    const kind = ident(newName("kind"));
    const kinds = () => `${kind} ${maybe(30, "NOT")} IN (${["a", text(), text()].map(literal).join(", ")})`;
    out.push(
      `ALTER TABLE ${sql} ADD ${kind} varchar(${whole(1, 99)}) CONSTRAINT ${ident(newName("check"))} CHECK (${kinds()}) ${maybe(20, "NO INHERIT")}`,
      pick([
        `ALTER TABLE ${sql} ADD ${ident(newName("g"))} boolean GENERATED ALWAYS AS (${kinds()}) STORED`,
        `ALTER TABLE ${sql} ADD CHECK (id BETWEEN -9 AND 99999 AND ref IS DISTINCT FROM -9 AND (${kinds()} OR id > -10)) NOT VALID`,
        `CREATE INDEX ${ident(newName("index"))} ON ${sql} (id, (${kinds()})) WHERE ${kinds()}`,
        `CREATE VIEW ${own(newName("view"))} AS SELECT id, ${kinds()} AS known FROM ${sql} WHERE ${kinds()} AND id BETWEEN 0 AND 9 AND ref > 0`,
        `CREATE MATERIALIZED VIEW ${own(newName("materialized"))} AS SELECT id FROM ${sql} WHERE ${kinds()}`,
        `CREATE POLICY ${ident(newName("policy"))} ON ${sql} USING (${kinds()}) WITH CHECK (${kinds()})`,
        `CREATE RULE ${ident(newName("rule"))} AS ON UPDATE TO ${sql} WHERE ${kinds().replaceAll(kind, () => `NEW.${kind}`)} DO ALSO NOTHING`,
        `CREATE STATISTICS ${own(newName("statistics"))} ON (${kinds()}), id FROM ${sql}`,
        `CREATE FUNCTION ${own(newName("atomic"))}() RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT ${literal(text())} FROM ${sql} WHERE ${kinds()}; END`,
        `CREATE DOMAIN ${own(newName("domain"))} AS varchar(9) CHECK (VALUE IN ('a', ${literal(text())}))`,
      ]),
    );
  }

  // Foreign keys, randomly also to the table itself and in circles.
  for (const { sql, logged } of tables) {
    const targets = tables.filter((other) => other.keyed && (other.logged || !logged));
    if (targets.length === 0 || !chance(60)) continue;
    const to = pick(targets);
    const name = newName("fkey");
    if (to.rows > 0 && chance(60)) out.push(`UPDATE ${sql} SET ref = 1 + id % ${to.rows} WHERE id % 2 = 0`);
    out.push(
      `ALTER TABLE ${sql} ADD CONSTRAINT ${ident(name)} FOREIGN KEY (ref) REFERENCES ${to.sql} ${maybe(20, "MATCH FULL")}
       ${pick(["", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE SET DEFAULT", "ON DELETE SET NULL (ref)"])} ${maybe(30, "DEFERRABLE INITIALLY DEFERRED")} ${maybe(15, "NOT VALID")}`,
    );
    comment(`CONSTRAINT ${ident(name)} ON ${sql}`);
    if (chance(20))
      out.push(`ALTER TABLE ${sql} ADD CONSTRAINT ${ident(newName("late"))} CHECK (ref < 1000000) NOT VALID`);
  }

  // Partitions, one of them with its columns in another order, one partitioned again.
  if (chance(40)) {
    const parent = newName("parted");
    const columns = some(2).map(newColumn);
    const [how, ...bounds] = pick([
      ["RANGE (id)", "FROM (MINVALUE) TO (3)", "FROM (3) TO (7)", "DEFAULT"],
      ["LIST (id)", "IN (1, 2, NULL)", "IN (3)", "DEFAULT"],
      ["HASH (id)", "WITH (MODULUS 3, REMAINDER 0)", "WITH (MODULUS 3, REMAINDER 1)", "WITH (MODULUS 3, REMAINDER 2)"],
      ["RANGE ((id % 100))", "FROM (0) TO (4)", "DEFAULT"],
    ] as const);
    const bound = (text: string) => (text === "DEFAULT" ? text : `FOR VALUES ${text}`);
    const key = !how.includes("((") && !how.startsWith("LIST") && chance(60) ? ", PRIMARY KEY (id)" : "";
    const columnsSql = columns.map(columnSql);
    out.push(
      `CREATE TABLE ${own(parent)} (id integer, ref integer${columnsSql.map((sql) => `, ${sql}`).join("")}${key}) PARTITION BY ${how}`,
    );
    bounds.forEach((text, position) => {
      const name = newName("part");
      if (position === 0 && chance(40)) {
        out.push(
          `CREATE TABLE ${own(name)} (ref integer, gone text${columnsSql
            .toReversed()
            .map((sql) => `, ${sql}`)
            .join("")}, id integer${key ? " NOT NULL" : ""})`,
        );
        out.push(
          `ALTER TABLE ${own(name)} DROP gone`,
          `ALTER TABLE ${own(parent)} ATTACH PARTITION ${own(name)} ${bound(text)}`,
        );
      } else if (position === 1 && chance(30)) {
        out.push(`CREATE TABLE ${own(name)} PARTITION OF ${own(parent)} ${bound(text)} PARTITION BY LIST (id)`);
        out.push(`CREATE TABLE ${own(newName("sub"))} PARTITION OF ${own(name)} DEFAULT`);
      } else out.push(`CREATE TABLE ${own(name)} PARTITION OF ${own(parent)} ${bound(text)}`);
    });
    fill(own(parent), columns, 8);
    if (chance(50)) out.push(`CREATE INDEX ${ident(newName("index"))} ON ${own(parent)} (ref DESC, id)`);
    if (chance(30)) out.push(`CREATE INDEX ${ident(newName("index"))} ON ONLY ${own(parent)} (ref)`);
    comment(`TABLE ${own(parent)}`);
  }

  // Inheritance, with a separate default in the child.
  const heir = tables[0] as Tab;
  if (chance(30)) {
    const name = newName("child");
    const more = newColumn();
    out.push(`CREATE TABLE ${own(name)} (${columnSql({ ...more, notNull: false })}) INHERITS (${heir.sql})`);
    out.push(`ALTER TABLE ${own(name)} ALTER ref SET DEFAULT 7`);
    fill(
      own(name),
      heir.columns.map((column) => ({ ...column, notNull: true })),
      2,
      501,
    );
  }
  if (chance(10)) out.push(`CREATE TABLE ${own(newName("bare"))} ()`);

  // Views, over each other, and materialized ones.
  const views: string[] = [];
  for (const _ of some(3)) {
    const name = newName("view");
    const from = pick([...tables.map(({ sql }) => sql), ...views]);
    const column = ident(newName("v"));
    out.push(
      pick([
        `CREATE VIEW ${own(name)} ${maybe(30, "WITH (security_barrier = true)")} AS SELECT x.*, ${literal(text())}::text AS ${column} FROM ${from} x WHERE x.id > ${whole(0, 5)}`,
        `CREATE VIEW ${own(name)} AS SELECT id, ref, count(*) OVER (PARTITION BY ref) AS ${column} FROM ${from} WHERE id::text ~ ${literal("\\d'")} OR id IS NOT NULL`,
        `CREATE VIEW ${own(name)} AS WITH RECURSIVE w(id, ref) AS (SELECT id, ref FROM ${from} UNION SELECT id + 1, ref FROM w WHERE id < 3) SELECT * FROM w`,
        `CREATE VIEW ${own(name)} AS SELECT a.id, b.ref FROM ${from} a LEFT JOIN LATERAL (SELECT ref FROM ${from} WHERE id = a.id LIMIT 1) b ON true`,
      ]),
    );
    views.push(own(name));
    comment(`VIEW ${own(name)}`);
  }
  if (chance(40)) {
    const name = newName("materialized");
    const from = pick([...tables.map(({ sql }) => sql), ...views]);
    out.push(
      `CREATE MATERIALIZED VIEW ${own(name)} AS SELECT id, min(ref) AS least FROM ${from} GROUP BY id ${maybe(20, "WITH NO DATA")}`,
    );
    if (chance(50)) out.push(`CREATE UNIQUE INDEX ${ident(newName("index"))} ON ${own(name)} (id NULLS FIRST)`);
    comment(`MATERIALIZED VIEW ${own(name)}`);
  }

  // Routines of every kind.
  if (chance(40)) {
    out.push(
      `CREATE FUNCTION ${own(newName("atomic"))}(a integer, VARIADIC more integer[]) RETURNS integer LANGUAGE sql ${maybe(50, "STABLE")} BEGIN ATOMIC SELECT count(*)::integer + a FROM ${heir.sql}; END`,
    );
  }
  if (chance(30)) {
    out.push(
      `CREATE FUNCTION ${own(newName("listing"))}(OUT id integer, OUT note text) RETURNS SETOF record LANGUAGE sql COST 7 ROWS 3 SECURITY DEFINER AS ${literal(`SELECT 1, ${literal(text())} ${FALSE_HEADER.replaceAll("CREATE TABLE", "--")}`)}`,
    );
  }
  if (chance(30))
    out.push(
      `CREATE FUNCTION ${own(newName("rows"))}() RETURNS SETOF ${heir.sql} LANGUAGE sql AS ${literal(`SELECT * FROM ${heir.sql}`)}`,
    );
  if (chance(20))
    out.push(
      `CREATE PROCEDURE ${own(newName("procedure"))}(INOUT a integer) LANGUAGE plpgsql AS 'BEGIN a := a + 1; END'`,
    );
  if (chance(20))
    out.push(
      `CREATE AGGREGATE ${own(newName("aggregate"))}(integer) (SFUNC = int4larger, STYPE = integer, SORTOP = OPERATOR(pg_catalog.>))`,
    );
  if (chance(15))
    out.push(
      `CREATE OPERATOR ${ident(schema)}.<=> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq, COMMUTATOR = OPERATOR(${ident(schema)}.<=>))`,
    );
  if (chance(15))
    out.push(
      `CREATE COLLATION ${own(newName("collation"))} (provider = icu, locale = 'und', deterministic = ${chance(50)})`,
    );
  if (chance(15)) out.push(`CREATE TEXT SEARCH CONFIGURATION ${own(newName("config"))} (COPY = simple)`);

  // Triggers in every state, rules, row security.
  if (chance(60)) {
    const name = newName("act");
    out.push(`CREATE FUNCTION ${own(name)}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$`);
    for (const { sql } of tables) {
      if (!chance(50)) continue;
      const trigger = newName("trigger");
      const kind = pick([
        `CREATE TRIGGER % BEFORE INSERT OR UPDATE OF ref ON ${sql} FOR EACH ROW WHEN (NEW.id IS DISTINCT FROM NEW.ref)`,
        `CREATE TRIGGER % AFTER DELETE ON ${sql} REFERENCING OLD TABLE AS former FOR EACH STATEMENT`,
        `CREATE CONSTRAINT TRIGGER % AFTER INSERT ON ${sql} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW`,
      ]).replace("%", () => ident(trigger));
      out.push(`${kind} EXECUTE FUNCTION ${own(name)}(${maybe(40, literal(text()))})`);
      const state = pick(["", "", "DISABLE TRIGGER", "ENABLE REPLICA TRIGGER", "ENABLE ALWAYS TRIGGER"]);
      if (state !== "") out.push(`ALTER TABLE ${sql} ${state} ${ident(trigger)}`);
      comment(`TRIGGER ${ident(trigger)} ON ${sql}`);
    }
  }
  for (const { sql } of tables) {
    if (chance(10))
      out.push(`CREATE RULE ${ident(newName("rule"))} AS ON DELETE TO ${sql} WHERE OLD.id = 0 DO ALSO NOTHING`);
    if (chance(25)) {
      const policy = ident(newName("policy"));
      out.push(
        `CREATE POLICY ${policy} ON ${sql} AS ${pick(["PERMISSIVE", "RESTRICTIVE"])} FOR ${pick(["ALL", "UPDATE"])} TO ${pick(["PUBLIC", "sectorwars_app"])} USING (id > 0) WITH CHECK (ref <> ${whole(0, 99)})`,
      );
      comment(`POLICY ${policy} ON ${sql}`);
      if (chance(70)) out.push(`ALTER TABLE ${sql} ENABLE ROW LEVEL SECURITY`);
      if (chance(30)) out.push(`ALTER TABLE ${sql} FORCE ROW LEVEL SECURITY`);
    }
    if (chance(10)) out.push(`ALTER TABLE ${sql} REPLICA IDENTITY ${pick(["FULL", "NOTHING"])}`);
    if (chance(20)) out.push(`GRANT SELECT, INSERT ON ${sql} TO sectorwars_app`);
    if (chance(10))
      out.push(`GRANT SELECT, UPDATE ON ${sql} TO sectorwars_app`, `REVOKE UPDATE ON ${sql} FROM sectorwars_app`);
  }
  comment(`SCHEMA ${ident(schema)}`);
  addKinds({
    index,
    schema,
    out,
    tables,
    whole,
    pick,
    chance,
    maybe,
    newName,
    own,
    text,
    comment,
    newColumn,
    columnSql,
    valueFor,
  });
  return { name: schema, statements: out };
}

/** Returns the schema with a number. The same seed and number give the same schema. */
export function randomSchemas(count: number, seed: number): RandomSchema[] {
  const generators = fc.sample(fc.gen(), { seed, numRuns: count });
  return generators.map(build);
}
