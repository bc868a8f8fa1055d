/** Writes docs/settings.md from Pulumi.yaml: `npm run docs`. */
import { readFile, writeFile } from "node:fs/promises";
import { settingsPage } from "./settings-page.ts";

await writeFile("docs/settings.md", settingsPage(await readFile("Pulumi.yaml", "utf8")));
