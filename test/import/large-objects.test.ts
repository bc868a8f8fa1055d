/** Large objects: copied with their OIDs, proven, kept in safety copies, compared later. */
import { cp, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { examine } from "../../components/import/preflight/preflight.ts";
import { PIECE_BYTES } from "../../components/import/rows/large-objects.ts";
import { checkCopy } from "../../components/import/safety-copy/check.ts";
import { restoreCopy } from "../../components/import/safety-copy/restore.ts";
import type { ImportSpec, SelectionSettings } from "../../components/import/types.ts";
import { preparationScript } from "../../components/privileges/scripts.ts";
import { docker } from "../../lib/docker.ts";
import { readIdentity } from "../../lib/identity.ts";
import type { Address } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { atPhase, attempt, expectUntouched, stagingOf } from "../support/attempt.ts";
import { compareSourceAndTarget } from "../support/compare-databases.ts";
import { handToolsImage } from "../support/hand-tools.ts";
import {
  DENY_LIST,
  type Lab,
  openBothEnds,
  ROLES_PASSWORD,
  readReport,
  type Server,
  type SourceServer,
} from "../support/lab.ts";
import { withConnection } from "../support/session.ts";

const COMMENT = "it''s a \\\\ photo\n-- of\r\u2028Ceres\t\u0085; DROP TABLE photos";
/** Sizes around the limits of pieces, a hole, OIDs above the signed integers, and many small objects. */
const OBJECTS = `
  CREATE TABLE photos (id int PRIMARY KEY, photo oid NOT NULL, name text);
  SELECT lo_create(16500);
  SELECT lo_from_bytea(16501, 'small');
  SELECT lo_from_bytea(16502, decode(repeat('00ff5c0a', ${PIECE_BYTES / 4}), 'hex'));
  SELECT lo_from_bytea(16503, decode(repeat('01', ${PIECE_BYTES + 1}), 'hex'));
  SELECT lo_create(16504); SELECT lo_put(16504, ${3 * PIECE_BYTES}, 'behind a hole');
  SELECT lo_from_bytea(4000000000, 'a large number');
  DO $$ BEGIN FOR i IN 20000..21200 LOOP
    PERFORM lo_from_bytea(i, convert_to('photo ' || i, 'UTF8'));
    IF i % 100 = 0 THEN EXECUTE format('COMMENT ON LARGE OBJECT %s IS %L', i, 'number ' || i); END IF;
  END LOOP; END $$;
  COMMENT ON LARGE OBJECT 16501 IS E'${COMMENT}';
  INSERT INTO photos SELECT oid::int8 - 16000, oid, 'photo' FROM pg_largeobject_metadata WHERE oid < 30000`;

let lab: Lab;
let source: SourceServer;
let target: Server;
let spec: ImportSpec;

const identityFile = () => join(lab.folder, "settings", "identity.txt");
const safetyCopy = () => ({ folder: join(lab.folder, "safety"), identityFile: identityFile(), recipient: undefined });

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("objects", OBJECTS);
  spec = await lab.newImport(source.source("objects"), target);
});
afterAll(() => lab.close());

/** Reads all large objects independently of the import: OID, size, hash, comment. */
async function objectsOf(address: Address): Promise<unknown[]> {
  return withConnection(address, async (client) => {
    const { rows } = await client.query(
      `SELECT m.oid::text, length(lo_get(m.oid)) AS size, md5(lo_get(m.oid)) AS md5, obj_description(m.oid, 'pg_largeobject') AS comment
       FROM pg_largeobject_metadata m ORDER BY m.oid`,
    );
    return rows;
  });
}

const as = <T>(role: string, work: (client: pg.Client) => Promise<T>) =>
  withConnection({ ...spec.target.address, user: role, password: ROLES_PASSWORD }, work);

test("a source's large objects are copied with their OIDs and proven; the owner owns them, the application may use them", async () => {
  const { error } = await attempt({ ...spec, safetyCopy: safetyCopy() });
  expect(error).toBe("");
  const theirs = await objectsOf(source.in("objects"));
  expect(theirs).toHaveLength(1207);
  expect(await objectsOf(spec.target.address)).toEqual(theirs);
  expect(
    await target.sql(
      spec.target.address.database,
      "SELECT DISTINCT lomowner::regrole::text AS owner FROM pg_largeobject_metadata",
    ),
  ).toEqual([{ owner: ROLE_NAMES.owner }]);

  const report = await readReport(spec);
  expect(report.largeObjects).toMatchObject({ objects: 1207, source: report.largeObjects?.target });
  expect(report.remarks.join("\n")).toMatch(
    /1,207 large objects \(.*\) have the same OIDs, bytes and comments as on the source/,
  );
  expect(report.skipped.map(({ what }) => what).join()).not.toContain("large object");

  await as(ROLE_NAMES.app, async (client) => {
    expect((await client.query("SELECT lo_get(16501)::text AS hex")).rows).toEqual([{ hex: "\\x736d616c6c" }]);
    await client.query("BEGIN; SELECT lo_put(16501, 0, 'S'); ROLLBACK");
  });
  await expect(as(ROLE_NAMES.readonly, (client) => client.query("SELECT lo_get(16501)"))).rejects.toThrow(
    "permission denied for large object 16501",
  );
});

test("verify finds the large objects equal, and names later changes and the database in which they happened", async () => {
  expect((await compareSourceAndTarget(spec)).differences).toEqual([]);
  const { database } = spec.target.address;
  await target.sql(
    database,
    "SELECT lo_put(16504, 5, 'x'); COMMENT ON LARGE OBJECT 16501 IS 'other'; SELECT lo_unlink(16500)",
  );
  await source.sql("objects", "SET ROLE game_owner; SELECT lo_from_bytea(30000, 'new')");
  expect((await compareSourceAndTarget(spec)).differences).toEqual([
    {
      object: "large objects",
      changed: "on both sides",
      details: [
        "large object 16500: missing on the target",
        "large object 16501: other comment",
        "large object 16504: other bytes",
        "large object 30000: missing on the target",
      ],
    },
  ]);
  await source.sql("objects", "SELECT lo_unlink(30000)");
  expect((await compareSourceAndTarget(spec)).differences).toMatchObject([
    { object: "large objects", changed: "here" },
  ]);
});

describe("a safety copy", () => {
  const copyOf = async () => join(safetyCopy().folder, (await readdir(safetyCopy().folder))[0] ?? "");
  const secret = async () => (await readIdentity(identityFile()))?.secret ?? "";

  test("contains the large objects, and restores them with proof", async () => {
    const copy = await copyOf();
    expect((await checkCopy(copy, await secret())).manifest.largeObjects).toMatchObject({ objects: 1207 });
    await restoreCopy({
      copy,
      secret: await secret(),
      server: target.admin,
      database: "rescued",
      owner: ROLE_NAMES.owner,
      ownerPassword: ROLES_PASSWORD,
      roles: spec.target.roles,
      preparation: (name) => preparationScript(name, DENY_LIST),
      say: () => {},
    });
    expect(await objectsOf(target.in("rescued"))).toEqual(await objectsOf(source.in("objects")));
    const rescued = { ...spec, target: { ...spec.target, address: target.in("rescued") } };
    expect((await compareSourceAndTarget(rescued)).differences).toEqual([]);
  });

  test("restores the large objects by hand with its restore.sh", async () => {
    const hands = join(lab.folder, "hands");
    await mkdir(hands);
    await cp(await copyOf(), join(hands, "copy"), { recursive: true });
    await cp(identityFile(), join(hands, "identity.txt"));
    await target.sql("postgres", "CREATE DATABASE by_hand");
    const container = `${lab.id}-hands`;
    const { user, password } = target.admin;
    await writeFile(join(hands, "pgpass"), `*:*:*:*:${password}\n`, { mode: 0o600 });
    const environment = { PGHOST: target.alias, PGUSER: user, PGDATABASE: "by_hand", PGPASSFILE: "/hands/pgpass" };
    await docker([
      ...["create", "--name", container, "--network", lab.id, "--user", "root"],
      ...["--label", "sectorwars.test=1", "--label", `sectorwars.test.run=${lab.id}`],
      ...Object.entries(environment).flatMap(([key, value]) => ["-e", `${key}=${value}`]),
      ...["--entrypoint", "sleep", await handToolsImage(), "600"],
    ]);
    await docker(["cp", `${hands}/.`, `${container}:/hands`]);
    await docker(["start", container]);
    await docker(["exec", container, "chown", "-R", "root:root", "/hands"]);
    expect(await docker(["exec", container, "/hands/copy/restore.sh", "/hands/identity.txt"])).toMatch(/restored\n$/);
    expect(await objectsOf(target.in("by_hand"))).toEqual(await objectsOf(source.in("objects")));
  });
});

describe("an import rejects a copy", () => {
  test.each([
    ["with one byte changed", "SELECT lo_put(16503, 1048576, '\\x02')", "large object 16503: other bytes"],
    ["with one byte more", "SELECT lo_put(16501, 5, 's')", "large object 16501: other size, bytes"],
    ["without one object", "SELECT lo_unlink(4000000000)", "large object 4000000000: missing on the target"],
    ["with an additional object", "SELECT lo_create(31000)", "large object 31000: not on the source"],
    ["with another comment", "COMMENT ON LARGE OBJECT 16501 IS NULL", "large object 16501: other comment"],
  ])("%s, and names it", async (_what, sql, line) => {
    const damaged = await lab.newImport(source.source("objects"), target);
    const { error } = await attempt(
      damaged,
      atPhase("sequences", () => target.sql(stagingOf(damaged), sql)),
    );
    expect(error).toContain(
      `large objects differ from the source's, so it was dropped; the target is as it was:\n  - ${line}`,
    );
    await expectUntouched(lab, target, damaged);
  });

  test("in which one object belongs to another role", async () => {
    const strange = await lab.newImport(source.source("objects"), target);
    const give = () => target.sql(stagingOf(strange), "ALTER LARGE OBJECT 16501 OWNER TO postgres");
    expect((await attempt(strange, atPhase("sequences", give))).error).toContain(
      "large object 16501 belongs to postgres",
    );
  });
});

test("a large object that the source's role cannot read is a blocker with its OID, and grants to PUBLIC count", async () => {
  await source.makeDatabase("closed", "SELECT lo_from_bytea(17000, 'mine')");
  await source.sql(
    "closed",
    `SELECT lo_from_bytea(17001, 'not mine'); SELECT lo_from_bytea(17002, 'granted'); GRANT SELECT ON LARGE OBJECT 17002 TO game_owner;
     SELECT lo_from_bytea(17003, 'for all'); GRANT SELECT ON LARGE OBJECT 17003 TO PUBLIC`,
  );
  const closed = await lab.newImport(source.source("closed"), target);
  const { findings } = await examine(closed);
  expect(findings.filter(({ code }) => code === "privilege-missing")).toMatchObject([
    { subject: "large object 17001", remedy: expect.stringContaining("GRANT SELECT ON LARGE OBJECT") },
  ]);
  expect((await attempt(closed)).error).toMatch(
    /large object 17001: game_owner lacks SELECT\. .* \[privilege-missing\]/,
  );
  await source.sql("closed", "GRANT SELECT ON LARGE OBJECT 17001 TO game_owner");
  expect((await attempt(closed)).error).toBe("");
  expect(await objectsOf(closed.target.address)).toEqual(await objectsOf(source.in("closed")));

  // After a later REVOKE, verify names the object and a remedy that works.
  expect((await compareSourceAndTarget(closed)).differences).toEqual([]);
  await source.sql("closed", "REVOKE SELECT ON LARGE OBJECT 17001, 17002 FROM game_owner");
  const { message } = await compareSourceAndTarget(closed).then(
    () => new Error("compared"),
    (error: Error) => error,
  );
  expect(message).toMatch(
    /^large objects 17001, 17002: game_owner lacks SELECT, so the large objects of .*\/closed cannot be compared\./,
  );
  const [remedy = ""] = /GRANT SELECT ON LARGE OBJECT [\d, ]+ TO [\w"]+/.exec(message) ?? [];
  await source.sql("closed", remedy);
  expect((await compareSourceAndTarget(closed)).differences).toEqual([]);
});

test("if the source grants the application privileges on an object, it has only those here", async () => {
  await source.sql("postgres", `CREATE ROLE ${ROLE_NAMES.app}`);
  await source.makeDatabase(
    "granted",
    `SELECT lo_from_bytea(18000, 'read only'); SELECT lo_from_bytea(18001, 'undecided');
     GRANT SELECT ON LARGE OBJECT 18000 TO ${ROLE_NAMES.app}`,
  );
  const granted = await lab.newImport(source.source("granted"), target);
  expect((await attempt(granted)).error).toBe("");
  const { database } = granted.target.address;
  expect(
    await target.sql(
      database,
      `SELECT m.oid::text, array_agg(a.privilege_type::text ORDER BY 1) AS may FROM pg_largeobject_metadata m, aclexplode(m.lomacl) a
       WHERE a.grantee = '${ROLE_NAMES.app}'::regrole GROUP BY 1 ORDER BY 1`,
    ),
  ).toEqual([
    { oid: "18000", may: ["SELECT"] },
    { oid: "18001", may: ["SELECT", "UPDATE"] },
  ]);
  await source.sql("postgres", `DROP DATABASE granted; `);
  await source.sql("postgres", `DROP ROLE ${ROLE_NAMES.app}`);
});

describe("a selection", () => {
  const none: SelectionSettings = { exclude: [], schemaOnly: false, subset: [], masks: [] };
  test.each<[string, Partial<SelectionSettings>, RegExp]>([
    ["of the schema alone", { schemaOnly: true }, /importSchemaOnly/],
    [
      "with masks",
      { masks: [{ setting: "photos.name=null", table: "photos", column: "name", kind: "null" }] },
      /importMasks/,
    ],
  ])("%s leaves out the large objects, the report says so, and verify accepts it", async (_what, some, why) => {
    const selected = await lab.newImport(source.source("objects"), target);
    expect((await attempt({ ...selected, selection: { ...none, ...some } })).error).toBe("");
    expect(await objectsOf(selected.target.address)).toEqual([]);
    const skipped = (await readReport(selected)).skipped.find(({ what }) => what === "1,207 large objects");
    expect(skipped?.why).toMatch(why);
    const { differences, remarks } = await compareSourceAndTarget(selected);
    expect(differences.map(({ object }) => object)).not.toContain("large objects");
    expect(remarks.join("\n")).toMatch(/^large objects: .*, as at the import$/m);
  });

  test("that excludes a table's rows copies all large objects, and the report says so", async () => {
    const selected = await lab.newImport(source.source("objects"), target);
    expect((await attempt({ ...selected, selection: { ...none, exclude: ["photos"] } })).error).toBe("");
    expect(await objectsOf(selected.target.address)).toEqual(await objectsOf(source.in("objects")));
    expect((await readReport(selected)).remarks.join("\n")).toContain(
      "all were copied, because importSubset and importExclude select only rows",
    );
  });
});
