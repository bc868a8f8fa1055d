/** However an import ends, the target is unchanged or complete, and the next run needs no manual step. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PHASES, type Phase } from "../../components/import/run/import-run.ts";
import {
  attempt,
  expectComplete,
  expectNothingLeft,
  expectUntouchedOrComplete,
  importInChild,
} from "../support/attempt.ts";
import { DENY_LIST, type Lab, openBothEnds, type Server, type SourceServer } from "../support/lab.ts";
import { LARGE, SMALL } from "../support/small.ts";

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("small", SMALL);
  await source.makeDatabase("large", LARGE);
});
afterAll(() => lab?.close());

/** Milliseconds after a phase's start, when work is running that has not begun at its start. */
const INTO: Partial<Record<Phase, number>> = { schema: 400, rows: 60, sequences: 250, swap: 25 };

describe("a worker that is killed", () => {
  test.each(PHASES)("in the phase %s leaves everything or nothing, and the next run converges", async (phase) => {
    const spec = await lab.newImport(source.source("small"), target);
    const early = await importInChild(spec, DENY_LIST, { phase, afterMs: 0 });
    expect(early.end, early.output).toBe("SIGKILL");
    expect(early.phases.at(-1)).toBe(phase);
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");

    // What the killed run has left must not block the next one, which is killed a little later.
    const afterMs = INTO[phase];
    if (afterMs !== undefined) {
      const late = await importInChild(spec, DENY_LIST, { phase, afterMs });
      expect(late.error, late.output).toBe("");
      await expectUntouchedOrComplete(spec);
    }

    await expectComplete(lab, target, spec);
  });

  test("while a large table is copied leaves nothing, and the next run converges", async () => {
    const spec = await lab.newImport(source.source("large"), target);
    const { end } = await importInChild(spec, DENY_LIST, { phase: "rows", afterMs: 250 });
    expect(end).toBe("SIGKILL");
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");
    await expectComplete(lab, target, spec);
  });

  test("between the renames and the drop of the former database: the next run drops it", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    await expectComplete(lab, target, spec);
    const former = `${spec.target.address.database}_before_import`;
    // The state after such a crash: the copy in place, and the empty database, with the import's comment.
    await target.sql("postgres", `CREATE DATABASE ${former}`);
    await target.sql("postgres", `COMMENT ON DATABASE ${former} IS 'made by the import, and dropped by it'`);
    const { error } = await attempt(spec);
    expect(error).toBe("");
    await expectNothingLeft(lab, target, spec);
  });

  test("between CREATE DATABASE and the comment on the staging database: the next run still recognises it", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    await importInChild(spec, DENY_LIST, { phase: "rows", afterMs: 0 });
    const born = `${spec.target.address.database}_import`;
    const state = `SELECT datallowconn, datconnlimit FROM pg_database WHERE datname = '${born}'`;
    expect(await target.sql("postgres", state)).toEqual([{ datallowconn: true, datconnlimit: -1 }]);
    // The state after such a crash.
    await target.sql("postgres", `DROP DATABASE ${born} WITH (FORCE)`);
    await target.sql("postgres", `CREATE DATABASE ${born} ALLOW_CONNECTIONS false CONNECTION LIMIT 20231`);
    await expectComplete(lab, target, spec);
  });

  test("a database of such a name that no import made is never dropped", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const theirs = `${spec.target.address.database}_import`;
    await target.sql("postgres", `CREATE DATABASE ${theirs}`);
    const { error } = await attempt(spec);
    expect(error).toContain(`the database ${theirs}: has a name that the import needs, and was not made by an import`);
    expect(await target.databases()).toContain(theirs);
    await target.sql("postgres", `DROP DATABASE ${theirs}`);
    await expectComplete(lab, target, spec);
  });
});
