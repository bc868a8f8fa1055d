/** Compares the schema's revision in the database with the one that the last update reached. */
import type pg from "pg";
import { glance } from "../../lib/glance.ts";
import { type Address, withConnection } from "../../lib/postgres.ts";

/** The revision of a schema. */
export interface SchemaRevision {
  /** The revision in the database; empty if no migration has run in it. */
  found: string;
  /** The revision that the last update reached. */
  expected: string;
  /** What to do if the two differ. */
  remedy: string;
}

/** The schema's revision according to the stack. */
export interface RecordedRevision {
  stack: string;
  /** The database, with its owner's login. */
  address: Address;
  /** The revision that the last update reached. */
  expected: string;
}

async function revisionsIn(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ relation: string }>(
    `SELECT c.oid::regclass::text AS relation FROM pg_class c
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'version_num'
     WHERE c.relname = 'alembic_version' AND c.relkind = 'r' AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema$)'
     ORDER BY c.relnamespace <> 'public'::regnamespace LIMIT 1`,
  );
  if (rows[0] === undefined) return [];
  const found = await client.query<{ version_num: string }>(`SELECT version_num FROM ${rows[0].relation} ORDER BY 1`);
  return found.rows.map(({ version_num }) => version_num);
}

/**
 * Reads the database's revisions: none before the first, several if branches were not merged. Looks for Alembic's table in every
 * schema of the application, because the project can choose its schema.
 * @param address the database, with its owner's login, because the table belongs to the owner.
 */
export const readRevisions = (address: Address): Promise<string[]> => withConnection(address, revisionsIn);

const compare = (revisions: readonly string[], { stack, expected }: RecordedRevision): SchemaRevision => ({
  found: revisions.join(", "),
  expected,
  remedy: `To migrate it again: pulumi refresh --yes --stack ${stack}, then pulumi up --stack ${stack}`,
});

/** Reads the schema's revision from the database, and compares it with the stack's. */
export const readSchemaRevision = async (recorded: RecordedRevision): Promise<SchemaRevision> =>
  compare(await readRevisions(recorded.address), recorded);

/**
 * Returns a warning if the schema is not at the revision that the last update reached, as after an undo, a reset or a restore.
 * @returns undefined if it is, or if the server does not answer within 2 s.
 */
export async function revisionWarning(recorded: RecordedRevision): Promise<string | undefined> {
  const revisions = await glance(recorded.address, revisionsIn);
  if (revisions === undefined) return undefined;
  const { found, expected, remedy } = compare(revisions, recorded);
  if (found === expected) return undefined;
  return `The schema of ${recorded.address.database} is at revision ${found || "none"}; the last update migrated it to ${expected}. ${remedy}`;
}
