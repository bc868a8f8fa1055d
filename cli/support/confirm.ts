/** The question before something is replaced or deleted, the same for every subcommand. */
import { once } from "node:events";
import { createInterface } from "node:readline/promises";
import { Option } from "@commander-js/extra-typings";
import { UsageError } from "./errors.ts";

/** The option of a subcommand that asks. */
export const yesOption = () => new Option("-y, --yes", "do not ask; required where there is no terminal to ask on");

/**
 * Asks on the terminal whether to go on. The question is on standard error, so that standard output can be redirected.
 * @param yes the option --yes, which answers the question.
 * @param consequence what will be replaced or deleted, and what is kept: whole sentences.
 * @returns whether to go on. If not, the user has been told that nothing was changed.
 * @throws {UsageError} without --yes where there is no terminal.
 */
export async function confirm(yes: boolean | undefined, consequence: string): Promise<boolean> {
  if (yes) return true;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new UsageError(`${consequence} There is no terminal to ask on. To do it, add --yes.`);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C closes it, and leaves the question without an answer.
  const closed = once(terminal, "close").then(() => "");
  const answer = await Promise.race([terminal.question(`${consequence} Go on? [y/N] `).catch(() => ""), closed]);
  terminal.close();
  if (/^y(es)?$/i.test(answer.trim())) return true;
  console.error("Nothing was changed.");
  return false;
}
