/** Runs PostgreSQL's programs in the server's container, with the same pinned settings as all other sessions. */
import { DUMP_SETTINGS, PINNED_SETTINGS, startupOptions } from "./session-settings.ts";

/** Programs that dump a database, and choose the encoding themselves. */
type DumpProgram = "pg_dump" | "pg_dumpall";

/** Options of {@link serverProgram}. */
export interface ProgramOptions {
  /** Whether the program reads standard input. */
  input?: boolean;
}

/**
 * Returns the arguments of the docker command that runs a program in a server's container, over the server's socket, where peer
 * authentication needs no password.
 */
export function serverProgram(
  container: string,
  program: "psql" | DumpProgram,
  args: readonly string[],
  { input = false }: ProgramOptions = {},
): string[] {
  const options = startupOptions(program === "psql" ? PINNED_SETTINGS : DUMP_SETTINGS);
  const plain = program === "psql" ? ["-X", "-q"] : [];
  return [
    ...["exec", ...(input ? ["-i"] : []), "-u", "postgres", "-e", `PGOPTIONS=${options}`],
    ...[container, program, ...plain, ...args],
  ];
}
