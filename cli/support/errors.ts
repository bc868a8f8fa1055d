/** Errors of subcommands. */

/** The exit code for a missing or unknown subcommand, option, argument or stack. */
export const USAGE = 2;

/** An error with an exit code. */
export class ExitError extends Error {
  override readonly name: string = "ExitError";
  readonly exitCode: number;

  constructor(message: string, exitCode: number, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** An invalid command line. */
export class UsageError extends ExitError {
  override readonly name = "UsageError";

  constructor(message: string, options?: ErrorOptions) {
    super(message, USAGE, options);
  }
}
