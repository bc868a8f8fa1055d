import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type RecordedData, recordedData, takesBackups } from "../../components/backups/auto.ts";
import { destroyNotice } from "../../components/backups/on-destroy.ts";
import type { StateResource } from "../../lib/stack-state.ts";

const NOTHING: RecordedData = { hasBackups: false, isPrecious: undefined };
const imported = (bootstrap: string, source?: string): StateResource => ({
  urn: "urn:pulumi:dev::sectorwars-database::sectorwars:import:NeonImport$pulumi-nodejs:dynamic/import:ImportOnce::once",
  type: "pulumi-nodejs:dynamic/import:ImportOnce",
  outputs: { bootstrap, summary: source === undefined ? null : { source } },
});
const volume = (name: string): StateResource => ({
  urn: `urn:pulumi:dev::sectorwars-database::sectorwars:server:DatabaseServer$docker:index/volume:Volume::${name}`,
  type: "docker:index/volume:Volume",
});

describe("the setting backups", () => {
  test.each<[string, StateResource, boolean]>([
    ["Neon", imported("neon", "ep-1.eu.aws.neon.tech/neondb"), true],
    ["a backup", imported("backup"), true],
    ["an adopted volume", imported("empty", "the volume game_postgres_data, database game"), true],
    ["a refresh from Neon, after the sample", imported("sample", "ep-1.eu.aws.neon.tech/neondb"), true],
    ["the sample", imported("sample", "the sample (sectorwars-dev-sample/game)"), false],
    ["nowhere", imported("empty"), false],
  ])("auto depends on the recorded source of the data: %s", (_, resource, expected) => {
    const recorded = recordedData([volume("data"), resource]);
    expect(takesBackups("auto", ["sample"], recorded)).toBe(expected);
    // The data exists, so the bootstrap that the environment names now does not count.
    expect(takesBackups("auto", ["neon"], recorded)).toBe(expected);
  });

  test.each([
    ["neon", true],
    ["backup", true],
    ["sample", false],
    ["empty", false],
  ])("auto for a new stack with the bootstrap %s turns backups on: %s", (source, expected) => {
    expect(takesBackups("auto", [source], NOTHING)).toBe(expected);
  });

  test("auto turns backups on if a further database is filled from Neon", () => {
    expect(takesBackups("auto", ["sample", "empty", "neon"], NOTHING)).toBe(true);
  });

  test.each(["database-backups", "backups"])(
    "auto keeps backups on after a failed import, even if the bootstrap is now the sample: %s",
    (name) => {
      const recorded = recordedData([volume("data"), volume(name)]);
      expect(recorded).toEqual({ hasBackups: true, isPrecious: undefined });
      expect(takesBackups("auto", ["sample"], recorded)).toBe(true);
    },
  );

  test("true and false apply to every stack, whatever it contains", () => {
    const recorded = fc.record({
      hasBackups: fc.boolean(),
      isPrecious: fc.option(fc.boolean(), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.boolean(), recorded, fc.constantFrom("neon", "sample", "empty", "backup"), (on, data, source) => {
        expect(takesBackups(String(on), [source], data)).toBe(on);
      }),
    );
  });
});

describe("the notice about pulumi destroy", () => {
  const DEV = {
    dataVolume: "sectorwars-data",
    keepsData: false,
    repository: "sectorwars-backups",
    keepsBackups: false,
  };

  test("says by default that data and backups are deleted and which settings keep them, in at most 150 characters", () => {
    const notice = destroyNotice(DEV);
    expect(notice).toBe(
      "deletes all data and all backups; to keep: pulumi config set keepDataOnDestroy true, pulumi config set backupKeepOnDestroy true, " +
        "pulumi up",
    );
    expect(notice.length).toBeLessThanOrEqual(150);
  });

  test("says that a repository in S3 is kept", () => {
    expect(destroyNotice({ ...DEV, repository: "s3://bucket/folder", keepsBackups: true })).toBe(
      "deletes all data; keeps the backups (s3://bucket/folder); to keep: pulumi config set keepDataOnDestroy true, pulumi up",
    );
  });

  test("says that data and backups are kept if both settings are on", () => {
    expect(destroyNotice({ ...DEV, keepsData: true, keepsBackups: true })).toBe(
      "keeps the data (sectorwars-data) and the backups (sectorwars-backups)",
    );
  });
});
