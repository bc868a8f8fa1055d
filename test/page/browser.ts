/** Finds the installed browser in which the tests open the report's page. `node test/page/browser.ts` prints its path. */
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Names on PATH. Chrome comes first, because Ubuntu's `chromium` can be a snap, which cannot read the folder of temporary files. */
const NAMES = ["google-chrome-stable", "google-chrome", "chromium", "chromium-browser", "microsoft-edge"];

/** Paths on macOS, for all users and for this user. */
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
 * Returns the path of Chrome or Chromium: CHROME_PATH if it is set, otherwise the first one found.
 * @throws {Error} if there is no browser, or CHROME_PATH cannot be run; with the remedy.
 */
export function browserPath(): string {
  const given = process.env.CHROME_PATH;
  if (given) {
    if (executable(given)) return given;
    throw new Error(
      `CHROME_PATH is ${given}, which cannot be run. Set it to the path of Chrome or Chromium, or unset it.`,
    );
  }
  const folders = (process.env.PATH ?? "").split(delimiter).filter(Boolean);
  const candidates = [...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))), ...APPLICATIONS];
  const found = candidates.find(executable);
  if (found) return found;
  throw new Error(
    "No Chrome or Chromium was found on this machine. Run: script/bootstrap browser, or set CHROME_PATH to the path of one",
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
