import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { stateFolder } from "../../components/private-places.ts";
import { exposedIn, makePrivate, modeText } from "../../lib/private-files.ts";

let folder: string;
let tree: string;

/** A file or, where the path ends with a slash, a folder, with exactly this mode. */
function make(path: string, mode: number): string {
  const full = join(folder, path);
  if (path.endsWith("/")) mkdirSync(full);
  else writeFileSync(full, "secret");
  chmodSync(full, mode);
  return full;
}
const modeOf = (path: string) => statSync(path).mode & 0o7777;
const exposed = () => exposedIn([{ path: tree, whole: true }]).map(({ path, mode }) => [path.slice(tree.length), mode]);
const keep = () => makePrivate([{ path: tree, whole: true }]);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sectorwars-private-"));
  // Its parents let everybody through, as a home folder often does.
  chmodSync(folder, 0o755);
  tree = make("state/", 0o755);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("files that other users can reach", () => {
  test("are found at any depth, with their modes", () => {
    make("state/.pulumi/", 0o755);
    make("state/.pulumi/dev.json", 0o644);
    make("state/.pulumi/own.json", 0o600);
    expect(exposed()).toEqual([
      ["", 0o755],
      ["/.pulumi", 0o755],
      ["/.pulumi/dev.json", 0o644],
    ]);
  });

  test("are not those inside of a folder that keeps others out", () => {
    make("state/private/", 0o700);
    make("state/private/dev.json", 0o644);
    chmodSync(tree, 0o700);
    expect(exposed()).toEqual([]);
  });

  test.each([0o640, 0o604, 0o660, 0o620, 0o601, 0o4750])("include a file of mode %o", (mode) => {
    const file = make("key.txt", mode);
    expect(exposedIn([{ path: file, whole: true }])).toEqual([{ path: file, mode }]);
  });

  test("are empty if the files do not exist", () => {
    expect(exposedIn([{ path: join(folder, "nothing"), whole: true }])).toEqual([]);
    makePrivate([{ path: join(folder, "nothing"), whole: true }]);
  });
});

describe("making files private", () => {
  test("leaves the owner's rights, so that a script stays a script", () => {
    const script = make("state/restore.sh", 0o755);
    const file = make("state/dev.json", 0o666);
    keep();
    expect([tree, script, file].map(modeOf)).toEqual([0o700, 0o700, 0o600]);
    expect(exposed()).toEqual([]);
  });

  test("also closes what lies in a private folder, as it may be copied to another place one day", () => {
    const file = make("state/dev.json", 0o644);
    chmodSync(tree, 0o700);
    keep();
    expect(modeOf(file)).toBe(0o600);
  });

  test("touches the folder alone where only that is meant", () => {
    const file = make("state/tool", 0o755);
    makePrivate([{ path: tree, whole: false }]);
    expect([tree, file].map(modeOf)).toEqual([0o700, 0o755]);
  });

  test("follows the owner's link to the place, but none inside of it", () => {
    const outside = make("outside", 0o644);
    const outsideFolder = make("elsewhere/", 0o755);
    symlinkSync(outside, join(tree, "link"));
    symlinkSync(outsideFolder, join(tree, "folder"));
    symlinkSync(tree, join(folder, "way"));
    makePrivate([{ path: join(folder, "way"), whole: true }]);
    expect([tree, outside, outsideFolder].map(modeOf)).toEqual([0o700, 0o644, 0o755]);
  });

  test("ignores a hard link to another file: another user may have created it while the folder was open", () => {
    const outside = make("passwd", 0o644);
    linkSync(outside, join(tree, "passwd"));
    keep();
    expect(modeOf(outside)).toBe(0o644);
  });

  test("does not wait for a pipe without a writer", () => {
    execFileSync("mkfifo", ["-m", "644", join(tree, "pipe")]);
    keep();
    expect(modeOf(tree)).toBe(0o700);
  });

  test.runIf(process.getuid?.() === 0)("keeps another user of the machine out", () => {
    const file = make("state/dev.json", 0o644);
    const asOther = ["--reuid=65534", "--regid=65534", "--clear-groups", "cat", file];
    const read = () => execFileSync("setpriv", asOther, { stdio: ["ignore", "pipe", "ignore"] }).toString();
    expect(read()).toBe("secret");
    keep();
    expect(read).toThrow();
  });
});

describe("the folder of the state", () => {
  test.each([
    [undefined, ".local/state/.pulumi"],
    ["", ".local/state/.pulumi"],
    ["file://./other", "other/.pulumi"],
    ["file:///srv/state?no_tmp_dir=true", "/srv/state/.pulumi"],
    ["file://~", join(homedir(), ".pulumi")],
    ["file://~/states", join(homedir(), "states/.pulumi")],
    ["https://api.pulumi.com", undefined],
    ["s3://bucket", undefined],
  ])("with PULUMI_BACKEND_URL %s is %s", (PULUMI_BACKEND_URL, expected) => {
    expect(stateFolder({ PULUMI_BACKEND_URL })).toBe(expected);
  });
});

test("a mode is written as chmod takes it", () => {
  expect([0o644, 0o7, 0o1777, 0o700].map(modeText)).toEqual(["0644", "0007", "01777", "0700"]);
});
