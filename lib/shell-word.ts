/**
 * A word as a shell takes it, for commands that people copy: quoted where it has to be. Pure.
 */
export const shellWord = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
