/** What all subcommands have in common: their options, their examples, and how they are run. */
import { type CommandUnknownOpts, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { dockerHostOf, selectedStack } from "../../lib/stack.ts";
import { ExitError } from "./errors.ts";

/** How a subcommand tells things. */
export interface Telling {
  json: boolean;
  /** Tells what happens on the way: beside the result (standard error) where that is JSON. */
  say: (line: string) => void;
  /** Prints the result, in words or with --json as JSON. */
  print: (words: string, result: unknown) => void;
}

/** What the work of a subcommand on a stack is given besides its own arguments and options. */
export interface Invocation extends Telling {
  stack: string;
}

/** Refuses an option as another one's value, and an empty value. Parses the value of an option. */
export function value(text: string): string {
  if (text === "" || text.startsWith("--")) throw new InvalidArgumentError("A value is missing.");
  return text;
}

/** The options that every subcommand takes, at each level: `./db --stack neon status` and `./db status --stack neon`. */
export function addCommonOptions(command: CommandUnknownOpts): void {
  command
    .helpOption("-h, --help", "show this help")
    .addOption(new Option("--stack <name>", "the stack; by default the one that Pulumi has selected").argParser(value))
    .option("--json", "print the result, and any error, as JSON");
}

/** The value of a common option, as the subcommand has it or the nearest command above it. */
function commonOption(command: CommandUnknownOpts | null, name: "stack" | "json"): unknown {
  for (let each = command; each; each = each.parent as CommandUnknownOpts | null) {
    const found = each.getOptionValue(name);
    if (found !== undefined) return found;
  }
  return undefined;
}

function tellingOf(command: CommandUnknownOpts): Telling {
  const json = commonOption(command, "json") === true;
  return {
    json,
    say: json ? console.error : console.log,
    print: (words, result) => console.log(json ? JSON.stringify(result, null, 2) : words),
  };
}

/** Makes the action of a subcommand that needs no stack; otherwise as onStack. */
export function withoutStack<Args extends unknown[]>(
  work: (telling: Telling, ...args: Args) => Promise<number>,
): (...args: Args) => Promise<void> {
  return async (...args) => {
    process.exitCode = await work(tellingOf(args.at(-1) as CommandUnknownOpts), ...args);
  };
}

/** How a subcommand's work is run. */
interface RunOptions {
  /** Exit code for an error; 1 by default. */
  errorCode?: number;
}

/**
 * Makes the action of a subcommand that works on a stack.
 * @param work is given the invocation, then what commander gives an action: arguments, options, command. Returns the exit code.
 */
export function onStack<Args extends unknown[]>(
  work: (invocation: Invocation, ...args: Args) => Promise<number>,
  { errorCode = 1 }: RunOptions = {},
): (...args: Args) => Promise<void> {
  return async (...args) => {
    const command = args.at(-1) as CommandUnknownOpts;
    try {
      const stack = (commonOption(command, "stack") as string | undefined) ?? (await selectedStack());
      // The docker commands of this process, and of those that it starts, go to the stack's engine.
      const engine = await dockerHostOf(stack);
      if (engine !== undefined) process.env.DOCKER_HOST = engine;
      process.exitCode = await work({ stack, ...tellingOf(command) }, ...args);
    } catch (error) {
      if (errorCode === 1 || error instanceof ExitError) throw error;
      throw new ExitError((error as Error).message, errorCode, { cause: error });
    }
  };
}

/** Adds examples to a command's help: what is typed, and what it does. */
export function addExamples(command: CommandUnknownOpts, examples: Readonly<Record<string, string>>): void {
  const typed = Object.keys(examples).map((call) => `./db ${call}`);
  const width = Math.max(...typed.map((call) => call.length));
  const lines = Object.values(examples).map((meaning, i) => `  ${typed[i]?.padEnd(width)}  ${meaning}`);
  command.addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}

/** Tells what a long subcommand is at, each line with the seconds since it began, beside its result (standard error). */
export function steps(): (line: string) => void {
  const begun = Date.now();
  return (line) => console.error(`  ${String(Math.round((Date.now() - begun) / 1000)).padStart(4)} s  ${line}`);
}

/** For work that goes on without the program: on Ctrl-C it says so and ends. */
export function tellWhoLeaves(words: string): void {
  process.once("SIGINT", () => {
    console.error(`\n${words}`);
    process.exit(130);
  });
}
