/** Reads .env files as docker compose does: quotes, escapes, comments, and references to the variables above. Pure. */

/** One entry of the file: a line, or all lines of a quoted value, including their newlines. */
export interface Entry {
  text: string;
  /** The variable that the entry sets. */
  key: string | undefined;
}

/** The byte order mark that some editors write at the beginning. It is part of no line. */
export const BYTE_ORDER_MARK = "\uFEFF";

/** Compose accepts a colon as an equals sign. */
const ASSIGNMENT = /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*[=:][ \t]*/;

/** Splits a file into its entries. Joined again, they are the file. */
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

/** Returns the index after the line's newline. */
function lineEnd(text: string, from: number): number {
  const newline = text.indexOf("\n", from);
  return newline === -1 ? text.length : newline + 1;
}

/** Returns the index after the line on which a quoted value ends, or 0 if the quote is not closed. */
function valueEnd(text: string, from: number): number {
  const close = closingQuote(text, from);
  return close === -1 ? 0 : lineEnd(text, close);
}

/** Returns the index of the quote that closes the one at `from`, or -1. */
function closingQuote(text: string, from: number): number {
  const quote = text[from];
  if (quote !== '"' && quote !== "'") return -1;
  for (let at = from + 1; at < text.length; at += 1) {
    if (text[at] === "\\" && quote === '"') at += 1;
    else if (text[at] === quote) return at;
  }
  return -1;
}

/** `$$`, `$NAME`, `${NAME}`, `${NAME:-default}` and the other operators; a default cannot contain a reference with braces. */
const REFERENCE = /\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+?])([^}]*))?\})/g;

/** Resolves references. A variable that is not set is empty. */
function expand(value: string, lookup: (name: string) => string | undefined): string {
  return value.replaceAll(REFERENCE, (all, plain?: string, braced?: string, operator?: string, operand = "") => {
    if (all === "$$") return "$";
    const found = lookup(plain ?? braced ?? "");
    const isThere = operator?.startsWith(":") ? Boolean(found) : found !== undefined;
    if (operator?.endsWith("-")) return isThere ? (found ?? "") : expand(operand, lookup);
    if (operator?.endsWith("+")) return isThere ? expand(operand, lookup) : "";
    return found ?? "";
  });
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", $: "$$" };

/** Returns the value of an entry, with its references resolved. */
function valueIn({ text }: Entry, lookup: (name: string) => string | undefined): string {
  const written = text.replace(ASSIGNMENT, "");
  const close = closingQuote(written, 0);
  if (close === -1) return expand(written.split("\n")[0]?.split(" #")[0]?.trim() ?? "", lookup);
  const inner = written.slice(1, close);
  if (written.startsWith("'")) return inner;
  return expand(
    inner.replaceAll(/\\([nrt"\\$])/g, (_all, sign: string) => ESCAPES[sign] ?? sign),
    lookup,
  );
}

/**
 * Returns the variables that a file sets. If it sets one twice, the last value counts.
 * @param environment variables that references find before those of the file.
 */
export function valuesOf(text: string, environment: NodeJS.ProcessEnv = {}): Record<string, string> {
  const values: Record<string, string> = {};
  for (const entry of entriesOf(text.replace(BYTE_ORDER_MARK, ""))) {
    if (entry.key === undefined) continue;
    values[entry.key] = valueIn(entry, (name) => environment[name] ?? values[name]);
  }
  return values;
}
