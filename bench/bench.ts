/** `npm run bench`: figures side by side with what a user would pick instead, written to bench/RESULTS.md. */
import { parseArgs } from "node:util";
import { benchApplication } from "./application.ts";
import { benchBackups } from "./backups.ts";
import { benchImport } from "./import.ts";
import { benchQuery } from "./query.ts";
import { type Section, writeResults } from "./results.ts";
import { benchUp } from "./up.ts";

type Bench = (options: { rounds: number; scale: number }) => Promise<Section | Section[]> | AsyncIterable<Section>;

const BENCHES: Record<string, Bench> = {
  up: benchUp,
  application: benchApplication,
  query: benchQuery,
  import: benchImport,
  backups: benchBackups,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    scale: { type: "string", default: "1" },
    help: { type: "boolean", short: "h" },
  },
});
const unknown = positionals.filter((name) => !(name in BENCHES));
if (values.help || unknown.length > 0) {
  console.log(`usage: npm run bench [-- ${Object.keys(BENCHES).join("|")} ...] [--rounds 3] [--scale 1]

Measures, each against what one would use otherwise, in alternating rounds on this machine, and writes bench/RESULTS.md.
Needs what script/bootstrap compose migrations obtains; pgcopydb is measured where it is installed. --scale is the size of the data:
1 is about 2 GB for the import, 1 GB for backups.`);
  process.exit(unknown.length > 0 ? 2 : 0);
}

const chosen = positionals.length > 0 ? positionals : Object.keys(BENCHES);
for (const name of chosen) {
  console.log(`bench: ${name}`);
  const measured = BENCHES[name]?.({ rounds: Number(values.rounds), scale: Number(values.scale) }) ?? [];
  // Each as soon as it is there: what was measured in half an hour is not lost when the next fails.
  if (Symbol.asyncIterator in measured) for await (const section of measured) await writeResults([section]);
  else await writeResults([await measured].flat());
}
console.log("bench: written to bench/RESULTS.md");
