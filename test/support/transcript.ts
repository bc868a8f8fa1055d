/** Reads and compares pages that show commands with their output. Pure. */

/** A command of a page, and the output below it. */
export interface Shown {
  command: string;
  output: string;
}

/** Matches the `console` blocks of a page, in which each command follows a $. */
const BLOCK = /(?<=^```console\n)(.*?)(?=^```$)/gms;
const PROMPT = "$ ";
/** Stands for omitted lines. */
const GAP = "...";

function commandsOf(block: string): Shown[] {
  const shown: Shown[] = [];
  for (const line of block.split(/(?<=\n)/)) {
    const last = shown.at(-1);
    if (line.startsWith(PROMPT)) shown.push({ command: line.slice(PROMPT.length).trimEnd(), output: "" });
    else if (last) last.output += line;
  }
  return shown;
}

/** Returns the commands of a page in order, each with the output in the page. */
export const readTranscript = (page: string): Shown[] =>
  [...page.matchAll(BLOCK)].flatMap(([, block = ""]) => commandsOf(block));

/** Returns the page with new outputs, one for each of its commands. */
export function writeTranscript(page: string, outputs: readonly string[]): string {
  const left = [...outputs];
  const text = (command: string) => `${PROMPT}${command}\n${left.shift() ?? ""}`;
  return page.replaceAll(BLOCK, (block) =>
    commandsOf(block)
      .map(({ command }) => text(command))
      .join(""),
  );
}

/** Returns an output as a page shows it: without omitted lines, and without surrounding white space. */
export function abridged(output: string, omitted: readonly RegExp[]): string {
  const cut = omitted.reduce(
    (text, pattern) => text.replaceAll(pattern, `${GAP}\n`),
    output.replaceAll(/[ \t]+$/gm, ""),
  );
  const text = cut
    .replaceAll(/\n*^\.\.\.\n(\s*^\.\.\.\n)*\n*/gm, `\n${GAP}\n`)
    .replaceAll(/\n{3,}/g, "\n\n")
    .replaceAll(/^\n+|\n+$/g, "");
  return text === "" ? "" : `${text}\n`;
}

/** Returns an output with placeholders for values that differ between runs, and without column widths. */
export const normalized = (output: string, variable: readonly (readonly [RegExp, string])[]): string =>
  variable.reduce((text, [pattern, word]) => text.replaceAll(pattern, word), output).replaceAll(/ {2,}/g, "  ");
