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
/** As a role holds what everybody holds. */
const through = { direct: false, own: false } as const;
const ROUTINE = { kind: "ROUTINE" } as const;
/** The privileges of PUBLIC were changed. */
const chosen = (sql: string): Privilege[] => grants(sql, "PUBLIC", "-", { ...ROUTINE, ...through, privilege: null });

const APP = "sectorwars_app";
const told = (source: Privilege[], target: Privilege[]) =>
  findRestrictions(source, target).map(
    ({ action, privilege, column, grantee }) => `${action} ${privilege}${column ? ` (${column})` : ""} ${grantee}`,
  );

describe("what a migration revoked", () => {
  test("is what the target grants and the source does not", () => {
    expect(
      told(grants("audit_log", APP, "SELECT INSERT"), grants("audit_log", APP, "SELECT INSERT UPDATE DELETE")),
    ).toEqual([`REVOKE UPDATE ${APP}`, `REVOKE DELETE ${APP}`]);
  });

  test("is nothing where the source grants as much, or more, be it to everybody", () => {
    const all = grants("ships", APP, "SELECT INSERT UPDATE DELETE TRUNCATE");
    expect(told(all, grants("ships", APP, "SELECT INSERT UPDATE DELETE"))).toEqual([]);
    const most = [...grants("ships", APP, "INSERT"), ...grants("ships", APP, "SELECT", through)];
    expect(told(most, grants("ships", APP, "SELECT INSERT"))).toEqual([]);
  });

  test("does not show where the role, or the role on that table, is not known to the source", () => {
    const source = [...grants("audit_log", "sectorwars_readonly", "SELECT"), ...grants("ships", APP, "SELECT")];
    expect(told(source, grants("audit_log", APP, "SELECT INSERT UPDATE"))).toEqual([]);
    expect(told([], grants("audit_log", APP, "SELECT INSERT"))).toEqual([]);
  });

  test("is a table's where its columns were granted instead; then those are", () => {
    const columns = grants("crew", APP, "SELECT", { column: "name" });
    expect(told(columns, grants("crew", APP, "SELECT INSERT"))).toEqual([
      `REVOKE SELECT ${APP}`,
      `REVOKE INSERT ${APP}`,
      `GRANT SELECT (name) ${APP}`,
    ]);
    // Done, there is nothing left to do; and who is kept out of the table by this stack stays out.
    expect(told(columns, columns)).toEqual([]);
    expect(told(columns, [])).toEqual([]);
  });

  test("is everybody's right to call a function, and those to whom it was left keep theirs", () => {
    const source = [...chosen("f()"), ...grants("f()", APP, "EXECUTE", ROUTINE)];
    const target = [
      ...grants("f()", "PUBLIC", "EXECUTE", ROUTINE),
      ...grants("f()", APP, "EXECUTE", { ...ROUTINE, ...through }),
    ];
    expect(told(source, target)).toEqual(["REVOKE EXECUTE PUBLIC", `GRANT EXECUTE ${APP}`]);
    expect(told([...chosen("f()"), ...target], target)).toEqual([]);
    expect(told([], target)).toEqual([]);
  });

  test("is always granted on the target, never on the source, and only where the source decided", () => {
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

test("a role that lacks one table among many is reported, because it may have been revoked", () => {
  const source = [...grants("ships", APP, "SELECT"), ...grants("ports", APP, "SELECT")];
  const target = [...source, ...grants("secrets", APP, "SELECT INSERT")];
  expect(findUndecided(source, target)).toEqual([
    `${APP} has this stack's default grants on secrets, and no grants on these on the source; if they were revoked there, revoke them here, too`,
  ]);
  // Granted little, it was granted just that.
  expect(findUndecided(source.slice(0, 1), target)).toEqual([]);
  expect(findUndecided([...source, ...grants("secrets", APP, "SELECT", through)], target)).toEqual([]);
});

test("restrictions are copied with their names quoted, and told", async () => {
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
