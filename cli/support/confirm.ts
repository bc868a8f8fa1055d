/** Asks for confirmation before a subcommand replaces or deletes data. */
import { once } from "node:events";
import { createInterface } from "node:readline/promises";
import { Option } from "@commander-js/extra-typings";
import { UsageError } from "./errors.ts";

/** The option that confirms in advance. */
export const yesOption = () => new Option("-y, --yes", "do not ask for confirmation; required without a terminal");

/**
 * Asks on the terminal whether to continue. The question goes to standard error, so that standard output can be redirected.
 * @param yes the option --yes, which confirms in advance.
 * @param consequence whole sentences about what will be replaced or deleted, and what is kept.
 * @returns whether to continue. If not, the message "Nothing was changed." has been printed.
 * @throws {UsageError} without --yes if there is no terminal.
 */
export async function confirm(yes: boolean | undefined, consequence: string): Promise<boolean> {
  if (yes) return true;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new UsageError(`${consequence} There is no terminal to ask for confirmation. To confirm, add --yes.`);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Ctrl-C closes the interface, and the promise of question() never settles.
  const closed = once(terminal, "close").then(() => "");
  const answer = await Promise.race([terminal.question(`${consequence} Continue? [y/N] `).catch(() => ""), closed]);
  terminal.close();
  if (/^y(es)?$/i.test(answer.trim())) return true;
  console.error("Nothing was changed.");
  return false;
}
