import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { configuration } from "../../components/backups/configuration.ts";
import { readAccess } from "../../components/backups/s3.ts";
import type { BackupSettings, S3Settings } from "../../components/backups/settings.ts";

let folder: string;
let settings: S3Settings;
const PEM = "-----BEGIN CERTIFICATE-----\nMIIB\nabcd\n-----END CERTIFICATE-----\n";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sectorwars-s3-"));
  settings = {
    bucket: "game",
    path: "/backups",
    host: "s3.example.org",
    port: 9000,
    region: "us-east-1",
    authorityFile: join(folder, "authority.pem"),
    credentialsFile: join(folder, "s3.txt"),
  };
  await writeFile(join(folder, "authority.pem"), PEM);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const write = async (text: string, mode = 0o600) => {
  await rm(settings.credentialsFile, { force: true });
  await writeFile(settings.credentialsFile, text, { mode });
};

describe("a repository in S3", () => {
  test("is passed to pgBackRest with its port, path style, and certificate authority", async () => {
    await write("# of the backups\nkey: AKIA/1+\nsecret: s3cr3t/+=\n");
    const access = readAccess(settings);
    const s3 = { s3: settings, folder: undefined, keepDays: 14, compression: "zst" } as BackupSettings;
    const lines = configuration(s3, "k".repeat(64), access).split("\n");
    for (const line of [
      "repo1-type=s3",
      "repo1-path=/backups",
      "repo1-s3-bucket=game",
      "repo1-s3-endpoint=s3.example.org",
      "repo1-storage-port=9000",
      "repo1-s3-uri-style=path",
      "repo1-s3-key=AKIA/1+",
      "repo1-s3-key-secret=s3cr3t/+=",
      "repo1-storage-ca-file=/etc/pgbackrest/authority.pem",
      "repo1-cipher-type=aes-256-cbc",
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines.join("\n")).not.toMatch(/verify-tls/);
    const carried = lines.filter((line) => line.startsWith("# authority: ")).map((line) => line.slice(13));
    expect(`${carried.join("\n")}\n`).toBe(PEM);
    expect(configuration({ ...s3, s3: undefined }, "k".repeat(64))).not.toMatch(/repo1-type|authority/);
  });

  test.each([
    [
      "key: a\n",
      0o600,
      'does not contain the store\'s access key and its secret. Write two lines: "key: ..." and "secret: ..."',
    ],
    [
      "key: a\nsecret: b c\n",
      0o600,
      'does not contain the store\'s access key and its secret. Write two lines: "key: ..." and "secret: ..."',
    ],
    ["key: a\nsecret: b\n", 0o644, "is accessible to other users. Run: chmod 600"],
  ])("refuses the credentials %j with mode %o", async (text, mode, words) => {
    await write(text, mode);
    await chmod(settings.credentialsFile, mode);
    expect(() => readAccess(settings)).toThrow(words);
  });

  test("names missing or invalid files in errors, and no secret", async () => {
    await write("key: a\nsecret: hidden\n");
    expect(() => readAccess({ ...settings, credentialsFile: join(folder, "no") })).toThrow("two lines, key: ...");
    expect(() => readAccess({ ...settings, authorityFile: join(folder, "no") })).toThrow(/^backupS3Authority cannot/);
    expect(() => readAccess({ ...settings, authorityFile: settings.credentialsFile })).toThrow(
      /^backupS3Authority is .*, which contains no certificate in PEM format$/,
    );
  });
});
