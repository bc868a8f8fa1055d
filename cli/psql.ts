/** `./db psql`: a prompt on the database, as one of its roles. */
import { spawn } from "node:child_process";
import type { Command } from "@commander-js/extra-typings";
import { PINNED_SETTINGS, startupOptions } from "../lib/session-settings.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { roleOption, urlOf } from "./support/role-urls.ts";
import { addExamples, onStack } from "./support/subcommand.ts";

/** How values are shown stays the person's choice. */
const SUPERUSER_PROMPT = {
  search_path: PINNED_SETTINGS.search_path ?? "",
  role: "none",
  local_preload_libraries: "",
  standard_conforming_strings: "on",
  session_replication_role: "origin",
};

/** Runs psql in the database's container; returns its exit code. */
function runPsql(
  { container }: StackOutputs,
  role: string,
  url: string,
  psqlArguments: readonly string[],
): Promise<number> {
  const { user, password, database } = addressOf(url);
  // The variable goes by name; its value is in neither this command's arguments nor docker's.
  const terminal = process.stdin.isTTY ? ["-it"] : ["-i"];
  const options = role === "superuser" ? ["-e", `PGOPTIONS=${startupOptions(SUPERUSER_PROMPT)}`] : [];
  const login = ["-h", "127.0.0.1", "-U", user, "-d", database];
  const child = spawn(
    "docker",
    ["exec", ...terminal, "-e", "PGPASSWORD", ...options, container, "psql", ...login, ...psqlArguments],
    { stdio: "inherit", env: { ...process.env, PGPASSWORD: password } },
  );
  // Ctrl-C is psql's: it cancels the query.
  process.on("SIGINT", () => {});
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on("error", () => reject(new Error("The docker command cannot be run; is Docker's command line installed?")));
  child.on("close", (code) => resolve(code ?? 1));
  return promise;
}

/** Adds what `./db psql` takes and does to its command. */
export default function psql(command: Command): void {
  command
    .description(
      "Opens psql in the database's container. Everything after the options below goes to psql unchanged.\n\n" +
        "As the superuser, names are looked up in pg_catalog alone, whatever the database's settings say: write public.ships. " +
        "Functions and operators of the application then cannot stand in for PostgreSQL's own.",
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
    psql: "a prompt as the owner",
    "psql --role readonly": "a prompt that cannot write",
    'psql -Atc "SELECT count(*) FROM ships"': "one value",
    "psql --single-transaction <players.sql": "runs a file",
  });
}
