import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { hasEmptyPassphrase, passphraseProblems, productionWarnings, withProfile } from "../../components/profile.ts";
import { statementsFor } from "../../components/roles/role-timeouts-provider.ts";
import { timeoutsOf } from "../../components/roles/settings.ts";
import { listenProblems, reachedAt, type ServerValues, tlsOf } from "../../components/server/settings.ts";
import { SETTINGS } from "../../components/settings.ts";

const AUTO = {
  tls: "auto",
  backups: "auto",
  keepDataOnDestroy: "auto",
  protectData: "auto",
  logging: "auto",
  statementTimeout: "auto",
  lockTimeout: "auto",
  idleInTransactionTimeout: "auto",
};

describe("a profile", () => {
  test("chooses the defaults", () => {
    expect(withProfile({ profile: "development", ...AUTO })).toEqual({
      profile: "development",
      tls: "false",
      // It keeps its own meaning of auto.
      backups: "auto",
      keepDataOnDestroy: "false",
      protectData: "false",
      logging: "development",
      statementTimeout: "0",
      lockTimeout: "0",
      idleInTransactionTimeout: "0",
    });
    expect(withProfile({ profile: "production", ...AUTO })).toEqual({
      profile: "production",
      tls: "true",
      backups: "true",
      keepDataOnDestroy: "true",
      protectData: "true",
      logging: "production",
      statementTimeout: "60",
      lockTimeout: "10",
      idleInTransactionTimeout: "60",
    });
  });

  test.each(Object.keys(AUTO))("leaves %s if it is set", (key) => {
    const set = { profile: "production", ...AUTO, [key]: "false" };
    expect(withProfile(set)).toMatchObject({ [key]: "false" });
  });

  test("changes no other setting", () => {
    expect(withProfile({ profile: "production", dockerHost: "auto" })).toEqual({
      profile: "production",
      dockerHost: "auto",
    });
  });
});

/** As Pulumi wrote it for the passphrase "x". */
const OTHER_SALT = "v1:zO4UiWjvJ/A=:v1:sB7toUWUEbcKlJhf:Jiy16MIcqhi5m8z8JG1C4z3mx0wMIQ==";

describe("the passphrase", () => {
  test("of the stack dev is empty", () => {
    expect(hasEmptyPassphrase(readFileSync("Pulumi.dev.yaml", "utf8"))).toBe(true);
  });

  test("is not empty in a stack with another one, or with another secrets provider", () => {
    expect(hasEmptyPassphrase(`encryptionsalt: ${OTHER_SALT}\n`)).toBe(false);
    expect(hasEmptyPassphrase("secretsprovider: awskms://alias/x\nencryptedkey: abc\n")).toBe(false);
    expect(hasEmptyPassphrase("")).toBe(false);
  });

  test("must not be empty in production", () => {
    expect(passphraseProblems({ profile: "development" }, "dev", true)).toEqual([]);
    expect(passphraseProblems({ profile: "production" }, "live", false)).toEqual([]);
    expect(passphraseProblems({ profile: "production" }, "live", true)).toEqual([
      expect.stringContaining("pulumi stack change-secrets-provider passphrase --stack live"),
    ]);
  });
});

describe("a production stack", () => {
  const values = { profile: "production", backups: "true", backupRepository: "s3://bucket/folder" };

  test("gets no warning with backups elsewhere", () => {
    expect(productionWarnings(values)).toEqual([]);
    expect(productionWarnings({ ...values, profile: "development", backups: "false" })).toEqual([]);
  });

  test("is warned without backups, and with backups on the database's disk, each with the remedy", () => {
    expect(productionWarnings({ ...values, backups: "false" })).toEqual([
      expect.stringMatching(/^backups is "false".*pulumi config rm backups$/),
    ]);
    expect(productionWarnings({ ...values, backupRepository: "volume" })).toEqual([
      expect.stringMatching(/^backupRepository is "volume".*pulumi config set backupRepository/),
    ]);
  });
});

describe("listen", () => {
  const server = (more: Partial<ServerValues>) =>
    ({ listen: "127.0.0.1", tls: "false", certificateNames: [], certificateDays: 825, ...more }) as ServerValues;

  test("needs TLS for any address that other machines reach", () => {
    expect(listenProblems(server({}))).toEqual([]);
    expect(listenProblems(server({ listen: "192.0.2.7", tls: "true" }))).toEqual([]);
    for (const listen of ["192.0.2.7", "0.0.0.0"]) {
      const [problem] = listenProblems(server({ listen }));
      expect(problem).toContain(`listen is "${listen}" and tls is "false"`);
      expect(problem).toContain("pulumi config set tls true");
    }
  });

  test("all addresses include the loopback address, which our own connections use", () => {
    expect(reachedAt("0.0.0.0")).toBe("127.0.0.1");
    expect(reachedAt("192.0.2.7")).toBe("192.0.2.7");
    expect(tlsOf(server({ tls: "true", certificateNames: ["db.example.org"] }))).toEqual({
      names: ["db.example.org"],
      days: 825,
    });
  });
});

test("limits are settings of the role; 0 removes one", () => {
  const timeouts = timeoutsOf({ statementTimeout: "60", lockTimeout: "10", idleInTransactionTimeout: "0" });
  expect(statementsFor("the app", timeouts)).toEqual([
    `ALTER ROLE "the app" SET statement_timeout = '60000'`,
    `ALTER ROLE "the app" SET lock_timeout = '10000'`,
    `ALTER ROLE "the app" RESET idle_in_transaction_session_timeout`,
  ]);
});

test("the committed example names only settings that exist, and is a production stack", () => {
  const { config } = parse(readFileSync("Pulumi.production.yaml", "utf8"));
  const text = readFileSync("Pulumi.production.yaml", "utf8");
  const named = [...text.matchAll(/^ {2}(?:# )?sectorwars-database:(\w+):/gm)].map(([, key = ""]) => key);
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((key) => !Object.hasOwn(SETTINGS, key))).toEqual([]);
  expect(config["sectorwars-database:profile"]).toBe("production");
  expect(text).not.toMatch(/encryptionsalt|secure:/);
});
