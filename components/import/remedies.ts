/** What helps against an object that the target cannot make. Pure. */
import { ident } from "../../lib/postgres.ts";
import { NEON_SCHEMAS } from "./catalog.ts";

/** The schema that the extension pg_session_jwt makes. */
const NEON_JWT_SCHEMA = "auth";

/** What helps against an object that cannot be made for certain, by the server's words; undefined for any other reason. */
export function remedyFor(message: string): string | undefined {
  const role = /role "(.+)" does not exist/.exec(message)?.[1];
  if (role !== undefined) return `./db psql --role superuser, then: CREATE ROLE ${ident(role)} NOLOGIN`;
  const schema = /(?:schema|relation|table|type) "(\w+)[".]/.exec(message)?.[1] ?? "";
  if (![...NEON_SCHEMAS, NEON_JWT_SCHEMA].includes(schema)) return undefined;
  return "That is Neon's own and does not come along. Make a branch in the Neon console, drop the object there, and import the branch";
}
