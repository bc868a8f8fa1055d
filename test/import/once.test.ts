/** An import runs once, from one snapshot of the source, which is only read, into an empty target. */
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { provider } from "../../components/import/import-provider.ts";
import { readCatalog } from "../../components/import/schema/catalog.ts";
import { helperLabel } from "../../components/import/schema/schema.ts";
import { exportSnapshot, lockTables } from "../../components/import/source/snapshot.ts";
import type { ImportSpec } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import {
  atPhase,
  attempt,
  expectComplete,
  expectNothingLeft,
  expectSameRows,
  expectUntouched,
  importInChild,
  relationsOf,
  reportText,
  stagingOf,
} from "../support/attempt.ts";
import { catalogDigest, physicalDigest, tableDigests } from "../support/compare.ts";
import { DENY_LIST, type Lab, openBothEnds, readReport, type Server, type SourceServer } from "../support/lab.ts";
import { connect, withConnection } from "../support/session.ts";
import { SMALL } from "../support/small.ts";

let lab: Lab;
let source: SourceServer;
let target: Server;

beforeAll(async () => {
  ({ lab, source, target } = await openBothEnds());
  await source.makeDatabase("small", SMALL);
});
afterAll(() => lab?.close());

describe("one snapshot", () => {
  const BUSY = `${SMALL}
    CREATE TABLE accounts (id integer PRIMARY KEY, credits bigint NOT NULL);
    CREATE TABLE transfers (id bigserial PRIMARY KEY, giver integer NOT NULL, taker integer NOT NULL, amount bigint NOT NULL);
    INSERT INTO accounts SELECT i, 1000000 FROM generate_series(1, 500) i;`;

  /** Moves credits, and adds and changes rows of other tables, until it is stopped. */
  function startWriter(spec: ImportSpec) {
    let stopped = false;
    const result = { written: 0, slowestMs: 0 };
    const work = withConnection(spec.source.address, async (client) => {
      for (let i = 0; !stopped; i += 1) {
        const [giver, taker] = [1 + (i % 500), 1 + ((i * 7 + 3) % 500)];
        const begun = Date.now();
        await client.query(`BEGIN;
          UPDATE accounts SET credits = credits - 5 WHERE id = ${giver};
          UPDATE accounts SET credits = credits + 5 WHERE id = ${taker};
          INSERT INTO transfers (giver, taker, amount) VALUES (${giver}, ${taker}, 5);
          UPDATE pilots SET note = 'written meanwhile ${i}' WHERE id = ${1 + (i % 2000)};
          INSERT INTO tunnels VALUES (${-i}, 0, 0);
          DELETE FROM visits WHERE ctid = (SELECT ctid FROM visits LIMIT 1);
          COMMIT`);
        result.written += 1;
        result.slowestMs = Math.max(result.slowestMs, Date.now() - begun);
      }
    });
    return async () => {
      stopped = true;
      await work;
      return result;
    };
  }

  test("later writes never appear in the copy, and writers are not blocked", async () => {
    await source.makeDatabase("busy_after", BUSY);
    const spec = await lab.newImport(source.source("busy_after"), target);
    const digests = () => withConnection(spec.source.address, (client) => tableDigests(client));
    let atSnapshot: Record<string, string> = {};
    let stop: ReturnType<typeof startWriter> | undefined;
    const { error } = await attempt(
      spec,
      // When the schema phase begins, the snapshot exists and no session has written yet.
      atPhase("schema", async () => {
        atSnapshot = await digests();
        stop = startWriter(spec);
      }),
    );
    const writer = await stop?.();
    expect(error).toBe("");
    expect(writer?.written).toBeGreaterThan(50);
    expect(writer?.slowestMs).toBeLessThan(5000);
    const copied = await withConnection(spec.target.address, (client) => tableDigests(client));
    expect(copied).toEqual(atSnapshot);
    expect(await digests()).not.toEqual(atSnapshot);
  });

  test("tables are consistent while another session writes to all of them", async () => {
    await source.makeDatabase("busy", BUSY);
    const spec = await lab.newImport(source.source("busy"), target);
    let stop: ReturnType<typeof startWriter> | undefined;
    const { error } = await attempt(
      spec,
      atPhase("preflight", async () => {
        stop = startWriter(spec);
        await sleep(200);
      }),
    );
    const writer = await stop?.();
    expect(error).toBe("");
    expect(writer?.written).toBeGreaterThan(50);
    const [sums] = await target.sql(
      spec.target.address.database,
      `SELECT (SELECT count(*)::int FROM transfers) AS transfers,
        (SELECT count(*)::int FROM tunnels WHERE b = 0) AS tunnels,
        (SELECT 502 - count(*)::int FROM visits) AS deleted,
        (SELECT count(*)::int FROM accounts a WHERE credits <> 1000000
          + coalesce((SELECT sum(amount) FROM transfers WHERE taker = a.id), 0)
          - coalesce((SELECT sum(amount) FROM transfers WHERE giver = a.id), 0)) AS "wrong accounts",
        (SELECT last_value >= (SELECT max(id) FROM transfers) FROM transfers_id_seq) AS "next id is free"`,
    );
    const transfers = Number(sums?.transfers);
    expect(transfers).toBeGreaterThan(0);
    expect(transfers).toBeLessThan(writer?.written ?? 0);
    expect(sums).toEqual({
      transfers,
      tunnels: transfers,
      deleted: Math.min(transfers, 502),
      "wrong accounts": 0,
      "next id is free": true,
    });
  });
});

describe("between the snapshot and the lock", () => {
  // Neither respects the snapshot: its readers would see no rows, so source and copy would both be empty, and equal.
  test.each(["TRUNCATE hollow", "ALTER TABLE hollow ALTER id TYPE bigint"])(
    "a table that is rewritten (%s) is an error that names it",
    async (statement) => {
      const database = `moment_${Math.random().toString(36).slice(2, 8)}`;
      await source.makeDatabase(database, "CREATE TABLE hollow (id integer); INSERT INTO hollow VALUES (1), (2)");
      const snapshot = await exportSnapshot(source.source(database));
      try {
        const { tables } = await readCatalog(snapshot.holder);
        await source.sql(database, statement);
        await expect(lockTables(snapshot.holder, tables)).rejects.toThrow(
          /hollow was emptied or rewritten on the source/,
        );
      } finally {
        await snapshot.holder.end();
      }
    },
  );

  test("locked tables can be read and written by others, but not truncated", async () => {
    await source.makeDatabase("locked", "CREATE TABLE hollow (id integer); INSERT INTO hollow VALUES (1)");
    const snapshot = await exportSnapshot(source.source("locked"));
    try {
      const { tables } = await readCatalog(snapshot.holder);
      await lockTables(snapshot.holder, tables);
      await source.sql("locked", "INSERT INTO hollow VALUES (2)");
      await expect(source.sql("locked", "SET lock_timeout = '200ms'; TRUNCATE hollow")).rejects.toThrow(/lock timeout/);
    } finally {
      await snapshot.holder.end();
    }
  });
});

describe("the target", () => {
  test("is never overwritten: with a table in it the import fails and changes nothing", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const { database } = spec.target.address;
    await target.sql(database, "CREATE TABLE mine (id integer); INSERT INTO mine VALUES (1)");
    const before = await physicalDigest(spec.target.address);
    const { error } = await attempt(spec);
    expect(error).toContain(`the database ${database}: is not empty (public.mine)`);
    expect(error).toMatch(/nothing was changed/);
    expect(error).toMatch(/nothing is ever overwritten/);
    expect(await physicalDigest(spec.target.address)).toEqual(before);
    await expectNothingLeft(lab, target, spec);
  });

  test.each([
    ["a view", "CREATE VIEW mine AS SELECT 1 AS one"],
    ["a sequence", "CREATE SEQUENCE mine"],
    ["a table in a schema of its own", "CREATE SCHEMA other; CREATE TABLE other.mine ()"],
  ])("with %s in it counts as not empty", async (_what, sql) => {
    const spec = await lab.newImport(source.source("small"), target);
    await target.sql(spec.target.address.database, sql);
    const { error } = await attempt(spec);
    expect(error).toMatch(/is not empty \(\w+\.mine\)/);
  });

  test("keeps a table that was created in it while the import ran", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const { database } = spec.target.address;
    const { error } = await attempt(
      spec,
      atPhase("compare", () => target.sql(database, "CREATE TABLE mine (id integer); INSERT INTO mine VALUES (42)")),
    );
    expect(error).toContain(`was empty when the import began and now holds public.mine`);
    expect(await target.value(database, "SELECT id FROM mine")).toBe(42);
    await expectNothingLeft(lab, target, spec);
  });

  test("is swapped despite an idle session in it, and the next session sees the copy", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const idler = await connect(spec.target.address);
    const { error } = await attempt(spec);
    await idler.end().catch(() => {});
    expect(error).toBe("");
    await expectSameRows(spec);
  });

  test("allows one import at a time: the second fails and changes nothing, the first succeeds", async () => {
    const first = await lab.newImport(source.source("small"), target);
    const second = await lab.newImport(source.source("small"), target);
    let refusal = "";
    const { error } = await attempt(
      first,
      atPhase("rows", async () => {
        refusal = (await attempt(second)).error;
      }),
    );
    expect(refusal).toBe("Another import into this server is running. Wait for it, or stop it, then try again.");
    expect(error).toBe("");
    await expectSameRows(first);
    await expectUntouched(lab, target, second);
  });
});

describe("a repeated import", () => {
  test("does not query the source and writes nothing", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const { summary } = await attempt(spec);
    const { database } = spec.target.address;
    const identity = () =>
      target.value(database, "SELECT oid::int FROM pg_database WHERE datname = current_database()");
    const before = {
      connections: await source.connectionsTo("small"),
      rows: await physicalDigest(spec.target.address),
      catalog: await catalogDigest(spec.target.address),
      identity: await identity(),
      report: await reportText(spec),
    };
    const again = await attempt(spec);
    expect(again.error).toBe("");
    expect(again.summary).toEqual(summary);
    expect(again.lines.join("\n")).toContain("nothing to do");
    expect({
      connections: await source.connectionsTo("small"),
      rows: await physicalDigest(spec.target.address),
      catalog: await catalogDigest(spec.target.address),
      identity: await identity(),
      report: await reportText(spec),
    }).toEqual(before);
  });

  test("does nothing, even if the source is gone or the application has changed rows", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const { summary } = await attempt(spec);
    await target.sql(spec.target.address.database, "DELETE FROM drones; DROP TABLE tunnels");
    const gone = { ...spec.source, address: { ...spec.source.address, port: 1 } };
    const again = await attempt({ ...spec, source: gone });
    expect(again.error).toBe("");
    expect(again.summary).toEqual(summary);
    expect(await relationsOf(spec)).not.toContain("public.tunnels");
  });

  test("by the resource finds the first one done and does nothing", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const { address } = spec.target;
    // The resource takes its source from a URL, in which a container and this process see the same host.
    const inputs = {
      ...{ stack: lab.id, bootstrap: "neon", bootstrapChosen: true, owner: spec.target.owner, denyList: DENY_LIST },
      ownerPassword: spec.target.ownerPassword,
      ...{ database: address.database, host: address.host, port: address.port, user: address.user },
      ...{
        password: address.password,
        network: lab.id,
        alias: target.alias,
        container: target.container,
        image: spec.image,
      },
      ...{ newerImage: spec.newerImage, jobs: 1, dockerHost: undefined, reportFolder: spec.reportFolder },
    };
    const { user, password, port } = spec.source.address;
    const roots = join(lab.folder, "roots.pem");
    const saved = { url: process.env.NEON_DATABASE_URL, roots: process.env.NEON_ROOT_CERTIFICATES };
    await writeFile(roots, spec.source.rootCertificates ?? "");
    process.env.NEON_ROOT_CERTIFICATES = roots;
    try {
      process.env.NEON_DATABASE_URL = `postgresql://${user}:${password}@localhost:${port}/small?sslmode=require`;
      const created = await provider.create(inputs);
      expect(created.outs.summary.rows).toBeGreaterThan(4000);
      expect(JSON.stringify(created.outs.summary)).not.toContain(password);
      await expectSameRows(spec);
      await expectNothingLeft(lab, target, spec);
      delete process.env.NEON_DATABASE_URL;
      const again = await provider.create(inputs);
      expect(again.outs.summary).toEqual(created.outs.summary);
    } finally {
      process.env.NEON_DATABASE_URL = saved.url ?? "";
      if (saved.url === undefined) delete process.env.NEON_DATABASE_URL;
      process.env.NEON_ROOT_CERTIFICATES = saved.roots ?? "";
      if (saved.roots === undefined) delete process.env.NEON_ROOT_CERTIFICATES;
    }
  });
});

/** Statements that a reader may send, by their first words. */
const READING =
  /^(SAVEPOINT reading;\s*)?(SET|SELECT|BEGIN|COMMIT|ROLLBACK|SHOW|COPY .* TO STDOUT|LOCK TABLE .* IN ACCESS SHARE MODE|PREPARE|EXECUTE|DECLARE|FETCH|CLOSE|WITH|DISCARD|RESET|START TRANSACTION)\b/is;
/** Words that no statement of a reader may contain. */
const WRITING =
  /\b(INSERT INTO|UPDATE \S+ SET|DELETE FROM|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE|COMMENT ON|VACUUM|ANALYZE|REINDEX|CLUSTER|setval|nextval|lo_\w+|pg_terminate_backend|pg_advisory\w*|FROM STDIN)\b/i;

describe("the source", () => {
  test("is only read: its catalog, rows and counters are unchanged, and its log shows no write", async () => {
    await source.makeDatabase("readonly", SMALL);
    const spec = await lab.newImport(source.source("readonly"), target);
    const address = source.in("readonly");
    const state = async () => ({
      catalog: await catalogDigest(address),
      rows: await physicalDigest(address),
      files: await source.value(
        "readonly",
        "SELECT json_build_array(tup_inserted, tup_updated, tup_deleted, temp_files) FROM pg_stat_database WHERE datname = current_database()",
      ),
    });
    await state();
    const before = await state();
    const logBefore = (await source.log()).length;
    await expectComplete(lab, target, { ...spec });
    const log = (await source.log()).slice(logBefore);
    expect(await state()).toEqual(before);

    // The log's lines by session; further lines of a statement are indented.
    const statements = new Map<string, string[]>();
    const entry =
      /^\S+ \S+ UTC \[(\d+)\] (\S+)@readonly (\S+) LOG: {2}(?:statement|execute [^:]*): ([\s\S]*?)(?=^\S+ \S+ UTC \[\d+\]|$(?![\s\S]))/gm;
    for (const [, pid = "", user, application = "", statement = ""] of log.matchAll(entry)) {
      if (user !== source.user || !/^(sectorwars-import|pg_dump)$/.test(application)) continue;
      statements.set(`${application} ${pid}`, [...(statements.get(`${application} ${pid}`) ?? []), statement.trim()]);
    }
    const sessions = [...statements.keys()];
    expect(sessions.filter((name) => name.startsWith("pg_dump"))).toHaveLength(1);
    // One for the preflight, one for the exported snapshot, two readers.
    expect(sessions.filter((name) => name.startsWith("sectorwars-import"))).toHaveLength(4);
    for (const [session, said] of statements) {
      for (const statement of said) {
        expect(statement).toMatch(READING);
        // Texts in quotes are not statements.
        expect(statement.replaceAll(/'(?:[^']|'')*'/g, "''")).not.toMatch(WRITING);
      }
      if (session.startsWith("sectorwars-import")) {
        expect(said[0]).toContain("('default_transaction_read_only', 'on')");
      } else {
        expect(said.join("\n")).toMatch(/SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY/);
      }
    }
  });
});

describe("no secret", () => {
  test("is in the output, the report, the process list, or what Docker shows", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    const secrets = [spec.source.address.password, spec.target.address.password];
    const seen: string[] = [];
    let helpers = 0;
    let done = false;
    const run = promisify(execFile);
    const watch = (async () => {
      while (!done) {
        seen.push((await run("ps", ["-eww", "-o", "args"])).stdout);
        // Environment variables of the user's own processes are as visible to the user as arguments, so both are checked.
        const ids = await docker(["ps", "-aq", "--filter", `label=${helperLabel(lab.id)}`]);
        for (const id of ids.split("\n").filter(Boolean)) {
          const inspected = await docker(["inspect", id]).catch(() => "");
          if (inspected.includes('"Cmd"')) helpers += 1;
          seen.push(inspected, await docker(["logs", id]).catch(() => ""));
        }
      }
    })();
    // In its own process, so that the tests' own connections do not count.
    const good = await importInChild(spec, DENY_LIST);
    done = true;
    await watch;
    expect(good.end, good.output).toBe("0");
    expect(helpers).toBeGreaterThan(0);
    expect(seen.join("\n")).toMatch(/pg_dump/);

    const bad = await lab.newImport(source.source("small"), target);
    const failed = await attempt(
      bad,
      atPhase("rows", () => target.sql("postgres", `DROP DATABASE ${stagingOf(bad)} WITH (FORCE)`)),
    );
    expect(failed.error).not.toBe("");
    const everything = [
      ...seen,
      good.output,
      await reportText(spec),
      await reportText(bad),
      failed.error,
      ...failed.lines,
      JSON.stringify(await readReport(spec)),
      JSON.stringify(await target.sql(spec.target.address.database, "SELECT summary FROM sectorwars_stack.import")),
    ].join("\n");
    for (const password of secrets) expect(everything.includes(password)).toBe(false);
  });

  test("can be read by other users in the report, which only its owner can open", async () => {
    const spec = await lab.newImport(source.source("small"), target);
    await attempt(spec);
    const { stdout } = await promisify(execFile)("stat", [
      "-c",
      "%a",
      spec.reportFolder,
      join(spec.reportFolder, "import.json"),
    ]);
    expect(stdout.trim().split("\n")).toEqual(["700", "600"]);
    expect(await readFile(join(spec.reportFolder, "import.html"), "utf8")).toContain("pilots");
  });
});
