/** `npm run bench`: figures side by side with what a user would pick instead, written to bench/RESULTS.md. */
import { parseArgs } from "node:util";
import { benchApplication } from "./application.ts";
import { benchBackups } from "./backups.ts";
import { benchImport } from "./import.ts";
import { benchQuery } from "./query.ts";
import { type Section, writeResults } from "./results.ts";
import { benchUp } from "./up.ts";

const BENCHES: Record<string, (options: { rounds: number; scale: number }) => Promise<Section | Section[]>> = {
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
const sections: Section[] = [];
for (const name of chosen) {
  console.log(`bench: ${name}`);
  const bench = BENCHES[name];
  if (bench) sections.push(...[await bench({ rounds: Number(values.rounds), scale: Number(values.scale) })].flat());
}
await writeResults(sections);
console.log("bench: written to bench/RESULTS.md");
