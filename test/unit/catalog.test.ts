import { describe, expect, test } from "vitest";
import { columnList, findRelations, readCatalog, readSequences } from "../../components/import/schema/catalog.ts";
import { fakeClient, type Row } from "./client.ts";
import { makeTable } from "./table.ts";

describe("the column list of COPY", () => {
  test("contains all but the generated columns, quoted, in the table's order", () => {
    const columns = [
      { name: "id", generated: false },
      { name: "total", generated: true },
      { name: 'Odd"Name', generated: false },
    ];
    expect(columnList(makeTable("t", { columns }))).toBe(' ("id", "Odd""Name")');
  });

  test("is empty for a table without columns that COPY can write", () => {
    expect(columnList(makeTable("t", { columns: [] }))).toBe("");
    expect(columnList(makeTable("t", { columns: [{ name: "total", generated: true }] }))).toBe("");
  });
});

describe("sequences", () => {
  test("are read in one round trip, and returned in the requested order", async () => {
    const asked: string[] = [];
    const client = fakeClient((sql) => {
      asked.push(sql);
      return [
        { i: 1, last: "9007199254740993", is_called: true },
        { i: 0, last: "1", is_called: false },
      ];
    });
    expect(await readSequences(client, ['"public"."a_id_seq"', '"public"."b_id_seq"'])).toEqual([
      { name: '"public"."a_id_seq"', lastValue: "1", isCalled: false },
      { name: '"public"."b_id_seq"', lastValue: "9007199254740993", isCalled: true },
    ]);
    expect(asked).toHaveLength(1);
    expect(asked[0]).toContain('FROM "public"."b_id_seq"');
  });

  test("are not queried if there are none", async () => {
    const client = fakeClient(() => {
      throw new Error("asked");
    });
    expect(await readSequences(client, [])).toEqual([]);
  });
});

test("findRelations names the relations of a database that is not empty", async () => {
  expect(await findRelations(fakeClient(() => [{ relation: "public.a" }]))).toEqual(["public.a"]);
});

describe("a source's catalog", () => {
  /** Answers each query of readCatalog() by a part of its text. */
  const server = (db: Record<string, string | null>, alembic: string[] = []) =>
    fakeClient((sql): Row[] => {
      if (sql.includes("pg_encoding_to_char")) {
        return [{ version: "15.14 (Debian 15.14-1.pgdg12+1)", major: 15, encoding: "UTF8", db }];
      }
      if (sql.includes("relkind = 'r'")) {
        const table = { schema: "public", bytes: 8192, columns: [], key: [] };
        const names = alembic.length > 0 ? ["ships", "alembic_version"] : ["ships"];
        return names.map((name) => ({ ...table, name, text: name === "ships" }));
      }
      if (sql.includes("relkind = 'S'")) return [{ schema: "public", name: "Odd_seq" }];
      if (sql.includes("FROM pg_extension")) {
        return ["neon", "pgcrypto"].map((name) => ({ name, schema: "public", version: "1.3" }));
      }
      if (sql.includes("pg_db_role_setting")) return [SETTING];
      if (sql.includes("alembic_version")) return alembic.map((version_num) => ({ version_num }));
      return [{ what: "schema neon_auth", why: "Neon's own" }];
    });

  const SETTING = { role: null, everywhere: false, name: "work_mem", value: "64MB" };

  test("leaves out Neon's own objects and server settings, and lists them as skipped", async () => {
    const catalog = await readCatalog(server({ datlocprovider: "c", datcollate: "C.UTF-8" }));
    expect(catalog).toMatchObject({
      version: "15.14",
      majorVersion: 15,
      encoding: "UTF8",
      collation: "libc C.UTF-8",
      sequences: ['"public"."Odd_seq"'],
      extensions: [{ name: "pgcrypto" }],
      alembicRevision: undefined,
    });
    expect(catalog.tables.map(({ sql, format }) => [sql, format])).toEqual([['"public"."ships"', "text"]]);
    expect(catalog.skipped).toEqual([
      { what: "schema neon_auth", why: "Neon's own" },
      { what: "extension neon", why: "Neon's own" },
      { what: "setting work_mem of the database", why: expect.stringContaining("server's resources") },
    ]);
  });

  test("contains Alembic's current revision, or all of several heads", async () => {
    const db = { datlocprovider: "c", datcollate: "C" };
    expect((await readCatalog(server(db, ["a1b2"]))).alembicRevision).toBe("a1b2");
    expect((await readCatalog(server(db, ["a1b2", "c3d4"]))).alembicRevision).toBe("a1b2, c3d4");
  });

  test.each([
    [{ datlocprovider: "i", daticulocale: "en-US" }, "ICU en-US"],
    [{ datlocprovider: "i", datlocale: "en-US" }, "ICU en-US"],
    [{ datlocprovider: "b", datlocale: "C.UTF-8" }, "builtin C.UTF-8"],
    [{ datlocprovider: "c", datcollate: "de_DE.UTF-8", daticulocale: null }, "libc de_DE.UTF-8"],
    [{ datcollate: "en_US.UTF-8" }, "libc en_US.UTF-8"],
  ])("for %j has the collation %s", async (db, collation) => {
    expect((await readCatalog(server(db))).collation).toBe(collation);
  });
});
