/** What a database that was brought back from another day may lack. */
import { readRevisions } from "../../components/migrations/run-migrations.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";

/** Says so where the schema stands at another revision than the stack has brought it to. */
export async function warnOfRevision(
  { urls, revision, stack }: StackOutputs,
  say: (line: string) => void = console.log,
): Promise<void> {
  if (!revision) return;
  const found = (await readRevisions(addressOf(urls.owner ?? ""))).join(", ");
  if (found === revision) return;
  say(
    `Its schema is at revision ${found || "none"}, the stack's was at ${revision}. To migrate it again: ` +
      `pulumi refresh --yes --stack ${stack}, then pulumi up --stack ${stack}`,
  );
}
