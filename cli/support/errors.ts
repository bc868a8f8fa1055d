/** How a subcommand fails. */

/** Exit code of a wrong call: a missing or unknown subcommand, option, argument or stack. */
export const USAGE = 2;

/** An error that ends the program with a certain exit code. */
export class ExitError extends Error {
  override readonly name: string = "ExitError";
  readonly exitCode: number;

  constructor(message: string, exitCode: number, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** A call that cannot be carried out as it was typed. */
export class UsageError extends ExitError {
  override readonly name = "UsageError";

  constructor(message: string, options?: ErrorOptions) {
    super(message, USAGE, options);
  }
}
