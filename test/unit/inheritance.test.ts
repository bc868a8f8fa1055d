import { expect, test } from "vitest";
import {
  dropInheritedDefaults,
  dumpedOrder,
  type InheritingTable,
  orderedTableSql,
} from "../../components/import/schema/inheritance.ts";

const column = (name: string, local: boolean, inherited: boolean) => ({
  ...{ name, local, inherited, type: "integer", notNull: false, generated: null, default: null },
});
const kid: InheritingTable = {
  schema: "public",
  name: "kid",
  unlogged: false,
  options: "",
  columns: [column("own", true, false), column("a", false, true), column("both", true, true)],
  checks: [{ name: "positive", definition: "CHECK ((a > 0))", local: false }],
  parents: [{ schema: "public", name: "par", columns: ["a", "both"] }],
};

test("pg_dump orders columns by the parents' columns, each once, and then the table's own", () => {
  expect(dumpedOrder(kid)).toEqual(["a", "both", "own"]);
  expect(dumpedOrder({ ...kid, parents: [...kid.parents, { schema: "s", name: "q", columns: ["own", "a"] }] })).toEqual(
    ["a", "both", "own"],
  );
});

test("statements after the table's definition are kept, also if names or texts contain semicolons", () => {
  const sql = `CREATE TABLE public.kid (\n    own integer DEFAULT length('a;b')\n)\nINHERITS (public."par;");\nALTER TABLE ONLY public.kid ALTER COLUMN own SET STATISTICS 7;`;
  const made = orderedTableSql(kid, sql, () => false);
  expect(made.endsWith("\nALTER TABLE ONLY public.kid ALTER COLUMN own SET STATISTICS 7;")).toBe(true);
  expect(made.match(/ADD COLUMN "\w+"/g)).toEqual([
    'ADD COLUMN "own"',
    'ADD COLUMN "a"',
    'ADD COLUMN "both"',
    'ADD COLUMN "both"',
  ]);
  expect(made).toContain('ALTER TABLE "public"."sectorwars_column_order" ADD CONSTRAINT "positive" CHECK ((a > 0));');
});

test("only columns without a default on the source lose their inherited default", () => {
  expect(dropInheritedDefaults(kid)).toBe(
    '\nALTER TABLE ONLY "public"."kid" ALTER COLUMN "a" DROP DEFAULT, ALTER COLUMN "both" DROP DEFAULT;',
  );
  const columns = [
    { ...column("a", false, true), default: "7" },
    { ...column("g", false, true), generated: "a + 1" },
    column("own", true, false),
  ];
  expect(dropInheritedDefaults({ ...kid, columns })).toBe("");
});
