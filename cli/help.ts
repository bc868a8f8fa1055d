/** `./db help`: the same as --help. */
import type { Command } from "@commander-js/extra-typings";
import { makeProgram } from "./support/program.ts";

/** Configures the command `./db help`. */
export default function help(command: Command): void {
  command
    .description("Shows the help of ./db, or of a subcommand.")
    .argument("[subcommand...]", "the subcommand")
    .action(async (words) => {
      await makeProgram().parseAsync([...words, "--help"], { from: "user" });
    });
}
