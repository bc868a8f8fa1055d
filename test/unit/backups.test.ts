import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import type { BackupSettings } from "../../components/backups/settings.ts";
import { type Asked, namesIn, record, SERVER } from "./pulumi.ts";

const BACKUPS: BackupSettings = {
  folder: undefined,
  s3: undefined,
  schedules: { full: "0|3|1|1|0|0", diff: "", drill: "30|3|1|1|0|0" },
  compression: "zst",
  keepDays: 14,
  keepFulls: 2,
  walDropThresholdPercent: 85,
  keepOnDestroy: false,
  recoverTo: "latest",
};

interface More {
  bootstrap?: string;
  /** Null for a stack without backups. */
  backups?: Partial<BackupSettings> | null;
  dockerHost?: string;
}

/** The stack's server and its backups. */
async function make({ bootstrap = "empty", backups = {}, dockerHost }: More = {}): Promise<(name: string) => Asked> {
  return record(async (opts) => {
    const { archivingFor, Backups } = await import("../../components/backups/backups.ts");
    const { DatabaseServer } = await import("../../components/server/database-server.ts");
    const settings = backups && { ...BACKUPS, ...backups };
    const archiving = settings ? archivingFor({ stack: "test", bootstrap, settings }, opts) : undefined;
    const server = new DatabaseServer(
      "database",
      { stack: "test", database: "sectorwars_test", settings: { ...SERVER, dockerHost }, archiving },
      opts,
    );
    const data = new pulumi.ComponentResource("test:Data", "complete");
    const after = { ...opts, provider: server.engine, dependsOn: data };
    if (archiving && settings) new Backups("backups", { server, archiving, settings }, after);
    return [server.urn, server.version];
  });
}

let get: (name: string) => Asked;
beforeAll(async () => {
  get = await make();
});

describe("the backup key", () => {
  test("reaches both containers only as a secret file that root alone can read", () => {
    for (const name of ["database-server", "backups-container"]) {
      const { uploads, ...rest } = get(name).inputs;
      const text = JSON.stringify(uploads);
      expect(text).toContain("repo1-cipher-pass=value-of-key");
      expect(text).toContain('"permissions":"0600"');
      expect(JSON.stringify(rest)).not.toContain("value-of-key");
      expect(
        pulumi.Output.isInstance(get(name).written.uploads) || text.includes("1b47061264138c4ac30d75fd1eb44270"),
      ).toBe(true);
    }
  });
});

describe("the server with backups", () => {
  test("archives every change within a minute, and gets the percentage at which it drops WAL", () => {
    const { command, envs } = get("database-server").inputs as { command: string[]; envs: string[] };
    expect(command).toEqual(
      expect.arrayContaining([
        "archive_mode=on",
        "archive_command=sectorwars-backup pgbackrest-push %p",
        "archive_timeout=60s",
      ]),
    );
    expect(envs).toContain("BACKUP_WAL_DROP_PERCENT=85");
  });

  test("uses an image with pgBackRest", () => {
    expect(get("database-image").inputs.build).toMatchObject({ buildArgs: { BACKUPS: "yes" } });
  });

  // Archiving leaves orphaned processes. If one became the server's child, its end would look like a crash.
  test("runs under Docker's init process", () => expect(get("database-server").inputs.init).toBe(true));

  test("has no settings, image parts or containers for backups if they are off", async () => {
    const without = await make({ backups: null });
    for (const name of ["database-server", "database-image"]) {
      expect(JSON.stringify(without(name).inputs)).not.toMatch(/archive_mode|BACKUP|pgbackrest/);
    }
    expect(without("database-server").inputs).not.toHaveProperty("init");
    expect(() => without("imported")).toThrow("no resource");
    expect(() => without("backups-container")).toThrow("no resource");
    expect(() => without("backups")).toThrow("no resource");
  });

  test("fills an empty volume from the repository if the bootstrap is backup, and requires an existing key", async () => {
    const to = await make({ bootstrap: "backup", backups: { recoverTo: "2026-11-22T10:00:00Z" } });
    const recover = "1795341600\\n--type=time\\n--target=2026-11-22 10:00:00.000+00\\n--target-action=promote\\n";
    expect(JSON.stringify(to("database-server").inputs.uploads)).toContain(
      `"content":"${recover}","file":"/run/recover"`,
    );
    expect(to("backup-key").inputs.mustExist).toBe(true);
    expect(get("backup-key").inputs.mustExist).toBe(false);
    expect(JSON.stringify(get("database-server").inputs.uploads)).not.toContain("/run/recover");
  });
});

describe("the backup container", () => {
  test("mounts the data read-only, has no network, and starts after the server is ready", () => {
    const { inputs, options } = get("backups-container");
    expect(inputs.volumes).toContainEqual({
      volumeName: "sectorwars-test-data",
      containerPath: "/var/lib/postgresql/data",
      readOnly: true,
    });
    expect(inputs.networkMode).toBe("none");
    expect(inputs.entrypoints).toEqual(["sectorwars-backup"]);
    expect(namesIn(options.dependsOn)).toEqual(["complete"]);
    expect(inputs.envs).toEqual(expect.arrayContaining(["BACKUP_FULL=0|3|1|1|0|0", "BACKUP_DIFF="]));
  });

  test("is on the server's engine: a stack has one provider", async () => {
    const far = await make({ dockerHost: "ssh://me@box" });
    expect(namesIn(far("backups").options.provider)).toEqual(["database-engine"]);
    expect(() => far("backups-engine")).toThrow("no resource");
  });

  test("stores backups in a volume, or in the configured folder", async () => {
    const paths = (asked: Asked) =>
      (asked.inputs.volumes as { containerPath: string; hostPath?: string }[]).map((v) => [
        v.containerPath,
        v.hostPath,
      ]);
    expect(paths(get("backups-container"))).toContainEqual(["/var/lib/sectorwars-backups", undefined]);
    const inFolder = await make({ backups: { folder: "/mnt/disk" } });
    for (const name of ["database-server", "backups-container"]) {
      expect(paths(inFolder(name))).toContainEqual(["/var/lib/sectorwars-backups/repository", "/mnt/disk"]);
    }
  });

  test("keeps the repository when the stack is destroyed, if configured", async () => {
    expect(get("backups").type).toMatch(/./);
    const keep = await make({ backups: { keepOnDestroy: true } });
    expect(keep("backups-repository").inputs.keep).toBe(true);
    expect(get("backups-repository").inputs.keep).toBe(false);
  });
});
