/**
 * What comes behind the rows, tried before any row is moved: policies, triggers and foreign keys need roles, functions and
 * tables that may not be here. Keys and indexes need nothing but their own tables, and would cost time.
 */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import { NEON_SCHEMAS } from "./catalog.ts";
import { describeEntry, type Entry } from "./dump-entries.ts";

/** The schema that the extension pg_session_jwt makes. */
const NEON_JWT_SCHEMA = "auth";

const NEEDS_OTHERS = new Set(["POLICY", "TRIGGER"]);

/** The table that a foreign key points to, as pg_dump writes it. */
const referenced = ({ sql }: Entry): string | undefined => / REFERENCES (.+?)\(/.exec(sql)?.[1];

/** What helps against an object that cannot be made for certain, by the server's words; undefined for any other reason. */
export function remedyFor(message: string): string | undefined {
  const role = /role "(.+)" does not exist/.exec(message)?.[1];
  if (role !== undefined) return `npm run psql -- --role superuser, then: CREATE ROLE ${ident(role)} NOLOGIN`;
  const schema = /(?:schema|relation|table|type) "(\w+)[".]/.exec(message)?.[1] ?? "";
  if (![...NEON_SCHEMAS, NEON_JWT_SCHEMA].includes(schema)) return undefined;
  return "That is Neon's own and does not come along. Make a branch in the Neon console, drop the object there, and import the branch";
}

/**
 * Tries the entries on tables that are still empty, and takes everything back. What fails for another reason than a known one
 * may only be early: it might need a key, or what stands behind it in the dump.
 * @throws {Error} that lists every object that cannot be made, with what helps.
 */
export async function rehearse(client: pg.Client, entries: readonly Entry[], owner: string): Promise<void> {
  const problems: string[] = [];
  const note = (entry: Entry, message: string) => {
    const remedy = remedyFor(message);
    if (remedy !== undefined) problems.push(`${describeEntry(entry)}: ${message}. ${remedy}.`);
  };
  await client.query(`BEGIN; SET LOCAL ROLE ${ident(owner)}`);
  for (const entry of entries.filter(({ type }) => NEEDS_OTHERS.has(type))) {
    try {
      await client.query("SAVEPOINT one");
      await client.query(entry.sql);
    } catch (error) {
      note(entry, (error as Error).message);
      await client.query("ROLLBACK TO SAVEPOINT one");
    }
  }
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
