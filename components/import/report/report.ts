/** Writes the report of an import: JSON for programs, one HTML page for people. */
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Report } from "../types.ts";
import { reportPage } from "./page.ts";

/** Writes a file atomically. */
async function writeWhole(path: string, text: string): Promise<void> {
  await writeFile(`${path}.partial`, text, { mode: 0o600 });
  await rename(`${path}.partial`, path);
}

/** Writes import.json and import.html into the folder; returns the page's path. */
export async function writeReport(folder: string, report: Report): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const page = join(folder, "import.html");
  await writeWhole(join(folder, "import.json"), `${JSON.stringify(report, null, 2)}\n`);
  await writeWhole(page, reportPage(report));
  return page;
}
