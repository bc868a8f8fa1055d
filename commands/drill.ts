/** `npm run drill`: proves the newest backup by restoring it. */
import { runNow } from "../components/backups/console.ts";
import { namesFor } from "../components/server/naming.ts";
import { main, steps, tellWhoLeaves } from "./cli.ts";

await main({
  help: `
usage: npm run drill [-- --json] [--stack NAME]

Checks the whole repository, restores the newest backup into a throw-away server without network, runs pg_amcheck over all
of it, and compares every table with what the database held when the backup was made. Exits with 1 when anything differs.

      --json        the result, for machines`,
  options: { json: { type: "boolean" } },
  async run({ stack, values }) {
    tellWhoLeaves(`The drill goes on in ${namesFor(stack).backups}; npm run status tells how it ends.`);
    const run = await runNow(stack, "drill", steps());
    if (values.json) console.log(JSON.stringify(run, null, 2));
    else if (run.result === "ok") {
      const as =
        run.compared === "present" ? "all as they are now (no record was made behind the backup)" : "all as recorded";
      console.log(
        `${run.label}: ${run.tables} tables, ${run.rows?.toLocaleString("en")} rows, ${as}; ${run.seconds} s`,
      );
    } else console.error(`error: the drill failed: ${run.error}`);
    return run.result === "ok" ? 0 : 1;
  },
});
