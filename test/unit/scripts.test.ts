import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { STACK_EXTENSIONS } from "../../components/import/schema/stack-extensions.ts";
import { likePattern, preparationScript } from "../../components/privileges/scripts.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";

/** LIKE as PostgreSQL reads it, with its backslash. */
function like(text: string, pattern: string): boolean {
  const source = pattern.replaceAll(/\\(.)|./gs, (sign, escaped: string | undefined) => {
    if (escaped === undefined && sign === "%") return ".*";
    if (escaped === undefined && sign === "_") return ".";
    return (escaped ?? sign).replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  });
  return new RegExp(`^${source}$`, "s").test(text);
}

/** The texts of an array, as PostgreSQL reads its literal: quoted ones, with backslashes. */
function readArray(literal: string): string[] {
  return [...literal.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, text = ""]) => text.replaceAll(/\\(.)/g, "$1"));
}

describe("a name with * as a pattern", () => {
  test.each([
    ["admin_credentials", "admin\\_credentials"],
    ["mfa_*", "mfa\\_%"],
    ["*_secrets", "%\\_secrets"],
    ["*", "%"],
    ["a%b", "a\\%b"],
    ["a\\b", "a\\\\b"],
    ["", ""],
  ])("%s", (name, pattern) => expect(likePattern(name)).toBe(pattern));

  test("means nothing but the name where there is no *", () => {
    const name = fc.string({ unit: fc.constantFrom("a", "b", "_", "%", "\\", ".") });
    fc.assert(
      fc.property(name, name, (one, other) => {
        expect(like(one, likePattern(one))).toBe(true);
        expect(like(other, likePattern(one))).toBe(one === other);
      }),
    );
  });

  test("means any characters by *", () => {
    expect(like("mfa_tokens", likePattern("mfa_*"))).toBe(true);
    expect(like("mfa_", likePattern("mfa_*"))).toBe(true);
    expect(like("mfaxtokens", likePattern("mfa_*"))).toBe(false);
    expect(like("my_mfa_tokens", likePattern("mfa_*"))).toBe(false);
  });
});

describe("the script that prepares a database", () => {
  const deny = ["admin_credentials", "mfa_*"];
  const script = preparationScript("sectorwars_dev", deny);
  const withoutComments = script.replaceAll(/--.*$/gm, "");

  test("is the same for the same deny list in another order, as a database may give it back", () => {
    expect(preparationScript("sectorwars_dev", ["mfa_*", "admin_credentials", "mfa_*"])).toBe(script);
  });

  test("has no variable left", () => {
    expect(script).not.toMatch(/(?<!:):["'\w]/);
  });

  test("names the database and every role", () => {
    expect(script).toContain('ALTER DATABASE "sectorwars_dev" OWNER TO "sectorwars_owner";');
    for (const role of Object.values(ROLE_NAMES)) expect(withoutComments).toContain(`"${role}"`);
  });

  test("makes the extensions before it says who may use what", () => {
    expect(script.indexOf("CREATE EXTENSION")).toBeLessThan(script.indexOf("ALTER DATABASE"));
    for (const name of STACK_EXTENSIONS) expect(withoutComments).toContain(`('${name}', '^`);
  });

  test("never grants on all tables, which would undo what a migration revoked", () => {
    expect(withoutComments).not.toMatch(/GRANT[^;]*ON\s+ALL\s+(TABLES|SEQUENCES)/i);
  });

  test("grants no password and no privileges beyond a role's own", () => {
    expect(withoutComments).not.toMatch(/PASSWORD|(CREATE|ALTER) (ROLE|USER)|CREATEROLE|BYPASSRLS|GRANT ALL/i);
  });

  test("denies what the list says, read back as patterns", () => {
    const lists = [...script.matchAll(/\( ?E?'((?:[^']|'')*)'::text\[\][,)]/g)];
    expect(lists.length).toBeGreaterThanOrEqual(3);
    for (const [, text = ""] of lists) {
      // Behind E, two backslashes are one.
      expect(readArray(text.replaceAll("\\\\", "\\"))).toEqual(["admin\\_credentials", "mfa\\_%"]);
    }
  });

  test("denies nothing by an empty list", () => {
    expect(preparationScript("x", [])).toContain("revoke_denied('{}'::text[], NULL)");
  });

  test("runs nothing of the application's in place of PostgreSQL's own: every function pins its search path", () => {
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

  test("uses every variable that it is given somewhere", () => {
    const source = ["sql/extensions.sql", "sql/privileges.sql", "sql/large-objects.sql"]
      .map((file) => readFileSync(file, "utf8"))
      .join("");
    const used = new Set([...source.matchAll(/(?<!:):(["'])(\w+)\1/g)].map(([, , name]) => name));
    expect([...used].sort()).toEqual(["app", "database", "denied", "monitor", "owner", "readonly"]);
  });
});
