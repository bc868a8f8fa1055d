/** `./db drill`: proves the newest backup by restoring it. */

import type { Command } from "@commander-js/extra-typings";
import { runNow } from "../components/backups/backup-container.ts";
import { namesFor } from "../lib/naming.ts";
import { onStack, steps, tellWhoLeaves } from "./support/subcommand.ts";

/** Adds what `./db drill` takes and does to its command. */
export default function drill(command: Command): void {
  command
    .description(
      "Checks the whole repository, restores the newest backup into a scratch server without network, runs pg_amcheck over all of it, " +
        "and compares every table with what the database held when the backup was made. Exits with 1 when anything differs.",
    )
    .action(
      onStack(async ({ stack, json, print }) => {
        tellWhoLeaves(`A drill that has begun goes on in ${namesFor(stack).backups}; ./db status tells how it ends.`);
        const run = await runNow(stack, "drill", steps());
        const as =
          run.compared === "present" ? "all as they are now (no record was made behind the backup)" : "all as recorded";
        const words = `${run.label}: ${run.tables} tables, ${run.rows?.toLocaleString("en")} rows, ${as}; ${run.seconds} s`;
        if (json || run.result === "ok") print(words, run);
        else console.error(`error: the drill failed: ${run.error}`);
        return run.result === "ok" ? 0 : 1;
      }),
    );
}
