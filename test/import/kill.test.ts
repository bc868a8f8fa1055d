/** Whatever ends an import, the target is untouched or complete, and the next run needs nobody's help. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PHASES, type Phase } from "../../components/import/worker.ts";
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

/** Milliseconds into a phase in which something is under way that its beginning does not show. */
const INTO: Partial<Record<Phase, number>> = { schema: 400, rows: 60, sequences: 250, swap: 25 };

describe("a worker that is killed", () => {
  test.each(PHASES)("in the phase %s leaves all or nothing, and the next run converges", async (phase) => {
    const spec = await lab.newImport(source.source("small"), target);
    const early = await importInChild(spec, DENY_LIST, { phase, afterMs: 0 });
    expect(early.end, early.output).toBe("SIGKILL");
    expect(early.phases.at(-1)).toBe(phase);
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");

    // What the dead one has left must not be in the way of the next, which dies a little later.
    const afterMs = INTO[phase];
    if (afterMs !== undefined) {
      const late = await importInChild(spec, DENY_LIST, { phase, afterMs });
      expect(late.error, late.output).toBe("");
      await expectUntouchedOrComplete(spec);
    }

    await expectComplete(lab, target, spec);
  });

  test("while a large table is on its way", async () => {
    const spec = await lab.newImport(source.source("large"), target);
    const { end } = await importInChild(spec, DENY_LIST, { phase: "rows", afterMs: 250 });
    expect(end).toBe("SIGKILL");
    expect(await expectUntouchedOrComplete(spec)).toBe("untouched");
    await expectComplete(lab, target, spec);
  });

  test("between the two names' change and the removal of the former database: the next run removes it", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    await expectComplete(lab, target, spec);
    const former = `${spec.target.address.database}_before_import`;
    // The very state that such a death leaves: the copy in place, the empty database beside it, with the import's mark.
    await target.sql("postgres", `CREATE DATABASE ${former}`);
    await target.sql("postgres", `COMMENT ON DATABASE ${former} IS 'made by the import, and dropped by it'`);
    const { error } = await attempt(spec);
    expect(error).toBe("");
    await expectNothingLeft(lab, target, spec);
  });

  test("between the making of the database aside and its mark: the next run knows it all the same", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    await importInChild(spec, DENY_LIST, { phase: "rows", afterMs: 0 });
    const born = `${spec.target.address.database}_import`;
    const state = `SELECT datallowconn, datconnlimit FROM pg_database WHERE datname = '${born}'`;
    expect(await target.sql("postgres", state)).toEqual([{ datallowconn: true, datconnlimit: -1 }]);
    // The very state that such a death leaves.
    await target.sql("postgres", `DROP DATABASE ${born} WITH (FORCE)`);
    await target.sql("postgres", `CREATE DATABASE ${born} ALLOW_CONNECTIONS false CONNECTION LIMIT 20231`);
    await expectComplete(lab, target, spec);
  });

  test("a database of such a name that is somebody else's is never dropped", async () => {
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
