/** Follows docs/application.md as a reader does: runs the set-up line by line and the commands of its tables, and compares the output. */
import { readFile, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseDocument } from "yaml";
import { valuesOf } from "../../components/handover/env-values.ts";
import { cloneProject, shareObtained } from "../support/clone.ts";
import { codeBlocks, inlineCode, sectionOf, tableRows } from "../support/markdown.ts";
import { NewUser } from "../support/new-user.ts";

const ENV_BEFORE = "JWT_SECRET=a secret of the game\n";
const SERVICES = "admin-ui central-nexus-db central-nexus-server gameserver player-client region-manager".split(" ");

let user: NewUser;
let page: string;
let envBefore: string;
/** What the set-up printed. */
let setUp = "";

/** Replacements in the page's commands. The stack's port and the folder of its state follow from its name. */
const substitutions = (): [string, string][] => [
  ["select --create dev", `select --create ${user.stack}`],
  // Tests have no terminal to answer questions.
  ["pulumi up", "pulumi up --yes --skip-preview"],
  ["migrations undo", "migrations undo --yes"],
  ["migrations forget", "migrations forget --yes"],
  ["alembicRevision ID", "alembicRevision 0001first"],
];
const printed = async (line: string) => {
  const { code, text } = await user.run(line, substitutions());
  return { code, text: user.shown(text) };
};
async function succeed(line: string): Promise<string> {
  const { code, text } = await printed(line);
  if (code !== 0) throw new Error(`${line} ended with ${code}:\n${text}`);
  return text;
}
/** Runs every command in the table row with this first cell. */
async function runRow(task: string): Promise<string> {
  const row = tableRows(page).find(([first]) => first === task);
  // Code without a space is a name, not a command.
  const commands = inlineCode(row?.[1] ?? "").filter((code) => code.includes(" "));
  expect(commands, task).not.toEqual([]);
  let text = "";
  for (const command of commands) text += await succeed(command);
  return text;
}
const env = () => user.application.read(".env");
const inOneLine = (text: string) => text.replaceAll(/\s+/g, " ").trim();
/** Returns the page's sample output that starts with this text. */
const sample = (start: string) => codeBlocks(page).find(({ text }) => text.startsWith(start))?.text ?? "";

/** Adds the game's profiles and further services, except those that are missing in the page's example. */
async function addProfiles({ application }: NewUser): Promise<void> {
  const override = "docker-compose.override.yml";
  await rename(join(application.folder, "full.yml"), join(application.folder, override));
  const document = parseDocument(await application.read(override));
  for (const name of ["metrics", "exporter"]) document.deleteIn(["services", name]);
  await application.write(override, document.toString());
}

beforeAll(async () => {
  page = await readFile("docs/application.md", "utf8");
  user = await NewUser.make("database", async (home) => {
    await cloneProject(join(home, "database"));
    await shareObtained(join(home, "database"));
  });
  await user.application.checkIn(ENV_BEFORE);
  await addProfiles(user);
  envBefore = await env();
  const [first] = codeBlocks(page);
  for (const line of first?.text.trim().split("\n") ?? []) setUp += await succeed(line);
});
afterAll(() => user?.end());

describe("the set-up", () => {
  test("ends with healthy services that use the database", async () => {
    const listed = await succeed("docker compose --profile development ps --format '{{.Service}} {{.Health}}'");
    expect(listed.trim().split("\n").sort()).toEqual(SERVICES.map((name) => `${name} healthy`));
    await succeed("cd ../database");
  });

  test("prints the list that the page shows, with the command that starts the services", async () => {
    const [, list = ""] = /^Diagnostics:.*?^( +handover: .*?)\n\n/ms.exec(setUp) ?? [];
    expect(`${list.replaceAll(/^ {4}/gm, "")}\n`).toBe(sample("handover: "));
    const status = await succeed("./db status");
    expect(status).toContain("services    gameserver, region-manager\n");
    expect(status).toContain(
      "start       cd /home/me/Sectorwars2102 && docker compose --profile development up --wait\n",
    );
  });

  test("migrates the schema to the head, inserts the seed rows, and generates the administrator's password", async () => {
    expect(await succeed("./db migrations")).toMatch(/^ {2}revision {10}0002ships\n {2}migration backup {2}/);
    expect(await succeed("./db psql -Atc 'SELECT count(*) FROM languages'")).toBe("12\n");
    const [command = ""] = inlineCode(sectionOf(page, "Seed data")).filter((code) => code.includes("adminPassword"));
    expect(await succeed(command)).toMatch(/^\w{24}\n$/);
  });
});

describe("the .env file", () => {
  test("has the variables of the page's table in a block, without the superuser; other lines are unchanged", async () => {
    const text = await env();
    expect(text.endsWith(`# <<< sectorwars-database\n${envBefore}`)).toBe(true);
    expect((await stat(join(user.application.folder, ".env"))).mode & 0o777).toBe(0o600);
    const described = tableRows(sectionOf(page, "The .env file"))
      .flatMap(([names = ""]) => inlineCode(names))
      .map((name) => name.replace("...", "SQLALCHEMY"));
    const written = valuesOf(text.replace(envBefore, ""));
    expect(Object.keys(written).sort()).toEqual(described.sort());
    expect(written.DATABASE_URL).toMatch(/^postgresql:\/\/sectorwars_app:[A-Za-z0-9]+@localhost:\d+\/sectorwars_dev$/);
    expect(written.DATABASE_TEST_URL).toBe(`${written.DATABASE_URL}_test`);
    expect(text).not.toContain("SUPERUSER");
  });

  test("gives the superuser's credentials only to the services that the page lists", async () => {
    const config = JSON.parse(
      await succeed("(cd ../Sectorwars2102 && docker compose --profile development config --format json)"),
    );
    expect(Object.keys(config.services).sort()).toEqual([...SERVICES, "database-ready"].sort());
    const privileged = SERVICES.filter((name) => config.services[name].environment?.DB_SUPERUSER_PASSWORD);
    expect(privileged).toEqual(["region-manager"]);
  });
});

describe("errors", () => {
  test("name a missing variable as the page shows it", async () => {
    await user.application.write(".env", (await env()).replace(ENV_BEFORE, ""));
    await succeed("pulumi config set alembicRevision 0001first && pulumi config set alembicDowngrade true");
    const { code, text } = await printed("pulumi up");
    await user.application.write(".env", `${await env()}${ENV_BEFORE}`);
    expect(code).not.toBe(0);
    expect(inOneLine(text)).toContain(inOneLine(sample("The Alembic project in ")));
  });

  test("show the sum of pools that exceed max_connections as the page does", async () => {
    await succeed("pulumi config set poolWorkers 4");
    const { code, text } = await printed("pulumi preview");
    await succeed("pulumi config rm poolWorkers");
    expect(code).not.toBe(0);
    expect(inOneLine(text)).toContain(inOneLine(sample("maxConnections is 100")));
  });
});

describe("the commands of the table", () => {
  test("migrate to an older revision, show the migration backup, undo the run, and drop the copies", async () => {
    expect(await runRow("migrate to an older revision")).toContain(
      "migrations: 1 downgrade from 0002ships to 0001first",
    );
    const shown = await runRow("show the revision and the migration backup");
    expect(shown).toMatch(
      /^ {2}revision {10}0001first\n {2}migration backup {2}sectorwars_dev_before_migration, revision 0002ships, of \S+Z\n$/,
    );
    const undone = await runRow("undo the last run");
    const [undoneCopy = ""] = inlineCode(
      tableRows(page).find(([want]) => want === "undo the last run")?.[1] ?? "",
    ).slice(-1);
    expect(undone).toContain(
      `at revision 0002ships. The former database is kept as ${undoneCopy}; ./db migrations forget drops it.`,
    );
    expect(await runRow("drop the copies")).toBe(`Dropped ${undoneCopy}.\n`);
    expect(await succeed("./db migrations")).toBe("  revision          0002ships\n  migration backup  none\n");
  });

  test("keep the undone revision: the next pulumi up changes nothing", async () => {
    expect(await succeed("pulumi up")).toMatch(/Resources:\n +\d+ unchanged\n/);
  });
});
