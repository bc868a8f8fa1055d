/** `./db report`: shows the proof of the import. */
import { spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "@commander-js/extra-typings";
import { reportFolder } from "../components/import/report/folder.ts";
import { onStack } from "./support/subcommand.ts";

/** Opens a file in the browser. Does nothing without a graphical desktop. */
function open(path: string): void {
  const opener = process.platform === "darwin" ? "open" : "xdg-open";
  if (process.platform !== "darwin" && !process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) return;
  spawn(opener, [path], { stdio: "ignore", detached: true })
    .on("error", () => {})
    .unref();
}

/** Configures the command `./db report`. */
export default function report(command: Command): void {
  command
    .description(
      "Prints the path of the import's report, and opens it in the browser if there is a graphical desktop. --json prints the report.",
    )
    .action(
      onStack(async ({ stack, json }) => {
        const folder = reportFolder(stack);
        const page = resolve(folder, "import.html");
        const found = await stat(page).catch(() => undefined);
        if (found === undefined) {
          throw new Error(
            `There is no report in ${folder}. The import writes it; to import: script/up --stack ${stack}`,
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
