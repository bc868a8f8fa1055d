/** `npm run psql`: a prompt on the database, as one of its roles. */
import { spawn } from "node:child_process";
import { PINNED_SETTINGS, startupOptions } from "../lib/session-settings.ts";
import { addressOf, readStack } from "../lib/stack.ts";
import { main } from "./cli.ts";

/** How values are shown stays the person's choice. */
const SUPERUSER_PROMPT = {
  search_path: PINNED_SETTINGS.search_path ?? "",
  role: "none",
  local_preload_libraries: "",
  standard_conforming_strings: "on",
  session_replication_role: "origin",
};

await main({
  help: `
usage: npm run psql [-- --role ROLE] [--stack NAME] [-- psql's own arguments]

Opens psql in the database's container. ROLE is owner (the default), app, readonly, monitor or superuser.

As the superuser, names are looked up in pg_catalog alone, whatever the database's settings say: write public.ships. Functions and
operators of the application then cannot stand in for PostgreSQL's own.

      --role ROLE   whom to be`,
  options: { role: { type: "string", default: "owner" } },
  takesWords: true,
  async run({ stack, values, rest }) {
    const outputs = await readStack(stack);
    const url = outputs.urls[String(values.role)];
    if (url === undefined) {
      throw new Error(`There is no role ${values.role}. Choose ${Object.keys(outputs.urls).join(", ")}.`);
    }
    const { user, password, database } = addressOf(url);
    // The variable goes by name; its value is in neither this command's arguments nor docker's.
    const terminal = process.stdin.isTTY ? ["-it"] : ["-i"];
    const child = spawn(
      "docker",
      [
        "exec",
        ...terminal,
        "-e",
        "PGPASSWORD",
        ...(values.role === "superuser" ? ["-e", `PGOPTIONS=${startupOptions(SUPERUSER_PROMPT)}`] : []),
        outputs.container,
        "psql",
        "-h",
        "127.0.0.1",
        "-U",
        user,
        "-d",
        database,
        ...rest,
      ],
      { stdio: "inherit", env: { ...process.env, PGPASSWORD: password } },
    );
    // Ctrl-C is psql's: it cancels the query.
    process.on("SIGINT", () => {});
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    child.on("error", () => reject(new Error("The docker command cannot be run; is Docker's command line installed?")));
    child.on("close", (code) => resolve(code ?? 1));
    return promise;
  },
});
