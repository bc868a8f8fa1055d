/** Neon's traps, each tested with a source that has it. The tests also show that each trap is real. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openSource } from "../../components/import/session/session.ts";
import type { ImportSpec, Report, Source } from "../../components/import/types.ts";
import { docker } from "../../lib/docker.ts";
import { Neon } from "../neon/neon.ts";
import { type Attempt, atPhase, attempt, expectNothingLeft, expectUntouched, reportText } from "../support/attempt.ts";
import { catalogDigest, physicalDigest, tableDigests } from "../support/compare.ts";
import { haveImage, images, Lab, readReport, type Server } from "../support/lab.ts";
import { connect, withConnection } from "../support/session.ts";
import { SMALL } from "../support/small.ts";

const withNewer = await haveImage(images().newerPostgres);

let lab: Lab;
let target: Server;
let neon: Neon;
let newer: Neon | undefined;
let game: string;

beforeAll(async () => {
  lab = await Lab.open();
  game = `${SMALL}${await readFile("test/neon/game.sql", "utf8")}`;
  const { databaseBase, newerPostgres } = images();
  [neon, newer, target] = await Promise.all([
    Neon.start(lab, "ep-cool-name-123456", databaseBase, 15),
    withNewer ? Neon.start(lab, "ep-calm-moon-654321", newerPostgres, 17) : undefined,
    lab.startTarget(),
  ]);
  await neon.makeDatabase("traps", game);
});
afterAll(async () => {
  await Promise.all([neon?.close(), newer?.close()]);
  await lab?.close();
});

/** Everything that defines a project's cluster, as pg_dumpall writes it; its \restrict keys are random each time. */
const definitions = async ({ compute }: Neon): Promise<string> => {
  const dump = await docker(["exec", compute.container, "pg_dumpall", "-s", "-U", "cloud_admin", "-l", "postgres"]);
  return dump.replaceAll(/^\\(un)?restrict .*$/gm, "");
};

/** What a reader must not change: definitions, catalog, rows and their positions, write counters, slots. */
const stateOf = async (project: Neon, database: string) => ({
  definitions: await definitions(project),
  catalog: await catalogDigest(project.compute.in(database)),
  rows: await physicalDigest(project.compute.in(database)),
  counters: await project.compute.value(
    database,
    `SELECT json_build_array(tup_inserted, tup_updated, tup_deleted, temp_files, (SELECT count(*) FROM pg_replication_slots),
      (SELECT json_agg(json_build_array(relname, n_tup_ins, n_tup_upd, n_tup_del, vacuum_count, analyze_count) ORDER BY relid) FROM pg_stat_user_tables))
     FROM pg_stat_database WHERE datname = current_database()`,
  ),
});

describe.each([
  // musl has one collation, and sorts C.UTF-8 like C.
  { version: 15, collation: /^libc C(\.UTF-8)?$/, project: () => neon },
  { version: 17, collation: /^builtin C\.UTF-8$/, project: () => newer as Neon },
])("an import from PostgreSQL $version", { skip: !withNewer }, ({ version, collation, project }) => {
  let spec: ImportSpec;
  let result: Attempt;
  let report: Report;
  let visits: Neon["front"]["visits"];
  let before: Awaited<ReturnType<typeof stateOf>>;
  let after: typeof before;

  beforeAll(async () => {
    const { compute, front } = project();
    await project().makeDatabase("neondb", game);
    // Timeouts that a customer has set for other sessions must not end these.
    const limits = ["statement_timeout = '900ms'", "idle_session_timeout = '900ms'", "lock_timeout = '1ms'"];
    if (version >= 17) limits.push("transaction_timeout = '900ms'");
    await compute.sql("postgres", limits.map((limit) => `ALTER ROLE neondb_owner SET ${limit}`).join(";"));
    const endpoint = project().host.split(".")[0];
    const query = `sslmode=require&channel_binding=require&options=endpoint%3D${endpoint}`;
    const order = await lab.newImport(project().source(project().url("neondb", { pooled: true, query })), target);
    // One session that does all the work, and more sessions than there may be CPUs.
    spec = { ...order, jobs: version >= 17 ? 5 : 1 };
    await stateOf(project(), "neondb");
    before = await stateOf(project(), "neondb");
    const seen = front.visits.length;
    // Longer than any of the limits, so that a wait here is a wait inside a transaction.
    result = await attempt(
      spec,
      atPhase("rows", () => sleep(2500)),
    );
    visits = front.visits.slice(seen);
    after = await stateOf(project(), "neondb");
    await compute.sql("postgres", "ALTER ROLE neondb_owner RESET ALL");
    report = await readReport(spec);
  });

  test("succeeds with every row, including those that a policy hides from others", async () => {
    expect(result.error).toBe("");
    expect(report.verdict).toBe("identical");
    expect(report.sourceVersion).toMatch(new RegExp(`^${version}\\.`));
    expect(report.alembicRevision).toBe("a7c3e91b04d2");
    const { database } = spec.target.address;
    expect(await target.value(database, "SELECT count(*)::int FROM messages")).toBe(300);
    const theirs = await withConnection(project().compute.in("neondb"), (client) => tableDigests(client));
    const ours = await withConnection(spec.target.address, (client) => tableDigests(client));
    for (const table of Object.keys(theirs).filter((name) => name.startsWith("public."))) {
      expect(ours[table], table).toBe(theirs[table]);
    }
  });

  test("connects to the direct host, although the URL has the pooled one, and reports it", () => {
    expect(new Set(visits.map(({ host }) => host))).toEqual(new Set([project().host]));
    expect(report.source).toBe(`${project().host}/neondb`);
    const remarks = report.remarks.join("\n");
    expect(remarks).toContain(`pooled host ${project().pooledHost} replaced by the direct one, ${project().host}`);
    expect(remarks).toContain("options=endpoint left out: the host's name says it to the server (SNI)");
    expect(remarks).toContain("sslmode require: certificate and host name are verified anyway (verify-full)");
  });

  test("opens one connection for the preflight, one for the exported snapshot, one for each job, and pg_dump's", () => {
    expect(visits.map(({ application }) => application).sort()).toEqual([
      "pg_dump",
      ...Array(2 + spec.jobs).fill("sectorwars-import"),
    ]);
  });

  test("uses channel binding on every connection, including pg_dump's", () => {
    expect(visits.map(({ mechanism }) => mechanism)).toEqual(Array(3 + spec.jobs).fill("SCRAM-SHA-256-PLUS"));
  });

  test("leaves the source as it was: definitions, roles, settings, rows, counters, slots", () => {
    expect(before.definitions).toMatch(/ALTER DEFAULT PRIVILEGES FOR ROLE cloud_admin/);
    expect(after).toEqual(before);
  });

  test("is needed, because a plain dump contains guards, settings and grants that another server rejects", async () => {
    const dump = await docker(["exec", project().compute.container, "pg_dump", "-s", "-U", "cloud_admin", "neondb"]);
    expect(dump).toMatch(/^\\restrict /m);
    expect(dump).toMatch(/^ALTER DEFAULT PRIVILEGES FOR ROLE cloud_admin .* WITH GRANT OPTION;/m);
    expect(/^SET transaction_timeout = 0;/m.test(dump)).toBe(version >= 17);
    expect(dump).toMatch(/^CREATE EXTENSION IF NOT EXISTS pg_session_jwt/m);
  });

  test("fetches each row once", async () => {
    const log = await project().compute.log();
    // Several small tables are read in one statement, which is one log entry of several lines.
    const entries = log.split(/^(?=\d{4}-\d\d-\d\d )/m).filter((entry) => entry.includes("neondb_owner@neondb "));
    const copied = entries.flatMap((entry) => [...entry.matchAll(/COPY ("\w+"\."\w+")[^;]*? TO STDOUT/g)]);
    const tables = copied.map(([, table]) => table).sort();
    expect(tables).toEqual(report.tables.map(({ table }) => table.replace(/^(.*)\.(.*)$/, '"$1"."$2"')).sort());
  });

  test("leaves out what belongs to Neon, and lists it", async () => {
    const listed = report.skipped.map(({ what }) => what);
    for (const what of ["schema neon", "schema neon_auth", "schema neon_migration", "extension neon"]) {
      expect(listed).toContain(what);
    }
    for (const what of ["extension pg_session_jwt", "publication everything", "event trigger noted"]) {
      expect(listed).toContain(what);
    }
    const [found] = await target.sql(
      spec.target.address.database,
      `SELECT (SELECT count(*)::int FROM pg_namespace WHERE nspname LIKE 'neon%' OR nspname = 'auth') AS schemas,
        (SELECT count(*)::int FROM pg_roles WHERE rolname LIKE 'neon%' OR rolname = 'cloud_admin') AS roles,
        (SELECT count(*)::int FROM pg_default_acl WHERE defaclrole::regrole::text <> 'sectorwars_owner') AS defaults,
        (SELECT count(*)::int FROM pg_publication) + (SELECT count(*)::int FROM pg_event_trigger WHERE evtname = 'noted') AS others`,
    );
    expect(found).toEqual({ schemas: 0, roles: 0, defaults: 0, others: 0 });
  });

  test("names both collations, and builds indexes in the new order", async () => {
    expect(report.collations.source).toMatch(collation);
    expect(report.remarks.join("\n")).toContain(
      `text sorts by ICU en-US here and by ${report.collations.source} on the source`,
    );
    const { database } = spec.target.address;
    const [checked] = await target.sql(
      database,
      `CREATE SCHEMA checking; CREATE EXTENSION amcheck SCHEMA checking;
       SELECT count(checking.bt_index_check(i.indexrelid, true) IS NULL)::int AS indexes FROM pg_index i
       JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
       WHERE a.amname = 'btree' AND c.relnamespace = 'public'::regnamespace`,
    );
    await target.sql(database, "DROP SCHEMA checking CASCADE");
    expect(checked?.indexes).toBeGreaterThan(8);
  });

  test("prints and writes no secret, and leaves nothing except the database", async () => {
    const said = [...result.lines, await reportText(spec)].join("\n");
    expect(said).toContain(project().host);
    expect(said.includes(project().password)).toBe(false);
    expect(said.includes(target.admin.password)).toBe(false);
    await expectNothingLeft(lab, target, spec);
  });

  test("happens once: the next run opens no connection", async () => {
    const { visits: all } = project().front;
    const known = all.length;
    const again = await attempt(spec);
    expect(again.summary).toEqual(result.summary);
    expect(all).toHaveLength(known);
  });
});

describe("the pooled host", () => {
  test("does not work: it rejects pg_dump", async () => {
    const source = neon.pooled(neon.source(neon.url("traps", { query: "sslmode=require" })));
    const spec = await lab.newImport(source, target);
    const { error } = await attempt(spec);
    expect(error).toMatch(/unsupported startup parameter in options: search_path/);
    await expectUntouched(lab, target, spec);
  });

  test("would pass a session's settings to the next client", async () => {
    const { address } = neon.pooled(neon.source(neon.url("pool", { query: "sslmode=require" })));
    await neon.makeDatabase("pool", "");
    await (await openSource(address)).end();
    await withConnection(address, async (client) => {
      expect((await client.query("SHOW default_transaction_read_only")).rows).toEqual([
        { default_transaction_read_only: "on" },
      ]);
    });
  });

  test("with an endpoint option is refused by the proxy, so the option is never sent", async () => {
    const { address } = neon.pooled(neon.source(neon.url("traps")));
    const client = new pg.Client({
      ...address,
      ssl: address.tls,
      options: `endpoint=${neon.host.split(".")[0]}`,
    });
    client.on("error", () => {});
    await expect(client.connect()).rejects.toThrow(
      /Inconsistent project name inferred from SNI \('ep-cool-name-123456-pooler'\)/,
    );
  });
});

describe("channel binding", () => {
  test("that the URL requires and the server does not offer ends the attempt before the password is sent", async () => {
    const spec = await lab.newImport(neon.pooled(neon.source(neon.url("traps"))), target);
    const seen = neon.front.visits.length;
    const { error } = await attempt(spec);
    expect(error).toMatch(/does not offer channel binding \(SCRAM-SHA-256-PLUS\).*; the password was not sent/);
    expect(neon.front.visits.slice(seen)).toEqual([
      { host: neon.pooledHost, user: "neondb_owner", application: "sectorwars-import" },
    ]);
  });

  test.each([
    ["", "SCRAM-SHA-256-PLUS"],
    ["&channel_binding=prefer", "SCRAM-SHA-256-PLUS"],
    ["&channel_binding=disable", "SCRAM-SHA-256"],
  ])("is used if it is offered, unless the URL forbids it: %j", async (query, mechanism) => {
    await (await openSource(neon.source(neon.url("traps", { query: `sslmode=require${query}` })).address)).end();
    expect(neon.front.visits.at(-1)?.mechanism).toBe(mechanism);
  });
});

describe("a suspended endpoint", () => {
  const address = () => neon.source(neon.url("traps")).address;
  /** Counts the attempts while a session is opened; with the error, if that fails. */
  async function knock(patienceMs: number) {
    const seen = neon.front.visits.length;
    const begun = Date.now();
    const error = await openSource(address(), patienceMs).then(
      (client) => client.end().then(() => ""),
      (reason: Error) => reason.message,
    );
    return { error, visits: neon.front.visits.length - seen, milliseconds: Date.now() - begun };
  }

  test("is waited for if it answers late, or only after some failures", async () => {
    neon.front.suspend({ milliseconds: 2000 });
    const late = await knock(60_000);
    expect(late).toMatchObject({ error: "", visits: 1 });
    expect(late.milliseconds).toBeGreaterThanOrEqual(2000);
    neon.front.suspend({ failures: 3 });
    expect(await knock(60_000)).toMatchObject({ error: "", visits: 4 });
  });

  test("that never wakes fails after growing pauses", async () => {
    neon.front.suspend({ failures: Number.POSITIVE_INFINITY });
    const { error, visits, milliseconds } = await knock(3000);
    neon.front.suspend({});
    expect(error).toBe("Couldn't connect to compute node");
    expect(milliseconds).toBeLessThan(5000);
    // Pauses of 50, 75, 113 ms and so on, up to a second each: nine fit into three seconds, and no more.
    expect(visits).toBeGreaterThan(3);
    expect(visits).toBeLessThanOrEqual(10);
  });

  test.each([
    "Your account or project has exceeded the compute time quota. Upgrade your plan to increase limits.",
    "The requested endpoint could not be found, or you don't have access to it. Please check the provided ID and try again.",
  ])("that rejects the client is not tried again: %s", async (message) => {
    neon.front.suspend({ failures: 2, message });
    const spec = await lab.newImport(neon.source(neon.url("traps")), target);
    const seen = neon.front.visits.length;
    const { error } = await attempt(spec);
    neon.front.suspend({});
    expect(error).toContain(message);
    expect(error).toMatch(/Neon console/);
    expect(neon.front.visits).toHaveLength(seen + 1);
  });
});

test("a wrong password is tried once, because Neon locks out clients that try too often", async () => {
  const source = neon.source(neon.url("traps", { password: "entirely-wrong-secret" }));
  const seen = neon.front.visits.length;
  const spec = await lab.newImport(source, target);
  const { error } = await attempt(spec);
  expect(error).toMatch(/password authentication failed for user "neondb_owner"\. The password is wrong/);
  expect(error.includes("entirely-wrong-secret")).toBe(false);
  expect(neon.front.visits).toHaveLength(seen + 1);
  await expectUntouched(lab, target, spec);
});

test("a proxy that cuts its connections ends the import, and nothing is left of it", async () => {
  const spec = await lab.newImport(neon.source(neon.url("traps")), target);
  const { error } = await attempt(
    spec,
    atPhase("rows", async () => neon.front.cut()),
  );
  expect(error).toContain(`The source ${neon.host}/traps went away while the import ran`);
  await expectUntouched(lab, target, spec);
});

test("everything that needs roles or objects that are not copied is named before any row is copied", async () => {
  const source = await neon.makeDatabase(
    "tied",
    `CREATE TABLE posts (id integer PRIMARY KEY, reply_to integer REFERENCES posts, author text REFERENCES neon_auth.users_sync (id));
     INSERT INTO posts VALUES (1, NULL, 'u1');
     CREATE POLICY mine ON posts TO authenticated USING (true);
     CREATE POLICY theirs ON posts USING (author = auth.user_id());`,
  );
  const spec = await lab.newImport(source, target);
  const first = await attempt(spec);
  expect(first.error).toMatch(/role authenticated: policies name it .*CREATE ROLE "authenticated" NOLOGIN/);
  await target.sql("postgres", "CREATE ROLE authenticated NOLOGIN");

  const second = await attempt(spec);
  const drop =
    "It belongs to Neon and is not copied. Create a branch in the Neon console, drop the object there, and import the branch.";
  expect(second.error.split("\n")).toEqual([
    "Not every object of the source can be created on the target, so no row was copied:",
    `  - policy public.posts theirs: schema "auth" does not exist. ${drop}`,
    `  - fk constraint public.posts posts_author_fkey: relation "neon_auth.users_sync" does not exist. ${drop}`,
  ]);
  expect(await neon.compute.log()).not.toMatch(/@tied \S+ LOG: {2}statement: COPY/);
  await expectUntouched(lab, target, spec);

  await neon.compute.sql("tied", "ALTER TABLE posts DROP CONSTRAINT posts_author_fkey; DROP POLICY theirs ON posts");
  const again = await attempt(spec);
  expect(again.error).toBe("");
  expect(await target.value(spec.target.address.database, "SELECT polroles::regrole[]::text FROM pg_policy")).toBe(
    "{authenticated}",
  );
});

test("the server ends a session that is idle in a transaction, unless the session disables that", async () => {
  const { address } = neon.source(neon.url("traps"));
  const idle = await connect(address);
  await idle.query("BEGIN");
  const ours = await openSource(address);
  await ours.query("BEGIN");
  await sleep(2000);
  await expect(idle.query("SELECT 1")).rejects.toThrow(/idle-in-transaction timeout|terminated|not queryable/);
  expect((await ours.query("SHOW idle_in_transaction_session_timeout")).rows).toEqual([
    { idle_in_transaction_session_timeout: "0" },
  ]);
  await ours.end();
  await idle.end().catch(() => {});
});

/** Activity on the source: rows are inserted, changed and deleted, and a migration works on its own tables. */
function startWriter(address: Source["address"]) {
  let stopped = false;
  const result = { written: 0, slowestMs: 0 };
  const work = withConnection(address, async (client) => {
    for (let i = 0; !stopped; i += 1) {
      const begun = Date.now();
      await client.query(`BEGIN;
        UPDATE accounts SET credits = credits - 5 WHERE id = ${1 + (i % 500)};
        UPDATE accounts SET credits = credits + 5 WHERE id = ${1 + ((i * 7 + 3) % 500)};
        INSERT INTO messages (id, body) VALUES (${1000 + i}, 'written meanwhile');
        DELETE FROM ships WHERE name = (SELECT min(name) FROM ships);
        SELECT nextval('tickets');
        COMMIT`);
      if (i % 10 === 0) {
        await client.query(`CREATE TABLE scratch (id integer); ALTER TABLE scratch ADD note text; DROP TABLE scratch`);
      }
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

describe("during writes on the source", () => {
  test("no write after the snapshot appears, and writers are not blocked", async () => {
    const source = await neon.makeDatabase("busy", game);
    const spec = await lab.newImport(source, target);
    const digests = () => withConnection(neon.compute.in("busy"), (client) => tableDigests(client));
    let atSnapshot: Record<string, string> = {};
    let stop: ReturnType<typeof startWriter> | undefined;
    let refusal = "";
    const { error } = await attempt(spec, {
      onPhase: async (phase) => {
        if (phase === "schema") {
          atSnapshot = await digests();
          stop = startWriter(source.address);
        } else if (phase === "rows") {
          await sleep(500);
          refusal = await neon.compute.sql("busy", "SET lock_timeout = '200ms'; TRUNCATE visits").then(
            () => "none",
            (reason: Error) => reason.message,
          );
        }
      },
    });
    const writer = await stop?.();
    expect(error).toBe("");
    expect(writer?.written).toBeGreaterThan(50);
    expect(writer?.slowestMs).toBeLessThan(2000);
    expect(refusal).toMatch(/lock timeout/);
    const copied = await withConnection(spec.target.address, (client) => tableDigests(client));
    for (const table of Object.keys(copied).filter((name) => name.startsWith("public."))) {
      expect(copied[table], table).toBe(atSnapshot[table]);
    }
    expect(await digests()).not.toEqual(atSnapshot);
  });

  test("a TRUNCATE that waits for the import's end does not make the import wait for it", async () => {
    const source = await neon.makeDatabase("patient", game);
    const spec = await lab.newImport(source, target);
    let truncated: Promise<unknown> | undefined;
    const { error } = await attempt(
      spec,
      atPhase("rows", async () => {
        truncated = neon.compute.sql("patient", "TRUNCATE visits");
        await sleep(500);
      }),
    );
    await truncated;
    expect(error).toBe("");
    expect(await target.value(spec.target.address.database, "SELECT count(*)::int FROM visits")).toBe(502);
    expect(await neon.compute.value("patient", "SELECT count(*)::int FROM visits")).toBe(0);
  });

  test("a TRUNCATE before pg_dump ends the import, and is not blocked for long", async () => {
    const spec = await lab.newImport(neon.source(neon.url("patient")), target);
    let truncated: Promise<unknown> | undefined;
    const { error } = await attempt(
      spec,
      atPhase("schema", async () => {
        truncated = neon.compute.sql("patient", "TRUNCATE drones");
        await sleep(500);
      }),
    );
    await truncated;
    expect(error).toMatch(/^Another session on the source holds a lock on a table, or waits for one .*drones/s);
    expect(error).toMatch(/Nothing was changed here; run pulumi up again when that session has finished\.$/);
    await expectUntouched(lab, target, spec);
  });
});
