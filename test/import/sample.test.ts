/** The sample, which has at least one of everything that the game has: all of it is copied. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { helperLabel } from "../../components/import/schema/schema.ts";
import { startSample } from "../../components/import/source/sample.ts";
import type { ImportSpec, Source } from "../../components/import/types.ts";
import { docker, removeContainers } from "../../lib/docker.ts";
import { type Attempt, attempt, expectNothingLeft, expectSameRows } from "../support/attempt.ts";
import { haveImage, images, Lab, readReport, type Server, type SourceServer, sampleFiles } from "../support/lab.ts";
import { haveOtherVersions, imageOfVersion } from "../support/other-versions.ts";
import { withConnection } from "../support/session.ts";
import { SMALL } from "../support/small.ts";
import { expectGoodReport, expectGrants, expectOwnership, expectSameContents } from "../support/verify.ts";

const withNewer = await haveImage(images().newerPostgres);

let lab: Lab;
let target: Server;
let newer: SourceServer | undefined;
let sample: Source;

beforeAll(async () => {
  lab = await Lab.open();
  const init = await sampleFiles();
  const { databaseBase: image, newerPostgres } = images();
  [target, sample] = await Promise.all([
    lab.startTarget(),
    startSample({ stack: lab.id, image, network: lab.id, dockerHost: undefined }),
  ]);
  // One after the other: on a busy machine, two samples that generate rows at once would exceed the sample's time limit.
  if (withNewer) newer = await lab.startSource({ image: newerPostgres, init });
}, 300_000);
afterAll(() => lab?.close());

/** Rows of all tables, counted on the source. */
const countRows = (spec: ImportSpec) =>
  withConnection(spec.source.address, async (client) => {
    const { rows } = await client.query<{ count: number }>(`
      SELECT sum((xpath('/row/c/text()', query_to_xml('SELECT count(*) AS c FROM ONLY ' || c.oid::regclass, false, true, '')))[1]::text::bigint)::float8 AS count
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname IN ('public', 'audit')`);
    return rows[0]?.count ?? 0;
  });

describe("the sample that the project starts, PostgreSQL 15", () => {
  let spec: ImportSpec;
  let result: Attempt;

  beforeAll(async () => {
    spec = await lab.newImport(sample, target, "sample");
    result = await attempt(spec);
  });

  test("is imported", async () => {
    expect(result.error).toBe("");
    const rows = await countRows(spec);
    expect(result.summary?.rows).toBe(rows);
    await expectGoodReport(spec, rows);
    expect((await readReport(spec)).remarks).toContain("the source is the sample that this project generates");
  });

  test("is complete: rows, sequences, indexes, views, triggers, policies, comments", () => expectSameContents(spec));

  test("belongs to the owner", () => expectOwnership(target, spec.target.address.database));

  test("has the default grants, without those that were revoked on the source", async () => {
    await expectGrants(target, spec.target.address.database);
    expect((await readReport(spec)).remarks.join("\n")).toMatch(
      /UPDATE on public\.admin_action_logs is revoked from sectorwars_app, as on the source/,
    );
  });

  test("works as a database: keys, triggers and generated columns work", async () => {
    const { database } = spec.target.address;
    const id = await target.value(
      database,
      "INSERT INTO combat_logs (at, rounds, outcome) VALUES (now(), '[]', 'x') RETURNING id::int",
    );
    expect(id).toBe(5001);
    await expect(target.sql(database, "DELETE FROM admin_action_logs")).rejects.toThrow(/are never deleted/);
    await expect(target.sql(database, "INSERT INTO mfa_secrets VALUES (gen_random_uuid(), '')")).rejects.toThrow(
      /foreign key/,
    );
  });

  test("shows its password nowhere in Docker, and is gone once its containers are removed", async () => {
    const listed = await docker(["ps", "-aq", "--filter", `label=${helperLabel(lab.id)}`]);
    const ids = listed.split("\n").filter(Boolean);
    expect(ids).toHaveLength(1);
    expect(await docker(["inspect", ...ids])).not.toContain(spec.source.address.password);
    expect(await removeContainers(helperLabel(lab.id))).toBe(1);
    await expectNothingLeft(lab, target, spec);
  });
});

describe.skipIf(!withNewer)("the same sample on PostgreSQL 17, read by a newer pg_dump", () => {
  let spec: ImportSpec;
  let result: Attempt;

  beforeAll(async () => {
    spec = await lab.newImport((newer as SourceServer).source("lab_admin", "superuser"), target, "newer");
    result = await attempt(spec);
  });

  test("is imported", async () => {
    expect(result.error).toBe("");
    const rows = await countRows(spec);
    expect(result.summary?.rows).toBe(rows);
    await expectGoodReport(spec, rows);
    expect((await readReport(spec)).sourceVersion).toMatch(/^17\./);
  });

  test("is complete", () =>
    // Version 16 and later omit a table's name before its columns if there is only one table.
    expectSameContents(spec, (object) => object.replace(/^([vm] \S+) .*$/, "$1")));

  test("belongs to the owner", () => expectOwnership(target, spec.target.address.database));

  test("has the default grants, without those that were revoked on the source", () =>
    expectGrants(target, spec.target.address.database));

  test("is imported by a plain owner, too, as on Neon", async () => {
    await newer?.makeDatabase("small", SMALL);
    const plain = await lab.newImport((newer as SourceServer).source("small"), target, "plain");
    const { error } = await attempt(plain);
    expect(error).toBe("");
    await expectNothingLeft(lab, target, plain);
  });
});

/** It sorts by the C library like 15, and the newer pg_dump reads it, as it does 17. */
describe.skipIf(!withNewer || !haveOtherVersions)("a source of PostgreSQL 16", () => {
  test("is imported by a plain owner, and nothing of it is lost", async () => {
    const server = await lab.startSource({ image: await imageOfVersion(16) });
    await server.makeDatabase("small", SMALL);
    const spec = await lab.newImport(server.source("small"), target, "sixteen");
    expect((await attempt(spec)).error).toBe("");
    expect((await readReport(spec)).sourceVersion).toMatch(/^16\./);
    await expectSameRows(spec);
    await expectNothingLeft(lab, target, spec);
  });
});
