/** What a page of the documentation tells its readers to type. Pure. */

/** A fenced block of a page. */
export interface CodeBlock {
  /** What follows the fence: sh, console, or nothing. */
  language: string;
  text: string;
}

/** Returns the fenced blocks of a page, in order. */
export const codeBlocks = (page: string): CodeBlock[] =>
  [...page.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = "", text = ""]) => ({ language, text }));

/** The section under a heading, without its title, up to the next heading. */
export function sectionOf(page: string, heading: string): string {
  const [, text] = new RegExp(`^#+ ${RegExp.escape(heading)}\n(.*?)(?=^#|$(?![^]))`, "ms").exec(page) ?? [];
  if (text === undefined) throw new Error(`The page has no heading "${heading}"`);
  return text;
}

/** The cells of a page's tables, row by row, without headings and rules. */
export const tableRows = (text: string): string[][] =>
  [...text.matchAll(/^\|[\s:|-]+\|\n((?:\|.*\|\n)*)/gm)].flatMap(([, rows = ""]) =>
    rows
      .trim()
      .split("\n")
      .map((row) =>
        row
          .slice(1, -1)
          .split("|")
          .map((cell) => cell.trim()),
      ),
  );

/** What stands between backticks. */
export const inlineCode = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code);
