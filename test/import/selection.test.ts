/** Selections: consistent, masked before the values leave the source, and never called equal. */
import { randomInt } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readForeignKeys } from "../../components/import/selection/relations.ts";
import { parseSelection, type RawSelection } from "../../components/import/selection/selection-settings.ts";
import { findSubset } from "../../components/import/selection/subset.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import { qualified } from "../../lib/postgres.ts";
import { attempt, expectUntouched, reportText } from "../support/attempt.ts";
import { catalogDigest, contentsOf, physicalDigest } from "../support/compare.ts";
import { type Lab, openBothEnds, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { withConnection } from "../support/session.ts";
import { makeTable } from "../unit/table.ts";

/** Cycles, a table that refers to itself, keys of two columns, partitions on both ends of a key, types that a mask must fit. */
const GAME = `
CREATE EXTENSION citext;
CREATE DOMAIN address AS varchar(60) CHECK (VALUE LIKE '%@%');
CREATE TABLE sectors (id integer PRIMARY KEY, owner integer, name text NOT NULL);
CREATE TABLE players (
  id integer PRIMARY KEY, home integer REFERENCES sectors, friend integer REFERENCES players,
  email address NOT NULL UNIQUE, nick citext UNIQUE, bio text, phone varchar(12), code uuid, token bytea, level integer NOT NULL,
  shout text GENERATED ALWAYS AS (upper(bio)) STORED
);
ALTER TABLE sectors ADD FOREIGN KEY (owner) REFERENCES players;
CREATE TABLE newsletters (email address PRIMARY KEY REFERENCES players (email), since date);
CREATE TABLE berths (sector integer REFERENCES sectors, place integer, PRIMARY KEY (sector, place));
CREATE TABLE ships (id integer, kind integer, player integer REFERENCES players, sector integer, place integer,
  PRIMARY KEY (id, kind), FOREIGN KEY (sector, place) REFERENCES berths) PARTITION BY LIST (kind);
CREATE TABLE ships_1 PARTITION OF ships FOR VALUES IN (1);
CREATE TABLE ships_2 PARTITION OF ships FOR VALUES IN (2);
CREATE TABLE cargo (ship integer, kind integer, what text, FOREIGN KEY (ship, kind) REFERENCES ships);
CREATE TABLE kinds (id integer PRIMARY KEY, name text);
CREATE TABLE event_log (id integer PRIMARY KEY, player integer REFERENCES players, what text);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('abc');
INSERT INTO kinds VALUES (1, 'scout'), (2, 'hauler');
INSERT INTO sectors SELECT i, NULL, 'Sector ' || i FROM generate_series(1, 60) i;
INSERT INTO players SELECT i, 1 + i % 60, nullif(i / 2, 0), 'Pilot' || i || '@Secret.org', 'Nick' || i,
  CASE WHEN i % 5 = 0 THEN NULL ELSE 'clearly about ' || i END, '+49 ' || i, gen_random_uuid(), decode('beef', 'hex'), i % 7
  FROM generate_series(1, 400) i;
UPDATE sectors SET owner = id * 5 WHERE id % 2 = 0;
INSERT INTO newsletters SELECT email, '2026-01-01' FROM players WHERE id % 3 = 0;
INSERT INTO berths SELECT 1 + i % 60, i FROM generate_series(1, 300) i;
INSERT INTO ships SELECT i, 1 + i % 2, nullif(i % 401, 0), 1 + (i % 300 + 1) % 60, i % 300 + 1 FROM generate_series(1, 900) i;
INSERT INTO cargo SELECT i % 900 + 1, 1 + (i % 900 + 1) % 2, 'ore' FROM generate_series(1, 2000) i;
INSERT INTO event_log SELECT i, 1 + i % 400, 'seen by Pilot' || i FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW levels AS SELECT level, count(*) AS players FROM players GROUP BY level;
`;

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("game", GAME);
});
afterAll(() => lab?.close());

async function importing(raw: Partial<RawSelection>, more: Partial<ImportSpec> = {}) {
  const { selection, problems } = parseSelection({
    ...{ importExclude: [], importSchemaOnly: false, importSubset: [], importMasks: [] },
    ...raw,
  });
  expect(problems).toEqual([]);
  const spec: ImportSpec = { ...(await lab.newImport(source.source("game"), target)), selection, ...more };
  return { spec, ...(await attempt(spec)) };
}
const verdicts = async (spec: ImportSpec) =>
  Object.fromEntries((await readReport(spec)).tables.map(({ table, verdict }) => [table, verdict]));
const rowsOf = (spec: ImportSpec, query: string) => target.sql(spec.target.address.database, query);

/** Every foreign key exists, is valid, and holds in a join. */
async function expectForeignKeys(spec: ImportSpec): Promise<void> {
  const count = "SELECT count(*)::int AS n FROM pg_constraint WHERE contype = 'f' AND convalidated";
  expect(await rowsOf(spec, count)).toEqual(await source.sql("game", count));
  const { database } = spec.target.address;
  const keys = await withConnection(target.in(database), readForeignKeys);
  expect(keys.length).toBeGreaterThan(8);
  for (const { child, parents, pairs } of keys) {
    const there = pairs.map((pair) => `c."${pair.child}" IS NOT NULL`).join(" AND ");
    const found = parents.map(
      (parent) =>
        `EXISTS (SELECT FROM ${parent} p WHERE ${pairs.map((pair) => `p."${pair.parent}" = c."${pair.child}"`).join(" AND ")})`,
    );
    const lost = await target.value(
      database,
      `SELECT count(*)::int FROM ${child} c WHERE ${there} AND NOT (${found.join(" OR ")})`,
    );
    expect(lost, child).toBe(0);
  }
}

describe("masks", () => {
  const MASKS = [
    ...["players.email = email", "newsletters.email = email", "players.nick = name", "players.bio = text"],
    ...["players.phone = fixed +00 0", "players.code = hash", "players.token = hash", "event_log.what = null"],
  ];
  let spec: ImportSpec;
  let lines: string[];
  beforeAll(async () => {
    const before = [await catalogDigest(source.in("game")), await physicalDigest(source.in("game"))];
    const safetyCopy = {
      folder: join(lab.folder, "safety"),
      identityFile: join(lab.folder, "identity.txt"),
      recipient: undefined,
    };
    const done = await importing({ importMasks: MASKS }, { maskSecret: "one", safetyCopy });
    expect(done.error).toBe("");
    ({ spec, lines } = done);
    expect([await catalogDigest(source.in("game")), await physicalDigest(source.in("game"))]).toEqual(before);
  });

  test("leave no masked value in the copy, its server's log, the report or the safety copy", async () => {
    const { database } = spec.target.address;
    const dump = await docker(["exec", "-u", "postgres", target.container, "pg_dump", "--data-only", database]);
    expect(dump).toContain("Sector 12");
    const { path, identity } = {
      path: (await readReport(spec)).safetyCopy?.path ?? "",
      identity: join(lab.folder, "identity.txt"),
    };
    const { readIdentity } = await import("../../lib/identity.ts");
    const { readManifest, readSealedText } = await import("../../components/import/safety-copy/files.ts");
    const secret = (await readIdentity(identity))?.secret ?? "";
    const { tables } = await readManifest(path, secret);
    const copies = await Promise.all(tables.map(({ file }) => readSealedText(join(path, file), secret)));
    expect(tables.find(({ table }) => table === "public.players")?.selected).toContain("masked: email masked (email)");
    const everything = [dump, await target.log(), await reportText(spec), lines.join("\n"), ...copies].join("\n");
    for (const clear of ["Secret.org", "clearly about", "CLEARLY", "Nick17", "+49", "seen by"])
      expect(everything).not.toContain(clear);
  });

  test("keep NULLs, distinct values, foreign keys, generated columns, and every type's rules", async () => {
    const [facts] = await rowsOf(
      spec,
      `SELECT count(*)::int AS players, count(DISTINCT email)::int AS emails, count(DISTINCT nick)::int AS nicks, count(bio)::int AS bios,
         count(DISTINCT phone)::int AS phones, count(DISTINCT code)::int AS codes, count(DISTINCT token)::int AS tokens,
         bool_and(email ~ '^u[0-9a-f]+@example\\.com$') AS "e-mails", bool_and(nick ~ '^[A-Z][a-z]{5} [A-Z][a-z]{5} [0-9a-f]{16}$') AS names,
         bool_and(shout = upper(bio)) AS computed FROM players`,
    );
    const all = { players: 400, emails: 400, nicks: 400, codes: 400 };
    expect(facts).toEqual({ ...all, bios: 320, phones: 1, tokens: 1, "e-mails": true, names: true, computed: true });
    const lengths = "SELECT id, length(bio) AS n FROM players ORDER BY id";
    expect(await rowsOf(spec, lengths)).toEqual(await source.sql("game", lengths));
    // Rows that referred by the value refer by the mask.
    const tied = "SELECT p.id FROM newsletters n JOIN players p USING (email) ORDER BY 1";
    expect(await rowsOf(spec, tied)).toEqual(await source.sql("game", tied));
    await expectForeignKeys(spec);
  });

  test("are reported as masks, and nothing about them is called equal", async () => {
    const report = await readReport(spec);
    expect(report.verdict).toBe("selected");
    expect(await verdicts(spec)).toMatchObject({
      ...{ "public.players": "masked", "public.newsletters": "masked", "public.event_log": "masked" },
      ...{ "public.sectors": "equal", "public.cargo": "equal" },
    });
    expect(report.tables.every(({ source: sent, target: held }) => sent === held)).toBe(true);
    const butFor = "3 tables that are masked";
    expect(lines.join("\n")).toContain(`proven to match what the source sent, which is everything except ${butFor}`);
    expect(lines.join("\n")).not.toContain("proven equal");
    const [mark] = await rowsOf(spec, "SELECT summary->>'butFor' AS but_for FROM sectorwars_stack.import");
    expect(mark).toEqual({ but_for: butFor });
    const page = await readFile(join(spec.reportFolder, "import.html"), "utf8");
    expect(page).toMatch(/Identical except for:<\/strong> 3 tables that are masked/);
    expect(page).toContain('<span class="badge chosen">− masked</span>');
    expect(report.remarks.join("\n")).toContain("public.levels was computed again, from the selected rows");
  });

  test("are the same with the same secret, and different with another one", async () => {
    const emails = "SELECT id, email, nick, bio FROM players ORDER BY id";
    const mask = { importMasks: MASKS, importExclude: ["cargo"] };
    const [again, other] = [await importing(mask, { maskSecret: "one" }), await importing(mask)];
    expect([again.error, other.error]).toEqual(["", ""]);
    expect(await rowsOf(again.spec, emails)).toEqual(await rowsOf(spec, emails));
    const [mine, theirs] = [await rowsOf(spec, emails), await rowsOf(other.spec, emails)];
    expect(mine.filter(({ email }, n) => theirs[n]?.email === email)).toEqual([]);
  });

  test("do not show their key in any statement's text", async () => {
    const { inner, outer } = (await import("../../components/import/selection/masks.ts")).maskKey("one");
    const log = await source.log();
    const statements = log
      .split("\n")
      .filter((line) => !/DETAIL: {2}parameters/.test(line))
      .join("\n");
    expect(statements).toContain("sectorwars.mask_inner");
    for (const half of [inner, outer]) expect(statements).not.toContain(half);
  });
});

describe("a subset", () => {
  test("is consistent, with cycles, partitions and keys of two columns", async () => {
    const { spec, error, summary } = await importing({
      importSubset: ["players where level = 3 -- of seven", "kinds 50%"],
      importMasks: ["players.bio = null"],
    });
    expect(error).toBe("");
    await expectForeignKeys(spec);
    const [counts] = await rowsOf(
      spec,
      `SELECT (SELECT count(*)::int FROM players WHERE level = 3) AS fitting, (SELECT count(*)::int FROM players) AS players,
         (SELECT count(*)::int FROM ships) AS ships, (SELECT count(*)::int FROM cargo) AS cargo, (SELECT count(bio)::int FROM players) AS bios`,
    );
    expect(counts?.fitting).toBe(await source.value("game", "SELECT count(*)::int FROM players WHERE level = 3"));
    expect(counts?.bios).toBe(0);
    for (const table of ["players", "ships", "cargo"]) {
      expect(Number(counts?.[table])).toBeGreaterThan(0);
      expect(Number(counts?.[table])).toBeLessThanOrEqual(
        Number(await source.value("game", `SELECT count(*)::int FROM ${table}`)),
      );
    }
    expect(await verdicts(spec)).toMatchObject({
      ...{
        "public.players": "masked subset",
        "public.ships_1": "subset",
        "public.cargo": "subset",
        "public.kinds": "subset",
      },
      "public.alembic_version": "equal",
    });
    expect(summary?.butFor).toMatch(/^\d+ tables that are subsets, 1 table that is a masked subset$/);
  });

  test("is the smallest that the rules allow, as an independent computation confirms for random tables", async () => {
    for (let round = 0; round < 12; round += 1) {
      const tables = 2 + randomInt(4);
      const rows = 12;
      const edges = Array.from({ length: 1 + randomInt(6) }, () => ({
        child: randomInt(tables),
        parent: randomInt(tables),
      }));
      const cells = edges.map(() =>
        Array.from({ length: rows }, () => (randomInt(3) === 0 ? null : 1 + randomInt(rows))),
      );
      const rootSize = randomInt(5);
      const database = `graph_${round}_${lab.id.slice(-8)}`;
      const script = [
        ...Array.from(
          { length: tables },
          (_, t) =>
            `CREATE TABLE t${t} (id integer PRIMARY KEY); INSERT INTO t${t} SELECT generate_series(1, ${rows});`,
        ),
        ...edges.map(({ child, parent }, e) =>
          [
            `ALTER TABLE t${child} ADD f${e} integer;`,
            ...(cells[e] ?? []).map((value, n) => `UPDATE t${child} SET f${e} = ${value} WHERE id = ${n + 1};`),
            `ALTER TABLE t${child} ADD FOREIGN KEY (f${e}) REFERENCES t${parent};`,
          ].join("\n"),
        ),
      ].join("\n");
      await source.makeDatabase(database, script);
      const found = await withConnection(source.in(database), async (client) => {
        await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        const root = { setting: "", table: "t0", where: `id <= ${rootSize}` };
        const roots = new Map([[qualified("public", "t0"), { root, table: makeTable("t0") }]]);
        const kept = await findSubset(client, { roots, keys: await readForeignKeys(client), excluded: new Set() });
        const ids: Record<string, number[]> = {};
        for (const [table, addresses] of kept) {
          const list = [...addresses].map((row) => `'(${Math.floor(row / 65_536)},${row % 65_536})'::tid`);
          const { rows: there } = await client.query(
            `SELECT id FROM ${table} WHERE ctid = ANY (ARRAY[${list}]::tid[]) ORDER BY id`,
          );
          ids[table.replace('"public".', "").replaceAll('"', "")] = there.map(({ id }) => id);
        }
        return ids;
      });
      expect(found, script).toEqual(smallest(tables, rows, edges, cells, rootSize));
    }
  });
});

/** The rules, applied to every row until nothing more is added. */
function smallest(
  tables: number,
  rows: number,
  edges: { child: number; parent: number }[],
  cells: (number | null)[][],
  rootSize: number,
) {
  const leads = new Set([0]);
  for (let n = 0; n < tables; n += 1) for (const { child, parent } of edges) if (leads.has(parent)) leads.add(child);
  const kept = Array.from({ length: tables }, () => new Set<number>());
  for (let changed = true; changed; ) {
    changed = false;
    for (const table of leads) {
      for (let id = 1; id <= rows; id += 1) {
        if (kept[table]?.has(id)) continue;
        const references = edges.flatMap(({ child, parent }, e) =>
          child === table && leads.has(parent) ? [[parent, cells[e]?.[id - 1]] as const] : [],
        );
        const complete = references.every(([parent, value]) => value == null || kept[parent]?.has(value));
        const wanted = edges.some(
          ({ child, parent }, e) =>
            parent === table && [...(kept[child] ?? [])].some((row) => cells[e]?.[row - 1] === id),
        );
        if (!(table === 0 ? id <= rootSize : complete) && !wanted) continue;
        kept[table]?.add(id);
        changed = true;
      }
    }
  }
  return Object.fromEntries([...leads].map((table) => [`t${table}`, [...(kept[table] ?? [])].sort((a, b) => a - b)]));
}

describe("an import without some rows", () => {
  test("leaves excluded tables empty", async () => {
    const { spec, error } = await importing({ importExclude: ["cargo", "event_*"] });
    expect(error).toBe("");
    expect(await rowsOf(spec, "SELECT (SELECT count(*) FROM cargo) + (SELECT count(*) FROM event_log) AS n")).toEqual([
      { n: "0" },
    ]);
    expect(await verdicts(spec)).toMatchObject({
      "public.cargo": "excluded",
      "public.event_log": "excluded",
      "public.ships_1": "equal",
    });
    await expectForeignKeys(spec);
  });

  test("copies only the Alembic revision and the schema with importSchemaOnly", async () => {
    const { spec, error, summary } = await importing({ importSchemaOnly: true });
    expect(error).toBe("");
    expect(summary?.rows).toBe(1);
    expect(summary?.butFor).toBe("9 tables whose schema alone was copied");
    expect(await rowsOf(spec, "SELECT version_num FROM alembic_version")).toEqual([{ version_num: "abc" }]);
    const [theirs, ours] = await Promise.all([
      contentsOf(source.in("game")),
      contentsOf(target.in(spec.target.address.database)),
    ]);
    expect(ours.objects).toEqual(theirs.objects);
  });
});

test("all settings that do not fit are in one error with remedies, and nothing is changed", async () => {
  const { spec, error } = await importing({
    importExclude: ["players", "absent"],
    importMasks: ["players.email = email", "sectors.name = null", "sectors.nmae = text"],
  });
  expect(error.split("\n").map((line) => line.trim())).toEqual([
    "The selection settings do not fit the source, and nothing was changed:",
    '- importExclude "absent": the source has no such table',
    '- importMasks "players.email = email": importExclude excludes all rows of that table; remove one of the two settings',
    '- importMasks "players.email = email": a foreign key connects the column to public.newsletters.email, which must have the same mask: add "public.newsletters.email = email"',
    '- importMasks "sectors.name = null": the column is NOT NULL; use fixed VALUE or another kind',
    '- importMasks "sectors.nmae = text": public.sectors has no column nmae; it has id, owner, name',
  ]);
  await expectUntouched(lab, target, spec);
  const lost = await importing({ importExclude: ["players"] });
  expect(lost.error).toContain(
    "importExclude excludes the rows of public.players, but 30 rows of public.sectors refer to them (foreign key sectors_owner_fkey)",
  );
  const wrong = await importing({ importSubset: ["players where levle = 3"] });
  expect(wrong.error).toContain('importSubset "players where levle = 3": column "levle" does not exist');
  const several = await importing({ importSubset: ["players where true); DELETE FROM players; SELECT (true"] });
  expect(several.error).toContain("cannot insert multiple commands into a prepared statement");
});
