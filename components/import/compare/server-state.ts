/**
 * The state of a server outside its databases' contents: roles, memberships, settings, databases. Code from a source runs with the
 * owner's privileges, which allow some changes from inside the staging database: the owner's password and members, and the settings and
 * comments of its databases. An import must not change any of these, so they are compared before the swap.
 */
import type pg from "pg";
import { ident, literal } from "../../../lib/postgres.ts";
import { compareStates, type States } from "../schema/states.ts";

/** Runs in the maintenance database, where only superusers create objects. */
const STATE = `
  SELECT 'role ' || quote_ident(rolname) AS object, md5((to_jsonb(a) - 'oid')::text) AS state FROM pg_authid a
  UNION ALL
  SELECT 'members of ' || quote_ident(r.rolname),
      string_agg(quote_ident(m.rolname) || CASE WHEN admin_option THEN ' with admin option' ELSE '' END, ', ' ORDER BY m.rolname)
    FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m ON m.oid = a.member GROUP BY r.rolname
  UNION ALL
  SELECT concat('settings of ', CASE WHEN r.oid IS NULL THEN 'all roles' ELSE 'role ' || quote_ident(r.rolname) END,
      ' in ', CASE WHEN d.oid IS NULL THEN 'all databases' ELSE 'database ' || quote_ident(d.datname) END), md5(s.setconfig::text)
    FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
    WHERE (d.datname = ANY ($1)) IS NOT TRUE
  UNION ALL
  SELECT 'database ' || quote_ident(datname), concat_ws(' ', datdba, datallowconn, datconnlimit, datacl,
      md5(shobj_description(oid, 'pg_database')))
    FROM pg_database WHERE datname <> ALL ($1)
  UNION ALL
  SELECT 'parameter ' || parname, paracl::text FROM pg_parameter_acl
  UNION ALL
  SELECT 'tablespace ' || quote_ident(spcname), concat_ws(' ', spcowner, spcacl, spcoptions) FROM pg_tablespace`;

/** A server's state, with what is needed to restore the roles' passwords. */
export interface ServerState {
  states: States;
  /** The verifiers that the server stores in place of passwords, by role. A role may change its own. */
  verifiers: ReadonlyMap<string, string>;
}

/**
 * Reads the state of a server, without the import's own databases.
 * @param client a superuser's session in the maintenance database.
 * @param staging names of the databases that the import creates.
 */
export async function readServerState(client: pg.Client, staging: readonly string[]): Promise<ServerState> {
  const { rows } = await client.query<{ object: string; state: string }>(STATE, [staging]);
  const passwords = await client.query<{ rolname: string; rolpassword: string }>(
    "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL",
  );
  return {
    states: new Map(rows.map(({ object, state }) => [object, state])),
    verifiers: new Map(passwords.rows.map(({ rolname, rolpassword }) => [rolname, rolpassword])),
  };
}

/**
 * Compares a server with its earlier state, and restores the roles' passwords, so that the next run can log in.
 * @param before the server's state before any code of the source ran.
 * @returns the names of what has changed.
 */
export async function findServerChanges(
  client: pg.Client,
  staging: readonly string[],
  before: ServerState,
): Promise<string[]> {
  const now = await readServerState(client, staging);
  for (const [role, verifier] of before.verifiers) {
    if (!now.verifiers.has(role) || now.verifiers.get(role) === verifier) continue;
    await client.query(`ALTER ROLE ${ident(role)} PASSWORD ${literal(verifier)}`);
  }
  return compareStates(before.states, now.states).map(({ object }) => object);
}

/** Returns the error for code of the source that has changed the server. */
export const serverChanged = (changed: readonly string[]): Error =>
  new Error(
    [
      "The server's roles, settings or databases changed outside the copy while the import ran, so the copy was dropped. If no other " +
        "session changed them, code in the source did: a function of a CHECK, a domain, a generated column, an index or a view. " +
        "Check the source's functions. The import has restored the passwords; pulumi up repairs the rest. Changed:",
      ...changed.map((object) => `  - ${object}`),
    ].join("\n"),
  );
