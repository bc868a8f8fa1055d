/** A stack with backups and data worth keeping. Each file of the backups' tests has one of its own, so no file depends on another. */
import { afterAll, beforeAll } from "vitest";
import { keyFile, readKeyFile } from "../../components/backups/key-file.ts";
import { docker } from "../../lib/docker.ts";
import { BACKED_UP, BackedUp, until } from "./backed-up.ts";
import { TestStack } from "./test-stack.ts";

/** Whether the rarer faults are tested as well. */
export const ALL = process.env.BACKUPS === "all";

export const LEDGER_SETTINGS = {
  ...BACKED_UP,
  // The fewest that are possible: what is no longer needed goes at once, and nothing else.
  backupKeepDays: "0",
  backupKeepFulls: "2",
};

/** What a test file works with. */
export interface Ledger {
  stack: TestStack;
  backed: BackedUp;
  /** The key of the backups, as it was when the stack was made. */
  key: string;
}

/** Tables with an ordinary and an odd name, and databases with odd names, one of which an interrupted DROP DATABASE left. */
async function fill(stack: TestStack): Promise<void> {
  await stack.as("owner", (client) =>
    client.query(`
      CREATE TABLE ledger (n int PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
      CREATE TABLE "odd ""name" (x numeric, note text);
      INSERT INTO "odd ""name" SELECT i / 7.0, md5(i::text) FROM generate_series(1, 20000) i`),
  );
  await stack.as("superuser", async (client) => {
    for (const name of ["further", `"odd=name of 'one'"`, "half_dropped"])
      await client.query(`CREATE DATABASE ${name}`);
    await client.query("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_dropped'");
  });
  const worlds = "CREATE TABLE worlds AS SELECT 1 AS n";
  await docker(["exec", "-u", "postgres", stack.names.backups, "psql", "-d", "further", "-c", worlds]);
}

/**
 * Makes the stack before the first test of the file that calls this, and removes it after the last.
 * @param ready gets the stack once it has its data and its first full backup.
 */
export function withLedger(ready: (ledger: Ledger) => void): void {
  let stack: TestStack | undefined;
  beforeAll(async () => {
    stack = await TestStack.make(LEDGER_SETTINGS);
    const backed = new BackedUp(stack);
    await stack.up();
    const key = (await readKeyFile(keyFile(stack.name, stack.env)))?.key ?? "";
    await fill(stack);
    await until("the first full backup", async () => (await backed.report()).full.ok !== null, 120);
    ready({ stack, backed, key });
  });
  afterAll(() => stack?.end());
}
