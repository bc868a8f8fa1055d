/** Builds ./db with commander, runs it, and prints errors. */
import { styleText } from "node:util";
import { Command, CommanderError, type CommandUnknownOpts } from "@commander-js/extra-typings";
import { NoSuchStackError } from "../../lib/stack.ts";
import { SUBCOMMANDS } from "../subcommands.ts";
import { ExitError, USAGE, UsageError } from "./errors.ts";
import { knownStacks } from "./known-stacks.ts";
import { addCommonOptions, addExamples } from "./subcommand.ts";

const heading = (title: string) => styleText("bold", title, { stream: process.stdout });

/** Loads a subcommand with its options, arguments and action. Its own subcommands get the common options too. */
export async function load(command: CommandUnknownOpts): Promise<void> {
  if (command.parent?.parent) return;
  const found = SUBCOMMANDS.find(({ name }) => name === command.name());
  if (found === undefined) return;
  addCommonOptions(command);
  // The command has no arguments and options yet, so the type without any is correct.
  (await found.load()).default(command as Command);
  if (command.commands.length > 0) command.helpCommand("help [subcommand]", "show the help of a subcommand");
  for (const below of command.commands) addCommonOptions(below);
}

/** Returns the program with the names of all subcommands. Loads only the called subcommand, so that the program starts fast. */
export function makeProgram(): CommandUnknownOpts {
  const program: CommandUnknownOpts = new Command("./db")
    .usage("SUBCOMMAND [options]")
    .description(
      "Manages the local Sectorwars database: its state, connections, the import and its proof, experiments, backups. " +
        "`script/up` creates it.",
    )
    // Options after a subcommand's name belong to the subcommand; psql gets its own unchanged.
    .enablePositionalOptions()
    .exitOverride()
    // runProgram() prints all errors.
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
    status: "show the state of the database",
    "psql --role readonly": "open a prompt as sectorwars_readonly",
    "snapshot save before-the-battle": "save the whole database in seconds",
    'restore --to "10 minutes ago"': "restore the server to that time",
    "help snapshot save": "show the help of a subcommand",
  });
  program.hook("preSubcommand", (_program, command) => load(command as CommandUnknownOpts));
  return program;
}

/** Returns the recognized part of the typed command, for which --help exists. */
function typedCommand(program: CommandUnknownOpts, words: readonly string[]): CommandUnknownOpts {
  return words.reduce((command, word) => command.commands.find((each) => each.name() === word) ?? command, program);
}

/** Returns a command's name with those of its parents. */
function fullName(command: CommandUnknownOpts): string {
  return command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name();
}

/** Returns commander's message for an invalid command line, or a clearer one. */
function parseMessage(error: CommanderError, typed: CommandUnknownOpts): string {
  // Commander has already printed the help of a command that lacks its subcommand.
  if (error.code === "commander.help") return "a subcommand is missing";
  // A command with a default subcommand treats a mistyped subcommand as an argument.
  if (error.code === "commander.excessArguments" && typed.commands.length > 0) {
    return `unknown subcommand of ${fullName(typed)}. Its subcommands are: ${typed.commands.map((below) => below.name()).join(", ")}`;
  }
  return error.message.replace(/^error: /, "");
}

/** Returns the message of any error, with a reference to the help, and the exit code. */
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
    return {
      message: stacks.length > 0 ? `${message}\nExisting stacks: ${stacks.join(", ")}` : message,
      exitCode: USAGE,
    };
  }
  return { message, exitCode: error instanceof ExitError ? error.exitCode : 1 };
}

/** Returns whether --json was given, even if the command line is otherwise invalid. */
function wantsJson(words: readonly string[]): boolean {
  const end = words.indexOf("--");
  return words.slice(0, end < 0 ? undefined : end).includes("--json");
}

/**
 * Runs the program.
 * Prints an error to standard error, with its remedy and without a stack trace; with --json also as JSON to standard output.
 * @param words the words after ./db.
 * @returns the exit code: 0, 1 for a failure or a bad finding, 2 for an invalid command line.
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
