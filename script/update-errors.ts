/** For script/up: prints the causes of a failed update again, which are hard to find in Pulumi's output. */
import { readFile } from "node:fs/promises";
import { updateErrors } from "../lib/update-errors.ts";

for (const message of updateErrors(await readFile(process.argv[2] ?? "", "utf8").catch(() => ""))) {
  console.error(`error: ${message}`);
}
