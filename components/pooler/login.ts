/** The pooler's role in the server, and the function with which it looks up passwords. */
import { readFileSync } from "node:fs";
import type pg from "pg";
import { type Address, fillIn, ident, literal, MAINTENANCE_DATABASE, withConnection } from "../../lib/postgres.ts";
import { POOLER_ROLE } from "../../lib/role-names.ts";
import { passwordVerifier } from "../../lib/scram.ts";

/** The attributes of the role. Without INHERIT, a membership that is granted by hand has no effect by itself. */
const ATTRIBUTES =
  "LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT -1 VALID UNTIL 'infinity'";

/** Returns the script that creates the function and grants its use. */
export const loginScript = (): string => fillIn(readFileSync("sql/pooler.sql", "utf8"), { pooler: POOLER_ROLE });

/** Milliseconds to wait for a server that is starting. */
const PATIENCE = { patienceMs: 30_000 };

/**
 * Creates the role and the function, or brings existing ones into this form. A restore to an earlier time may have removed them, or
 * brought back another password.
 * @param server the server's own database, as the superuser.
 */
export async function prepareLogin(server: Address, password: string): Promise<void> {
  const role = ident(POOLER_ROLE);
  await withConnection(
    server,
    async (client) => {
      const { rowCount } = await client.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", [POOLER_ROLE]);
      await client.query(
        [
          "BEGIN",
          ...(rowCount === 0 ? [`CREATE ROLE ${role}`] : []),
          `ALTER ROLE ${role} ${ATTRIBUTES} PASSWORD ${literal(passwordVerifier(POOLER_ROLE, password))}`,
          ...(await memberships(client)).map((group) => `REVOKE ${ident(group)} FROM ${role} CASCADE`),
          loginScript(),
          "COMMIT",
        ].join(";\n"),
      );
    },
    PATIENCE,
  );
}

/** Returns the roles that the pooler's role is a member of, which must be none. */
async function memberships(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ role: string }>(
    `SELECT pg_catalog.pg_get_userbyid(roleid)::text AS role FROM pg_catalog.pg_auth_members
     WHERE pg_catalog.pg_get_userbyid(member) = $1 ORDER BY 1`,
    [POOLER_ROLE],
  );
  return rows.map(({ role }) => role);
}

/** Drops the role and the function. Sessions of the role end with their pooler. */
export async function dropLogin(server: Address): Promise<void> {
  await withConnection(
    server,
    async (client) => {
      const { rowCount } = await client.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", [POOLER_ROLE]);
      const role = ident(POOLER_ROLE);
      await client.query(
        `BEGIN; DROP SCHEMA IF EXISTS pooler CASCADE; ${rowCount === 0 ? "" : `DROP OWNED BY ${role}; DROP ROLE ${role};`} COMMIT`,
      );
    },
    PATIENCE,
  );
}

/** One row: what the server says about the role and the function, as text. */
const FOUND = `
  SELECT
    (SELECT pg_catalog.concat_ws(' ', rolcanlogin, rolinherit, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls,
        rolconnlimit, rolvaliduntil IS NULL OR NOT pg_catalog.isfinite(rolvaliduntil))
      FROM pg_catalog.pg_roles WHERE rolname = $1::name) AS role,
    (SELECT pg_catalog.count(*)::int FROM pg_catalog.pg_auth_members
      WHERE pg_catalog.pg_get_userbyid(member) = $1::name OR pg_catalog.pg_get_userbyid(roleid) = $1::name) AS memberships,
    (SELECT pg_catalog.md5(pg_catalog.concat_ws(' ', p.prosecdef, p.proconfig, p.proacl, p.prosrc, o.rolsuper, n.nspacl))
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_roles o ON o.oid = p.proowner
      WHERE n.nspname = 'pooler' AND p.proname = 'login') AS function,
    pg_catalog.has_database_privilege($1::name, pg_catalog.current_database(), 'CONNECT') AS connects`;

/** The role with {@link ATTRIBUTES}, as {@link FOUND} prints it. */
const ROLE_AS_WANTED = "t f f f f f f -1 t";

/** The state of the pooler's login in the server. */
export interface FoundLogin {
  /** Null if the role does not exist. */
  role: string | null;
  memberships: number;
  /** A digest of the function with its privileges; null if it does not exist. */
  function: string | null;
  connects: boolean;
}

/**
 * Reads the state of the pooler's login. Every role that can connect to the database may do that.
 * @param client a session in the server's own database.
 */
export async function readLogin(client: pg.Client): Promise<FoundLogin> {
  const { rowCount } = await client.query("SELECT FROM pg_catalog.pg_roles WHERE rolname = $1", [POOLER_ROLE]);
  if (rowCount === 0) return { role: null, memberships: 0, function: null, connects: false };
  const { rows } = await client.query<FoundLogin>(FOUND, [POOLER_ROLE]);
  return rows[0] as FoundLogin;
}

/**
 * Compares the pooler's login with what is expected.
 * @param expected the digest of the function right after it was created; undefined to check only that it exists.
 * @returns the differences as sentences without a full stop. Pure.
 */
export function loginDrift(found: FoundLogin, expected?: string | null): string[] {
  if (found.role === null) return [`${POOLER_ROLE} does not exist in ${MAINTENANCE_DATABASE}`];
  return [
    ...(found.role === ROLE_AS_WANTED ? [] : [`${POOLER_ROLE} has other attributes than declared`]),
    ...(found.memberships === 0 ? [] : [`${POOLER_ROLE} is a member of a role, or a role is a member of it`]),
    ...(found.connects ? [] : [`${POOLER_ROLE} may not connect to ${MAINTENANCE_DATABASE}`]),
    ...(found.function === null
      ? ["the function pooler.login does not exist"]
      : expected !== undefined && expected !== found.function
        ? ["the function pooler.login was changed"]
        : []),
  ];
}
