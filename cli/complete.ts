/** `./db complete -- WORDS`: prints the completions of the last word, one per line. The completion scripts call it. */
import type { Command } from "@commander-js/extra-typings";
import { candidatesFor } from "./support/candidates.ts";
import { load, makeProgram } from "./support/program.ts";

/** Configures the command `./db complete`. */
export default function complete(command: Command): void {
  command
    .description("Prints the completions of the last word, one per line, with a tab before the description.")
    .argument("[words...]", "the words typed so far; the last one is completed")
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (words) => {
      const candidates = await candidatesFor(makeProgram(), words, load);
      if (candidates.length > 0) console.log(candidates.map((candidate) => candidate.join("\t")).join("\n"));
    });
}
