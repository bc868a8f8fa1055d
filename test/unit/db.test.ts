/** ./db as a user types it: help, typos, exit codes, errors as JSON, completion, from any folder and without script/env. */
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { CommandUnknownOpts } from "@commander-js/extra-typings";
import { afterAll, describe, expect, test, vi } from "vitest";
import { SUBCOMMANDS } from "../../cli/subcommands.ts";
import { candidatesFor } from "../../cli/support/candidates.ts";
import { confirm } from "../../cli/support/confirm.ts";
import { knownStacks } from "../../cli/support/known-stacks.ts";
import { load, makeProgram } from "../../cli/support/program.ts";
import { rewriteUrl } from "../../cli/url.ts";
import { hasProgram } from "../support/path.ts";

const folder = realpathSync(mkdtempSync(join(tmpdir(), "db-")));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Said {
  code: number;
  stdout: string;
  stderr: string;
}

/** The environment of a shell without any of this project's settings. */
const BARE = { HOME: folder, PATH: "/usr/local/bin:/usr/bin:/bin" };

function call(program: string, words: readonly string[], cwd = ".", env: Record<string, string> = BARE): Promise<Said> {
  return new Promise((done) => {
    execFile(program, words, { cwd, env }, (error, stdout, stderr) =>
      done({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}
const db = (...words: string[]) => call("./db", words);

/** Loads every command, and returns each with its words. */
async function allCommands(program: CommandUnknownOpts): Promise<[string[], CommandUnknownOpts][]> {
  const found: [string[], CommandUnknownOpts][] = [];
  for (const command of program.commands) {
    await load(command);
    found.push([[command.name()], command]);
    for (const below of command.commands) found.push([[command.name(), below.name()], below]);
  }
  return found;
}

/** Parses a call as the program would, without carrying it out. */
async function expectTaken(call: string): Promise<void> {
  const words = [...call.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
    ([, one, other, plain]) => one ?? other ?? plain ?? "",
  );
  const program = makeProgram();
  const taken = vi.fn();
  program.hook("preSubcommand", (_program, command) => {
    for (const each of [command, ...command.commands]) if (each.commands.length === 0) each.action(taken);
  });
  await program.parseAsync(words, { from: "user" }).catch((error: Error) => {
    throw new Error(`./db ${call}: ${error.message}`);
  });
  expect(taken, call).toHaveBeenCalledOnce();
}

describe("./db --help", () => {
  test("lists every subcommand by task with examples, and is also printed if no subcommand is given", async () => {
    const [help, none, word] = await Promise.all([db("--help"), db(), db("help")]);
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(word).toEqual(help);
    expect(none).toMatchObject({ code: 2, stdout: "" });
    expect(none.stderr).toBe(`${help.stdout}error: a subcommand is missing\nSee ./db --help\n`);
    for (const { name, group, summary } of SUBCOMMANDS) {
      const line = new RegExp(`^  ${name} +${RegExp.escape(summary)}$`, "m");
      if (group === undefined) expect(help.stdout).not.toMatch(line);
      else expect(help.stdout.slice(help.stdout.indexOf(`\n${group}:`))).toMatch(line);
    }
    expect(help.stdout).toContain('./db restore --to "10 minutes ago"');
  });

  test("prints a subcommand's help, and so does ./db help SUBCOMMAND", async () => {
    const [one, other, third] = await Promise.all([
      db("snapshot", "save", "--help"),
      db("help", "snapshot", "save"),
      db("snapshot", "help", "save"),
    ]);
    expect(one.stdout).toMatch(/^Usage: \.\/db snapshot save \[options\] <name>\n/);
    expect(other).toEqual(one);
    expect(third).toEqual(one);
  });

  test("describes every command, argument and option", async () => {
    for (const [words, command] of await allCommands(makeProgram())) {
      const at = words.join(" ");
      expect(command.description(), at).toMatch(/^[A-Z].{12,}/s);
      for (const { description, flags } of command.options) expect(description, `${at} ${flags}`).not.toBe("");
      for (const argument of command.registeredArguments) expect(argument.description, at).not.toBe("");
      const flags = command.options.map(({ long }) => long);
      expect(flags, at).toEqual(expect.arrayContaining(["--stack", "--json"]));
      expect(new Set(flags).size, at).toBe(flags.length);
    }
  });

  test("has examples that the program accepts", async () => {
    const listing = makeProgram();
    const commands = (await allCommands(listing)).map(([, command]) => command);
    let help = "";
    for (const command of [listing, ...commands]) {
      command.configureOutput({
        writeOut: (text) => {
          help += text;
        },
      });
      command.outputHelp();
    }
    // Two spaces end the command, and a redirection belongs to the shell.
    const examples = [...help.matchAll(/^ {2}\.\/db (.*?)(?: {2}| <|$)/gm)].map(([, words = ""]) => words);
    expect(examples.length).toBeGreaterThan(25);
    for (const example of examples) await expectTaken(example);
  });

  test("accepts every ./db call in README and docs", async () => {
    const files = ["README.md", ...readdirSync("docs").map((name) => join("docs", name))].filter((file) =>
      file.endsWith(".md"),
    );
    const texts = files.map((file) => readFileSync(file, "utf8")).join("\n");
    // In a code block, a line that starts with ./db; in a sentence, the text between backticks.
    const calls = [...texts.matchAll(/^\.\/db (.*?)(?: {2,}#| <| &&|$)|`\.\/db ([^`]*)`/gm)].map(
      ([, line, inline]) => line ?? inline ?? "",
    );
    expect(calls.length).toBeGreaterThan(10);
    // A sentence may name a subcommand alone.
    const names = ["", ...(await allCommands(makeProgram())).map(([words]) => words.join(" "))];
    const whole = calls.filter((words) => !names.includes(words) && !/--help|^help|^NAME/.test(words));
    for (const words of whole) await expectTaken(words);
  });

  test("knows every subcommand that a message of the program names", () => {
    // Words that follow "./db" in a sentence.
    const inProse = ["and", "as", "at", "by", "for", "from", "has", "in", "is", "of", "on", "or", "so", "to", "with"];
    const names = [...SUBCOMMANDS.map(({ name }) => name), ...inProse];
    const roots = ["components", "cli", "lib", "images", "script", "sql"];
    const files = roots.flatMap((root) =>
      readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name)),
    );
    for (const file of files) {
      const text = readFileSync(file, "utf8").replaceAll(/^\s*(\*|\/\*\*|\/\/|#).*$/gm, "");
      for (const [call, name] of text.matchAll(/(?<![\w/])\.\/db ([a-z][-a-z]*)/g)) {
        expect(names, `${file}: ${call}`).toContain(name);
      }
    }
  });

  test("loads no subcommand and no module that only subcommands need", async () => {
    const coverage = join(folder, "coverage");
    await call("./db", ["--help"], ".", { ...BARE, NODE_V8_COVERAGE: coverage });
    const [file = ""] = readdirSync(coverage);
    const { result } = JSON.parse(readFileSync(join(coverage, file), "utf8"));
    const loaded = result
      .map(({ url }: { url: string }) => url.replace(`file://${resolve(".")}/`, ""))
      .filter((url: string) => !url.startsWith("node:"));
    expect(loaded).toContain("cli/db.ts");
    const needed =
      /^(cli\/(db|subcommands)|cli\/support\/\w[-\w]*|lib\/(stack|naming|terminal|verified-tls)|components\/server\/naming)\.ts$|^node_modules\/(@commander-js|commander)\//;
    expect(loaded.filter((url: string) => !needed.test(url))).toEqual([]);
  });
});

describe("a wrong ./db call", () => {
  test.each([
    [["stats"], "unknown command 'stats'\n(Did you mean status?)\nSee ./db --help"],
    [["status", "--jsn"], "unknown option '--jsn'\n(Did you mean --json?)\nSee ./db status --help"],
    [
      ["status", "now"],
      "too many arguments for 'status'. Expected 0 arguments but got 1: now.\nSee ./db status --help",
    ],
    [["snapshot", "sav"], "unknown command 'sav'\n(Did you mean save?)\nSee ./db snapshot --help"],
    [["snapshot", "save"], "missing required argument 'name'\nSee ./db snapshot save --help"],
    [["migrations", "und"], "unknown subcommand of ./db migrations. Its subcommands are: show, undo, forget"],
    [["--stack"], "option '--stack <name>' argument missing"],
    [["status", "--stack", "--json"], "option '--stack <name>' argument '--json' is invalid. A value is missing."],
    [["--stack", "", "status"], "option '--stack <name>' argument '' is invalid. A value is missing."],
    [["psql", "--role", "king"], "Allowed choices are owner, app, readonly, monitor, superuser."],
    [["completion", "tcsh"], "Allowed choices are bash, zsh, fish."],
    [["backup", "--full", "--list"], "option '--full' cannot be used with option '--list'"],
    [["restore", "--undo", "x", "--to", "latest"], "cannot be used with option"],
    [["verify", "--source", "X", "--safety-copy", "Y"], "cannot be used with option"],
    [["safety-copy", "restore", "x"], "required option '--into <database>' not specified"],
  ])("%j exits with 2 and names the error", async (words, message) => {
    const said = await db(...words);
    expect(said.stderr.startsWith("error: ")).toBe(true);
    expect(said.stderr).toContain(message);
    expect(said.code).toBe(2);
    const isJson = words.includes("--json");
    expect(said.stdout === "").toBe(!isJson);
  });

  test("prints its error also as JSON on standard output with --json", async () => {
    const [typo, later, notOurs] = await Promise.all([
      db("snapshot", "sav", "--json"),
      db("safety-copy", "verify", "none", "--folder", folder, "--json"),
      db("completion", "--", "--json"),
    ]);
    const message = "unknown command 'sav'\n(Did you mean save?)\nSee ./db snapshot --help";
    expect(JSON.parse(typo.stdout)).toEqual({ error: message, exitCode: 2 });
    expect(typo.stderr).toBe(`error: ${message}\n`);
    const missing = `The safety copy none does not exist. ${folder} contains no safety copy`;
    expect(JSON.parse(later.stdout)).toEqual({ error: missing, exitCode: 1 });
    expect(later).toMatchObject({ code: 1, stderr: `error: ${missing}\n` });
    expect(notOurs.stdout).toBe("");
  });
});

describe("./db", () => {
  test("works in any folder, through symbolic links, with paths relative to the caller, without script/env", async () => {
    const odd = join(folder, "it's a folder");
    mkdirSync(join(odd, "bin"), { recursive: true });
    symlinkSync(resolve("db"), join(odd, "first"));
    symlinkSync("../first", join(odd, "bin", "db"));
    const PATH = `${join(odd, "bin")}:${BARE.PATH}`;
    const said = await Promise.all([
      call("./first", ["safety-copy", "list", "--folder", "copies"], odd),
      call("bin/db", ["safety-copy", "list", "--folder", "copies"], odd),
      call("db", ["safety-copy", "list", "--folder", "../copies"], join(odd, "bin"), { ...BARE, PATH }),
      call("sh", [join(odd, "bin", "db"), "safety-copy", "list", "--folder", "copies"], odd),
    ]);
    for (const each of said) {
      expect(each).toEqual({ code: 0, stderr: "", stdout: `There is no safety copy in ${join(odd, "copies")}.\n` });
    }
    const known = await call("./first", ["safety-copy", "list", "--json"], odd);
    expect(JSON.parse(known.stdout)).toEqual(expect.any(Array));
  });

  test("names script/bootstrap if the packages are not installed", async () => {
    const clone = join(folder, "clone");
    mkdirSync(join(clone, "script"), { recursive: true });
    for (const file of ["db", "script/env"]) cpSync(file, join(clone, file));
    const said = await call(join(clone, "db"), ["status"], "/");
    expect(said.stderr).toBe(`error: the project's packages are not installed. Run: ${clone}/script/bootstrap base\n`);
    expect(said.code).toBe(1);
  });

  test("ends without an error if its reader closes the pipe", async () => {
    const said = await call("sh", ["-c", "./db --help | head -n 1"]);
    expect(said).toEqual({ code: 0, stdout: "Usage: ./db SUBCOMMAND [options]\n", stderr: "" });
  });
});

test("a command that replaces data requires --yes without a terminal", async () => {
  const consequence = "This replaces everything.";
  await expect(confirm(true, consequence)).resolves.toBe(true);
  const terminal = process.stdin.isTTY;
  process.stdin.isTTY = false;
  try {
    const refusal = {
      message: `${consequence} There is no terminal to ask for confirmation. To confirm, add --yes.`,
      exitCode: 2,
    };
    await expect(confirm(undefined, consequence)).rejects.toMatchObject(refusal);
  } finally {
    process.stdin.isTTY = terminal;
  }
});

describe("./db completion", () => {
  const candidates = (...words: string[]) =>
    candidatesFor(makeProgram(), words, load).then((found) => found.map(([word]) => word));

  test.each<[string[], string[]]>([
    [["sn"], ["snapshot"]],
    [
      ["snapshot", ""],
      ["save", "restore", "list", "delete", "help"],
    ],
    [
      ["snapshot", "restore", "--"],
      ["--force", "--yes", "--stack", "--json", "--help"],
    ],
    [
      ["snapshot", "restore", "-y", "--force", "--"],
      ["--stack", "--json", "--help"],
    ],
    [["--stack", "dev", "status", "--j"], ["--json"]],
    [
      ["completion", ""],
      ["bash", "zsh", "fish"],
    ],
    [["completion", "bash", ""], []],
    [
      ["url", "--driver", "psy"],
      ["psycopg2", "psycopg"],
    ],
    [["url", "--driver=as"], ["--driver=asyncpg"]],
    [
      ["url", "--driver", "="],
      ["none", "psycopg2", "psycopg", "asyncpg"],
    ],
    [["url", "--driver", "=", "as"], ["asyncpg"]],
    [["psql", "--role", "r"], ["readonly"]],
    [["psql", "--role", "owner", "--", "--r"], []],
    [["help", "dr"], ["drill"]],
    [["restore", "--to", ""], []],
    [["compl"], ["completion"]],
  ])("for %j offers %j", async (words, found) => {
    expect(await candidates(...words)).toEqual(found);
  });

  test("offers the stacks in the folder with Pulumi's state", async () => {
    const stacks = join(folder, "state", ".pulumi", "stacks", "sectorwars-database");
    mkdirSync(stacks, { recursive: true });
    for (const file of ["neon.json", "dev.json", "dev.json.bak"]) cpSync("package.json", join(stacks, file));
    const backend = `file://${join(folder, "state")}`;
    expect(knownStacks(backend)).toEqual(["dev", "neon"]);
    expect(knownStacks(`file://${folder}/nowhere`)).toEqual([]);
    expect(knownStacks("s3://bucket")).toEqual([]);
    const said = await call("./db", ["complete", "--", "status", "--stack", "n"], ".", {
      ...BARE,
      PULUMI_BACKEND_URL: backend,
    });
    expect(said.stdout).toBe("neon\t\n");
  });

  /** Arguments for each shell that complete the typed text and print the candidates. */
  const SHELLS: Record<string, (typed: string) => string[]> = {
    bash: (typed) => [
      "-c",
      `eval "$(./db completion bash)"; COMP_WORDS=(${typed}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _sectorwars_db
       complete -p db >/dev/null && printf '%s\\n' "\${COMPREPLY[@]}"`,
    ],
    fish: (typed) => [
      "-c",
      `./db completion fish | source; complete -C '${typed.replaceAll('""', "")}' | string split -f 1 \\t`,
    ],
    zsh: (typed) => [
      "-fc",
      `compdef() { :; }; _describe() { print -rl -- "\${candidates[@]%%:*}"; }; _files() { :; }
       source <(./db completion zsh); words=(${typed}); CURRENT=\${#words}; _sectorwars_db`,
    ],
  };

  test.each(Object.keys(SHELLS).filter(hasProgram))("works in %s", async (shell) => {
    const lines = (typed: string) => call(shell, SHELLS[shell]?.(typed) ?? []);
    // One after the other, because shells that start for the first time in a home folder write the same files there.
    const first = await lines("./db sta");
    const second = await lines('./db snapshot ""');
    const none = await lines("./db restore --to nothing-of-the-kind");
    expect(first).toMatchObject({ code: 0, stdout: "status\n", stderr: "" });
    expect(second.stdout.trim().split("\n").sort()).toEqual(["delete", "help", "list", "restore", "save"]);
    expect(none.stdout.trim()).toBe("");
  });
});

describe("rewriteUrl", () => {
  const url = "postgresql://sectorwars_app:pass@127.0.0.1:5433/sectorwars_dev";

  test("puts the driver into the scheme, and replaces host and port for the stack's network", () => {
    const inside = { host: "database", port: 5432 };
    expect(rewriteUrl(url, { driver: "none" })).toBe(url);
    expect(rewriteUrl(url, { driver: "psycopg2" })).toBe(url.replace("postgresql:", "postgresql+psycopg2:"));
    expect(rewriteUrl(url, { driver: "asyncpg", inside })).toBe(
      "postgresql+asyncpg://sectorwars_app:pass@database:5432/sectorwars_dev",
    );
  });
});
