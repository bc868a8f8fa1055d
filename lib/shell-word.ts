/**
 * Quotes a word for a shell if necessary, for commands that people copy. Pure.
 */
export const shellWord = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
