import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { configuration } from "../../components/backups/configuration.ts";
import { confirmKeyFile, keyName, newKey, readKeyFile, writeKeyFile } from "../../components/backups/key-file.ts";
import { provider } from "../../components/backups/key-provider.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "key-file-"));
  file = join(folder, "keys", "backups-test.txt");
});
afterEach(() => rm(folder, { recursive: true }));
const inputs = (more = {}) => ({ stack: "test", file, mustExist: false, ...more });

describe("the backup key's file", () => {
  test("has mode 600, names the command that confirms a copy of it, and can be read back", async () => {
    const key = newKey();
    await writeKeyFile(file, "test", key);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readFile(file, "utf8")).toContain("./db backup --key-is-safe --stack test");
    expect(await readKeyFile(file)).toEqual({ key, confirmedAt: undefined });
    expect(await readdir(join(folder, "keys"))).toEqual(["backups-test.txt"]);
  });

  test("is never overwritten", async () => {
    const key = newKey();
    await writeKeyFile(file, "test", key);
    await expect(writeKeyFile(file, "test", newKey())).rejects.toMatchObject({ code: "EEXIST" });
    expect((await readKeyFile(file))?.key).toBe(key);
  });

  test("gets mode 600 when it is read, if other users could read it", async () => {
    await writeKeyFile(file, "test", newKey());
    await chmod(file, 0o644);
    await readKeyFile(file);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test("is an error if it contains no key, and no new key replaces it", async () => {
    await writeKeyFile(file, "test", newKey());
    await writeFile(file, "nothing of use");
    await expect(readKeyFile(file)).rejects.toThrow('has no line "key: ..."');
    await expect(provider.create(inputs())).rejects.toThrow('has no line "key: ..."');
  });

  test("records the first confirmation of a copy, and must exist for that", async () => {
    await expect(confirmKeyFile(file, new Date())).rejects.toThrow("There is no key file");
    await writeKeyFile(file, "test", newKey());
    await confirmKeyFile(file, new Date("2026-11-23T10:00:00Z"));
    await confirmKeyFile(file, new Date("2026-11-24T10:00:00Z"));
    expect((await readKeyFile(file))?.confirmedAt).toBe("2026-11-23T10:00:00.000Z");
  });

  test("can be read after the confirmation even if its last line had no newline", async () => {
    const key = newKey();
    await writeKeyFile(file, "test", key);
    await writeFile(file, `key: ${key}`);
    await confirmKeyFile(file, new Date("2026-11-23T10:00:00Z"));
    expect(await readKeyFile(file)).toEqual({ key, confirmedAt: "2026-11-23T10:00:00.000Z" });
  });
});

describe("the backup key resource", () => {
  test("creates a key once, and takes the key from an existing file if the state was lost", async () => {
    const first = await provider.create(inputs());
    const again = await provider.create(inputs({ mustExist: true }));
    expect(again.outs.key).toBe(first.outs.key);
    expect(first.id).toBe(keyName(first.outs.key));
  });

  test("refuses to create a new key if the data comes from backups", async () => {
    await expect(provider.create(inputs({ mustExist: true }))).rejects.toThrow(`there is no key file ${file}`);
    expect(await readKeyFile(file)).toBeUndefined();
  });

  test("writes the same key again if its file was lost", async () => {
    const { id, outs } = await provider.create(inputs());
    expect(await provider.diff?.(id, outs, inputs())).toMatchObject({ changes: false });
    await rm(file);
    const seen = await provider.read?.(id, outs);
    expect(await provider.diff?.(id, seen?.props, inputs())).toMatchObject({ changes: true });
    const mended = await provider.update?.(id, seen?.props, inputs());
    expect((await readKeyFile(file))?.key).toBe(outs.key);
    expect(await provider.diff?.(id, mended?.outs, inputs())).toMatchObject({ changes: false });
  });

  test("fails if its file contains another key, which the error names, and leaves the file unchanged", async () => {
    const { id, outs } = await provider.create(inputs());
    await rm(file);
    const other = newKey();
    await writeKeyFile(file, "test", other);
    await expect(provider.update?.(id, outs, inputs())).rejects.toThrow(`contains the key ${keyName(other)}, but`);
    expect((await readKeyFile(file))?.key).toBe(other);
  });
});

describe("pgBackRest's configuration", () => {
  const settings = {
    folder: undefined,
    s3: undefined,
    schedules: { full: "", diff: "", drill: "" },
    compression: "zst" as const,
    keepDays: 14,
    keepFulls: 3,
    walDropThresholdPercent: 90,
    keepOnDestroy: false,
    recoverTo: "latest",
  };
  const lines = (more = {}) => configuration({ ...settings, ...more }, "k").split("\n");

  test("encrypts, and sets no queue limit at which pgBackRest would drop WAL", () => {
    expect(lines()).toEqual(expect.arrayContaining(["repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=k"]));
    expect(lines().join()).not.toContain("queue-max");
  });

  test("retains full backups by days, or by number", () => {
    expect(lines()).toEqual(expect.arrayContaining(["repo1-retention-full-type=time", "repo1-retention-full=14"]));
    expect(lines({ keepDays: 0 })).toEqual(
      expect.arrayContaining(["repo1-retention-full-type=count", "repo1-retention-full=3"]),
    );
  });

  test("compresses with the configured method", () => {
    expect(lines({ compression: "lz4" })).toEqual(expect.arrayContaining(["compress-type=lz4", "compress-level=1"]));
  });
});
