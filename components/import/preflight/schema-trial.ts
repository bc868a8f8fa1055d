/** Makes the source's schema on the target, in the database aside, and drops it again: whether it can be made shows best so. */
import type pg from "pg";
import { ident, withConnection } from "../../../lib/postgres.ts";
import type { Entry } from "../dump-entries.ts";
import { describeEntry } from "../dump-entries.ts";
import { dumpImage, dumpSchema, extensionsSql } from "../schema.ts";
import { openTarget } from "../session.ts";
import { clearAside, lockServer, maintenance, makeAside } from "../swap.ts";
import type { Catalog, ImportSpec } from "../types.ts";
import { type Finding, finding } from "./findings.ts";

const CHANGE_IT = "Change it on the source, or drop it there";

/**
 * Tries every object for itself, so that one which cannot be made does not hide the others. Functions' bodies are checked once
 * all is there. Nothing is left behind; a trial that was killed is cleared by the next import or trial.
 * @throws {Error} when an import is running, or pg_dump cannot read the schema.
 */
export async function trySchema(spec: ImportSpec, catalog: Catalog): Promise<Finding[]> {
  const { source, target, image, newerImage, stack, dockerHost } = spec;
  const { database, user, password, channelBinding } = source.address;
  const schema = await dumpSchema(
    { ...source.fromContainer, database, user, password, channelBinding, rootCertificates: source.rootCertificates },
    { image: dumpImage(catalog.majorVersion, image, newerImage), stack, dockerHost },
  );
  return withConnection(maintenance(target.address), async (keeper) => {
    await lockServer(keeper);
    await clearAside(keeper, target.address.database);
    const aside = await makeAside(keeper, spec);
    const client = await openTarget(aside);
    try {
      await client.query(target.preparation(aside.database));
      return await makeAll(client, [...schema.before, ...schema.after], catalog, target.owner);
    } finally {
      await client.end().catch(() => {});
      await clearAside(keeper, target.address.database);
    }
  });
}

async function makeAll(client: pg.Client, entries: Entry[], catalog: Catalog, owner: string): Promise<Finding[]> {
  const found: Finding[] = [];
  const attempt = async (subject: string, sql: string) => {
    const message = await tryOne(client, sql);
    if (message) found.push(finding("object-not-made", subject, message, CHANGE_IT));
  };
  const asOwner = `SET LOCAL ROLE ${ident(owner)}`;
  const isSchema = ({ type }: Entry) => type === "SCHEMA";

  await client.query(`BEGIN; ${asOwner}`);
  for (const entry of entries.filter(isSchema)) await attempt(describeEntry(entry), entry.sql);
  await client.query("RESET ROLE");
  for (const extension of catalog.extensions) {
    await attempt(`extension ${extension.name}`, extensionsSql({ ...catalog, extensions: [extension] }, owner));
  }
  await client.query(asOwner);
  for (const entry of entries) if (!isSchema(entry)) await attempt(describeEntry(entry), entry.sql);
  const refused = new Set(found.map(({ subject }) => subject));
  const made = entries.filter((entry) => !refused.has(describeEntry(entry)));
  found.push(...(await checkBodies(client, made)));
  await client.query("ROLLBACK");
  const failed = refused.size;
  found.push(
    finding(
      "schema-tried",
      "the schema",
      `${entries.length - failed} of ${entries.length} objects were made, and dropped again`,
    ),
  );
  return found;
}

/** Runs one piece of SQL inside the transaction; what the server says against it, if it does. */
async function tryOne(client: pg.Client, sql: string): Promise<string | undefined> {
  await client.query("SAVEPOINT one");
  try {
    await client.query(sql);
    await client.query("RELEASE SAVEPOINT one");
    return undefined;
  } catch (error) {
    await client.query("ROLLBACK TO SAVEPOINT one");
    const { message, hint } = error as { message: string; hint?: string };
    return hint ? `${message} (${hint})` : message;
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
