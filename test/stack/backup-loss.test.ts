/** The volume, the state, the key or the machine is lost. BACKUPS=all adds the rarer losses. */
import { rm } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { confirmRecoveryTarget } from "../../components/backups/confirm-target.ts";
import { keyFile, readKeyFile } from "../../components/backups/key-file.ts";
import { archiveEverything } from "../../components/backups/restore.ts";
import { docker } from "../../lib/docker.ts";
import { type BackedUp, until } from "../support/backed-up.ts";
import { ALL, LEDGER_SETTINGS, withLedger } from "../support/ledger.ts";
import type { TestStack } from "../support/test-stack.ts";

let stack: TestStack;
let backed: BackedUp;
let key: string;
withLedger((ledger) => {
  ({ stack, backed, key } = ledger);
});

/** Expects that every role can log in. */
async function expectLogins(): Promise<void> {
  for (const role of ["owner", "app", "readonly", "monitor"] as const)
    await stack.as(role, (client) => client.query("SELECT 1"));
}

test("a lost data volume is restored from the backups, and every role can still log in", async () => {
  await stack.as("owner", (client) => client.query("CREATE TABLE kept_words AS SELECT 'still here' AS said"));
  await stack.as("superuser", archiveEverything);
  await docker(["rm", "-f", stack.names.container, stack.names.backups]);
  await docker(["volume", "rm", stack.names.volume]);
  expect((await backed.command("doctor")).text).toContain("The backups exist, but pulumi destroy deletes them");
  const status = await backed.command("status");
  expect(status.code).toBe(1);
  expect(status.text).toContain(`There is no container ${stack.names.backups}. `);
  const lost = ["**Volume::*data", "**Container::*server", "**Container::backup*"];
  await stack.succeed("refresh", "--yes", ...lost.flatMap((urn) => ["--target", urn]), "--stack", stack.name);
  await stack.set("bootstrap", "backup");
  await stack.up();
  expect(await backed.value("SELECT said FROM kept_words")).toBe("still here");
  await expectLogins();
  await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);
  await backed.quiet();
  expect(await backed.succeed("drill")).toContain("all as recorded");
});

test("after the loss of the state, pulumi up adopts the volumes, including rows that were never archived", async () => {
  await stack.as("owner", (client) => client.query("CREATE TABLE never_archived AS SELECT 'here' AS said"));
  const { container, backups, network } = stack.names;
  await docker(["rm", "-f", container, backups]);
  await docker(["network", "rm", network]);
  await stack.loseState(LEDGER_SETTINGS);
  await stack.up();
  expect(await backed.value("SELECT said FROM never_archived")).toBe("here");
  await expectLogins();
  await stack.succeed("preview", "--expect-no-changes", "--stack", stack.name);
  await backed.quiet();
  expect(await backed.succeed("status")).not.toContain("TROUBLE");
});

test.runIf(ALL)(
  "after the loss of the state and the key, the data is kept, and backups start again with another key",
  async () => {
    await stack.as("owner", (client) => client.query("CREATE TABLE without_key AS SELECT 'here' AS said"));
    await rm(keyFile(stack.name, stack.env));
    const { container, backups, network, backupVolume, image } = stack.names;
    const moveAway = ["-c", "mv /b/repository /b/unreadable"];
    await docker(["run", "--rm", "-v", `${backupVolume}:/b`, "--entrypoint", "sh", `${image}:15`, ...moveAway]);
    await docker(["rm", "-f", container, backups]);
    await docker(["network", "rm", network]);
    await stack.loseState(LEDGER_SETTINGS);
    expect(await stack.upFails()).toContain("or start a new one: ./db backup --begin-anew");
    await backed.succeed("backup", "--begin-anew");
    await stack.up();
    expect((await readKeyFile(keyFile(stack.name, stack.env)))?.key).not.toBe(key);
    expect(await backed.value("SELECT said FROM without_key")).toBe("here");
    await backed.quiet();
    expect(await backed.succeed("drill")).toContain("all as recorded");
  },
);

describe("the machine is lost, but not the repository and the key", () => {
  test("a new stack is restored from them to the latest change, and makes backups again", async () => {
    await stack.as("owner", (client) => client.query("CREATE TABLE last_words AS SELECT 'all is well' AS said"));
    await backed.value("SELECT pg_switch_wal()::text");
    await until("the archive", async () => (await backed.report()).waiting === 0);
    const rows = await backed.value("SELECT count(*)::int FROM ledger");
    await docker(["rm", "-f", stack.names.container, stack.names.backups]);
    await docker(["volume", "rm", stack.names.volume, stack.names.socketVolume]);
    await docker(["network", "rm", stack.names.network]);
    await stack.loseState({ ...LEDGER_SETTINGS, bootstrap: "backup", ...(ALL ? { database: "misspelt" } : {}) });
    if (ALL) {
      expect(await stack.upFails()).toContain(
        "The backups contain no database misspelt, but further, odd=name of 'one', sectorwars_dev.",
      );
      await stack.unset("database");
    }
    await stack.up();
    expect(await backed.value("SELECT said FROM last_words")).toBe("all is well");
    expect(await backed.value("SELECT count(*)::int FROM ledger")).toBe(rows);
    await expectLogins();
    if (ALL) await stack.up("--expect-no-changes");
    // The full backup of the new timeline is automatic.
    await backed.quiet();
    expect(await backed.result("drill")).toMatchObject({ result: "ok" });
  });

  test.runIf(ALL)(
    "backupKeepOnDestroy keeps the backups, from which a time is restored, and which another cluster cannot use",
    async () => {
      const destroy = async () => {
        await stack.succeed("destroy", "--yes", "--skip-preview", "--stack", stack.name);
        expect(await stack.leftovers()).toEqual([`volume ${stack.names.backupVolume}`]);
      };
      await stack.set("backupKeepOnDestroy", "true");
      await stack.up();
      const point = await stack.as("superuser", (client) => confirmRecoveryTarget(stack.name, client));
      await stack.as("owner", (client) => client.query("CREATE TABLE too_late ()"));
      await stack.as("superuser", archiveEverything);
      await destroy();
      await stack.set("backupRecoverTo", point?.at ?? "");
      await stack.up();
      expect(await backed.value("SELECT said FROM last_words")).toBe("all is well");
      expect(await backed.value("SELECT to_regclass('too_late') IS NULL")).toBe(true);
      await destroy();
      await stack.set("bootstrap", "empty");
      expect(await stack.upFails()).toContain(
        "The repository contains backups of another database, and backups of two databases cannot share a repository.",
      );
      await stack.set("backupKeepOnDestroy", "false");
      await stack.pulumi("destroy", "--yes", "--skip-preview", "--stack", stack.name);
    },
  );
});
