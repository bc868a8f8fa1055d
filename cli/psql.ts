/** `./db psql`: opens psql as one of the database's roles. */
import { spawn } from "node:child_process";
import type { Command } from "@commander-js/extra-typings";
import { AUTHORITY_INSIDE, libpqTls } from "../lib/server-tls.ts";
import { PINNED_SETTINGS, startupOptions } from "../lib/session-settings.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { roleOption, urlOf } from "./support/role-urls.ts";
import { addExamples, onStack } from "./support/subcommand.ts";

/** Settings for safety only: the user decides how values are displayed. */
const SUPERUSER_PROMPT = {
  search_path: PINNED_SETTINGS.search_path ?? "",
  role: "none",
  local_preload_libraries: "",
  standard_conforming_strings: "on",
  session_replication_role: "origin",
};

/** Runs psql in the database's container. Returns its exit code. */
function runPsql(
  { container, authority }: StackOutputs,
  role: string,
  url: string,
  psqlArguments: readonly string[],
): Promise<number> {
  const { user, password, database } = addressOf(url);
  // The arguments contain only the variable's name, so that ps does not show the password.
  const terminal = process.stdin.isTTY ? ["-it"] : ["-i"];
  const options = role === "superuser" ? ["-e", `PGOPTIONS=${startupOptions(SUPERUSER_PROMPT)}`] : [];
  // Without TLS, the connection inside the container needs none.
  const tls = authority === undefined ? {} : libpqTls(AUTHORITY_INSIDE);
  const verified = Object.entries(tls).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
  const login = ["-h", "127.0.0.1", "-U", user, "-d", database];
  const child = spawn(
    "docker",
    ["exec", ...terminal, "-e", "PGPASSWORD", ...options, ...verified, container, "psql", ...login, ...psqlArguments],
    { stdio: "inherit", env: { ...process.env, PGPASSWORD: password } },
  );
  // Ctrl-C is for psql, which cancels the query.
  process.on("SIGINT", () => {});
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on("error", () => reject(new Error("The docker command cannot be run. Install Docker's command line")));
  child.on("close", (code) => resolve(code ?? 1));
  return promise;
}

/** Configures the command `./db psql`. */
export default function psql(command: Command): void {
  command
    .description(
      "Opens psql in the database's container. All arguments after the options below are passed to psql unchanged.\n\n" +
        "For the superuser, the search path is only pg_catalog, whatever the database's settings are: write public.ships. " +
        "So functions and operators of the application cannot replace PostgreSQL's own.",
    )
    .usage("[--role ROLE] [--stack NAME] [psql's own arguments]")
    .addOption(roleOption("owner"))
    .argument("[arguments...]", "psql's own arguments")
    .allowUnknownOption()
    .passThroughOptions()
    .action(
      onStack(async ({ stack }, psqlArguments, { role }) => {
        const outputs = await readStack(stack);
        return runPsql(outputs, role, urlOf(outputs.urls, role), psqlArguments);
      }),
    );
  addExamples(command, {
    psql: "open a prompt as the owner",
    "psql --role readonly": "open a prompt that cannot write",
    'psql -Atc "SELECT count(*) FROM ships"': "print one value",
    "psql --single-transaction <players.sql": "run a file",
  });
}
