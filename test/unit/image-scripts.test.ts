/** The rules for the image's scripts, so that no part silently changes another part's variables or functions. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

const IMAGE = "images/database";
const ENTRY = `${IMAGE}/sectorwars-backup.sh`;
/** Prefixes of function names that differ from the file's name. */
const PREFIXES: Record<string, string> = {
  ...{ archiving: "archive", recovery: "recover", notes: "note", "take-backup": "backup" },
  // Every part uses the functions of these.
  ...{ common: "", session: "" },
};
const parts = readdirSync(`${IMAGE}/backup`)
  .filter((name) => name.endsWith(".sh"))
  .map((name) => name.replace(/\.sh$/, ""));
const entry = readFileSync(ENTRY, "utf8");

/** The code of a script's functions by name, without comments. Code outside of functions has the empty name. */
function functionsOf(text: string): Map<string, string> {
  const found = new Map<string, string>();
  let name = "";
  for (const line of text.split("\n").filter((line) => !/^\s*#/.test(line))) {
    const [, begun, rest] = /^(\w+)\(\) \{(.*)$/.exec(line) ?? [];
    if (begun) name = begun;
    found.set(name, `${found.get(name) ?? ""}${begun ? rest : line}\n`);
    if (line === "}" || (begun && rest?.endsWith("}"))) name = "";
  }
  return found;
}

/** Variables that shell code sets: assigned, read or in a loop. Names after -v and -c belong to awk, psql and the server. */
function setIn(code: string): string[] {
  const assigned = [...code.matchAll(/(?<!-[vc] *)(?<=^|[\s;({])([A-Za-z_]\w*)=/gm)].map(([, name = ""]) => name);
  const read = [...code.matchAll(/(?<![\w-])read (?:-r )?([\w ]+)/g)].flatMap(([, names = ""]) => names.split(" "));
  const loops = [...code.matchAll(/(?<![\w-])for (\w+) in/g)].map(([, name = ""]) => name);
  return [...assigned, ...read, ...loops].filter((name) => name !== "" && name !== "_");
}

const localsOf = (code: string) =>
  [...code.matchAll(/^\s*local ([\w ]+)$/gm)].flatMap(([, names = ""]) => names.split(" "));

describe.each([...parts.map((part) => `${IMAGE}/backup/${part}.sh`), `${IMAGE}/start.sh`])("%s", (file) => {
  const functions = functionsOf(readFileSync(file, "utf8"));
  const part = /backup\/(.*)\.sh$/.exec(file)?.[1];

  test("sets only local variables in functions, and shared ones that the entry script lists", () => {
    for (const [name, code] of functions) {
      if (name === "") continue;
      const own = localsOf(code);
      const others = setIn(code).filter((each) => !own.includes(each));
      // Variables in the environment of programs.
      const shared = others.filter((each) => !/^(PG[A-Z_]+|LC_ALL|IFS)$/.test(each));
      for (const each of shared) {
        expect(each, `${name} sets ${each}`).toMatch(/^[A-Z_]+$/);
        expect(entry, `${name} sets ${each}`).toMatch(new RegExp(`^#.*\\b${each}\\b|^${each}=`, "m"));
      }
    }
  });

  test.skipIf(part === undefined)(
    "names its functions by its prefix, and declares no function that another part declares",
    () => {
      const prefix = PREFIXES[part ?? ""] ?? part;
      for (const name of functions.keys()) if (name && prefix) expect(name).toMatch(new RegExp(`^${prefix}_`));
      const elsewhere = parts
        .filter((other) => other !== part)
        .flatMap((other) => [...functionsOf(readFileSync(`${IMAGE}/backup/${other}.sh`, "utf8")).keys()]);
      expect([...functions.keys()].filter((name) => name && elsewhere.includes(name))).toEqual([]);
    },
  );
});

test("the entry script sources every part", () => {
  const sourced = [...entry.matchAll(/^\. "\$SHARE\/(.*)\.sh"$/gm)].map(([, part]) => part);
  expect(sourced.sort()).toEqual([...parts].sort());
});

test("repository.sh alone reads pgBackRest's JSON", () => {
  const readers = parts.filter((part) =>
    /--output=json|"label\\?":"\[/.test(readFileSync(`${IMAGE}/backup/${part}.sh`, "utf8")),
  );
  expect(readers).toEqual(["repository"]);
});

test("the check finds variables that are not local", () => {
  const code = "\tlocal a\n\ta=1 b=2\n\tread -r c _ <x\n\tfor d in 1; do :; done\n\tawk -v e=1 --f=2\n";
  expect(setIn(code).filter((name) => !localsOf(code).includes(name))).toEqual(["b", "c", "d"]);
});
