import { expect, test } from "vitest";
import { refusalsOf } from "../../components/import/compare/rewording.ts";

const SAID = `pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 5; 2615 16385 SCHEMA tools sectorwars_owner
pg_restore: error: could not execute query: ERROR:  schema "tools" already exists
Command was: CREATE SCHEMA tools;

pg_restore: from TOC entry 201; 1259 16401 MATERIALIZED VIEW far ranks sectorwars_owner
pg_restore: error: could not execute query: ERROR:  function dock() does not exist
LINE 2:  SELECT dock()
                ^
Command was: CREATE MATERIALIZED VIEW ...
pg_restore: warning: errors ignored on restore: 2`;

test("refusalsOf names only the objects that pg_restore could not create, with the reason", () => {
  expect(refusalsOf(["materialized view public.far ranks", "view public.ranks", "table public.t"], SAID)).toEqual([
    "materialized view public.far ranks: pg_restore cannot create it: could not execute query: ERROR:  function dock() does not exist",
  ]);
  expect(refusalsOf([], SAID)).toEqual([]);
});
