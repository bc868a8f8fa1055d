/** What a database that was brought back from another day may lack. */
import { readRevisions } from "../../components/migrations/run-migrations.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";

/** The revision of a schema. */
export interface SchemaRevision {
  /** What the database says; empty where no migration has run in it. */
  found: string;
  /** What the last update brought it to. */
  expected: string;
  /** What to do where the two differ. */
  remedy: string;
}

/** Reads the schema's revision from the database; undefined for a stack without migrations. */
export async function readRevision({ urls, revision, stack }: StackOutputs): Promise<SchemaRevision | undefined> {
  if (!revision) return undefined;
  const found = (await readRevisions(addressOf(urls.owner ?? ""))).join(", ");
  const remedy = `To migrate it again: pulumi refresh --yes --stack ${stack}, then pulumi up --stack ${stack}`;
  return { found, expected: revision, remedy };
}

/** Says so where the schema stands at another revision than the stack has brought it to. */
export async function warnOfRevision(outputs: StackOutputs, say: (line: string) => void = console.log): Promise<void> {
  const revision = await readRevision(outputs);
  if (!revision || revision.found === revision.expected) return;
  const { found, expected, remedy } = revision;
  say(`Its schema is at revision ${found || "none"}, the stack's was at ${expected}. ${remedy}`);
}
