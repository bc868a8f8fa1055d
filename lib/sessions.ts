/** Ends sessions, and runs statements in one transaction. */
import type pg from "pg";

/** Ends all sessions in the given databases except its own. Waits up to 5 seconds for each. */
export async function endSessions(client: pg.Client, ...databases: readonly string[]): Promise<void> {
  await client.query(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = ANY ($1) AND pid <> pg_backend_pid()",
    [databases],
  );
}

/** Runs statements in one transaction. */
export async function inTransaction(client: pg.Client, statements: readonly string[]): Promise<void> {
  try {
    await client.query(`BEGIN; ${statements.map((statement) => `${statement};`).join("\n")} COMMIT`);
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}
