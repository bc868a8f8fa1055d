import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { copyRestrictions, findRestrictions } from "../../components/import/restrictions.ts";
import { fakeClient, type Row } from "./client.ts";

type Privilege = Parameters<typeof findRestrictions>[0][number];

const grants = (name: string, grantee: string, privileges: string, schema = "public"): Privilege[] =>
  privileges.split(" ").map((privilege) => ({ schema, name, grantee, privilege }));

const asRows = (privileges: Privilege[]): Row[] => privileges.map((privilege) => ({ ...privilege }));

const APP = "sectorwars_app";

describe("what a migration revoked", () => {
  test("is what the target grants and the source does not", () => {
    expect(
      findRestrictions(
        grants("audit_log", APP, "SELECT INSERT"),
        grants("audit_log", APP, "SELECT INSERT UPDATE DELETE"),
      ),
    ).toEqual(grants("audit_log", APP, "UPDATE DELETE"));
  });

  test("is nothing where the source grants as much, or more", () => {
    const all = grants("ships", APP, "SELECT INSERT UPDATE DELETE TRUNCATE");
    expect(findRestrictions(all, grants("ships", APP, "SELECT INSERT UPDATE DELETE"))).toEqual([]);
  });

  test("is nothing for a role that the source does not know, or that holds nothing on the table", () => {
    const source = [...grants("audit_log", "sectorwars_readonly", "SELECT"), ...grants("ships", APP, "SELECT")];
    expect(findRestrictions(source, grants("audit_log", APP, "SELECT INSERT UPDATE"))).toEqual([]);
    expect(findRestrictions([], grants("audit_log", APP, "SELECT INSERT"))).toEqual([]);
  });

  test("is told apart by schema", () => {
    expect(findRestrictions(grants("ships", APP, "SELECT", "game"), grants("ships", APP, "SELECT INSERT"))).toEqual([]);
  });

  test("is always granted on the target, never on the source, and only where the source decided", () => {
    const privilege = fc.record({
      schema: fc.constantFrom("public", "game"),
      name: fc.constantFrom("a", "b"),
      grantee: fc.constantFrom("app", "readonly"),
      privilege: fc.constantFrom("SELECT", "INSERT", "UPDATE"),
    });
    fc.assert(
      fc.property(fc.array(privilege), fc.array(privilege), (source, target) => {
        const sameRole = (a: Privilege, b: Privilege) =>
          a.schema === b.schema && a.name === b.name && a.grantee === b.grantee;
        const expected = target.filter(
          (mine) =>
            source.some((theirs) => sameRole(mine, theirs)) &&
            !source.some((theirs) => sameRole(mine, theirs) && mine.privilege === theirs.privilege),
        );
        expect(findRestrictions(source, target)).toEqual(expected);
        expect(findRestrictions(source, source)).toEqual([]);
      }),
    );
  });
});

test("restrictions are copied with their names quoted, and told", async () => {
  const done: string[] = [];
  const source = fakeClient(() => asRows(grants('odd"log', APP, "SELECT")));
  const target = fakeClient((sql) => {
    done.push(sql);
    return asRows(grants('odd"log', APP, "SELECT UPDATE"));
  });
  expect(await copyRestrictions([APP], source, target)).toEqual([
    `UPDATE on public.odd"log is revoked from ${APP}, as on the source`,
  ]);
  expect(done.slice(1)).toEqual([`REVOKE UPDATE ON "public"."odd""log" FROM "${APP}"`]);
});
