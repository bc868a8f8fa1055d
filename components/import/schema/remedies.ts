/** Remedies for objects that the target cannot create. Pure. */
import { ident } from "../../../lib/postgres.ts";
import { NEON_SCHEMAS } from "./catalog.ts";

/** The schema that the extension pg_session_jwt creates. */
const NEON_JWT_SCHEMA = "auth";

/** Returns the remedy for an error that cannot go away by itself later in the import, by its message; undefined for any other error. */
export function remedyFor(message: string): string | undefined {
  const role = /role "(.+)" does not exist/.exec(message)?.[1];
  if (role !== undefined) return `./db psql --role superuser, then: CREATE ROLE ${ident(role)} NOLOGIN`;
  const schema = /(?:schema|relation|table|type) "(\w+)[".]/.exec(message)?.[1] ?? "";
  if (![...NEON_SCHEMAS, NEON_JWT_SCHEMA].includes(schema)) return undefined;
  return "It belongs to Neon and is not copied. Create a branch in the Neon console, drop the object there, and import the branch";
}
