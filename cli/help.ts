/** `./db help`: the same as --help, for those who type it first. */
import type { Command } from "@commander-js/extra-typings";
import { makeProgram } from "./support/program.ts";

/** Adds what `./db help` takes and does to its command. */
export default function help(command: Command): void {
  command
    .description("Shows the help of ./db, or of a subcommand.")
    .argument("[subcommand...]", "the subcommand, in all its words")
    .action(async (words) => {
      await makeProgram().parseAsync([...words, "--help"], { from: "user" });
    });
}
