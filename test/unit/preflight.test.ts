import { describe, expect, test } from "vitest";
import { describeSourceError, findBlockers } from "../../components/import/preflight.ts";
import type { Catalog } from "../../components/import/types.ts";

const CATALOG: Catalog = {
  version: "16.4",
  majorVersion: 16,
  encoding: "UTF8",
  collation: "libc C.UTF-8",
  tables: [],
  sequences: [],
  extensions: [{ name: "pgcrypto", schema: "public", version: "1.3" }],
  skipped: [],
  alembicRevision: undefined,
};
const TARGET = { majorVersion: 15, available: new Set(["pgcrypto", "plpgsql"]) };

describe("what forbids an import", () => {
  const blockers = (more: Partial<Catalog>) => findBlockers({ ...CATALOG, ...more }, TARGET);

  test("is nothing for a source of another version in UTF8", () => {
    for (const majorVersion of [12, 15, 18]) expect(blockers({ majorVersion })).toEqual([]);
  });

  test.each([
    ["9.6", 9],
    ["19.1", 19],
  ])("is version %s", (version, majorVersion) => {
    expect(blockers({ version, majorVersion })).toEqual([
      `the source runs PostgreSQL ${version}; versions 12 to 18 can be imported`,
    ]);
  });

  test("is told all at once", () => {
    const extensions = [...CATALOG.extensions, { name: "postgis", schema: "gis", version: "3.5.0" }];
    expect(blockers({ encoding: "LATIN1", extensions })).toEqual([
      "the source's encoding is LATIN1; only UTF8 can be imported. Convert it there first",
      "the source uses the extension postgis 3.5.0, which the database image does not have. Add it in " +
        "images/database/Dockerfile, or drop it on the source",
    ]);
  });
});

describe("a source that cannot be read", () => {
  test.each([
    ["28P01", "The password is wrong. Copy NEON_DATABASE_URL anew from the Neon console."],
    ["3D000", "There is no such database. Check the name at the end of NEON_DATABASE_URL."],
    ["ENOTFOUND", "The host's name is not known. Check it in NEON_DATABASE_URL, and the network."],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "Its certificate is for another host: this may not be the server you mean."],
    ["XX000", "Check NEON_DATABASE_URL and the network."],
  ])("for %s has a remedy", (code, remedy) => {
    const cause = Object.assign(new Error("what it said"), { code });
    const error = describeSourceError("ep-x.neon.tech/neondb", cause);
    expect(error.message).toBe(`The source ep-x.neon.tech/neondb cannot be read: what it said. ${remedy}`);
    expect(error.cause).toBe(cause);
  });

  test("for no code has one too", () => {
    expect(describeSourceError("h/d", new Error("timeout expired")).message).toBe(
      "The source h/d cannot be read: timeout expired. Check NEON_DATABASE_URL and the network.",
    );
  });
});
