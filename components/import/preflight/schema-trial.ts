/**
 * Creates the schema on the target as a trial, each object by itself, so that one failure does not hide others. Everything is rolled
 * back or dropped.
 */
import type pg from "pg";
import { type Address, ident, maintenance, withConnection } from "../../../lib/postgres.ts";
import { copySettings, readSettings } from "../schema/database-settings.ts";
import { describeEntry, type Entry } from "../schema/dump-entries.ts";
import { wordsOf } from "../schema/failures.ts";
import { remedyFor } from "../schema/remedies.ts";
import { dumpImage, dumpSchema, entriesOfOwner, makeExtensions } from "../schema/schema.ts";
import { findDisplaced, makeRoom } from "../schema/stack-extensions.ts";
import { openOwner, openSource } from "../session/session.ts";
import { clearStaging, createImportDatabase, lockServer } from "../staging/swap.ts";
import type { Catalog, ImportSpec, Target } from "../types.ts";
import { type Finding, finding } from "./findings.ts";
import { Failures } from "./trial-failures.ts";

/** Types of entries that are created after the rows and need roles, functions or tables that the target may lack. */
const NEEDS_OTHERS = new Set(["POLICY", "TRIGGER"]);

/** Returns the table that a foreign key refers to, as pg_dump writes it. */
const referenced = ({ sql }: Entry): string | undefined => / REFERENCES (.+?)\(/.exec(sql)?.[1];

/** A server's error for a piece of SQL. */
interface Refusal {
  message: string;
  /** SQLSTATE. */
  code: string | undefined;
}

/** Runs one piece of SQL within the transaction, and returns the server's error, if any. */
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
 * Tries the objects that are created after the rows before any row is copied, on tables that are still empty. Keys and indexes need only
 * their own tables and would take time, so they are not tried. An error without a known remedy is ignored, because the object may only
 * need a key or an entry that follows in the dump.
 * @param client logged in as the owner.
 * @throws {Error} that lists every object that cannot be created, with the remedy.
 */
export async function tryLaterObjects(client: pg.Client, entries: readonly Entry[]): Promise<void> {
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
    `Not every object of the source can be created on the target, so no row was copied:\n${problems.map((line) => `  - ${line}`).join("\n")}`,
  );
}

/** Input of a trial of the whole schema. */
export type TrialSpec = Pick<ImportSpec, "source" | "target" | "image" | "newerImage" | "stack" | "dockerHost">;

/**
 * Creates the whole schema in a staging database, checks the functions' bodies once everything exists, and drops the database. If a trial
 * is killed, the next import or trial drops it.
 * @throws {Error} if an import is running, or pg_dump cannot read the schema.
 */
export async function trySchema(spec: TrialSpec, catalog: Catalog): Promise<Finding[]> {
  const { source, target, image, newerImage, stack, dockerHost } = spec;
  const { database, user, password, channelBinding } = source.address;
  const schema = await dumpSchema(
    { ...source.fromContainer, database, user, password, channelBinding, rootCertificates: source.rootCertificates },
    { image: dumpImage(catalog.majorVersion, image, newerImage), stack, dockerHost },
  );
  const settings = await withSource(source.address, readSettings);
  return withConnection(maintenance(target.address), async (lockSession) => {
    await lockServer(lockSession);
    await clearStaging(lockSession, target.address.database);
    const staging = await createImportDatabase(lockSession, spec);
    try {
      await withConnection(staging, async (superuser) => {
        await superuser.query(target.preparation(staging.database));
        const client = await openSource(source.address);
        const displaced = await findDisplaced(client, superuser, catalog).finally(() => client.end().catch(() => {}));
        await makeRoom(
          superuser,
          displaced.map(({ extension }) => extension),
          catalog,
        );
      });
      await copySettings(settings, staging, target.roles);
      return await makeAll(staging, target, [...schema.before, ...schema.after], catalog);
    } finally {
      await clearStaging(lockSession, target.address.database);
    }
  });
}

async function withSource<T>(address: Address, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await openSource(address);
  return work(client).finally(() => client.end().catch(() => {}));
}

async function makeAll(staging: Address, target: Target, entries: Entry[], catalog: Catalog): Promise<Finding[]> {
  const failures = new Failures();
  await withConnection(staging, async (superuser) => {
    await superuser.query("BEGIN");
    await makeExtensions(catalog, target.owner, async (name, sql) =>
      failures.note(
        { type: "EXTENSION", schema: "-", name: name.replace(/^extension /, "") },
        await refusalOf(superuser, sql),
      ),
    );
    await superuser.query("COMMIT");
  });
  const client = await openOwner(staging, target);
  try {
    // The transaction also rolls back whatever code of the source does meanwhile.
    await client.query("BEGIN");
    for (const entry of entriesOfOwner(entries, catalog)) {
      failures.note(entry, await refusalOf(client, entry.sql));
    }
    const made = entries.filter((entry) => !failures.has(entry));
    const bodies = await checkBodies(client, made);
    await client.query("ROLLBACK");
    const tried = `${made.length} of ${entries.length} objects were created on the target as a trial, and dropped`;
    return [...failures.findings(), ...bodies, finding("schema-tried", "the schema", tried)];
  } finally {
    await client.end().catch(() => {});
  }
}

/** Checks functions' bodies. A body may name tables without a schema, so all schemas are in the search path. */
async function checkBodies(client: pg.Client, entries: readonly Entry[]): Promise<Finding[]> {
  const schemas = [...new Set(["public", ...entries.map(({ schema }) => schema)])].filter((name) => name !== "-");
  await client.query(`SET LOCAL check_function_bodies = on; SET LOCAL search_path = ${schemas.map(ident).join(", ")}`);
  const found: Finding[] = [];
  for (const entry of entries) {
    if (entry.type !== "FUNCTION" && entry.type !== "PROCEDURE") continue;
    const again = entry.sql.replace(/^CREATE (FUNCTION|PROCEDURE) /m, "CREATE OR REPLACE $1 ");
    const message = await tryOne(client, again);
    if (message) {
      const remedy = "Check the function; it may be invalid on the source, too";
      found.push(
        finding("body-not-valid", describeEntry(entry), `its body is invalid on the target: ${message}`, remedy),
      );
    }
  }
  return found;
}
