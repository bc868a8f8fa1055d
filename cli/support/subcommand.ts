/** Options, examples and execution that all subcommands share. */
import { type CommandUnknownOpts, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { dockerHostOf, selectedStack } from "../../lib/stack.ts";
import { ExitError } from "./errors.ts";

/** The output of a subcommand. */
export interface Output {
  json: boolean;
  /** Prints a message, to standard error if the result is JSON. */
  say: (line: string) => void;
  /** Prints the result as text, or with --json as JSON. */
  print: (words: string, result: unknown) => void;
}

/** What a subcommand gets in addition to its own arguments and options. */
export interface Invocation extends Output {
  stack: string;
}

/** Rejects an empty value, and an option in place of a value. Parses the value of an option. */
export function value(text: string): string {
  if (text === "" || text.startsWith("--")) throw new InvalidArgumentError("A value is missing.");
  return text;
}

/** Adds the options that every command takes: `./db --stack neon status` and `./db status --stack neon`. */
export function addCommonOptions(command: CommandUnknownOpts): void {
  command
    .helpOption("-h, --help", "show this help")
    .addOption(new Option("--stack <name>", "the stack (default: the one that is selected in Pulumi)").argParser(value))
    .option("--json", "print the result, and any error, as JSON");
}

/** Returns the value of a common option of the subcommand or its nearest parent. */
function commonOption(command: CommandUnknownOpts | null, name: "stack" | "json"): unknown {
  for (let each = command; each; each = each.parent as CommandUnknownOpts | null) {
    const found = each.getOptionValue(name);
    if (found !== undefined) return found;
  }
  return undefined;
}

function outputOf(command: CommandUnknownOpts): Output {
  const json = commonOption(command, "json") === true;
  return {
    json,
    say: json ? console.error : console.log,
    print: (words, result) => console.log(json ? JSON.stringify(result, null, 2) : words),
  };
}

/** Creates the action of a subcommand that needs no stack. */
export function withoutStack<Args extends unknown[]>(
  work: (output: Output, ...args: Args) => Promise<number>,
): (...args: Args) => Promise<void> {
  return async (...args) => {
    process.exitCode = await work(outputOf(args.at(-1) as CommandUnknownOpts), ...args);
  };
}

/** Options of {@link onStack}. */
interface RunOptions {
  /** The exit code for an error; 1 by default. */
  errorCode?: number;
}

/**
 * Creates the action of a subcommand that works on a stack.
 * @param work gets the invocation and commander's parameters of an action: arguments, options, command. Returns the exit code.
 */
export function onStack<Args extends unknown[]>(
  work: (invocation: Invocation, ...args: Args) => Promise<number>,
  { errorCode = 1 }: RunOptions = {},
): (...args: Args) => Promise<void> {
  return async (...args) => {
    const command = args.at(-1) as CommandUnknownOpts;
    try {
      const stack = (commonOption(command, "stack") as string | undefined) ?? (await selectedStack());
      // All docker commands of this process and its children use the stack's engine.
      const engine = await dockerHostOf(stack);
      if (engine !== undefined) process.env.DOCKER_HOST = engine;
      process.exitCode = await work({ stack, ...outputOf(command) }, ...args);
    } catch (error) {
      if (errorCode === 1 || error instanceof ExitError) throw error;
      throw new ExitError((error as Error).message, errorCode, { cause: error });
    }
  };
}

/** Adds examples to a command's help. */
export function addExamples(command: CommandUnknownOpts, examples: Readonly<Record<string, string>>): void {
  const typed = Object.keys(examples).map((call) => `./db ${call}`);
  const width = Math.max(...typed.map((call) => call.length));
  const lines = Object.values(examples).map((meaning, i) => `  ${typed[i]?.padEnd(width)}  ${meaning}`);
  command.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}

/** Returns a function that prints progress to standard error, with the seconds since the start. */
export function steps(): (line: string) => void {
  const begun = Date.now();
  return (line) => console.error(`  ${String(Math.round((Date.now() - begun) / 1000)).padStart(4)} s  ${line}`);
}

/** Ends the program with a message on Ctrl-C, for work that continues without it. */
export function onInterrupt(words: string): void {
  process.once("SIGINT", () => {
    console.error(`\n${words}`);
    process.exit(130);
  });
}
