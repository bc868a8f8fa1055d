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

describe("backups with the setting auto", () => {
  test.each<[string, StateResource, boolean]>([
    ["Neon", imported("neon", "ep-1.eu.aws.neon.tech/neondb"), true],
    ["a backup", imported("backup"), true],
    ["an adopted volume", imported("empty", "the volume game_postgres_data, database game"), true],
    ["a refresh from Neon, after the sample", imported("sample", "ep-1.eu.aws.neon.tech/neondb"), true],
    ["the sample", imported("sample", "the sample (sectorwars-dev-sample/game)"), false],
    ["nowhere", imported("empty"), false],
  ])("data from %s", (_, resource, expected) => {
    const recorded = recordedData([volume("data"), resource]);
    expect(takesBackups("auto", ["sample"], recorded)).toBe(expected);
    // The data is there: what the environment says now does not count.
    expect(takesBackups("auto", ["neon"], recorded)).toBe(expected);
  });

  test.each([
    ["neon", true],
    ["backup", true],
    ["sample", false],
    ["empty", false],
  ])("a new stack with data from: %s", (source, expected) => {
    expect(takesBackups("auto", [source], NOTHING)).toBe(expected);
  });

  test("a further database that is filled from Neon counts as well", () => {
    expect(takesBackups("auto", ["sample", "empty", "neon"], NOTHING)).toBe(true);
  });

  test.each(["database-backups", "backups"])(
    "stay on when the import failed and the variable is missing now: %s",
    (name) => {
      const recorded = recordedData([volume("data"), volume(name)]);
      expect(recorded).toEqual({ hasBackups: true, isPrecious: undefined });
      expect(takesBackups("auto", ["sample"], recorded)).toBe(true);
    },
  );

  test("true and false are what they say, whatever the stack has", () => {
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

describe("what pulumi destroy says of a stack with backups", () => {
  const DEV = {
    dataVolume: "sectorwars-data",
    keepsData: false,
    repository: "sectorwars-backups",
    keepsBackups: false,
  };

  test("by default data and backups go, and the settings that keep them are named, in what Pulumi shows of an output", () => {
    const notice = destroyNotice(DEV);
    expect(notice).toBe(
      "deletes all data and all backups; to keep: pulumi config set keepDataOnDestroy true, pulumi config set backupKeepOnDestroy true, " +
        "pulumi up",
    );
    expect(notice.length).toBeLessThanOrEqual(150);
  });

  test("a repository elsewhere stays", () => {
    expect(destroyNotice({ ...DEV, repository: "s3://bucket/folder", keepsBackups: true })).toBe(
      "deletes all data; keeps the backups (s3://bucket/folder); to keep: pulumi config set keepDataOnDestroy true, pulumi up",
    );
  });

  test("nothing is deleted where both are kept", () => {
    expect(destroyNotice({ ...DEV, keepsData: true, keepsBackups: true })).toBe(
      "keeps the data (sectorwars-data) and the backups (sectorwars-backups)",
    );
  });
});
