/** Puts ./db together on commander, runs what was typed, and tells errors. */
import { styleText } from "node:util";
import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { NoSuchStackError } from "../../lib/stack.ts";
import { SUBCOMMANDS } from "../subcommands.ts";
import { ExitError, USAGE, UsageError } from "./errors.ts";
import { knownStacks } from "./known-stacks.ts";
import { addCommonOptions, addExamples } from "./subcommand.ts";

const heading = (title: string) => styleText("bold", title, { stream: process.stdout });

/** Loads a subcommand: its options, arguments and action. Those below it come with it, and have the common options, too. */
export async function load(command: CommandUnknownOpts): Promise<void> {
  if (command.parent?.parent) return;
  const found = SUBCOMMANDS.find(({ name }) => name === command.name());
  if (found === undefined) return;
  addCommonOptions(command);
  // It has no arguments and options yet.
  (await found.load()).default(command as Command);
  if (command.commands.length > 0) command.helpCommand("help [subcommand]", "show the help of a subcommand");
  for (const below of command.commands) addCommonOptions(below);
}

/** The program with the names of all subcommands. Only the subcommand that is called gets loaded: the program starts in no time. */
export function makeProgram(): CommandUnknownOpts {
  const program: CommandUnknownOpts = new Command("./db")
    .usage("SUBCOMMAND [options]")
    .description(
      "Everything about the local Sectorwars database: how it is, connecting, the import and its proof, experiments, backups. " +
        "`script/up` makes it.",
    )
    // Options behind a subcommand's name are the subcommand's; psql gets its own unchanged.
    .enablePositionalOptions()
    .exitOverride()
    // runProgram() tells errors, in one place.
    .configureOutput({ outputError: () => {} })
    .configureHelp({ styleTitle: heading })
    .helpCommand(false);
  addCommonOptions(program);
  for (const { name, group, summary } of SUBCOMMANDS) {
    program
      .command(name, { hidden: group === undefined })
      .summary(summary)
      .description(summary)
      .helpGroup(`${group}:`);
  }
  addExamples(program, {
    status: "how the database is",
    "psql --role readonly": "a prompt as sectorwars_readonly",
    "snapshot save before-the-battle": "saves the whole database in seconds",
    'restore --to "10 minutes ago"': "the database as it was",
    "help snapshot save": "what a subcommand takes",
  });
  program.hook("preSubcommand", (_program, command) => load(command as CommandUnknownOpts));
  return program;
}

/** The command that was typed, as far as it was recognised: where --help tells more. */
function typedCommand(program: CommandUnknownOpts, words: readonly string[]): CommandUnknownOpts {
  return words.reduce((command, word) => command.commands.find((each) => each.name() === word) ?? command, program);
}

/** A command's name with those above it, as it is typed. */
function fullName(command: CommandUnknownOpts): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name();
}

/** What commander says of a call that it cannot parse, in better words where it has none. */
function parseMessage(error: CommanderError, typed: CommandUnknownOpts): string {
  // Commander has shown the help of a command that lacks its subcommand.
  if (error.code === "commander.help") return "a subcommand is missing";
  // A group with a default subcommand takes a mistyped one for an argument.
  if (error.code === "commander.excessArguments" && typed.commands.length > 0) {
    return `unknown subcommand of ${fullName(typed)}. There are: ${typed.commands.map((below) => below.name()).join(", ")}`;
  }
  return error.message.replace(/^error: /, "");
}

/** The message of any error, with where to look for help, and the exit code. */
function explain(
  error: unknown,
  program: CommandUnknownOpts,
  words: readonly string[],
): { message: string; exitCode: number } {
  const typed = typedCommand(program, words);
  if (error instanceof CommanderError) {
    return { message: `${parseMessage(error, typed)}\nSee ${fullName(typed)} --help`, exitCode: USAGE };
  }
  const { message } = error as Error;
  if (error instanceof UsageError) return { message, exitCode: USAGE };
  if (error instanceof NoSuchStackError) {
    const stacks = knownStacks();
    return { message: stacks.length > 0 ? `${message}\nThere are: ${stacks.join(", ")}` : message, exitCode: USAGE };
  }
  return { message, exitCode: error instanceof ExitError ? error.exitCode : 1 };
}

/** Whether an error is wanted as JSON; known even where the rest of the line cannot be parsed. */
function wantsJson(words: readonly string[]): boolean {
  const end = words.indexOf("--");
  return words.slice(0, end < 0 ? undefined : end).includes("--json");
}

/**
 * Runs the program.
 * An error is told on standard error in words, with its remedy and without a stack trace; with --json also on standard output.
 * @param words what was typed behind ./db.
 * @returns the exit code: 0, 1 for a failure or a bad finding, 2 for a wrong call.
 */
export async function runProgram(words: readonly string[]): Promise<number> {
  const program = makeProgram();
  try {
    await program.parseAsync(words, { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const { message, exitCode } = explain(error, program, words);
    console.error(`error: ${message}`);
    if (wantsJson(words)) console.log(JSON.stringify({ error: message, exitCode }, null, 2));
    return exitCode;
  }
}
