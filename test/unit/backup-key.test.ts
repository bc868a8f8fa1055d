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

describe("the key's file", () => {
  test("is its owner's alone, says what it is, and is read back", async () => {
    const key = newKey();
    await writeKeyFile(file, "test", key);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readFile(file, "utf8")).toContain("./db backup --key-is-safe --stack test");
    expect(await readKeyFile(file)).toEqual({ key, confirmedAt: undefined });
    expect(await readdir(join(folder, "keys"))).toEqual(["backups-test.txt"]);
  });

  test("is never written over", async () => {
    const key = newKey();
    await writeKeyFile(file, "test", key);
    await expect(writeKeyFile(file, "test", newKey())).rejects.toMatchObject({ code: "EEXIST" });
    expect((await readKeyFile(file))?.key).toBe(key);
  });

  test("that others may read is closed to them", async () => {
    await writeKeyFile(file, "test", newKey());
    await chmod(file, 0o644);
    await readKeyFile(file);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test("without a key is an error, not another key", async () => {
    await writeKeyFile(file, "test", newKey());
    await writeFile(file, "nothing of use");
    await expect(readKeyFile(file)).rejects.toThrow('has no line "key: ..."');
    await expect(provider.create(inputs())).rejects.toThrow('has no line "key: ..."');
  });

  test("remembers once that it was copied", async () => {
    await expect(confirmKeyFile(file, new Date())).rejects.toThrow("There is no key file");
    await writeKeyFile(file, "test", newKey());
    await confirmKeyFile(file, new Date("2026-11-23T10:00:00Z"));
    await confirmKeyFile(file, new Date("2026-11-24T10:00:00Z"));
    expect((await readKeyFile(file))?.confirmedAt).toBe("2026-11-23T10:00:00.000Z");
  });

  test("is still read after that where an editor had left out the end of its last line", async () => {
    const key = newKey();
    await writeKeyFile(file, "test", key);
    await writeFile(file, `key: ${key}`);
    await confirmKeyFile(file, new Date("2026-11-23T10:00:00Z"));
    expect(await readKeyFile(file)).toEqual({ key, confirmedAt: "2026-11-23T10:00:00.000Z" });
  });
});

describe("the key as a resource", () => {
  test("is made once; a file that is there is taken as it is, for a state that was lost", async () => {
    const first = await provider.create(inputs());
    const again = await provider.create(inputs({ mustExist: true }));
    expect(again.outs.key).toBe(first.outs.key);
    expect(first.id).toBe(keyName(first.outs.key));
  });

  test("is not made anew where the data comes from backups", async () => {
    await expect(provider.create(inputs({ mustExist: true }))).rejects.toThrow(`there is no key file ${file}`);
    expect(await readKeyFile(file)).toBeUndefined();
  });

  test("whose file was lost writes the same one again", async () => {
    const { id, outs } = await provider.create(inputs());
    expect(await provider.diff?.(id, outs, inputs())).toMatchObject({ changes: false });
    await rm(file);
    const seen = await provider.read?.(id, outs);
    expect(await provider.diff?.(id, seen?.props, inputs())).toMatchObject({ changes: true });
    const mended = await provider.update?.(id, seen?.props, inputs());
    expect((await readKeyFile(file))?.key).toBe(outs.key);
    expect(await provider.diff?.(id, mended?.outs, inputs())).toMatchObject({ changes: false });
  });

  test("finds another key in its file: says so, and keeps both", async () => {
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

  test("encrypts, and never drops what it could not archive", () => {
    expect(lines()).toEqual(expect.arrayContaining(["repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=k"]));
    expect(lines().join()).not.toContain("queue-max");
  });

  test("keeps by days, or by number", () => {
    expect(lines()).toEqual(expect.arrayContaining(["repo1-retention-full-type=time", "repo1-retention-full=14"]));
    expect(lines({ keepDays: 0 })).toEqual(
      expect.arrayContaining(["repo1-retention-full-type=count", "repo1-retention-full=3"]),
    );
  });

  test("compresses with the configured method", () => {
    expect(lines({ compression: "lz4" })).toEqual(expect.arrayContaining(["compress-type=lz4", "compress-level=1"]));
  });
});
