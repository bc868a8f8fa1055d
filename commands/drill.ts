/** `npm run drill`: proves the newest backup by restoring it. */
import { runNow } from "../components/backups/console.ts";
import { main } from "./cli.ts";

await main({
  help: `
usage: npm run drill [-- --json] [--stack NAME]

Checks the whole repository, restores the newest backup into a throw-away server without network, runs pg_amcheck over all
of it, and compares every table with what the database held when the backup was made. Exits with 1 when anything differs.

      --json        the result, for machines`,
  options: { json: { type: "boolean" } },
  async run({ stack, values }) {
    if (!values.json) console.log("The newest backup is being restored and compared ...");
    const run = await runNow(stack, "drill");
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
