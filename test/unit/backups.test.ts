import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import type { Settings } from "../../components/settings.ts";
import { type Asked, namesIn, record } from "./pulumi.ts";

const SETTINGS: Settings = {
  stack: "test",
  bootstrap: "empty",
  bootstrapChosen: true,
  database: "sectorwars_test",
  port: 15500,
  memoryMiB: 512,
  cpus: 2,
  maxConnections: 100,
  passwordVersion: 1,
  readonlyDenyList: [],
  keepDataOnDestroy: false,
  importJobs: 2,
  safetyCopy: { keep: false } as unknown as Settings["safetyCopy"],
  selection: {} as unknown as Settings["selection"],
  baseImage: "postgres:15-alpine",
  newerPostgres: "postgres:18-alpine",
  dockerHost: undefined,
  dockerHostIsSet: false,
  backups: {
    folder: undefined,
    s3: undefined,
    schedules: { full: "0|3|1|1|0|0", diff: "", drill: "30|3|1|1|0|0" },
    compression: "zst",
    keepDays: 14,
    keepFulls: 2,
    walDropThresholdPercent: 85,
    keepOnDestroy: false,
  },
  backupRecoverTo: "latest",
  databases: [],
  droppableDatabases: [],
  migrations: undefined,
  seed: undefined,
  handover: undefined,
};

/** The stack's server and its backups. */
async function make(more: Partial<Settings> = {}): Promise<(name: string) => Asked> {
  return record(async (opts) => {
    const { archivingFor, Backups } = await import("../../components/backups/backups.ts");
    const { DatabaseServer } = await import("../../components/server/database-server.ts");
    const settings = { ...SETTINGS, ...more };
    const archiving = archivingFor(settings, opts);
    const server = new DatabaseServer("database", { ...settings, keepData: false, archiving }, opts);
    const { stack, database, dockerHost, backups, keepDataOnDestroy: keepsData } = settings;
    const args = { stack, database, dockerHost, keepsData, server, after: [server.ready] };
    if (archiving && backups) new Backups("backups", { ...args, settings: backups, archiving }, opts);
    return [server.ready.urn];
  });
}

let get: (name: string) => Asked;
beforeAll(async () => {
  get = await make();
});

describe("the backup key", () => {
  test("reaches both containers only as a secret file that root alone can read", () => {
    for (const name of ["server", "backup-container"]) {
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
    const { command, envs } = get("server").inputs as { command: string[]; envs: string[] };
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
    expect(get("image").inputs.build).toMatchObject({ buildArgs: { BACKUPS: "yes" } });
  });

  // Archiving leaves orphaned processes. If one became the server's child, its end would look like a crash.
  test("runs under Docker's init process", () => expect(get("server").inputs.init).toBe(true));

  test("has no settings, image parts or containers for backups if they are off", async () => {
    const without = await make({ backups: undefined });
    for (const name of ["server", "image"]) {
      expect(JSON.stringify(without(name).inputs)).not.toMatch(/archive_mode|BACKUP|pgbackrest/);
    }
    expect(without("server").inputs).not.toHaveProperty("init");
    expect(() => without("imported")).toThrow("no resource");
    expect(() => without("backup-container")).toThrow("no resource");
    expect(() => without("backups")).toThrow("no resource");
  });

  test("fills an empty volume from the repository if the bootstrap is backup, and requires an existing key", async () => {
    const to = await make({ bootstrap: "backup", backupRecoverTo: "2026-11-22T10:00:00Z" });
    const recover = "1795341600\\n--type=time\\n--target=2026-11-22 10:00:00.000+00\\n--target-action=promote\\n";
    expect(JSON.stringify(to("server").inputs.uploads)).toContain(`"content":"${recover}","file":"/run/recover"`);
    expect(to("backup-key").inputs.mustExist).toBe(true);
    expect(get("backup-key").inputs.mustExist).toBe(false);
    expect(JSON.stringify(get("server").inputs.uploads)).not.toContain("/run/recover");
  });
});

describe("the backup container", () => {
  test("mounts the data read-only, has no network, and starts after the server is ready", () => {
    const { inputs, options } = get("backup-container");
    expect(inputs.volumes).toContainEqual({
      volumeName: "sectorwars-test-data",
      containerPath: "/var/lib/postgresql/data",
      readOnly: true,
    });
    expect(inputs.networkMode).toBe("none");
    expect(inputs.entrypoints).toEqual(["sectorwars-backup"]);
    expect(namesIn(options.dependsOn)).toEqual(["ready"]);
    expect(inputs.envs).toEqual(expect.arrayContaining(["BACKUP_FULL=0|3|1|1|0|0", "BACKUP_DIFF="]));
  });

  test("stores backups in a volume, or in the configured folder", async () => {
    const paths = (asked: Asked) =>
      (asked.inputs.volumes as { containerPath: string; hostPath?: string }[]).map((v) => [
        v.containerPath,
        v.hostPath,
      ]);
    expect(paths(get("backup-container"))).toContainEqual(["/var/lib/sectorwars-backups", undefined]);
    const inFolder = await make({ backups: { ...SETTINGS.backups, folder: "/mnt/disk" } as Settings["backups"] });
    for (const name of ["server", "backup-container"]) {
      expect(paths(inFolder(name))).toContainEqual(["/var/lib/sectorwars-backups/repository", "/mnt/disk"]);
    }
  });

  test("keeps the repository when the stack is destroyed, if configured", async () => {
    expect(get("backups").type).toMatch(/./);
    const keep = await make({ backups: { ...SETTINGS.backups, keepOnDestroy: true } as Settings["backups"] });
    expect(keep("begun").inputs.keep).toBe(true);
    expect(get("begun").inputs.keep).toBe(false);
  });
});
