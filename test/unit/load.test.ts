import { describe, expect, test } from "vitest";
import { batchesOf, planTables, readTablesOfObjects, type TablesOfObjects } from "../../components/import/rows/load.ts";
import type { Entry } from "../../components/import/schema/dump-entries.ts";
import { entryKey } from "../../components/import/schema/dump-entries.ts";
import { fakeClient } from "./client.ts";
import { makeTable } from "./table.ts";

const entry = (type: string, name: string, schema = "public"): Entry => ({ type, name, schema, sql: `-- ${name}` });

const tablesOfObjects: TablesOfObjects = {
  indexes: new Map([
    [entryKey("public", "ships_name"), '"public"."ships"'],
    [entryKey("game", "ships_name"), '"game"."ships"'],
    [entryKey("public", "view_index"), '"public"."some_view"'],
  ]),
  constraints: new Map([
    [entryKey("public", "ships ships_pkey"), '"public"."ships"'],
    [entryKey("game", "ships ships_pkey"), '"game"."ships"'],
  ]),
  references: new Map([
    [entryKey("public", "ships ships_home"), ['"public"."ships"', '"game"."ships"']],
    [entryKey("public", "ships ships_view"), ['"public"."ships"', '"public"."some_view"']],
  ]),
};

describe("planTables", () => {
  const ships = makeTable("ships");
  const others = makeTable("ships", { schema: "game" });

  test("assigns keys and indexes to their tables, and keeps other entries as the rest in the dump's order", () => {
    const entries = [
      entry("CONSTRAINT", "ships ships_pkey"),
      entry("INDEX", "ships_name", "game"),
      entry("FK CONSTRAINT", "ships ships_pkey"),
      entry("INDEX", "view_index"),
      entry("INDEX", "ships_name"),
      entry("TRIGGER", "ships ships_pkey"),
      entry("CONSTRAINT", "unknown unknown_pkey"),
      entry("INDEX ATTACH", "ships_name"),
      entry("CONSTRAINT", "ships ships_pkey", "game"),
      entry("INDEX", "never_heard_of"),
      entry("FK CONSTRAINT", "ships ships_home"),
      entry("FK CONSTRAINT", "ships ships_view"),
    ];
    const { plans, foreignKeys, rest } = planTables([ships, others], entries, tablesOfObjects);
    expect(plans).toEqual([
      { table: ships, keys: [entries[0]], indexes: [entries[4]] },
      { table: others, keys: [entries[8]], indexes: [entries[1]] },
    ]);
    expect(foreignKeys).toEqual([{ entry: entries[10], tables: ['"public"."ships"', '"game"."ships"'] }]);
    expect(rest).toEqual([2, 3, 5, 6, 7, 9, 11].map((index) => entries[index]));
  });

  test("moves CLUSTER ON and REPLICA IDENTITY from an index to the rest, which runs while no index is built", () => {
    const build =
      "CREATE UNIQUE INDEX ships_name ON public.ships USING btree (name) WHERE (name <> 'CLUSTER ON x'::text);";
    const target = "ALTER INDEX public.ships_name ALTER COLUMN 1 SET STATISTICS 5;";
    const marks =
      'ALTER TABLE public.ships CLUSTER ON ships_name;\n\n\nALTER TABLE ONLY public."sh""ips" REPLICA IDENTITY USING INDEX ships_name;';
    const index = entry("INDEX", "ships_name");
    const marked = { ...index, sql: `${build}\n\n${target}\n\n${marks}` };
    const { plans, rest } = planTables([ships], [marked, entry("TRIGGER", "t")], tablesOfObjects);
    expect(plans[0]?.indexes).toEqual([{ ...index, sql: `${build}\n\n${target}` }]);
    expect(rest).toEqual([{ ...index, sql: marks }, entry("TRIGGER", "t")]);
    const text = {
      ...index,
      sql: "CREATE INDEX ships_name ON public.ships USING btree ((name || '\n\nALTER TABLE a.b CLUSTER ON c;'::text));",
    };
    expect(planTables([ships], [text], tablesOfObjects).plans[0]?.indexes).toEqual([text]);
  });

  test("plans every table, also one without keys and indexes", () => {
    expect(planTables([ships, others], [], tablesOfObjects).plans.map(({ table }) => table)).toEqual([ships, others]);
  });

  // Joined with a dot, the two names are equal, and one of the tables would not be copied.
  test("loses no table with a dot in its name", () => {
    const tables = [makeTable("b.c", { schema: "a" }), makeTable("c", { schema: "a.b" })];
    expect(planTables(tables, [], tablesOfObjects).plans.map(({ table }) => table)).toEqual(tables);
  });
});

test("readTablesOfObjects returns indexes, constraints and references by the names that the dump uses", async () => {
  const client = fakeClient((sql) =>
    sql.includes("confrelid")
      ? [{ constraint: "ships_home", schema: "public", table: "ships", other_schema: "game", other: "ports" }]
      : [
          { index: "ships_name", constraint: null, schema: "public", table: "ships" },
          { index: "ships_pkey", constraint: "ships_pkey", schema: "public", table: "ships" },
        ],
  );
  expect(await readTablesOfObjects(client)).toEqual({
    indexes: new Map([[entryKey("public", "ships_name"), '"public"."ships"']]),
    constraints: new Map([[entryKey("public", "ships ships_pkey"), '"public"."ships"']]),
    references: new Map([[entryKey("public", "ships ships_home"), ['"public"."ships"', '"game"."ports"']]]),
  });
});

test("batchesOf puts small tables into batches of 24 and a large one alone, and loses none", () => {
  const plan = (name: string, bytes: number) => ({ table: makeTable(name, { bytes }), keys: [], indexes: [] });
  const plans = [plan("large", 1e9), ...Array.from({ length: 50 }, (_, n) => plan(`small_${n}`, 8192 * (n % 3)))];
  const batches = batchesOf(plans);
  expect(batches.map((batch) => batch.length)).toEqual([1, 24, 24, 2]);
  expect(batches.flat()).toEqual(plans);
  expect(batchesOf([])).toEqual([]);
});
