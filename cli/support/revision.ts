/** The schema's revision of a restored database, which may differ from the stack's. */
import { readSchemaRevision, type SchemaRevision } from "../../components/migrations/revision.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";

/** Reads the schema's revision from the database. Returns undefined for a stack without migrations. */
export async function readRevision({ urls, revision, stack }: StackOutputs): Promise<SchemaRevision | undefined> {
  if (!revision) return undefined;
  return readSchemaRevision({ stack, address: addressOf(urls.owner ?? ""), expected: revision });
}

/** Warns if the schema is not at the revision that the last update reached. */
export async function warnOfRevision(outputs: StackOutputs, say: (line: string) => void = console.log): Promise<void> {
  const revision = await readRevision(outputs);
  if (!revision || revision.found === revision.expected) return;
  const { found, expected, remedy } = revision;
  say(`Its schema is at revision ${found || "none"}; the last update migrated it to ${expected}. ${remedy}`);
}
