/** Every session of this project pins its settings, so one file opens sessions and one runs PostgreSQL's own programs. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { namesInList, settingValue } from "../../lib/database-properties.ts";
import {
  DUMP_SETTINGS,
  PIN_SUPERUSER,
  PINNED_SETTINGS,
  parseSettings,
  pinStatement,
  startupOptions,
} from "../../lib/session-settings.ts";

/** The program's own files, by their paths from the project's folder. */
const files = ["components", "cli", "lib", "script", "index.ts"].flatMap((root) =>
  root.endsWith(".ts")
    ? [root]
    : readdirSync(root, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".ts"))
        .map((name) => join(root, name)),
);
const filesWith = (pattern: RegExp): string[] =>
  files.filter((file) => pattern.test(readFileSync(file, "utf8"))).sort();

describe("a database session", () => {
  test("is opened by lib/postgres.ts alone", () => {
    expect(filesWith(/new (pg\.)?(Client|Pool)\b/)).toEqual(["lib/postgres.ts"]);
  });

  test("of a program in the server's container is started by cli/psql.ts alone, and three files set PGOPTIONS", () => {
    expect(filesWith(/"exec",[^;]*"(psql|pg_dump\w*|pg_amcheck|pg_basebackup)"/)).toEqual(["cli/psql.ts"]);
    expect(filesWith(/PGOPTIONS[=:]/)).toEqual([
      "cli/psql.ts",
      "components/import/schema/schema.ts",
      "lib/server-programs.ts",
    ]);
  });
});

describe("the pinned settings", () => {
  test("search only PostgreSQL's own schema, then temporary objects", () => {
    expect(PINNED_SETTINGS.search_path).toBe("pg_catalog, pg_temp");
    for (const name of ["role", "standard_conforming_strings", "client_encoding", "row_security", "datestyle"]) {
      expect(PINNED_SETTINGS).toHaveProperty([name]);
    }
    expect(DUMP_SETTINGS).not.toHaveProperty("client_encoding");
  });

  test("are read line by line, and a line of another form is refused", () => {
    expect(parseSettings("# why\n\na_b = c, d\nempty =\n")).toEqual({ a_b: "c, d", empty: "" });
    expect(() => parseSettings("a=b")).toThrow('"a=b" is not NAME = VALUE');
  });

  test("are escaped for the server's startup options", () => {
    expect(startupOptions({ datestyle: "ISO, YMD", odd: "a\\b c" })).toBe("-c datestyle=ISO,\\ YMD -c odd=a\\\\b\\ c");
  });

  test("are set by a statement that uses only functions and operators of pg_catalog", () => {
    for (const sql of [pinStatement({ a: "b" }), PIN_SUPERUSER]) {
      const ofPostgres = /pg_catalog\.\w+\(|OPERATOR\(pg_catalog\.=\)|s \(name, value\)|'[^']*'/g;
      expect(sql.replaceAll(ofPostgres, "").replaceAll(/VALUES \(|IS NOT NULL/g, "")).not.toMatch(/\w\(|[=<>|~]/);
    }
  });
});

describe("a list of names in a PostgreSQL setting", () => {
  test("is split as PostgreSQL splits it", () => {
    expect(namesInList('"$user", public')).toEqual(["$user", "public"]);
    expect(namesInList('a ,"b""c" , "d, e"')).toEqual(["a", 'b"c', "d, e"]);
    expect(namesInList('""')).toEqual([""]);
    expect(namesInList("")).toEqual([]);
    expect(namesInList("a b")).toBeUndefined();
    expect(namesInList('"a')).toBeUndefined();
    expect(namesInList("a,")).toBeUndefined();
  });

  test("is always quoted, so that it cannot inject SQL", () => {
    expect(settingValue("search_path", "a;ALTER/**/ROLE/**/x/**/SUPERUSER;--")).toBe(
      "'a;ALTER/**/ROLE/**/x/**/SUPERUSER;--'",
    );
    expect(settingValue("app.x", "it's")).toBe("'it''s'");
    expect(settingValue("search_path", "")).toBe("''");
  });

  test("is the same after being quoted and read again", () => {
    const names = fc.array(fc.string({ minLength: 1 }), { minLength: 1 });
    fc.assert(
      fc.property(names, (all) => {
        const kept = all.map((name) => `"${name.replaceAll('"', '""')}"`).join(", ");
        expect(namesInList(kept)).toEqual(all);
      }),
    );
  });
});
