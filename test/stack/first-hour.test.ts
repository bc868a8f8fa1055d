/** Runs every command of docs/first-hour.md in order and compares its output with the page. UPDATE_DOCS=1 updates the page. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { docker } from "../../lib/docker.ts";
import { namesFor } from "../../lib/naming.ts";
import { cloneProject, commitAll, shareObtained } from "../support/clone.ts";
import { images, Lab, type SourceServer } from "../support/lab.ts";
import { NewUser } from "../support/new-user.ts";
import { run } from "../support/test-stack.ts";
import { abridged, normalized, readTranscript, writeTranscript } from "../support/transcript.ts";

const PAGE = "docs/first-hour.md";
const NEON = "ep-cool-name-123456.eu-central-1.aws.neon.tech/neondb";
/** The source's role, as the page names it. */
const OWNER = "neondb_owner";

/** Output that the page omits. */
const OMITTED = [
  // Pulumi's progress lines about resources.
  /^(Updating|Destroying) \(dev\):\n[\s\S]*?(?=^(Diagnostics|Outputs|Resources):)/gm,
  /^Outputs:\n[\s\S]*?(?=^Resources:)/gm,
  /^(Diagnostics:|Resources:|Duration: .*| {2}pulumi:pulumi:Stack .*| {4}[-+~] \d+ \w+)\n/gm,
  // Progress of an import; its last line has the result.
  /^ *(import|check): (?!\d+ tables, .* proven).*\n/gm,
  // docker compose's progress lines, whose order varies.
  /^ (Container|Network|Volume|Image) .*\n/gm,
];

/** Text that differs between runs, and the placeholder that replaces it in the comparison. */
const VARIABLE: [RegExp, string][] = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, "TIME"],
  [/\d{8}T\d{6}Z/g, "TIME"],
  [/\b[\d,.]+ (bytes|[kMG]?i?B)\b/g, "SIZE"],
  [/\b\d+(\.\d+)? (s|ms|seconds?|minutes?)\b/g, "DURATION"],
  [/\b\d+ of 100\b/g, "COUNT of 100"],
  [/\b\d+ connections\b/g, "COUNT connections"],
  [/\bUp [^(\n]+(?= \()/g, "Up DURATION"],
  [/PostgreSQL 15\.\d+/g, "PostgreSQL 15"],
  [/-----+/g, "-----"],
  // The source's collation is its base image's: Alpine has no other than C.
  [/\blibc C(\.UTF-8)?(?= on)/g, "libc C"],
];

let user: NewUser;
let lab: Lab;
let source: SourceServer;

/** Fills the source: the application's schema before its last migration, and some rows. */
async function fillSource(): Promise<void> {
  const dump = ["pg_dump", "-U", "postgres", "-t", "public.*", "--schema-only", "--no-owner", "--no-privileges"];
  const schema = await docker(["exec", "-u", "postgres", namesFor(user.stack).container, ...dump, "sectorwars_dev"]);
  await source.makeDatabase(
    "neondb",
    `${schema.replaceAll(/^\\.*$/gm, "")}
     SET search_path = public;
     DROP TABLE ships; ALTER TABLE users DROP COLUMN subscription_tier;
     INSERT INTO alembic_version VALUES ('0001first');
     INSERT INTO users (id, username, is_active, is_admin, deleted)
       SELECT gen_random_uuid(), name, true, false, false FROM unnest('{holden,naomi,ripley}'::text[]) name;
     INSERT INTO languages (code, name, native_name, direction, is_active)
       VALUES ('en', 'English', 'English', 'ltr', true), ('de', 'German', 'Deutsch', 'ltr', true);`,
  );
}

/** Replacements in the page's commands. */
const substitutions = (): [string, string][] => {
  const { port } = source.admin;
  const login = `${source.user}:${source.userPassword}`;
  return [
    ["https://git.example.org/me/database.git", `file://${join(user.home, "origin")}`],
    ["./script/up", `./script/up --stack ${user.stack}`],
    [`${OWNER}:PASSWORD@${NEON}`, `${login}@localhost:${port}/neondb`],
  ];
};

/** Preparations for commands that start with a text. On a real machine these things exist, or the scripts obtain them. */
const PREPARATIONS: [string, () => Promise<void>][] = [
  ["cd database", () => shareObtained(join(user.home, "database"))],
  ["export NEON_DATABASE_URL", fillSource],
];
/** Runs a command of the page and returns its output as the page shows it. */
async function shownBy(command: string): Promise<string> {
  for (const [start, prepare] of PREPARATIONS) if (command.startsWith(start)) await prepare();
  const { code, text } = await user.run(command, substitutions());
  if (code !== 0) throw new Error(`${command} ended with ${code}:\n${text}`);
  const isSecret = command.includes("--show-secrets");
  return isSecret ? "PASSWORD\n" : abridged(user.shown(text), OMITTED);
}

beforeAll(async () => {
  lab = await Lab.open();
  // The collation of Neon's servers, independent of the image's default.
  source = await lab.startSource({ image: images().databaseBase, initdb: "--encoding=UTF8 --locale=C.UTF-8" });
  const authority = join(lab.folder, "authority.pem");
  await writeFile(authority, source.certificate.authority);
  const origin = async (home: string) => {
    await cloneProject(join(home, "origin"));
    await commitAll(join(home, "origin"));
  };
  user = await NewUser.make("", origin, {
    NEON_ROOT_CERTIFICATES: authority,
    // On a slow machine, git would print progress.
    GIT_PROGRESS_DELAY: "3600",
  });
  await user.application.checkIn("JWT_SECRET=a secret of the game\n");
  user.hide(`localhost:${source.admin.port}/neondb`, NEON);
  user.hide(source.user, OWNER);
});
afterAll(async () => {
  await user?.end();
  await lab?.close();
});

test("every command of the page works in order, and prints what the page shows", async () => {
  const page = await readFile(PAGE, "utf8");
  const outputs: string[] = [];
  const differences: unknown[] = [];
  for (const { command, output } of readTranscript(page)) {
    const printed = await shownBy(command);
    const [is, was] = [printed, output].map((text) => normalized(text, VARIABLE));
    outputs.push(is === was ? output : printed);
    if (is !== was) differences.push({ command, was, is });
  }
  const rewritten = writeTranscript(page, outputs);
  expect(rewritten).not.toMatch(/[A-Za-z0-9]{24,}/);
  if (process.env.UPDATE_DOCS) await writeFile(PAGE, rewritten);
  else expect(differences).toEqual([]);
  // The page's last command removes the stack.
  expect((await run("docker", ["ps", "-aq", "--filter", `label=sectorwars.stack=${user.stack}`])).stdout).toBe("");
});
