/** Inserts seed data and counts it. Runs inside Pulumi's dynamic provider. */
import { createHash } from "node:crypto";
import type { dynamic } from "@pulumi/pulumi";
import type pg from "pg";
import { type Address, fillIn, ident, withConnection } from "../../lib/postgres.ts";
import { isOwnTable, STACK_SCHEMA } from "../../lib/stack-schema.ts";
import { readMarker } from "../import/staging/swap.ts";
import { loginAddress } from "../server/server-access.ts";
import { fitsPassword, hashPassword, sqlExpressionOf } from "./password-hash.ts";
import { ADMIN_FILE, type Seeded, type SeedFile, type SeedInputs } from "./seed.ts";

const PATIENCE_MS = 30_000;
const NOT_NULL_VIOLATION = "23502";
const UNDEFINED_COLUMN = "42703";

interface Outs extends SeedInputs {
  rows: Seeded;
  adminMade: boolean;
  fingerprint: string;
}

/** Returns a fingerprint of the inputs whose change requires another run. Passwords and ports do not. */
function seedFingerprint({ files, revision, database, admin, passwordHash, evenImported }: SeedInputs): string {
  const relevant = JSON.stringify([files, revision, database, admin, passwordHash, evenImported]);
  return createHash("sha256").update(relevant).digest("hex").slice(0, 16);
}

const hashOf = (sql: string) => createHash("sha256").update(sql).digest("hex");

/** Returns the tables that a file declares in a line `-- needs: users, admin_credentials`. */
export function tablesNeeded(sql: string): string[] {
  const line = /^--\s*needs:\s*(.+)$/m.exec(sql)?.[1] ?? "";
  return line
    .split(",")
    .map((name) => name.trim())
    .filter(Boolean);
}

async function isThere(client: pg.Client, tables: readonly string[]): Promise<boolean> {
  const { rows } = await client.query<{ there: boolean }>(
    "SELECT coalesce(bool_and(to_regclass(t) IS NOT NULL), true) AS there FROM unnest($1::text[]) t",
    [tables],
  );
  return rows[0]?.there === true;
}

/** Whether to seed the database. Imported data has its rows already, also if it was imported after the stack was created empty. */
const isWanted = async (client: pg.Client, { evenImported }: SeedInputs): Promise<boolean> =>
  evenImported || (await readMarker(client)) === undefined;

/** @throws {Error} if a file controls the transaction, which would break its atomicity. PL/pgSQL's BEGIN has no semicolon. */
function refuseTransactions({ name, sql }: SeedFile): void {
  const found = /^[ \t]*((?:BEGIN|START TRANSACTION|COMMIT|ROLLBACK)(?: WORK| TRANSACTION)?)\s*;/im.exec(sql)?.[1];
  if (found === undefined) return;
  throw new Error(
    `The seed data in ${name} contains ${found.toUpperCase()}, but all files are inserted in one transaction. Remove that statement. ` +
      "Nothing was inserted.",
  );
}

/** Returns an error that names the file and how to correct it. */
function explain(error: unknown, { name }: SeedFile): Error {
  const { code, table, column, message } = error as { code?: string; table?: string; column?: string; message: string };
  const nothing = "Nothing was inserted.";
  if (code === NOT_NULL_VIOLATION) {
    return new Error(
      `The seed data in ${name} gives no value for the column ${column} of the table ${table}, which is NOT NULL without a default. ` +
        `Add the column to the file's INSERT. ${nothing}`,
    );
  }
  if (code === UNDEFINED_COLUMN) {
    return new Error(
      `The seed data in ${name} does not match its table: ${message}. Change the file's INSERT. ${nothing}`,
    );
  }
  return new Error(`The seed data in ${name} cannot be inserted: ${message}. ${nothing}`);
}

/** The superuser's connection, which creates the table of seeded files. {@link ownerOf} inserts the rows. */
const superuserOf = (inputs: SeedInputs): Address => loginAddress(inputs);
const ownerOf = (inputs: SeedInputs): Address => ({
  ...superuserOf(inputs),
  user: inputs.owner,
  password: inputs.ownerPassword,
});

/**
 * The owner's session uses the database's search path, as the application does, and row security. The tables' triggers and defaults run
 * in it, with the owner's privileges only.
 */
const AS_APPLICATION = { patienceMs: PATIENCE_MS, unpinned: ["search_path"], settings: { row_security: "on" } };

/** Creates the table of seeded files. The owner writes to it in the transaction that inserts, but does not own it. */
const CREATE_RECORD = (owner: string) => `
  BEGIN;
  CREATE TABLE IF NOT EXISTS ${STACK_SCHEMA}.seeded (file text PRIMARY KEY, content text NOT NULL, rows integer NOT NULL);
  COMMENT ON TABLE ${STACK_SCHEMA}.seeded IS 'Seed data that was inserted, so that it is inserted once.';
  GRANT USAGE ON SCHEMA ${STACK_SCHEMA} TO ${ident(owner)};
  GRANT SELECT, INSERT, UPDATE ON ${STACK_SCHEMA}.seeded TO ${ident(owner)};
  COMMIT`;

type Say = (line: string) => void;

/**
 * Inserts the seed data that a database does not have yet. Imported data is seeded only with the setting `always`.
 * @param former the outputs of the last run.
 * @throws {Error} that names the file, if one cannot be inserted. Then nothing was inserted.
 */
export async function insertSeed(
  inputs: SeedInputs,
  former: Partial<Outs> = {},
  say: Say = console.log,
): Promise<Outs> {
  const isSeeding = await withConnection(
    superuserOf(inputs),
    async (client) => {
      if (!(await isWanted(client, inputs))) return false;
      inputs.files.forEach(refuseTransactions);
      await client.query(CREATE_RECORD(inputs.owner));
      return true;
    },
    { patienceMs: PATIENCE_MS },
  );
  let adminMade = former.adminMade ?? false;
  let rows: Seeded = {};
  if (isSeeding) {
    const isOtherScheme = adminMade && former.passwordHash !== inputs.passwordHash;
    const seeded = await withConnection(
      ownerOf(inputs),
      (client) => insertAll(client, inputs, isOtherScheme),
      AS_APPLICATION,
    );
    rows = seeded.rows;
    adminMade ||= seeded.adminMade;
  } else {
    say("seed: nothing is inserted into imported data; to insert it anyway: pulumi config set seed always");
  }
  report(rows, say);
  return { ...inputs, rows, adminMade, fingerprint: seedFingerprint(inputs) };
}

/** Returns the hash of the administrator's password, computed here or by the server. */
async function makeHash(client: pg.Client, { passwordHash, adminPassword }: SeedInputs): Promise<string> {
  const sql = sqlExpressionOf(passwordHash);
  if (sql === undefined) return hashPassword(passwordHash, adminPassword);
  // As a parameter, because pg_stat_activity shows the query's text.
  const { rows } = await client.query<{ hash: string | null }>(`SELECT (${sql})::text AS hash`, [adminPassword]);
  const hash = rows[0]?.hash;
  if (hash) return hash;
  throw new Error(`seedPasswordHash is "${passwordHash}", which returns null or an empty text. Nothing was inserted.`);
}

/**
 * Replaces the stored hash of the administrator's password, if it is still that of the generated password. A password that was changed
 * in the application stays.
 */
async function replaceHash(
  client: pg.Client,
  { admin, adminPassword, passwordHash }: SeedInputs,
  hash: string,
): Promise<void> {
  if (!(await isThere(client, ["users", "admin_credentials"]))) return;
  const { rows } = await client.query<{ id: string; password_hash: string }>(
    "SELECT u.id, c.password_hash FROM admin_credentials c JOIN users u ON u.id = c.user_id WHERE u.username = $1 FOR UPDATE OF c",
    [admin],
  );
  const [stored] = rows;
  if (stored === undefined) return;
  if (!(await fitsPassword(stored.password_hash, adminPassword))) {
    console.log("seed: the administrator's password is unchanged, because it is no longer the generated one");
    return;
  }
  await client.query("UPDATE admin_credentials SET password_hash = $2 WHERE user_id = $1", [stored.id, hash]);
  console.log(`seed: the administrator's generated password is now hashed with ${passwordHash}`);
}

/**
 * Inserts all files in one transaction.
 * @param isOtherScheme whether the administrator was created here earlier, with another password scheme.
 */
async function insertAll(
  client: pg.Client,
  inputs: SeedInputs,
  isOtherScheme: boolean,
): Promise<{ rows: Seeded; adminMade: boolean }> {
  const variables = { admin_name: inputs.admin, admin_password_hash: await makeHash(client, inputs) };
  const rows: Seeded = {};
  let adminMade = false;
  await client.query("BEGIN");
  try {
    for (const file of inputs.files) {
      const { count, last } = await insertFile(client, file, variables);
      rows[file.name] = count;
      if (file.name === ADMIN_FILE && last > 0) adminMade = true;
    }
    if (isOtherScheme) await replaceHash(client, inputs, variables.admin_password_hash);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  }
  return { rows, adminMade };
}

/** The rows that a file has inserted. */
interface Inserted {
  /** All its rows, including those of earlier runs; null if a table is missing. */
  count: number | null;
  /** The rows of its last INSERT in this run. */
  last: number;
}

/** Runs a file, unless it has already run. */
async function insertFile(client: pg.Client, file: SeedFile, variables: Record<string, string>): Promise<Inserted> {
  const found = await client.query<{ content: string; rows: number }>(
    `SELECT content, rows FROM ${STACK_SCHEMA}.seeded WHERE file = $1`,
    [file.name],
  );
  const [before] = found.rows;
  if (before?.content === hashOf(file.sql)) return { count: before.rows, last: 0 };
  if (!(await isThere(client, tablesNeeded(file.sql)))) return { count: null, last: 0 };
  let results: pg.QueryResult[];
  try {
    results = [await client.query(fillIn(file.sql, variables))].flat();
  } catch (error) {
    throw explain(error, file);
  }
  const inserts = results.filter(({ command }) => command === "INSERT").map(({ rowCount }) => rowCount ?? 0);
  const count = inserts.reduce((sum, n) => sum + n, 0) + (before?.rows ?? 0);
  await client.query(
    `INSERT INTO ${STACK_SCHEMA}.seeded VALUES ($1, $2, $3) ON CONFLICT (file) DO UPDATE SET content = $2, rows = $3`,
    [file.name, hashOf(file.sql), count],
  );
  return { count, last: inserts.at(-1) ?? 0 };
}

function report(rows: Seeded, say: Say): void {
  for (const [file, count] of Object.entries(rows)) {
    const result = count === null ? "skipped, because its table does not exist" : `${count} rows`;
    say(`seed: ${file}: ${result}`);
  }
}

/** Returns the files that were seeded; "all" if none must be, undefined in a newly created database. */
async function seededFiles(client: pg.Client, inputs: SeedInputs): Promise<Set<string> | "all" | undefined> {
  if (!(await isWanted(client, inputs))) return "all";
  if (!(await isOwnTable(client, "seeded"))) return undefined;
  const { rows } = await client.query<{ file: string }>(`SELECT file FROM ${STACK_SCHEMA}.seeded`);
  return new Set(rows.map(({ file }) => file));
}

/** Whether there is a file that was not seeded although its tables exist. */
async function isAnyMissing(client: pg.Client, files: readonly SeedFile[], seeded: Set<string>): Promise<boolean> {
  for (const file of files) {
    if (!seeded.has(file.name) && (await isThere(client, tablesNeeded(file.sql)))) return true;
  }
  return false;
}

export const provider: dynamic.ResourceProvider = {
  async diff(_id, olds: Outs, news: SeedInputs) {
    const isMoved = (["host", "port", "passwordVersion", "authority"] as const).some((key) => olds[key] !== news[key]);
    return { changes: isMoved || olds.fingerprint !== seedFingerprint(news), replaces: [], deleteBeforeReplace: false };
  },

  async create(inputs: SeedInputs) {
    return { id: `seed data of ${inputs.database}`, outs: await insertSeed(inputs) };
  },

  async update(_id, olds: Outs, inputs: SeedInputs) {
    if (olds.fingerprint === seedFingerprint(inputs)) {
      const { rows, adminMade, fingerprint } = olds;
      return { outs: { ...inputs, rows, adminMade, fingerprint } };
    }
    return { outs: await insertSeed(inputs, olds) };
  },

  /** The next update seeds tables that were missing before, and a newly created database. */
  async read(id, props) {
    if (props === undefined) throw new Error("pulumi import cannot import seed data; run pulumi up");
    const outs = props as Outs;
    const seeded = await withConnection(superuserOf(outs), (client) => seededFiles(client, outs), {
      patienceMs: PATIENCE_MS,
    });
    const isStale =
      seeded !== "all" &&
      (seeded === undefined ||
        (await withConnection(ownerOf(outs), (client) => isAnyMissing(client, outs.files, seeded), AS_APPLICATION)));
    return { id, props: isStale ? { ...outs, fingerprint: "changed by hand" } : outs };
  },
};
