/** The program behind ./db. Paths in the project are relative to its folder; paths that the user types, to the user's folder. */
import { resolve } from "node:path";
import { protectTerminal } from "../lib/terminal.ts";
import { fromCaller } from "./support/paths.ts";
import { runProgram } from "./support/program.ts";

protectTerminal();
// A reader that exits early, such as `head`, must not end a subcommand before its work is complete.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
}

const { NEON_ROOT_CERTIFICATES: roots } = process.env;
if (roots) process.env.NEON_ROOT_CERTIFICATES = fromCaller(roots);
process.chdir(resolve(import.meta.dirname, ".."));
process.exit(await runProgram(process.argv.slice(2)));
