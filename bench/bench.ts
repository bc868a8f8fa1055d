/** `npm run bench`: measures this project against the usual alternatives, and writes bench/RESULTS.md. */
import { parseArgs } from "node:util";
import { benchApplication } from "./application.ts";
import { benchBackups } from "./backups.ts";
import { benchImport } from "./import.ts";
import { benchPooler } from "./pooler.ts";
import { benchQuery } from "./query.ts";
import { benchReplicas } from "./replicas.ts";
import { type Section, writeResults } from "./results.ts";
import { benchUp } from "./up.ts";

type Bench = (options: { rounds: number; scale: number }) => Promise<Section | Section[]> | AsyncIterable<Section>;

const BENCHES: Record<string, Bench> = {
  up: benchUp,
  application: benchApplication,
  query: benchQuery,
  pooler: benchPooler,
  import: benchImport,
  backups: benchBackups,
  replicas: benchReplicas,
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

Measures this project against the usual alternatives in alternating rounds on this machine, and writes bench/RESULTS.md.
Run script/bootstrap compose migrations pooler first. pgcopydb is measured if it is installed. --scale sets the size of the data:
1 is 2 GB for the import and 1 GB for backups and replicas.`);
  process.exit(unknown.length > 0 ? 2 : 0);
}

const chosen = positionals.length > 0 ? positionals : Object.keys(BENCHES);
for (const name of chosen) {
  console.log(`bench: ${name}`);
  const measured = BENCHES[name]?.({ rounds: Number(values.rounds), scale: Number(values.scale) }) ?? [];
  // Each section is written at once, so that a later failure does not lose half an hour of measurements.
  if (Symbol.asyncIterator in measured) for await (const section of measured) await writeResults([section]);
  else await writeResults([await measured].flat());
}
console.log("bench: written to bench/RESULTS.md");
