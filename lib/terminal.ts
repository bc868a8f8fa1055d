/** Keeps text that comes from a database from controlling the user's terminal. */

const ESCAPE = "\u001b";

/**
 * Control characters, with the rest of a colour (SGR) if one follows, and the characters that reorder text (Unicode Standard Annex 9), which
 * can make one name look like another.
 */
const UNSAFE = /(\p{Cc})(\[[\d;]*m)?|[\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Returns text with unsafe characters written as `\u001b`. In JSON, this is the same value. Kept are line breaks, tabs, colours, which this
 * program writes and which hide nothing, and a carriage return at the start, which rewrites a progress line.
 */
export const printable = (text: string): string =>
  text.replaceAll(UNSAFE, (found, control: string | undefined, colour: string | undefined, at: number) => {
    if (control === "\n" || control === "\t" || (control === "\r" && at === 0)) return found;
    if (control === ESCAPE && colour !== undefined) return found;
    return `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}${colour ?? ""}`;
  });

const safeStreams = new WeakSet<NodeJS.WriteStream>();

/** Makes everything that this process writes as text {@link printable}, for instance names of tables and messages of a server. */
export function protectTerminal(): void {
  for (const stream of [process.stdout, process.stderr]) {
    if (safeStreams.has(stream)) continue;
    safeStreams.add(stream);
    const write = stream.write.bind(stream) as (chunk: string | Uint8Array, ...rest: unknown[]) => boolean;
    stream.write = (chunk: string | Uint8Array, ...rest: unknown[]) =>
      write(typeof chunk === "string" ? printable(chunk) : chunk, ...rest);
  }
}
