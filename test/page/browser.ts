/** The browser that the report's page is tried in: one that the machine has. `node test/page/browser.ts` prints its path. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Names on PATH. Chrome comes first: Ubuntu's `chromium` may be one that cannot see the folder of temporary files. */
const NAMES = ["google-chrome-stable", "google-chrome", "chromium", "chromium-browser", "microsoft-edge"];

/** Where macOS keeps them, for everybody and for oneself. */
const APPLICATIONS = ["Google Chrome", "Chromium", "Microsoft Edge"].flatMap((name) =>
  ["/Applications", join(process.env.HOME ?? "", "Applications")].map((folder) =>
    join(folder, `${name}.app`, "Contents", "MacOS", name),
  ),
);

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/**
 * Path of the machine's Chrome or Chromium: that of CHROME_PATH, or else the first that is found.
 * @throws {Error} where there is none, or CHROME_PATH names none; with the remedy.
 */
export function browserPath(): string {
  const given = process.env.CHROME_PATH;
  if (given) {
    if (executable(given)) return given;
    throw new Error(`CHROME_PATH is ${given}, which cannot be run. Name a Chrome or Chromium there, or unset it.`);
  }
  const folders = (process.env.PATH ?? "").split(delimiter).filter(Boolean);
  const candidates = [...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))), ...APPLICATIONS];
  const found = candidates.find(executable);
  if (found) return found;
  throw new Error(
    "There is no Chrome or Chromium on this machine. Run script/bootstrap browser, or set CHROME_PATH to the path of one.",
  );
}

if (import.meta.main) {
  try {
    console.log(browserPath());
  } catch (error) {
    console.error(`error: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
