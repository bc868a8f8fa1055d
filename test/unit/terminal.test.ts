/** Text from a database in the user's terminal. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { printable } from "../../lib/terminal.ts";

const ESC = "\u001b";

describe("printable text", () => {
  test("writes control characters and characters that reorder text as escapes", () => {
    expect(printable(`a${ESC}[2Jb${ESC}]0;title\u0007c\rd\u0000e\u007ff\u009b2Jg\u202eh\u2066`)).toBe(
      "a\\u001b[2Jb\\u001b]0;title\\u0007c\\u000dd\\u0000e\\u007ff\\u009b2Jg\\u202eh\\u2066",
    );
  });

  test("keeps lines, tabs, colours, every script, and the carriage return that starts a progress line", () => {
    const text = `\r${ESC}[1;31merror${ESC}[39m\tline\nשלום Ünï 🚀 e\u0301`;
    expect(printable(text)).toBe(text);
  });

  test("keeps the value of JSON", () => {
    const value = { name: `x${ESC}[2J\u009b\u202e` };
    expect(JSON.parse(printable(JSON.stringify(value)))).toEqual(value);
  });
});

describe("a program that protects the terminal", () => {
  test("writes no control character of others to stdout or stderr, however often it asks for protection", async () => {
    const code = `const { protectTerminal } = await import("./lib/terminal.ts"); protectTerminal(); protectTerminal();
      console.log("a\\u001b[2Jb"); console.error("c\\u009bd");`;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", code]);
    expect([stdout, stderr]).toEqual(["a\\u001b[2Jb\n", "c\\u009bd\n"]);
  });
});
