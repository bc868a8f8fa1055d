import type pg from "pg";
import { describe, expect, test } from "vitest";
import { Attempts, adviseOn, isOfObject, wordsOf } from "../../components/import/schema/failures.ts";

const failure = (code: string, message: string, more: Partial<pg.DatabaseError> = {}) =>
  Object.assign(new Error(message), { code, ...more });

describe("an error of PostgreSQL for an object", () => {
  test("is reported in one line with detail, hint and context", () => {
    const error = failure("23514", "new row violates", {
      detail: "Failing row contains (1).",
      hint: "Look.",
      where: "COPY t, line 1\nSQL statement",
    });
    expect(wordsOf(error)).toBe(
      "new row violates (DETAIL: Failing row contains (1); HINT: Look; CONTEXT: COPY t, line 1; SQL statement)",
    );
    expect(wordsOf(failure("42601", "syntax error"))).toBe("syntax error");
  });

  test.each([
    ["23503", "violates foreign key", /On the source, delete them, add the missing rows/],
    ["23514", "violates check", /On the source, change the row or the constraint/],
    ["23505", "duplicate key", /Change one of them on the source/],
    ["42703", 'column "total_time" does not exist', /ALTER EXTENSION \.\.\. UPDATE/],
    ["42704", 'role "player" does not exist', /CREATE ROLE "player" NOLOGIN/],
    ["0A000", "not supported", /^Change or drop it on the source$/],
  ])("has a remedy for the code %s (%s)", (code, message, remedy) =>
    expect(adviseOn(failure(code, message))).toMatch(remedy),
  );

  test("of a name that a function did not find has the remedy to set the function's search path", () => {
    const plpgsql = { where: "PL/pgSQL function public.slices(text) line 1 at assignment" };
    expect(adviseOn(failure("42883", "function unaccent(text) does not exist", plpgsql), ["public", "Odd one"])).toBe(
      'A function depends on the search path. On the source, run: ALTER FUNCTION public.slices(text) SET search_path = "public", "Odd one"',
    );
    const sql = { where: 'SQL function "check_value" during inlining' };
    expect(adviseOn(failure("42P01", 'relation "t" does not exist', sql))).toContain(
      'ALTER FUNCTION "check_value" SET',
    );
  });

  test.each([
    ["23503", true],
    ["42P01", true],
    ["P0001", true],
    ["54000", true],
    ["53100", false],
    ["57P01", false],
    ["25P02", false],
    ["08006", false],
    ["EPIPE", false],
  ])("with the code %s concerns the object and not the server: %s", (code, isOne) =>
    expect(isOfObject(failure(code, "x"))).toBe(isOne),
  );
});

describe("a phase of the import", () => {
  test("fails with all of its errors, each with its object", () => {
    const attempts = new Attempts(["public"]);
    attempts.check("never");
    attempts.note("index a.b", "a", failure("23505", "duplicate"));
    attempts.note("rows of a.t", "a", failure("23514", "check"));
    expect(() => attempts.check("Not all")).toThrow(
      /^Not all:\n {2}- index a\.b: duplicate\. .*\n {2}- rows of a\.t: check\. .*$/,
    );
    attempts.forget(new Set(["rows of a.t"]));
    expect(attempts.failures.map(({ object }) => object)).toEqual(["index a.b"]);
  });

  test("fails at once if the server cannot continue, and names the object unless the connection was lost", () => {
    const attempts = new Attempts([]);
    expect(() => attempts.note("index a.b", "a", failure("53100", "no space"))).toThrow(/^index a\.b: no space$/);
    const lost = failure("ECONNRESET", "reset");
    expect(() => attempts.note("index a.b", "a", lost)).toThrow(lost);
  });
});
