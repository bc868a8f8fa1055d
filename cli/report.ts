/** `./db report`: the proof of the import, as a page. */
import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "@commander-js/extra-typings";
import { reportFolder } from "../components/import/report-folder.ts";
import { onStack } from "./support/subcommand.ts";

/** Opens a file in the browser where there is a screen; says nothing where there is none. */
function open(path: string): void {
  const opener = process.platform === "darwin" ? "open" : "xdg-open";
  if (process.platform !== "darwin" && !process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) return;
  spawn(opener, [path], { stdio: "ignore", detached: true })
    .on("error", () => {})
    .unref();
}

/** Adds what `./db report` takes and does to its command. */
export default function report(command: Command): void {
  command
    .description(
      "Shows where the report of the import is, and opens it in the browser where there is one. --json prints the report.",
    )
    .action(
      onStack(async ({ stack, json }) => {
        const folder = reportFolder(stack);
        const page = resolve(folder, "import.html");
        const found = await stat(page).catch(() => undefined);
        if (found === undefined) {
          throw new Error(
            `There is no report in ${folder}. It is written by the import, during: script/up --stack ${stack}`,
          );
        }
        if (json) console.log(await readFile(resolve(folder, "import.json"), "utf8"));
        else {
          console.log(page);
          open(page);
        }
        return 0;
      }),
    );
}
