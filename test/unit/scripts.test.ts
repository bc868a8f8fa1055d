import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { STACK_EXTENSIONS } from "../../components/import/schema/stack-extensions.ts";
import { likePattern, preparationScript } from "../../components/privileges/scripts.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";

/** LIKE as PostgreSQL evaluates it, with backslash as the escape character. */
function like(text: string, pattern: string): boolean {
  const source = pattern.replaceAll(/\\(.)|./gs, (sign, escaped: string | undefined) => {
    if (escaped === undefined && sign === "%") return ".*";
    if (escaped === undefined && sign === "_") return ".";
    return (escaped ?? sign).replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  });
  return new RegExp(`^${source}$`, "s").test(text);
}

/** Reads the elements of an array literal as PostgreSQL does: quoted, with backslashes. */
function readArray(literal: string): string[] {
  return [...literal.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) => text.replaceAll(/\\(.)/g, "$1"));
}

describe("likePattern", () => {
  test.each([
    ["admin_credentials", "admin\\_credentials"],
    ["mfa_*", "mfa\\_%"],
    ["*_secrets", "%\\_secrets"],
    ["*", "%"],
    ["a%b", "a\\%b"],
    ["a\\b", "a\\\\b"],
    ["", ""],
  ])("turns %j into %j", (name, pattern) => expect(likePattern(name)).toBe(pattern));

  test("matches only the name itself if there is no *", () => {
    const name = fc.string({ unit: fc.constantFrom("a", "b", "_", "%", "\\", ".") });
    fc.assert(
      fc.property(name, name, (one, other) => {
        expect(like(one, likePattern(one))).toBe(true);
        expect(like(other, likePattern(one))).toBe(one === other);
      }),
    );
  });

  test("matches any characters with *", () => {
    expect(like("mfa_tokens", likePattern("mfa_*"))).toBe(true);
    expect(like("mfa_", likePattern("mfa_*"))).toBe(true);
    expect(like("mfaxtokens", likePattern("mfa_*"))).toBe(false);
    expect(like("my_mfa_tokens", likePattern("mfa_*"))).toBe(false);
  });
});

describe("the script that sets a database's privileges", () => {
  const deny = ["admin_credentials", "mfa_*"];
  const script = preparationScript("sectorwars_dev", deny);
  const withoutComments = script.replaceAll(/--.*$/gm, "");

  test("is the same for a deny list in another order or with duplicates", () => {
    expect(preparationScript("sectorwars_dev", ["mfa_*", "admin_credentials", "mfa_*"])).toBe(script);
  });

  test("contains no variable without a value", () => {
    expect(script).not.toMatch(/(?<!:):["'\w]/);
  });

  test("names the database and every role", () => {
    expect(script).toContain('ALTER DATABASE "sectorwars_dev" OWNER TO "sectorwars_owner";');
    for (const role of Object.values(ROLE_NAMES)) expect(withoutComments).toContain(`"${role}"`);
  });

  test("creates the extensions before it grants privileges", () => {
    expect(script.indexOf("CREATE EXTENSION")).toBeLessThan(script.indexOf("ALTER DATABASE"));
    for (const name of STACK_EXTENSIONS) expect(withoutComments).toContain(`('${name}', '^`);
  });

  test("never grants on all tables, because that would undo a migration's REVOKE", () => {
    expect(withoutComments).not.toMatch(/GRANT[^;]*ON\s+ALL\s+(TABLES|SEQUENCES)/i);
  });

  test("sets no password, creates no role and grants no attribute such as CREATEROLE", () => {
    expect(withoutComments).not.toMatch(/PASSWORD|(CREATE|ALTER) (ROLE|USER)|CREATEROLE|BYPASSRLS|GRANT ALL/i);
  });

  test("denies the tables of the list as patterns", () => {
    const lists = [...script.matchAll(/\( ?E?'((?:[^']|'')*)'::text\[\][,)]/g)];
    expect(lists.length).toBeGreaterThanOrEqual(3);
    for (const [, text = ""] of lists) {
      // After E, two backslashes are one.
      expect(readArray(text.replaceAll("\\\\", "\\"))).toEqual(["admin\\_credentials", "mfa\\_%"]);
    }
  });

  test("denies nothing with an empty list", () => {
    expect(preparationScript("x", [])).toContain("revoke_denied('{}'::text[], NULL)");
  });

  test("pins the search path of every function, so that only PostgreSQL's own objects are called", () => {
    expect(script.trimStart().replace(/^(--.*\n|\s)*/, "")).toMatch(/^SET LOCAL search_path = pg_catalog, pg_temp;/);
    const functions = script.match(/CREATE OR REPLACE FUNCTION[^$]*\$body\$/g) ?? [];
    expect(functions).toHaveLength(4);
    for (const head of functions) expect(head).toContain("SET search_path = pg_catalog, pg_temp AS");
  });

  test("quotes the database's name", () => {
    expect(preparationScript('odd"name', [])).toContain('ALTER DATABASE "odd""name" OWNER TO');
  });

  test("changes with the list and with the database only", () => {
    expect(preparationScript("sectorwars_dev", [...deny])).toBe(script);
    expect(preparationScript("sectorwars_dev", ["other"])).not.toBe(script);
    expect(preparationScript("other", deny)).not.toBe(script);
  });

  test("uses every variable that it gets", () => {
    const source = ["sql/extensions.sql", "sql/privileges.sql", "sql/large-objects.sql"]
      .map((file) => readFileSync(file, "utf8"))
      .join("");
    const used = new Set([...source.matchAll(/(?<!:):(["'])(\w+)\1/g)].map(([, , name]) => name));
    expect([...used].sort()).toEqual(["app", "database", "denied", "monitor", "owner", "readonly"]);
  });
});
