/** How figures are taken and written down. */
import { readFile, writeFile } from "node:fs/promises";
import { arch, cpus, type as osType, release, totalmem } from "node:os";

/** One part of RESULTS.md. It replaces the part of the same name and leaves the others. */
export interface Section {
  title: string;
  /** What was done, in a sentence or two. */
  about: string;
  table: string[][];
}

const FILE = "bench/RESULTS.md";

/** Milliseconds that something takes, as seconds. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return (performance.now() - from) / 1000;
}

/** The middle value; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? at(sorted, Math.floor(half)) : (at(sorted, half - 1) + at(sorted, half)) / 2;
}

const at = (values: readonly number[], index: number) => values[index] ?? Number.NaN;

/** The value below which a share of all lie. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return at(sorted, Math.min(sorted.length - 1, Math.floor(sorted.length * share)));
}

/** A median with the rounds it comes from. */
export const figure = (values: readonly number[]): string =>
  `${median(values).toFixed(1)} (${values.map((value) => value.toFixed(1)).join(", ")})`;

/** How one compares with another: below 1 is faster. */
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

Written by \`npm run bench\`. Machines are noisy, so what counts are the ratios: both sides ran in turn, on the same data, in the
same sitting. A figure is the median, with the single rounds behind it.

`;

/** Puts the sections into RESULTS.md; sections that were not measured now stay as they are. */
export async function writeResults(sections: readonly Section[]): Promise<void> {
  const old = await readFile(FILE, "utf8").catch(() => INTRODUCTION);
  const kept = new Map<string, string>();
  for (const part of old.split(/^(?=## )/m).slice(1)) kept.set(part.slice(3, part.indexOf("\n")), part);
  const date = new Date().toISOString().slice(0, 10);
  for (const section of sections) kept.set(section.title, asMarkdown(section, date));
  await writeFile(FILE, `${INTRODUCTION}${[...kept.values()].map((part) => part.trimEnd()).join("\n\n")}\n`);
}
