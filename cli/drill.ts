/** `./db drill`: proves that the newest backup can be restored. */

import type { Command } from "@commander-js/extra-typings";
import { runNow } from "../components/backups/backup-container.ts";
import { namesFor } from "../lib/naming.ts";
import { onInterrupt, onStack, steps } from "./support/subcommand.ts";

/** Configures the command `./db drill`. */
export default function drill(command: Command): void {
  command
    .description(
      "Checks the whole repository, restores the newest backup into a scratch server without network, runs pg_amcheck on all of it, " +
        "and compares every table with the database at the time of the backup. Exits with 1 if anything differs.",
    )
    .action(
      onStack(async ({ stack, json, print }) => {
        onInterrupt(`A running drill continues in ${namesFor(stack).backups}; ./db status shows its result.`);
        const run = await runNow(stack, "drill", steps());
        const as =
          run.compared === "present"
            ? "all equal to the current ones (no fingerprints were recorded with the backup)"
            : "all as recorded";
        const words = `${run.label}: ${run.tables} tables, ${run.rows?.toLocaleString("en")} rows, ${as}; ${run.seconds} s`;
        if (json || run.result === "ok") print(words, run);
        else console.error(`error: the drill failed: ${run.error}`);
        return run.result === "ok" ? 0 : 1;
      }),
    );
}
