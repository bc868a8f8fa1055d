/**
 * Puts a block of variables into an .env file and takes it out again. Pure. What is not ours stays byte for byte: a variable
 * that the block sets is moved into it as a comment, with its place, and goes back there when the block goes. The block comes
 * first, so that references to its variables, which resolve to what stands above them, find the new values.
 */
import { BYTE_ORDER_MARK, type Entry, entriesOf, valuesOf } from "./env-values.ts";

export { entriesOf, valuesOf } from "./env-values.ts";

/** How the block begins. */
export const BLOCK_BEGIN = "# >>> sectorwars-database";
const END = "# <<< sectorwars-database";
const EXPLANATION = "# Written by pulumi up; pulumi destroy takes it out and puts back what it replaced.";
const WAS = "# was line ";
/** Of blocks that stand at a file's end, as they did once. */
const NO_NEWLINE = "# the line before had no newline";
const NO_FILE = "# there was no such file";

/** What the file holds of ours, and what it would be without. */
export interface Taken {
  /** The file without the block, with what the block replaced. */
  text: string;
  /** The stack whose block it was; undefined where there was none. */
  stack: string | undefined;
  /** Whether the file was made for the block. */
  isOurs: boolean;
  /** Values that the block sets, by variable. */
  ours: Record<string, string>;
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
  if (!/['\n]/.test(value)) return `'${value}'`;
  // Between these, a $ begins a reference, and what a backslash means is up to the reader.
  if (!/["\\$`\n]/.test(value)) return `"${value}"`;
  // Its name alone: the value may be a secret.
  throw new Error(
    `The value of ${key} cannot be written into an .env file: it has a line break, or an apostrophe beside one of " $ \\ \``,
  );
}

/** A file's byte order mark, and what follows it. */
const markAndRest = (text: string): [string, string] =>
  text.startsWith(BYTE_ORDER_MARK) ? [BYTE_ORDER_MARK, text.slice(1)] : ["", text];

/**
 * Takes the block out.
 * @throws {Error} for a block that somebody has damaged.
 */
export function takeOut(whole: string): Taken {
  const [mark, text] = markAndRest(whole);
  const lines = text.split(/(?<=\n)/);
  const begin = lines.findIndex((line) => line.startsWith(BLOCK_BEGIN));
  const end = lines.findIndex((line) => line.startsWith(END));
  if (begin === -1 && end === -1) return { text: whole, stack: undefined, isOurs: false, ours: {} };
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
  for (const comment of block.filter((line) => line.startsWith(WAS))) {
    const [line, was] = fromComment(comment);
    // The places are those in the whole file, told in order: each finds what stood before it already in its place.
    entries.splice(Math.min(line - 1, entries.length), 0, was);
  }
  return {
    text: mark + entries.join(""),
    stack: /stack (\S+)/.exec(lines[begin] ?? "")?.[1],
    isOurs: block.some((line) => line.startsWith(NO_FILE)),
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
 * Puts the block in, before everything else; one that is there already is replaced.
 * @param whole the file, or undefined where there is none.
 * @param variables what the block sets.
 * @throws {Error} for a damaged block, and for one of another stack.
 */
export function putIn(whole: string | undefined, stack: string, variables: Readonly<Record<string, string>>): string {
  const taken = takeOut(whole ?? "");
  refuseOther(taken, stack);
  const [mark, text] = markAndRest(taken.text);
  const replaced: string[] = [];
  const kept: string[] = [];
  entriesOf(text).forEach((entry, i) => {
    if (entry.key !== undefined && Object.hasOwn(variables, entry.key)) replaced.push(asComment(i + 1, entry));
    else kept.push(entry.text);
  });
  const wasNone = whole === undefined || taken.isOurs;
  return [
    mark,
    `${BLOCK_BEGIN}: stack ${stack}\n${EXPLANATION}\n`,
    wasNone ? `${NO_FILE}\n` : "",
    ...replaced,
    ...Object.entries(variables).map(([key, value]) => `${key}=${quote(key, value)}\n`),
    `${END}\n`,
    ...kept,
  ].join("");
}
