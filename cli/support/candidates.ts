/** Computes completions of a command line from commander's description of the program. */
import type { CommandUnknownOpts, Option } from "@commander-js/extra-typings";
import { knownStacks } from "./known-stacks.ts";

/** A word, and its description. */
export type Candidate = readonly [word: string, meaning: string];

const plain = (words: readonly string[]): Candidate[] => words.map((word) => [word, ""]);

/** Returns the first sentence or clause, on one line. */
const brief = (text: string) => text.split(/[.:;(\n]/)[0]?.trim() ?? "";

/** Returns the option of a command or its parents that a word names. */
function optionOf(command: CommandUnknownOpts, word: string): Option | undefined {
  for (let each: CommandUnknownOpts | null = command; each; each = each.parent) {
    const found = each.options.find(({ long, short }) => word === long || word === short);
    if (found) return found;
  }
  return undefined;
}

const takesValue = (option: Option | undefined) => option?.required === true || option?.optional === true;

/** Returns the possible values of an option; an empty list if it takes any text. */
const valuesOf = (option: Option | undefined): Candidate[] =>
  option?.long === "--stack" ? plain(knownStacks()) : plain(option?.argChoices ?? []);

/** Returns the options that have not been typed yet. */
function optionsOf(command: CommandUnknownOpts, typed: readonly string[]): Candidate[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .filter(({ long, short }) => !typed.includes(long ?? "") && !typed.includes(short ?? ""))
    .map(({ long, short, description }): Candidate => [long ?? short ?? "", brief(description)]);
}

function subcommandsOf(command: CommandUnknownOpts): Candidate[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .map((below): Candidate => [below.name(), brief(below.summary() || below.description())]);
}

/** The position in the command line after the typed words. */
interface Place {
  command: CommandUnknownOpts;
  /** The number of arguments of that command that were typed. */
  operands: number;
  /** The option whose value comes next. */
  awaiting?: Option;
  /** Whether no more options can follow. */
  pastOptions: boolean;
}

async function follow(
  program: CommandUnknownOpts,
  words: readonly string[],
  load: (command: CommandUnknownOpts) => Promise<void>,
): Promise<Place> {
  const place: Place = { command: program, operands: 0, pastOptions: false };
  for (const word of words) {
    const { command, awaiting } = place;
    if (awaiting) {
      // bash splits --option=value into three words.
      if (word !== "=") place.awaiting = undefined;
      continue;
    }
    if (word === "--" || place.pastOptions) {
      place.pastOptions = true;
      continue;
    }
    if (word.startsWith("-")) {
      const option = optionOf(command, word);
      if (takesValue(option)) place.awaiting = option;
      continue;
    }
    const below = command.commands.find((each) => each.name() === word);
    if (below === undefined) {
      place.operands += 1;
      continue;
    }
    await load(below);
    place.command = below;
  }
  return place;
}

/**
 * Returns the completions of the last word. If it can be any text, such as a path, returns an empty list, and the shell completes files.
 * @param words all words after ./db; the last one is incomplete, and may be empty.
 * @param load adds options and arguments to a command.
 */
export async function candidatesFor(
  program: CommandUnknownOpts,
  words: readonly string[],
  load: (command: CommandUnknownOpts) => Promise<void>,
): Promise<Candidate[]> {
  const typed = words.slice(0, -1);
  const { command, operands, awaiting, pastOptions } = await follow(program, typed, load);
  const last = awaiting && words.at(-1) === "=" ? "" : (words.at(-1) ?? "");
  const matching = (candidates: readonly Candidate[]) => candidates.filter(([word]) => word.startsWith(last));
  if (awaiting) return matching(valuesOf(awaiting));
  if (pastOptions) return [];
  const [name = "", given] = last.split(/=(.*)/s);
  if (last.startsWith("--") && given !== undefined) {
    return valuesOf(optionOf(command, name))
      .filter(([word]) => word.startsWith(given))
      .map(([word, meaning]): Candidate => [`${name}=${word}`, meaning]);
  }
  if (last.startsWith("-")) return matching(optionsOf(command, typed));
  if (command.name() === "help") return matching(subcommandsOf(program));
  const argument = command.registeredArguments[operands];
  const below = operands === 0 ? subcommandsOf(command) : [];
  return matching([...below, ...plain(argument?.argChoices ?? [])]);
}
