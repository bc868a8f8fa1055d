/** Extracts commands from pages of the documentation. Pure. */

/** A fenced block of a page. */
export interface CodeBlock {
  /** The word after the fence: sh, console, or nothing. */
  language: string;
  text: string;
}

/** Returns the fenced blocks of a page, in order. */
export const codeBlocks = (page: string): CodeBlock[] =>
  [...page.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = "", text = ""]) => ({ language, text }));

/** Returns the section under a heading, without its title, up to the next heading. */
export function sectionOf(page: string, heading: string): string {
  const [, text] = new RegExp(`^#+ ${RegExp.escape(heading)}\n(.*?)(?=^#|$(?![^]))`, "ms").exec(page) ?? [];
  if (text === undefined) throw new Error(`The page has no heading "${heading}"`);
  return text;
}

/** Returns the cells of a page's tables by row, without header rows and delimiter rows. */
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

/** Returns the texts between backticks. */
export const inlineCode = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code = ""]) => code);
