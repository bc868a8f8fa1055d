/** PostgreSQL's own programs in the server's container: their sessions are pinned as all others are. */
import { DUMP_SETTINGS, PINNED_SETTINGS, startupOptions } from "./session-settings.ts";

/** Programs that write what they read of a database, and choose its encoding themselves. */
type DumpProgram = "pg_dump" | "pg_dumpall";

/** How a program is run. */
export interface ProgramOptions {
  /** Whether it reads standard input. */
  input?: boolean;
}

/**
 * Arguments of the docker command that runs a program in a server's container, over the server's socket: there the operating
 * system's user is proof enough, so no password is needed.
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
