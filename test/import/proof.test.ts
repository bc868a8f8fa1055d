/** Every kind of damage to a copy must end the import. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findDigestProgram, serverAgrees, WORTH_A_PROGRAM_BYTES } from "../../components/import/rows/digest.ts";
import { type Readable, readBack, type Transfer } from "../../components/import/rows/rows.ts";
import type { ImportHooks } from "../../components/import/run/import-run.ts";
import { openTarget } from "../../components/import/session/session.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import {
  atPhase,
  atTable,
  attempt,
  expectBadReport,
  expectComplete,
  expectUntouched,
  stagingOf,
} from "../support/attempt.ts";
import { type Lab, openBothEnds, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { SMALL } from "../support/small.ts";

/** A table large enough for the server to compute its digest. */
const LEDGER = `CREATE TABLE ledger (entry integer PRIMARY KEY, amount numeric NOT NULL, note text);
  INSERT INTO ledger SELECT i, i / 7.0, md5(i::text) FROM generate_series(1, 20000) i;`;

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("small", `${SMALL} ${LEDGER}`);
});
afterAll(() => lab?.close());

type SpoilHooks = (spoil: (spec: ImportSpec) => Promise<unknown>, spec: ImportSpec) => Partial<ImportHooks>;

const whenLoaded =
  (table: string): SpoilHooks =>
  (spoil, spec) =>
    atTable(table, () => spoil(spec));
const whenBegins =
  (phase: Parameters<typeof atPhase>[0]): SpoilHooks =>
  (spoil, spec) =>
    atPhase(phase, () => spoil(spec));

interface Case {
  what: string;
  hooks: SpoilHooks;
  /** Run as the superuser in the staging database. */
  sql: string;
  message: RegExp[];
}

const ROWS: Case[] = [
  {
    what: "one cell changed",
    hooks: whenLoaded("pilots"),
    sql: "UPDATE pilots SET credits = credits + 1 WHERE id = 1234",
    message: [/public\.pilots/, /\(id\) = \(1234\)/],
  },
  {
    what: "a row deleted",
    hooks: whenLoaded("pilots"),
    sql: "DELETE FROM pilots WHERE id = 77",
    message: [/public\.pilots/, /\(id\) = \(77\), missing on the target/],
  },
  {
    what: "a row added",
    hooks: whenLoaded("tunnels"),
    sql: "INSERT INTO tunnels VALUES (-1, -2, 0)",
    message: [/public\.tunnels/, /\(a, b\) = \(-1,-2\), not on the source/],
  },
  {
    what: "the last digit of a float changed",
    hooks: whenLoaded("tunnels"),
    sql: "UPDATE tunnels SET stability = stability * (1 + 2.3e-16) WHERE a = 3",
    message: [/public\.tunnels/, /\(a, b\) = \(3,4\)/],
  },
  {
    what: "two values swapped between rows",
    hooks: whenLoaded("pilots"),
    sql: "UPDATE pilots SET name = CASE id WHEN 5 THEN 'Pilot 6' ELSE 'Pilot 5' END WHERE id IN (5, 6)",
    message: [/public\.pilots/, /\(id\) = \(5\)/, /\(id\) = \(6\)/],
  },
  {
    what: "one digit in a large table",
    hooks: whenLoaded("ledger"),
    sql: "UPDATE ledger SET amount = amount + 1e-16 WHERE entry = 19999",
    message: [/public\.ledger/, /\(entry\) = \(19999\): amount/],
  },
  {
    what: "a row doubled and another deleted, in a table without a key",
    hooks: whenLoaded("visits"),
    sql: `INSERT INTO visits SELECT * FROM visits WHERE at = '2026-01-01 00:01+00';
      DELETE FROM visits WHERE at = '2026-01-01 00:02+00'`,
    message: [/public\.visits: 2 rows; the table has no key/],
  },
  {
    what: "a pair of equal rows turned into another pair",
    hooks: whenLoaded("visits"),
    sql: "UPDATE visits SET ok = false WHERE address = '10.0.0.2'",
    message: [/public\.visits/],
  },
  {
    what: "NULL in place of an empty text",
    hooks: whenLoaded("pilots"),
    sql: "UPDATE pilots SET note = NULL WHERE id = 3",
    message: [/public\.pilots/, /\(id\) = \(3\)/],
  },
  {
    what: "white space inside json",
    hooks: whenLoaded("drones"),
    sql: `UPDATE drones SET orders = '{"b": 1, "a": [1, 2]}' WHERE id = 9`,
    message: [/public\.drones/, /\(id\) = \(9\)/],
  },
  {
    what: "another scale of a number inside jsonb",
    hooks: whenLoaded("drones"),
    sql: `UPDATE drones SET cargo = '{"ore": 1.5}' WHERE id = 10`,
    message: [/public\.drones/, /\(id\) = \(10\)/],
  },
  {
    what: "a value inside a composite",
    hooks: whenLoaded("homes"),
    sql: "UPDATE homes SET place.orbit = 1 WHERE name = 'Home 7'",
    message: [/public\.homes/, /\(name\) = \("Home 7"\)/],
  },
  {
    what: "a generated column with another value",
    hooks: whenLoaded("pilots"),
    sql: "ALTER TABLE pilots ALTER half DROP EXPRESSION; UPDATE pilots SET half = -1 WHERE id = 50",
    message: [/public\.pilots/, /\(id\) = \(50\)/],
  },
];

const SCHEMA: Case[] = [
  {
    what: "an index dropped",
    hooks: whenBegins("sequences"),
    sql: "DROP INDEX visits_at_idx",
    message: [/index public\.visits_at_idx: missing on the target/],
  },
  {
    what: "an additional index",
    hooks: whenBegins("sequences"),
    sql: "CREATE INDEX surplus ON visits (ok)",
    message: [/index public\.surplus: not on the source/],
  },
  {
    what: "a default changed",
    hooks: whenBegins("sequences"),
    sql: "ALTER TABLE pilots ALTER credits SET DEFAULT 1",
    message: [/public\.pilots.*: different/],
  },
  {
    what: "a foreign key dropped",
    hooks: whenBegins("sequences"),
    sql: "ALTER TABLE drones DROP CONSTRAINT drones_pilot_fkey",
    message: [/fk constraint public\.drones drones_pilot_fkey: missing on the target/],
  },
  {
    what: "a view with another definition",
    hooks: whenBegins("sequences"),
    sql: "CREATE OR REPLACE VIEW captains AS SELECT id, name FROM pilots WHERE rank = 'pilot'",
    message: [/view public\.captains: different/],
  },
  {
    // From here on pg_dump may have read the definitions, because it runs at the same time.
    what: "a default changed when all definitions are in place",
    hooks: whenBegins("sequences"),
    sql: "ALTER TABLE pilots ALTER credits SET DEFAULT 1",
    message: [/public\.pilots.*: different/],
  },
  {
    what: "an index dropped when all definitions are in place",
    hooks: whenBegins("sequences"),
    sql: "DROP INDEX visits_at_idx",
    message: [/index public\.visits_at_idx: missing on the target/],
  },
  {
    what: "a sequence off by one when the comparison begins",
    hooks: whenBegins("compare"),
    sql: "SELECT setval('tickets', 105)",
    message: [/sequence .*tickets.*: 104 on the source, 105 on the target/],
  },
  {
    what: "a sequence that counts as used when the comparison begins",
    hooks: whenBegins("compare"),
    sql: "SELECT setval('untouched', 1, true)",
    message: [/sequence .*untouched.*: 1 \(not used yet\) on the source, 1 on the target/],
  },
];

describe.each([
  { kind: "rows", cases: ROWS },
  { kind: "schema and sequences", cases: SCHEMA },
])("damaged $kind", ({ cases }) => {
  test.each(cases)(
    "$what is an error that names it, and the target stays unchanged",
    async ({ hooks, sql, message }) => {
      const spec = await lab.newImport(source.source("small"), target);
      let spoilt = 0;
      const { error } = await attempt(
        spec,
        hooks(async () => {
          await target.sql(stagingOf(spec), sql);
          spoilt += 1;
        }, spec),
      );
      expect(spoilt).toBe(1);
      for (const part of message) expect(error).toMatch(part);
      expect(error).toContain("the target is as it was");
      await expectUntouched(lab, target, spec);
      await expectBadReport(spec, message[0] as RegExp);
    },
  );
});

test("a server that computes the digest itself accepts only the rows that were sent", async () => {
  await target.sql("postgres", "CREATE DATABASE agreeing");
  const client = await openTarget(target.in("agreeing"));
  const digestProgram = await findDigestProgram(client);
  if (digestProgram === undefined) throw new Error("the image has no program that computes digests");
  const agrees = (table: Readable, sent: Transfer) => serverAgrees(table, sent, client, digestProgram);
  try {
    await client.query(`${LEDGER.replaceAll("ledger", "public.ledger")}
      ALTER TABLE public.ledger ADD twice numeric GENERATED ALWAYS AS (amount * 2) STORED`);
    const columns = ["entry", "amount", "note"].map((name) => ({ name, generated: false }));
    for (const format of ["binary", "text"] as const) {
      const ledger = { sql: "public.ledger", columns: [...columns, { name: "twice", generated: true }], format };
      const sent = await readBack(ledger, client);
      expect(sent.bytes).toBeGreaterThan(WORTH_A_PROGRAM_BYTES);
      expect(await agrees(ledger, sent)).toBe(true);
      expect(await agrees(ledger, { ...sent, rows: 19_999 })).toBe(false);
      await client.query("UPDATE public.ledger SET note = NULL WHERE entry = 20000");
      expect(await agrees(ledger, sent)).toBe(false);
      expect(await agrees(ledger, await readBack(ledger, client))).toBe(true);
      await client.query(
        "TRUNCATE public.ledger; INSERT INTO public.ledger SELECT i, 1, md5(i::text) FROM generate_series(1, 40000) i",
      );
      await expect(agrees(ledger, { ...sent, sha256: "'; touch /tmp/x" })).resolves.toBe(false);
    }
  } finally {
    await client.end();
  }
});

describe("an import leaves no error in the server's log", () => {
  /** Takes programs out of the server's PATH while some work runs. */
  async function without(programs: string[], work: () => Promise<void>): Promise<void> {
    const move = (from: string, to: string) =>
      docker([
        ...["exec", "-u", "root", target.container, "sh", "-euc"],
        `for name in "$@"; do path=$(command -v $name${from}) || continue; mv "$path" "\${path%${from}}${to}"; done`,
        ...["sh", ...programs],
      ]);
    try {
      await move("", ".hidden");
      await work();
    } finally {
      await move(".hidden", "");
    }
  }

  test.each([
    { hidden: ["nothing"], found: /^(openssl|sha256sum)$/ },
    { hidden: ["openssl"], found: /^sha256sum$/ },
    { hidden: ["openssl", "sha256sum"], found: /^undefined$/ },
  ])("on a server without $hidden", async ({ hidden, found }) => {
    await without(hidden, async () => {
      const client = await openTarget(target.admin);
      try {
        expect(String(await findDigestProgram(client))).toMatch(found);
      } finally {
        await client.end();
      }
      const before = (await target.log()).length;
      const spec = await lab.newImport(source.source("small"), target);
      await expectComplete(lab, target, spec);
      expect((await target.log()).slice(before)).not.toMatch(/ERROR|not found/);
    });
  });
});

test("an error names the first ten rows that differ, and counts the others", async () => {
  const spec = await lab.newImport(source.source("small"), target);
  const { error } = await attempt(
    spec,
    atTable("pilots", () => target.sql(stagingOf(spec), "UPDATE pilots SET note = 'x' WHERE id BETWEEN 1 AND 25")),
  );
  expect(error.match(/\(id\) = /g)).toHaveLength(10);
  expect(error).toContain("and 15 more");
});

test("rows in another order are not a difference", async () => {
  const spec = await lab.newImport(source.source("small"), target);
  const { error } = await attempt(
    spec,
    atTable("visits", () =>
      target.sql(
        stagingOf(spec),
        `CREATE TEMP TABLE kept AS SELECT * FROM visits; TRUNCATE visits; INSERT INTO visits SELECT * FROM kept ORDER BY at DESC`,
      ),
    ),
  );
  expect(error).toBe("");
  const report = await readReport(spec);
  expect(report.verdict).toBe("identical");
  expect(report.tables.find(({ table }) => table === "public.visits")?.verdict).toBe("equal as a set");
});

test("the run after rejected copies succeeds", async () => {
  const spec = await lab.newImport(source.source("small"), target);
  for (const { sql } of [ROWS[0], ROWS[1]] as Case[]) {
    const { error } = await attempt(
      spec,
      atTable("pilots", () => target.sql(stagingOf(spec), sql)),
    );
    expect(error).toContain("public.pilots");
  }
  await expectComplete(lab, target, spec);
  expect((await readReport(spec)).verdict).toBe("identical");
});
