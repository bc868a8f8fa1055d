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
  // Other users can pass through its parents, as through many home folders.
  chmodSync(folder, 0o755);
  tree = make("state/", 0o755);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("exposedIn", () => {
  test("finds files that other users can reach at any depth, with their modes", () => {
    make("state/.pulumi/", 0o755);
    make("state/.pulumi/dev.json", 0o644);
    make("state/.pulumi/own.json", 0o600);
    expect(exposed()).toEqual([
      ["", 0o755],
      ["/.pulumi", 0o755],
      ["/.pulumi/dev.json", 0o644],
    ]);
  });

  test("ignores files in a folder that other users cannot enter", () => {
    make("state/private/", 0o700);
    make("state/private/dev.json", 0o644);
    chmodSync(tree, 0o700);
    expect(exposed()).toEqual([]);
  });

  test.each([0o640, 0o604, 0o660, 0o620, 0o601, 0o4750])("finds a file with mode %o", (mode) => {
    const file = make("key.txt", mode);
    expect(exposedIn([{ path: file, whole: true }])).toEqual([{ path: file, mode }]);
  });

  test("returns nothing if the files do not exist, and makePrivate then does nothing", () => {
    expect(exposedIn([{ path: join(folder, "nothing"), whole: true }])).toEqual([]);
    makePrivate([{ path: join(folder, "nothing"), whole: true }]);
  });
});

describe("makePrivate", () => {
  test("keeps the owner's permissions, so that scripts stay executable", () => {
    const script = make("state/restore.sh", 0o755);
    const file = make("state/dev.json", 0o666);
    keep();
    expect([tree, script, file].map(modeOf)).toEqual([0o700, 0o700, 0o600]);
    expect(exposed()).toEqual([]);
  });

  test("also changes files in a private folder, because they may be copied elsewhere", () => {
    const file = make("state/dev.json", 0o644);
    chmodSync(tree, 0o700);
    keep();
    expect(modeOf(file)).toBe(0o600);
  });

  test("changes only the folder itself with whole: false", () => {
    const file = make("state/tool", 0o755);
    makePrivate([{ path: tree, whole: false }]);
    expect([tree, file].map(modeOf)).toEqual([0o700, 0o755]);
  });

  test("follows a link to the folder, but no link inside it", () => {
    const outside = make("outside", 0o644);
    const outsideFolder = make("elsewhere/", 0o755);
    symlinkSync(outside, join(tree, "link"));
    symlinkSync(outsideFolder, join(tree, "folder"));
    symlinkSync(tree, join(folder, "way"));
    makePrivate([{ path: join(folder, "way"), whole: true }]);
    expect([tree, outside, outsideFolder].map(modeOf)).toEqual([0o700, 0o644, 0o755]);
  });

  test("ignores a file with a second hard link, which another user may have created", () => {
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

  test.runIf(process.getuid?.() === 0)("prevents another user of the machine from reading a file", () => {
    const file = make("state/dev.json", 0o644);
    const asOther = ["--reuid=65534", "--regid=65534", "--clear-groups", "cat", file];
    const read = () => execFileSync("setpriv", asOther, { stdio: ["ignore", "pipe", "ignore"] }).toString();
    expect(read()).toBe("secret");
    keep();
    expect(read).toThrow();
  });
});

describe("stateFolder", () => {
  test.each([
    [undefined, ".local/state/.pulumi"],
    ["", ".local/state/.pulumi"],
    ["file://./other", "other/.pulumi"],
    ["file:///srv/state?no_tmp_dir=true", "/srv/state/.pulumi"],
    ["file://~", join(homedir(), ".pulumi")],
    ["file://~/states", join(homedir(), "states/.pulumi")],
    ["https://api.pulumi.com", undefined],
    ["s3://bucket", undefined],
  ])("for PULUMI_BACKEND_URL %s is %s", (PULUMI_BACKEND_URL, expected) => {
    expect(stateFolder({ PULUMI_BACKEND_URL })).toBe(expected);
  });
});

test("modeText writes a mode as chmod reads it", () => {
  expect([0o644, 0o7, 0o1777, 0o700].map(modeText)).toEqual(["0644", "0007", "01777", "0700"]);
});
