/**
 * The schema made on the target for a try, with every object for itself, so that one which cannot be made does not hide the
 * others. All of it is taken back.
 */
import type pg from "pg";
import { type Address, ident, maintenance, withConnection } from "../../lib/postgres.ts";
import { copySettings, readSettings } from "./database-settings.ts";
import { describeEntry, type Entry } from "./dump-entries.ts";
import { wordsOf } from "./failures.ts";
import { type Finding, finding } from "./preflight/findings.ts";
import { remedyFor } from "./remedies.ts";
import { dumpImage, dumpSchema, entriesOfOwner, makeExtensions } from "./schema.ts";
import { openOwner, openSource } from "./session.ts";
import { findDisplaced, makeRoom } from "./stack-extensions.ts";
import { clearAside, lockServer, makeAside } from "./swap.ts";
import { Failures } from "./trial-failures.ts";
import type { Catalog, ImportSpec, Target } from "./types.ts";

/** What comes behind the rows and needs roles, functions or tables that may not be here. */
const NEEDS_OTHERS = new Set(["POLICY", "TRIGGER"]);

/** The table that a foreign key points to, as pg_dump writes it. */
const referenced = ({ sql }: Entry): string | undefined => / REFERENCES (.+?)\(/.exec(sql)?.[1];

/** What a server says against a piece of SQL. */
interface Refusal {
  message: string;
  /** SQLSTATE. */
  code: string | undefined;
}

/** Runs one piece of SQL inside the transaction; what the server says against it, if it does. */
async function refusalOf(client: pg.Client, sql: string): Promise<Refusal | undefined> {
  await client.query("SAVEPOINT one");
  try {
    await client.query(sql);
    await client.query("RELEASE SAVEPOINT one");
    return undefined;
  } catch (error) {
    await client.query("ROLLBACK TO SAVEPOINT one");
    return { message: wordsOf(error), code: (error as { code?: string }).code };
  }
}

const tryOne = async (client: pg.Client, sql: string): Promise<string | undefined> =>
  (await refusalOf(client, sql))?.message;

/**
 * Tries what comes behind the rows before any row is moved, on tables that are still empty. Keys and indexes need nothing but their
 * own tables, and would cost time. What fails for another reason than a known one may only be early: it might need a key, or what
 * stands behind it in the dump.
 * @param client logged in as the owner.
 * @throws {Error} that lists every object that cannot be made, with what helps.
 */
export async function rehearse(client: pg.Client, entries: readonly Entry[]): Promise<void> {
  const problems: string[] = [];
  const note = (entry: Entry, message: string | undefined) => {
    const remedy = message && remedyFor(message);
    if (remedy) problems.push(`${describeEntry(entry)}: ${message}. ${remedy}.`);
  };
  await client.query("BEGIN");
  for (const entry of entries) if (NEEDS_OTHERS.has(entry.type)) note(entry, await tryOne(client, entry.sql));
  for (const entry of entries.filter(({ type }) => type === "FK CONSTRAINT")) {
    const table = referenced(entry);
    if (table === undefined) continue;
    const { rows } = await client.query("SELECT to_regclass($1) IS NULL AS missing", [table]);
    if (rows[0].missing) note(entry, `relation "${table}" does not exist`);
  }
  await client.query("ROLLBACK");
  if (problems.length === 0) return;
  throw new Error(
    `Not everything of the source can be made on the target, so no row was moved:\n${problems.map((line) => `  - ${line}`).join("\n")}`,
  );
}

/** What a trial of the whole schema needs to know. */
export type TrialSpec = Pick<ImportSpec, "source" | "target" | "image" | "newerImage" | "stack" | "dockerHost">;

/**
 * Makes the whole schema in the database aside, which is dropped again; functions' bodies are checked once all is there. A trial
 * that was killed is cleared by the next import or trial.
 * @throws {Error} when an import is running, or pg_dump cannot read the schema.
 */
export async function trySchema(spec: TrialSpec, catalog: Catalog): Promise<Finding[]> {
  const { source, target, image, newerImage, stack, dockerHost } = spec;
  const { database, user, password, channelBinding } = source.address;
  const schema = await dumpSchema(
    { ...source.fromContainer, database, user, password, channelBinding, rootCertificates: source.rootCertificates },
    { image: dumpImage(catalog.majorVersion, image, newerImage), stack, dockerHost },
  );
  const settings = await withSource(source.address, readSettings);
  return withConnection(maintenance(target.address), async (keeper) => {
    await lockServer(keeper);
    await clearAside(keeper, target.address.database);
    const aside = await makeAside(keeper, spec);
    try {
      await withConnection(aside, async (superuser) => {
        await superuser.query(target.preparation(aside.database));
        const client = await openSource(source.address);
        const displaced = await findDisplaced(client, superuser, catalog).finally(() => client.end().catch(() => {}));
        await makeRoom(
          superuser,
          displaced.map(({ extension }) => extension),
          catalog,
        );
      });
      await copySettings(settings, aside, target.roles);
      return await makeAll(aside, target, [...schema.before, ...schema.after], catalog);
    } finally {
      await clearAside(keeper, target.address.database);
    }
  });
}

async function withSource<T>(address: Address, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await openSource(address);
  return work(client).finally(() => client.end().catch(() => {}));
}

async function makeAll(aside: Address, target: Target, entries: Entry[], catalog: Catalog): Promise<Finding[]> {
  const failures = new Failures();
  await withConnection(aside, async (superuser) => {
    await superuser.query("BEGIN");
    await makeExtensions(catalog, target.owner, async (name, sql) =>
      failures.note(
        { type: "EXTENSION", schema: "-", name: name.replace(/^extension /, "") },
        await refusalOf(superuser, sql),
      ),
    );
    await superuser.query("COMMIT");
  });
  const client = await openOwner(aside, target);
  try {
    // All that code of the source may do meanwhile, in whatever database, is rolled back with it.
    await client.query("BEGIN");
    for (const entry of entriesOfOwner(entries, catalog)) {
      failures.note(entry, await refusalOf(client, entry.sql));
    }
    const made = entries.filter((entry) => !failures.has(entry));
    const bodies = await checkBodies(client, made);
    await client.query("ROLLBACK");
    const tried = `${made.length} of ${entries.length} objects were made, and dropped again`;
    return [...failures.findings(), ...bodies, finding("schema-tried", "the schema", tried)];
  } finally {
    await client.end().catch(() => {});
  }
}

/** Bodies may name tables without a schema: which one is meant is decided when they run, so all schemas are looked through. */
async function checkBodies(client: pg.Client, entries: readonly Entry[]): Promise<Finding[]> {
  const schemas = [...new Set(["public", ...entries.map(({ schema }) => schema)])].filter((name) => name !== "-");
  await client.query(`SET LOCAL check_function_bodies = on; SET LOCAL search_path = ${schemas.map(ident).join(", ")}`);
  const found: Finding[] = [];
  for (const entry of entries) {
    if (entry.type !== "FUNCTION" && entry.type !== "PROCEDURE") continue;
    const again = entry.sql.replace(/^CREATE (FUNCTION|PROCEDURE) /m, "CREATE OR REPLACE $1 ");
    const message = await tryOne(client, again);
    if (message) {
      const remedy = "Look at it; it may be wrong on the source too";
      found.push(
        finding("body-not-valid", describeEntry(entry), `the target finds its body wrong: ${message}`, remedy),
      );
    }
  }
  return found;
}
