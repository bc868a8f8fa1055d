import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { describe } from "../../cli/verify.ts";

const equal: Parameters<typeof describe>[0] = {
  stack: "dev",
  verdict: "equal",
  source: "ep-cool.neon.tech/neondb",
  target: "127.0.0.1:5433/sectorwars_dev",
  startedAt: "2026-11-23T10:00:00.000Z",
  seconds: 3.21,
  tables: 41,
  rows: 260_609,
  sequences: 1,
  definitions: 190,
  imported: { source: "ep-cool.neon.tech/neondb", finishedAt: "2026-11-22T10:00:00.000Z" },
  differences: [],
  remarks: ["view public.ranks: different, as at the import"],
};

test("the report of an equal database names what was compared", () => {
  expect(describe(equal)).toMatchInlineSnapshot(`
    "Equal: 127.0.0.1:5433/sectorwars_dev is equal to ep-cool.neon.tech/neondb (41 tables, 260,609 rows, 1 sequence, 190 definitions, in 3.2 s)
    The database was imported from ep-cool.neon.tech/neondb at 2026-11-22T10:00:00.000Z
      remark: view public.ranks: different, as at the import"
  `);
});

test("the report of differences names their keys and the database that has changed", () => {
  const told = describe({
    ...equal,
    verdict: "different",
    imported: null,
    remarks: [],
    differences: [
      { object: "rows of public.players", details: ["(id) = (5): credits", "(name) = (a\nb)"], changed: "here" },
      { object: "owner of table public.ships", details: ["postgres on the target"] },
    ],
  });
  expect(told).toMatchInlineSnapshot(`
    "Different: 2 objects differ between 127.0.0.1:5433/sectorwars_dev and ep-cool.neon.tech/neondb (compared: 41 tables, 260,609 rows, 1 sequence, 190 definitions, in 3.2 s)
      rows of public.players, changed here since the import
        (id) = (5): credits
        (name) = (a\\nb)
      owner of table public.ships
        postgres on the target"
  `);
});

const run = promisify(execFile);
const verify = (args: string[], env: Record<string, string>) =>
  run("./db", ["verify", "--stack", "none", ...args], {
    env: { PATH: process.env.PATH ?? "", ...env },
  }).then(
    ({ stdout }) => ({ code: 0, stdout, stderr: "" }),
    ({ code, stderr }: { code: number; stderr: string }) => ({ code, stdout: "", stderr }),
  );

test("./db verify exits with 2, names the remedy and shows no secret if it cannot compare", async () => {
  const url = "postgresql://me:s3cr3t@host/db";
  const [help, ...errors] = await Promise.all([
    verify(["--help"], {}),
    verify([], {}),
    verify(["--source", "OTHER"], { NEON_DATABASE_URL: url }),
    verify(["--source", url], {}),
    verify([], { NEON_DATABASE_URL: url, NEON_ROOT_CERTIFICATES: "/nowhere.pem" }),
    verify(["--nonsense"], {}),
  ]);
  expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining("Usage: ./db verify") });
  const [none, other, asArgument, noRoots, nonsense] = errors;
  expect(nonsense.stderr).toContain("--nonsense");
  expect(none.stderr).toMatch(
    /^error: \.\/db verify compares the database with the source that it names, but NEON_DATABASE_URL is not set/,
  );
  expect(other.stderr).toContain("OTHER is not set");
  expect(asArgument.stderr).toContain("--source takes the name of a variable");
  expect(noRoots.stderr).toContain("NEON_ROOT_CERTIFICATES names /nowhere.pem, which cannot be read");
  for (const { code, stderr } of errors) {
    expect(code).toBe(2);
    expect(stderr).not.toContain("s3cr3t");
  }
});
