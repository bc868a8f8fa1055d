/** What a database that was brought back from another day may lack. */
import { readSchemaRevision, type SchemaRevision } from "../../components/migrations/revision.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";

/** Reads the schema's revision from the database; undefined for a stack without migrations. */
export async function readRevision({ urls, revision, stack }: StackOutputs): Promise<SchemaRevision | undefined> {
  if (!revision) return undefined;
  return readSchemaRevision({ stack, address: addressOf(urls.owner ?? ""), expected: revision });
}

/** Says so where the schema stands at another revision than the stack has brought it to. */
export async function warnOfRevision(outputs: StackOutputs, say: (line: string) => void = console.log): Promise<void> {
  const revision = await readRevision(outputs);
  if (!revision || revision.found === revision.expected) return;
  const { found, expected, remedy } = revision;
  say(`Its schema is at revision ${found || "none"}, the stack's was at ${expected}. ${remedy}`);
}
