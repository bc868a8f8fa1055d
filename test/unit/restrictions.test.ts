import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  copyRestrictions,
  describeRestriction,
  findRestrictions,
  findUndecided,
  type Privilege,
} from "../../components/import/schema/restrictions.ts";
import { fakeClient, type Row } from "./client.ts";

const grants = (sql: string, grantee: string, privileges: string, more: Partial<Privilege> = {}): Privilege[] =>
  privileges.split(" ").map((privilege) => ({
    kind: "TABLE",
    object: sql,
    sql,
    grantee,
    privilege,
    column: null,
    direct: true,
    own: grantee !== "PUBLIC",
    ...more,
  }));
/** A privilege that a role holds through PUBLIC. */
const through = { direct: false, own: false } as const;
const ROUTINE = { kind: "ROUTINE" } as const;
/** The mark that the default privileges of PUBLIC were changed. */
const chosen = (sql: string): Privilege[] => grants(sql, "PUBLIC", "-", { ...ROUTINE, ...through, privilege: null });

const APP = "sectorwars_app";
const told = (source: Privilege[], target: Privilege[]) =>
  findRestrictions(source, target).map(
    ({ action, privilege, column, grantee }) => `${action} ${privilege}${column ? ` (${column})` : ""} ${grantee}`,
  );

describe("findRestrictions", () => {
  test("revokes what the target grants and the source does not", () => {
    expect(
      told(grants("audit_log", APP, "SELECT INSERT"), grants("audit_log", APP, "SELECT INSERT UPDATE DELETE")),
    ).toEqual([`REVOKE UPDATE ${APP}`, `REVOKE DELETE ${APP}`]);
  });

  test("revokes nothing if the source grants at least as much, also through PUBLIC", () => {
    const all = grants("ships", APP, "SELECT INSERT UPDATE DELETE TRUNCATE");
    expect(told(all, grants("ships", APP, "SELECT INSERT UPDATE DELETE"))).toEqual([]);
    const most = [...grants("ships", APP, "INSERT"), ...grants("ships", APP, "SELECT", through)];
    expect(told(most, grants("ships", APP, "SELECT INSERT"))).toEqual([]);
  });

  test("revokes nothing if the source has no grants for the role on that table", () => {
    const source = [...grants("audit_log", "sectorwars_readonly", "SELECT"), ...grants("ships", APP, "SELECT")];
    expect(told(source, grants("audit_log", APP, "SELECT INSERT UPDATE"))).toEqual([]);
    expect(told([], grants("audit_log", APP, "SELECT INSERT"))).toEqual([]);
  });

  test("revokes a table's grant, and grants columns, if the source grants only columns", () => {
    const columns = grants("crew", APP, "SELECT", { column: "name" });
    expect(told(columns, grants("crew", APP, "SELECT INSERT"))).toEqual([
      `REVOKE SELECT ${APP}`,
      `REVOKE INSERT ${APP}`,
      `GRANT SELECT (name) ${APP}`,
    ]);
    // Afterwards there is nothing left to do, and a role that this stack excludes from the table stays excluded.
    expect(told(columns, columns)).toEqual([]);
    expect(told(columns, [])).toEqual([]);
  });

  test("revokes EXECUTE from PUBLIC, and grants it to the roles that keep it on the source", () => {
    const source = [...chosen("f()"), ...grants("f()", APP, "EXECUTE", ROUTINE)];
    const target = [
      ...grants("f()", "PUBLIC", "EXECUTE", ROUTINE),
      ...grants("f()", APP, "EXECUTE", { ...ROUTINE, ...through }),
    ];
    expect(told(source, target)).toEqual(["REVOKE EXECUTE PUBLIC", `GRANT EXECUTE ${APP}`]);
    expect(told([...chosen("f()"), ...target], target)).toEqual([]);
    expect(told([], target)).toEqual([]);
  });

  test("revokes only grants that the source, which has other grants for the same role and object, lacks", () => {
    const privilege = fc.record({
      kind: fc.constantFrom("TABLE" as const, "SCHEMA" as const),
      sql: fc.constantFrom("a", "b"),
      grantee: fc.constantFrom("app", "readonly"),
      privilege: fc.constantFrom("SELECT", "INSERT", "UPDATE"),
    });
    const complete = (all: Omit<Privilege, "object" | "column" | "direct" | "own">[]): Privilege[] =>
      all.map((one) => ({ ...one, object: one.sql, column: null, direct: true, own: true }));
    fc.assert(
      fc.property(fc.array(privilege), fc.array(privilege), (some, others) => {
        const [source, target] = [complete(some), complete(others)];
        const sameRole = (a: Privilege, b: Privilege) =>
          a.kind === b.kind && a.sql === b.sql && a.grantee === b.grantee;
        const expected = target.filter(
          (mine) =>
            source.some((theirs) => sameRole(mine, theirs)) &&
            !source.some((theirs) => sameRole(mine, theirs) && mine.privilege === theirs.privilege),
        );
        expect(findRestrictions(source, target)).toEqual(
          expected.map(({ direct: _, own: __, ...rest }) => ({ ...rest, action: "REVOKE" })),
        );
        expect(findRestrictions(source, source)).toEqual([]);
      }),
    );
  });
});

test("findUndecided reports a role that lacks grants on one of several tables, because they may have been revoked", () => {
  const source = [...grants("ships", APP, "SELECT"), ...grants("ports", APP, "SELECT")];
  const target = [...source, ...grants("secrets", APP, "SELECT INSERT")];
  expect(findUndecided(source, target)).toEqual([
    `${APP} has this stack's default grants on secrets, and no grants on these on the source; if they were revoked there, revoke them here, too`,
  ]);
  // A role with grants on a single table was granted exactly that.
  expect(findUndecided(source.slice(0, 1), target)).toEqual([]);
  expect(findUndecided([...source, ...grants("secrets", APP, "SELECT", through)], target)).toEqual([]);
});

test("copyRestrictions quotes names, and reports each change", async () => {
  const statements: string[] = [];
  const odd = { object: 'public.odd"log', sql: 'public."odd""log"' };
  const rows = (privileges: string) => grants("", APP, privileges, odd) as unknown as Row[];
  const source = fakeClient(() => rows("SELECT"));
  const target = fakeClient((sql) => {
    statements.push(sql);
    return rows("SELECT UPDATE");
  });
  const { changes, remarks } = await copyRestrictions([APP], source, target);
  expect(remarks).toEqual([`UPDATE on public.odd"log is revoked from ${APP}, as on the source`]);
  expect(statements.at(-1)).toBe(`REVOKE UPDATE ON TABLE public."odd""log" FROM "${APP}"`);
  expect(changes.map(describeRestriction)).toEqual([`${APP} has UPDATE on the target, and not on the source`]);
});
