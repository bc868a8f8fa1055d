/** The schema's revision, as the database says it, beside the one that the stack has brought it to. */
import type pg from "pg";
import { glance } from "../../lib/glance.ts";
import { type Address, withConnection } from "../../lib/postgres.ts";

/** The revision of a schema. */
export interface SchemaRevision {
  /** What the database says; empty where no migration has run in it. */
  found: string;
  /** What the last update brought it to. */
  expected: string;
  /** What to do where the two differ. */
  remedy: string;
}

/** What a stack says of its schema. */
export interface RecordedRevision {
  stack: string;
  /** The database, as its owner reaches it. */
  address: Address;
  /** What the last update brought it to. */
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
 * Reads the database's revisions: none before the first, several where branches were not merged. Alembic's table is looked for
 * in every schema of the application's, since the project may say where it lies.
 * @param address the database, as its owner reaches it: what is read there is the owner's.
 */
export const readRevisions = (address: Address): Promise<string[]> => withConnection(address, revisionsIn);

const compare = (revisions: readonly string[], { stack, expected }: RecordedRevision): SchemaRevision => ({
  found: revisions.join(", "),
  expected,
  remedy: `To migrate it again: pulumi refresh --yes --stack ${stack}, then pulumi up --stack ${stack}`,
});

/** Reads the schema's revision from the database, to be compared with the stack's. */
export const readSchemaRevision = async (recorded: RecordedRevision): Promise<SchemaRevision> =>
  compare(await readRevisions(recorded.address), recorded);

/**
 * Says that the schema stands at another revision than the last update brought it to: an undo, a reset or a restore does that.
 * @returns undefined where it does not, and where the server does not answer within 2 s.
 */
export async function revisionWarning(recorded: RecordedRevision): Promise<string | undefined> {
  const revisions = await glance(recorded.address, revisionsIn);
  if (revisions === undefined) return undefined;
  const { found, expected, remedy } = compare(revisions, recorded);
  if (found === expected) return undefined;
  return `The schema of ${recorded.address.database} is at revision ${found || "none"}; the last update brought it to ${expected}. ${remedy}`;
}
