/** What all commands have in common: their options, their help, and how they end. */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { dockerHostOf, selectedStack } from "../lib/stack.ts";

type Options = NonNullable<ParseArgsConfig["options"]>;
/** What the options say. */
export type Values = Record<string, string | boolean | undefined>;

/** What a command is given. */
export interface Invocation {
  stack: string;
  values: Values;
  /** What stands behind `--`, or where a command takes words, those words. */
  rest: string[];
}

/** A command: what it is for, what it takes, what it does. */
export interface Command {
  /** Shown by --help. */
  help: string;
  options?: Options;
  /** Whether words that are no options are welcome. */
  takesWords?: boolean;
  /** Exit code for an error; 1, if left out. */
  errorCode?: number;
  /** Returns the exit code. */
  run(invocation: Invocation): Promise<number>;
}

const COMMON = `
      --stack NAME  the stack; the one that Pulumi has selected, if left out
      --help        this text`;

/** Tells what a long command is at, each line with the seconds since it began, beside its result (standard error). */
export function steps(): (line: string) => void {
  const begun = Date.now();
  return (line) => console.error(`  ${String(Math.round((Date.now() - begun) / 1000)).padStart(4)} s  ${line}`);
}

/** For work that goes on without the command: whoever ends it with Ctrl-C is told. */
export function tellWhoLeaves(words: string): void {
  process.once("SIGINT", () => {
    console.error(`\n${words}`);
    process.exit(130);
  });
}

/**
 * Refuses options of which at most one makes sense.
 * @throws {Error} that names two of them.
 */
export function oneOf(values: Values, names: readonly string[]): string | undefined {
  const [first, second] = names.filter((name) => values[name] !== undefined && values[name] !== false);
  if (second) throw new Error(`--${first} and --${second} do not go together. See --help`);
  return first;
}

/** Runs a command and ends the process. An error is one line with its remedy, not a stack trace. */
export async function main({ help, options = {}, takesWords = false, errorCode = 1, run }: Command): Promise<never> {
  try {
    const { values, positionals } = parseArgs({
      options: { ...options, stack: { type: "string" }, help: { type: "boolean", short: "h" } },
      allowPositionals: takesWords,
    });
    if (values.help) {
      console.log(help.trim() + COMMON);
      process.exit(0);
    }
    const stack = typeof values.stack === "string" ? values.stack : await selectedStack();
    // The docker commands of this process, and of those that it starts, go to the stack's engine.
    const engine = await dockerHostOf(stack);
    if (engine !== undefined) process.env.DOCKER_HOST = engine;
    process.exit(await run({ stack, values: values as Values, rest: positionals }));
  } catch (error) {
    console.error(`error: ${(error as Error).message}`);
    process.exit(errorCode);
  }
}
