/** `./db complete -- WORDS`: what the last of the words can become, a line each. Called by the completion scripts. */
import type { Command } from "@commander-js/extra-typings";
import { candidatesFor } from "./support/candidates.ts";
import { load, makeProgram } from "./support/program.ts";

/** Adds what `./db complete` takes and does to its command. */
export default function complete(command: Command): void {
  command
    .description("Prints what the last word can become: a line each, with a tab before its meaning.")
    .argument("[words...]", "what is typed so far; the last word is being completed")
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (words) => {
      const candidates = await candidatesFor(makeProgram(), words, load);
      if (candidates.length > 0) console.log(candidates.map((candidate) => candidate.join("\t")).join("\n"));
    });
}
