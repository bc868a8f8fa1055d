/** Takes measurements and writes them to RESULTS.md. */
import { readFile, writeFile } from "node:fs/promises";
import { arch, cpus, type as osType, release, totalmem } from "node:os";

/** A section of RESULTS.md. It replaces the section with the same title. */
export interface Section {
  title: string;
  /** What was measured, in a few sentences. */
  about: string;
  table: string[][];
}

const FILE = "bench/RESULTS.md";

/** Returns the seconds that some work takes. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return (performance.now() - from) / 1000;
}

/** Returns the median; for an even number of values, the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? at(sorted, Math.floor(half)) : (at(sorted, half - 1) + at(sorted, half)) / 2;
}

const at = (values: readonly number[], index: number) => values[index] ?? Number.NaN;

/** Returns the value below which this share of all values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return at(sorted, Math.min(sorted.length - 1, Math.floor(sorted.length * share)));
}

/** Formats a median with the values of all rounds. */
export const figure = (values: readonly number[]): string =>
  `${median(values).toFixed(1)} (${values.map((value) => value.toFixed(1)).join(", ")})`;

/** Formats the ratio of two medians; below 1, ours is faster. */
export const ratio = (ours: readonly number[], theirs: readonly number[]): string =>
  (median(ours) / median(theirs)).toFixed(2);

function machine(): string {
  const memory = Math.round(totalmem() / 1024 ** 3);
  return `${cpus().length} CPUs (${cpus()[0]?.model.trim()}), ${memory} GiB, ${osType()} ${release()} ${arch()}, Node ${process.versions.node}`;
}

const asMarkdown = ({ title, about, table }: Section, date: string): string => {
  const [head = [], ...rows] = table;
  return [
    `## ${title}`,
    "",
    `${date}; ${machine()}.`,
    "",
    about,
    "",
    `| ${head.join(" | ")} |`,
    `|${head.map(() => "---").join("|")}|`,
    ...rows.map((row) => `| ${row.join(" | ")} |`),
    "",
  ].join("\n");
};

const INTRODUCTION = `# Figures

Written by \`npm run bench\`. Machines are noisy, so compare the ratios: both methods ran alternately, on the same data, in the same
run. A figure is the median, followed by the values of all rounds in parentheses.

`;

/** Writes the sections to RESULTS.md and keeps all other sections. */
export async function writeResults(sections: readonly Section[]): Promise<void> {
  const old = await readFile(FILE, "utf8").catch(() => INTRODUCTION);
  const kept = new Map<string, string>();
  for (const part of old.split(/^(?=## )/m).slice(1)) kept.set(part.slice(3, part.indexOf("\n")), part);
  const date = new Date().toISOString().slice(0, 10);
  for (const section of sections) kept.set(section.title, asMarkdown(section, date));
  await writeFile(FILE, `${INTRODUCTION}${[...kept.values()].map((part) => part.trimEnd()).join("\n\n")}\n`);
}
