/**
 * Puts a block of variables into an .env file and takes it out again. Pure. What is not ours stays byte for byte: a variable
 * that the block sets is moved into it as a comment, with its place, and goes back there when the block goes.
 */

/** How the block begins. */
export const BLOCK_BEGIN = "# >>> sectorwars-database";
const END = "# <<< sectorwars-database";
const EXPLANATION = "# Written by pulumi up; pulumi destroy takes it out and puts back what it replaced.";
const WAS = "# was line ";
const NO_NEWLINE = "# the line before had no newline";
const NO_FILE = "# there was no such file";

/** A part of the file: a line, or several where a quoted value goes on over them. Its line ends belong to it. */
interface Entry {
  text: string;
  /** The variable that it sets. */
  key: string | undefined;
}

/** What the file holds of ours, and what it would be without. */
export interface Taken {
  /** The file without the block, with what the block replaced. */
  text: string;
  /** The stack whose block it was; undefined where there was none. */
  stack: string | undefined;
  /** Whether the file was made for the block. */
  isOurs: boolean;
  /** Values that the block replaced, by variable. */
  former: Record<string, string>;
  /** Values that the block sets, by variable. */
  ours: Record<string, string>;
}

const ASSIGNMENT = /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*/;

/** Cuts a file into its parts. The parts, put together again, are the file. */
export function entriesOf(text: string): Entry[] {
  const entries: Entry[] = [];
  for (let from = 0; from < text.length; ) {
    let to = lineEnd(text, from);
    const assignment = ASSIGNMENT.exec(text.slice(from, to));
    if (assignment !== null) to = Math.max(to, valueEnd(text, from + assignment[0].length));
    entries.push({ text: text.slice(from, to), key: assignment?.[1] });
    from = to;
  }
  return entries;
}

/** Where the line ends, its newline included. */
function lineEnd(text: string, from: number): number {
  const newline = text.indexOf("\n", from);
  return newline === -1 ? text.length : newline + 1;
}

/** Where the line ends in which a value does; a quote that is never closed is none. */
function valueEnd(text: string, from: number): number {
  const quote = text[from];
  if (quote !== '"' && quote !== "'") return 0;
  for (let at = from + 1; at < text.length; at += 1) {
    if (text[at] === "\\" && quote === '"') at += 1;
    else if (text[at] === quote) return lineEnd(text, at);
  }
  return 0;
}

/** The variables that a file sets, the last of a name, as every reader has it. */
export function valuesOf(text: string): Record<string, string> {
  const assigned = entriesOf(text).flatMap((entry) => (entry.key === undefined ? [] : [[entry.key, unquoted(entry)]]));
  return Object.fromEntries(assigned);
}

/** A value as it was meant: without its quotes. */
function unquoted(entry: Entry): string {
  const value = entry.text.replace(ASSIGNMENT, "").trim();
  const quoted = /^(["'])([\s\S]*)\1$/.exec(value);
  return quoted?.[2] ?? value.replace(/\s+#.*$/, "");
}

/** One replaced part as a comment. One of several lines, or with an unusual end, is written as JSON. */
function asComment(line: number, { text }: Entry): string {
  const isPlain = /^[^"\r\n][^\r\n]*\n$/.test(text);
  return isPlain ? `${WAS}${line}: ${text}` : `${WAS}${line}: ${JSON.stringify(text)}\n`;
}

function fromComment(comment: string): [number, string] {
  const [, line = "", rest = ""] = /^# was line (\d+): ([\s\S]*)$/.exec(comment) ?? [];
  return [Number(line), rest.startsWith('"') ? JSON.parse(rest) : rest];
}

/** A value that every reader of such files understands the same way. */
function quote(key: string, value: string): string {
  if (/^[\w.:/@%+,=-]*$/.test(value)) return value;
  if (!value.includes("'") && !value.includes("\n")) return `'${value}'`;
  // Its name alone: the value may be a secret.
  throw new Error(
    `The value of ${key} cannot be written into an .env file: it has a quote or a line break beside other signs`,
  );
}

/**
 * Takes the block out.
 * @throws {Error} for a block that somebody has damaged.
 */
export function takeOut(text: string): Taken {
  const lines = text.split(/(?<=\n)/);
  const begin = lines.findIndex((line) => line.startsWith(BLOCK_BEGIN));
  const end = lines.findIndex((line) => line.startsWith(END));
  if (begin === -1 && end === -1) return { text, stack: undefined, isOurs: false, former: {}, ours: {} };
  const isSecond = lines.findIndex((line, i) => i > begin && line.startsWith(BLOCK_BEGIN)) !== -1;
  if (begin === -1 || end < begin || isSecond) {
    throw new Error(
      `has a damaged block: "${BLOCK_BEGIN}" ${begin === -1 ? "is missing" : `stands in line ${begin + 1}`} and "${END}" ` +
        `${end === -1 ? "is missing" : `in line ${end + 1}`}${isSecond ? ", and there is a second one" : ""}. Remove those lines by hand`,
    );
  }
  const block = lines.slice(begin + 1, end);
  let before = lines.slice(0, begin).join("");
  if (block.some((line) => line.startsWith(NO_NEWLINE))) before = before.replace(/\n$/, "");
  const entries = entriesOf(before + lines.slice(end + 1).join("")).map((entry) => entry.text);
  const former: Record<string, string> = {};
  for (const comment of block.filter((line) => line.startsWith(WAS))) {
    const [line, was] = fromComment(comment);
    // The places are those in the whole file, told in order: each finds what stood before it already in its place.
    entries.splice(Math.min(line - 1, entries.length), 0, was);
    Object.assign(former, valuesOf(was));
  }
  return {
    text: entries.join(""),
    stack: /stack (\S+)/.exec(lines[begin] ?? "")?.[1],
    isOurs: block.some((line) => line.startsWith(NO_FILE)),
    former,
    ours: valuesOf(block.join("")),
  };
}

/** @throws {Error} for another stack's block. */
export function refuseOther(taken: Taken, stack: string): void {
  if (taken.stack === undefined || taken.stack === stack) return;
  throw new Error(
    `has the block of the stack ${taken.stack}. Two stacks cannot hand over to one file: take the other away (pulumi config rm ` +
      `application --stack ${taken.stack}, then pulumi up --stack ${taken.stack}), or name another file: pulumi config set handoverFile ` +
      `.env.${stack} --stack ${stack}`,
  );
}

/**
 * Puts the block in, at the end; one that is there already is replaced.
 * @param text the file, or undefined where there is none.
 * @param variables what the block sets.
 * @throws {Error} for a damaged block, and for one of another stack.
 */
export function putIn(text: string | undefined, stack: string, variables: Readonly<Record<string, string>>): string {
  const taken = takeOut(text ?? "");
  refuseOther(taken, stack);
  const entries = entriesOf(taken.text);
  const replaced: string[] = [];
  const kept: string[] = [];
  entries.forEach((entry, i) => {
    if (entry.key !== undefined && Object.hasOwn(variables, entry.key)) replaced.push(asComment(i + 1, entry));
    else kept.push(entry.text);
  });
  const rest = kept.join("");
  const isOpen = rest !== "" && !rest.endsWith("\n");
  const wasNone = text === undefined || taken.isOurs;
  return [
    rest,
    isOpen ? "\n" : "",
    `${BLOCK_BEGIN}: stack ${stack}\n${EXPLANATION}\n`,
    wasNone ? `${NO_FILE}\n` : "",
    isOpen ? `${NO_NEWLINE}\n` : "",
    ...replaced,
    ...Object.entries(variables).map(([key, value]) => `${key}=${quote(key, value)}\n`),
    `${END}\n`,
  ].join("");
}
