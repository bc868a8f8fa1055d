/** Which files script/lint-shell checks: every shell file of the repository. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import * as portable from "../../components/backups/portable-texts.ts";
import * as safetyCopy from "../../components/import/safety-copy/texts.ts";
import { hasProgram } from "../support/path.ts";

/** Unchanged copies of other projects' files. */
const COPIES = "test/cases/";

const lines = (text: string) => text.split("\n").filter(Boolean);
const list = (cwd = ".") => lines(execFileSync(`${cwd}/script/lint-shell`, ["--list"], { encoding: "utf8" }));
const files = lines(
  execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { encoding: "utf8" }),
).filter((file) => existsSync(file) && !file.startsWith(COPIES));

/** Scripts that the program writes, which are not files of the repository. */
const WRITTEN = { "a portable copy": portable.RESTORE_SCRIPT, "a safety copy": safetyCopy.RESTORE_SCRIPT };

/** Other languages' first lines. */
const OTHERS = /^#!.*\b(node|python3?|perl)\b/;

describe("script/lint-shell", () => {
  const listed = list();

  test("checks every file with a shell's suffix or first line", () => {
    const shell = files.filter(
      (file) => /\.(sh|bash|ash|dash)$/.test(file) || /^#!.*\b(ba|da|a)?sh\b/.test(readFileSync(file, "latin1")),
    );
    expect(shell.length).toBeGreaterThan(25);
    expect(listed).toEqual(expect.arrayContaining(shell));
  });

  test("checks every executable file whose first line names no other language", () => {
    const programs = files.filter((file) => statSync(file).mode & 0o111);
    const rest = programs.filter((file) => !OTHERS.test(readFileSync(file, "latin1")));
    expect(rest).toContain("script/bootstrap");
    expect(listed).toEqual(expect.arrayContaining(rest));
  });

  test("checks every file that a listed one sources", () => {
    const sourced = listed.flatMap((file) =>
      [...readFileSync(file, "utf8").matchAll(/^\s*(?:\.|source) +"?([^\s";]+)/gm)].map(([, path = ""]) =>
        basename(path),
      ),
    );
    const known = files.filter((file) => sourced.includes(basename(file))).filter((file) => !/\.\w*env$/.test(file));
    expect(known).toContain("script/env");
    expect(listed).toEqual(expect.arrayContaining(known));
  });

  test("finds a new file before it is committed, and lists no file twice", () => {
    const file = join("script", `${basename(mkdtempSync(join(tmpdir(), "x-")))}.sh`);
    try {
      writeFileSync(file, "echo\n");
      expect(list()).toContain(file);
    } finally {
      rmSync(file);
    }
    expect(new Set(listed).size).toBe(listed.length);
  });

  test("checks nothing else", () => {
    for (const file of listed) expect(readFileSync(file, "utf8"), file).toMatch(/^#(!.*sh\b|.*shellcheck shell=)/m);
  });
});

test.skipIf(!hasProgram("shellcheck")).each(Object.entries(WRITTEN))(
  "shellcheck finds nothing in the script in %s",
  (_, text) => {
    expect(execFileSync("shellcheck", ["-"], { input: text, encoding: "utf8" })).toBe("");
  },
);
