/**
 * Inserts a block of variables into an .env file and removes it again. Pure. The rest of the file stays byte for byte: a variable that
 * the block sets is moved into the block as a comment with its line number, and back to that line when the block is removed. The block
 * comes first, because references in an .env file resolve to the values above them.
 */
import { BYTE_ORDER_MARK, type Entry, entriesOf, valuesOf } from "./env-values.ts";

export { entriesOf, valuesOf } from "./env-values.ts";

/** The first line of the block begins with this. */
export const BLOCK_BEGIN = "# >>> sectorwars-database";
const END = "# <<< sectorwars-database";
const EXPLANATION = "# Written by pulumi up; pulumi destroy takes it out and puts back what it replaced.";
const WAS = "# was line ";
/** A marker of blocks at the end of a file, which earlier versions wrote. */
const NO_NEWLINE = "# the line before had no newline";
const NO_FILE = "# there was no such file";

/** A file's text without the block, and what the block contains. */
export interface FileWithoutBlock {
  /** The file without the block, with the variables that the block replaced. */
  text: string;
  /** The stack that the block belongs to; undefined if there is no block. */
  stack: string | undefined;
  /** Whether the hand-over created the file. */
  isOurs: boolean;
  /** The variables that the block sets. */
  ours: Record<string, string>;
}

/** Returns a replaced entry as a comment. An entry with several lines, or without a plain newline at its end, is written as JSON. */
function asComment(line: number, { text }: Entry): string {
  const isPlain = /^[^"\r\n][^\r\n]*\n$/.test(text);
  return isPlain ? `${WAS}${line}: ${text}` : `${WAS}${line}: ${JSON.stringify(text)}\n`;
}

function fromComment(comment: string): [number, string] {
  const [, line = "", rest = ""] = /^# was line (\d+): ([\s\S]*)$/.exec(comment) ?? [];
  return [Number(line), rest.startsWith('"') ? JSON.parse(rest) : rest];
}

/** Quotes a value so that every reader of .env files understands it the same way. */
function quote(key: string, value: string): string {
  if (/^[\w.:/@%+,=-]*$/.test(value)) return value;
  if (!/['\n]/.test(value)) return `'${value}'`;
  // Within double quotes, a $ begins a reference, and readers disagree on the meaning of a backslash.
  if (!/["\\$`\n]/.test(value)) return `"${value}"`;
  // The message omits the value, which may be a secret.
  throw new Error(
    `The value of ${key} cannot be written into an .env file: it contains a line break, or an apostrophe and one of " $ \\ \``,
  );
}

/** Splits a file's text into its byte order mark and the rest. */
const markAndRest = (text: string): [string, string] =>
  text.startsWith(BYTE_ORDER_MARK) ? [BYTE_ORDER_MARK, text.slice(1)] : ["", text];

/**
 * Removes the block.
 * @throws {Error} for a damaged block.
 */
export function removeBlock(whole: string): FileWithoutBlock {
  const [mark, text] = markAndRest(whole);
  const lines = text.split(/(?<=\n)/);
  const begin = lines.findIndex((line) => line.startsWith(BLOCK_BEGIN));
  const end = lines.findIndex((line) => line.startsWith(END));
  if (begin === -1 && end === -1) return { text: whole, stack: undefined, isOurs: false, ours: {} };
  const isSecond = lines.findIndex((line, i) => i > begin && line.startsWith(BLOCK_BEGIN)) !== -1;
  if (begin === -1 || end < begin || isSecond) {
    throw new Error(
      `has a damaged block: "${BLOCK_BEGIN}" ${begin === -1 ? "is missing" : `is in line ${begin + 1}`} and "${END}" ` +
        `${end === -1 ? "is missing" : `is in line ${end + 1}`}${isSecond ? ", and there is a second block" : ""}. Remove those lines by hand`,
    );
  }
  const block = lines.slice(begin + 1, end);
  let before = lines.slice(0, begin).join("");
  if (block.some((line) => line.startsWith(NO_NEWLINE))) before = before.replace(/\n$/, "");
  const entries = entriesOf(before + lines.slice(end + 1).join("")).map((entry) => entry.text);
  for (const comment of block.filter((line) => line.startsWith(WAS))) {
    const [line, was] = fromComment(comment);
    // The line numbers refer to the whole file and ascend, so the entries before each one are already restored.
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
export function assertOwnBlock(taken: FileWithoutBlock, stack: string): void {
  if (taken.stack === undefined || taken.stack === stack) return;
  throw new Error(
    `contains the block of the stack ${taken.stack}. Only one stack can hand over to a file: remove the other block (pulumi config rm ` +
      `handoverFolder --stack ${taken.stack}, then pulumi up --stack ${taken.stack}), or use another file: pulumi config set handoverFile ` +
      `.env.${stack} --stack ${stack}`,
  );
}

/**
 * Inserts the block at the beginning of the file, or replaces the existing one.
 * @param whole the file's text, or undefined if the file does not exist.
 * @param variables the variables that the block sets.
 * @throws {Error} for a damaged block, or a block of another stack.
 */
export function insertBlock(
  whole: string | undefined,
  stack: string,
  variables: Readonly<Record<string, string>>,
): string {
  const taken = removeBlock(whole ?? "");
  assertOwnBlock(taken, stack);
  const [mark, text] = markAndRest(taken.text);
  const replaced: string[] = [];
  const kept: string[] = [];
  entriesOf(text).forEach((entry, i) => {
    if (entry.key !== undefined && Object.hasOwn(variables, entry.key)) replaced.push(asComment(i + 1, entry));
    else kept.push(entry.text);
  });
  const isNewFile = whole === undefined || taken.isOurs;
  return [
    mark,
    `${BLOCK_BEGIN}: stack ${stack}\n${EXPLANATION}\n`,
    isNewFile ? `${NO_FILE}\n` : "",
    ...replaced,
    ...Object.entries(variables).map(([key, value]) => `${key}=${quote(key, value)}\n`),
    `${END}\n`,
    ...kept,
  ].join("");
}
