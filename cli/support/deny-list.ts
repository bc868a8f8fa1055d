/** Checks the deny list of the readonly role for `./db doctor`. */
import { describeExposed, readExposed } from "../../components/privileges/exposed-relations.ts";
import { type Address, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES, rolesOf } from "../../lib/role-names.ts";
import { addressOf, type StackOutputs } from "../../lib/stack.ts";
import type { Finding } from "../doctor.ts";

/** SQLSTATEs of a database that lacks the schema, tables or functions of the deny list, or grants on them. */
const NOT_PREPARED = new Set(["3F000", "42P01", "42883", "42501"]);

/** Finds views and functions that show rows of denied tables to readonly, in every database of the stack. */
export async function checkDenyList({ urls, databaseUrls = {} }: StackOutputs): Promise<Finding[]> {
  const first = addressOf(urls.monitor ?? "");
  const further = Object.keys(databaseUrls).map((database) =>
    checkDatabase({ ...first, database }, rolesOf(database).readonly),
  );
  return Promise.all([checkDatabase(first, ROLE_NAMES.readonly), ...further]);
}

async function checkDatabase(address: Address, readonly: string): Promise<Finding> {
  const what = `Deny list of ${readonly}`;
  try {
    const exposed = await withConnection(address, (client) => readExposed(client, readonly), {
      attemptMs: 5000,
    });
    if (exposed.length === 0) return { what, fine: true, seen: "no view or function shows denied rows" };
    return { what, fine: false, ...describeExposed(exposed, readonly) };
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    const remedy = NOT_PREPARED.has(code ?? "")
      ? "The database was prepared by another version: pulumi up"
      : "To see whether the server answers: ./db status";
    return { what, fine: false, seen: `the deny list cannot be read: ${message}`, remedy };
  }
}
