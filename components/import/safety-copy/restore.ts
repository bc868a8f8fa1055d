/** Restores a safety copy into a new database on a server. */
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import { type Address, maintenance, withConnection } from "../../../lib/postgres.ts";
import { currentScope } from "../../../lib/scope.ts";
import { describeLargeObjects, digestLargeObjects, grantLargeObjects } from "../rows/large-objects.ts";
import { readBack } from "../rows/rows.ts";
import { fromTable } from "../schema/catalog.ts";
import { copySettings } from "../schema/database-settings.ts";
import { restrictionsSql } from "../schema/restrictions.ts";
import { extensionsSql } from "../schema/schema.ts";
import { makeRoom } from "../schema/stack-extensions.ts";
import { isAboutNames, pathSql, withPath } from "../session/search-path.ts";
import { openOwner } from "../session/session.ts";
import {
  clearDead,
  clearStaging,
  createImportDatabase,
  lockServer,
  renameStaging,
  writeMarker,
} from "../staging/swap.ts";
import type { Catalog, OwnerLogin } from "../types.ts";
import {
  type CopiedLargeObjects,
  type CopiedTable,
  loadSql,
  type Manifest,
  readManifest,
  readSealed,
  readSealedText,
  SCRIPTS,
} from "./files.ts";
import { holdsSameRows } from "./rows.ts";

/** What to restore, and where. */
export interface RestoreOrder extends OwnerLogin {
  /** The copy's folder. */
  copy: string;
  /** age private key. */
  secret: string;
  /** The server, with its superuser's login. */
  server: Address;
  /** Name of the new database. */
  database: string;
  /** Roles that get the settings of the source's database. */
  roles: readonly string[];
  /** SQL that gives a database of this name its extensions and privileges. */
  preparation: (database: string) => string;
  /** Shows a progress line. */
  say: (line: string) => void;
}

/**
 * Restores a copy into a new database, and proves that it holds what the source sent: every table is read back and compared with the
 * SHA-256 of what the source sent or, if the order differs, with the copy's rows as a set. The database gets its name when it is complete.
 * @throws {Error} if the database exists or anything differs; then no new database is left.
 */
export async function restoreCopy(order: RestoreOrder): Promise<ImportSummary> {
  const { copy, database, say } = order;
  const assertNameFree = async (lockSession: pg.Client) => {
    const { rows } = await lockSession.query("SELECT FROM pg_database WHERE datname = $1", [database]);
    if (rows.length === 0) return;
    throw new Error(
      `The database ${database} exists, and a restore never overwrites one. Choose another name for --into.`,
    );
  };
  await withConnection(maintenance(order.server), assertNameFree);
  return withRestored(order, async (restored, { lockSession, manifest }) => {
    const summary = summaryOf(manifest, basename(copy));
    await withConnection(restored, (client) => writeMarker(client, summary));
    await lockSession.query("CHECKPOINT");
    await assertNameFree(lockSession);
    await renameStaging(lockSession, database);
    say(`${database}: ${summary.tables} tables, ${summary.rows.toLocaleString("en")} rows, as the source sent them`);
    return summary;
  });
}

/**
 * Restores a copy into a temporary database, runs work with it, and drops the database. If a run is killed, the next one drops it.
 * @param order the temporary database is named after `database`.
 * @throws {Error} also if an import, or other work with the import's lock, is running on the server.
 */
export async function withRestored<T>(
  order: RestoreOrder,
  work: (restored: Address, at: { lockSession: pg.Client; manifest: Manifest }) => Promise<T>,
): Promise<T> {
  const { copy, secret, server, database, owner } = order;
  const manifest = await readManifest(copy, secret);
  return withConnection(maintenance(server), async (lockSession) => {
    // After a cancellation, this session must stay open for the clean-up.
    currentScope()?.release(lockSession);
    await lockServer(lockSession);
    await clearDead(lockSession);
    await clearStaging(lockSession, database);
    try {
      const restored = await createImportDatabase(lockSession, { target: { address: { ...server, database }, owner } });
      await prepare(restored, manifest, order);
      const client = await openOwner(restored, order);
      await fill(client, manifest, order).finally(() => client.end().catch(() => {}));
      return await work(restored, { lockSession, manifest });
    } finally {
      await clearStaging(lockSession, database);
    }
  });
}

/**
 * Does the superuser's part: extensions, privileges, settings. It runs before anything of the copy is in the database, and it runs no
 * SQL from the copy, because anyone with the public key could have written a copy.
 */
async function prepare(restored: Address, manifest: Manifest, order: RestoreOrder): Promise<void> {
  const { copy, secret, owner, roles, preparation, say } = order;
  const extensions = manifest.extensions ?? namedIn(await readSealedText(join(copy, SCRIPTS.extensions), secret));
  await withConnection(restored, async (superuser) => {
    await superuser.query(preparation(restored.database));
    await makeRoom(superuser, manifest.displaced ?? [], { extensions });
    await superuser.query(extensionsSql({ extensions }, owner));
  });
  const { remarks } = await copySettings(manifest.settings ?? [], restored, roles);
  for (const remark of remarks) say(remark);
}

/** Parses the extensions of a copy without a list of them from its script. */
export function namedIn(script: string): Catalog["extensions"] {
  const name = '("(?:[^"]|"")+"|[a-z_][a-z0-9_]*)';
  const plain = (text = "") => (text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text);
  return [...script.matchAll(new RegExp(`^CREATE EXTENSION IF NOT EXISTS ${name} SCHEMA ${name};$`, "gm"))].map(
    ([, extension, schema]) => ({ name: plain(extension), schema: plain(schema), version: "" }),
  );
}

/** Restores everything else in the owner's session. */
async function fill(client: pg.Client, manifest: Manifest, { copy, secret, say }: RestoreOrder): Promise<void> {
  const path = manifest.searchPath ?? ["public"];
  const script = async (file: string) => {
    const text = await readSealedText(join(copy, file), secret);
    await runScript(client, text).catch(async (error) => {
      if (!isAboutNames(error)) throw error;
      say(`${file.split(".")[0]}: ${(error as Error).message}; tried again with search_path = ${pathSql(path)}`);
      await runScript(client, text.replace("SET search_path = '';", `SET search_path = pg_catalog, ${pathSql(path)};`));
    });
    await client.query("SET search_path = ''");
  };
  const schemas = await readSealedText(join(copy, SCRIPTS.schemas), secret);
  // An extension's schema exists already.
  await client.query(
    `BEGIN; ${schemas.replaceAll(/^CREATE SCHEMA (?!IF )/gm, "CREATE SCHEMA IF NOT EXISTS ")}\nCOMMIT`,
  );
  await script(SCRIPTS.before);
  for (const table of manifest.tables) {
    say(`${table.table}: ${table.rows.toLocaleString("en")} rows`);
    const loadIt = () => load(client, table, join(copy, table.file), secret);
    await loadIt().catch(async (error) => {
      if (!isAboutNames(error)) throw error;
      await withPath(client, path, loadIt);
    });
  }
  if (manifest.largeObjects) {
    say(`${manifest.largeObjects.objects.toLocaleString("en")} large objects`);
    await loadLargeObjects(client, manifest.largeObjects, copy, secret);
  }
  await script(SCRIPTS.after);
  await script(SCRIPTS.finish);
  await client.query(restrictionsSql(manifest.restrictions ?? []));
  await client.query("ANALYZE");
}

/** Runs a script in a transaction, and leaves the session usable if it fails. */
async function runScript(client: pg.Client, text: string): Promise<void> {
  try {
    await client.query(`BEGIN; ${text}\nCOMMIT`);
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
}

/**
 * Loads a table like the import, truncated in the same transaction, so that the server appends the rows in order. Otherwise it would put
 * shorter rows into gaps of earlier pages, and return the rows in another order than the source sent them. If the order differs
 * anyway, the rows are compared as a set.
 */
async function load(client: pg.Client, table: CopiedTable, path: string, secret: string): Promise<void> {
  // FREEZE is not possible for rows that are inserted through a partitioned table.
  await client.query(`BEGIN; TRUNCATE ${fromTable(table)}`);
  const into = client.query(copyFrom(loadSql(table, table.throughRoot ? undefined : "FREEZE")));
  try {
    await readSealed(path, secret, (chunks) => pipeline(chunks, into));
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
  if (into.rowCount !== table.rows) {
    throw new Error(`${table.table}: the safety copy has ${table.rows} rows, and the server accepted ${into.rowCount}`);
  }
  const readable = asTable(table);
  const back = await readBack(readable, client);
  if (back.sha256 === table.sha256 || (await holdsSameRows(table, readable, { client, path, secret }))) return;
  throw new Error(`${table.table}: the restored rows differ from what the source sent`);
}

/** Runs the file's statements, one on each line, and compares the restored large objects with what the source sent. */
async function loadLargeObjects(
  client: pg.Client,
  { file, grants, ...sent }: CopiedLargeObjects,
  copy: string,
  secret: string,
): Promise<void> {
  // One transaction, as in restore.sh (psql --single-transaction).
  await client.query("BEGIN");
  await readSealed(join(copy, file), secret, async (chunks) => {
    let parts: Buffer[] = [];
    for await (const chunk of chunks) {
      let from = 0;
      for (let end = chunk.indexOf("\n"); end >= 0; end = chunk.indexOf("\n", from)) {
        await client.query(Buffer.concat([...parts, chunk.subarray(from, end)]).toString());
        parts = [];
        from = end + 1;
      }
      parts.push(Buffer.from(chunk.subarray(from)));
    }
  });
  await client.query("COMMIT");
  await grantLargeObjects(client, grants);
  if (describeLargeObjects(await digestLargeObjects(client)) !== describeLargeObjects(sent)) {
    throw new Error("the restored large objects differ from what the source sent");
  }
}

/** Returns the part of a table's description that reading it needs. */
const asTable = ({ sql, columns, format, throughRoot }: CopiedTable) => ({
  sql,
  ...(throughRoot && { throughRoot }),
  columns: columns.map((name) => ({ name, generated: false })),
  format,
});

function summaryOf(manifest: Manifest, name: string): ImportSummary {
  const hash = createHash("sha256");
  for (const { table, rows, sha256 } of manifest.tables.toSorted((a, b) => (a.table < b.table ? -1 : 1))) {
    hash.update(`${table} ${rows} ${sha256}\n`);
  }
  return {
    source: `the safety copy ${name} of ${manifest.source}`,
    finishedAt: new Date().toISOString(),
    tables: manifest.tables.length,
    rows: manifest.tables.reduce((sum, { rows }) => sum + rows, 0),
    bytes: manifest.tables.reduce((sum, { bytes }) => sum + bytes, 0),
    seconds: 0,
    fingerprint: hash.digest("hex"),
  };
}
