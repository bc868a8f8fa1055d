/** Exported PG* variables, such as those from Neon's console, do not affect the stack. */
import { afterAll, expect, test } from "vitest";
import { TestStack } from "../support/test-stack.ts";

const EXPORTED = {
  PGHOST: "ep-none.invalid",
  PGPORT: "1",
  PGDATABASE: "neondb",
  PGUSER: "neondb_owner",
  PGPASSWORD: "npg_other",
  PGSSLMODE: "require",
  PGCHANNELBINDING: "require",
  PGAPPNAME: "other",
  PGDATESTYLE: "SQL, DMY",
  PGTZ: "Asia/Tokyo",
  PGCONNECT_TIMEOUT: "1",
  PGSSLROOTCERT: "/nowhere",
  PGOPTIONS: "-c default_transaction_read_only=on",
  PGSERVICE: "other",
  PGSSLNEGOTIATION: "direct",
};

let stack: TestStack;
afterAll(() => stack?.end());

test("pulumi up works with PGHOST, PGDATABASE and other PG* variables exported, and changes nothing when run again", async () => {
  stack = await TestStack.make({ bootstrap: "empty", memory: "512", backups: "false" }, EXPORTED);
  await stack.up();
  expect((await stack.up()).text).toMatch(/Resources:\n +\d+ unchanged/);
  await stack.as("owner", (client) => client.query("CREATE TABLE ships (id int PRIMARY KEY)"));
});
