/**
 * What a server has beside its databases' content: roles, memberships, settings, databases. Code from a source runs with the
 * rights of the owner, who may change some of it from inside the staging database: his own password, who is a member of him,
 * settings and comments of his databases. Nothing of that belongs to an import, so it is compared before the copy becomes the data.
 */
import type pg from "pg";
import { ident, literal } from "../../lib/postgres.ts";
import { compareStates, type States } from "./states.ts";

/** Read in the server's own database, where nobody but superusers makes objects. */
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

/** A server's state, with what it takes to give roles their passwords back. */
export interface ServerState {
  states: States;
  /** The verifiers that the server keeps in place of passwords, by role. A role may change its own. */
  verifiers: ReadonlyMap<string, string>;
}

/**
 * Reads the state of a server, except for the import's own databases.
 * @param client a superuser's session in the server's own database.
 * @param staging names of the databases that the import makes.
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
 * Compares a server with what it was, and gives roles their passwords back: the next run must be able to log in.
 * @param before the server's state before anything of the source ran.
 * @returns what was changed meanwhile, by name.
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

/** The error for a copy whose code has changed the server while it was loaded. */
export const serverChanged = (changed: readonly string[]): Error =>
  new Error(
    [
      "While the copy was loaded, something changed the server outside of it, so the copy was thrown away. If nobody else changed " +
        "roles or databases meanwhile, code in the source did: a function of a CHECK, a domain, a generated column, an index or a " +
        "view. Look at the source's functions. Passwords are as they were; pulumi up puts the rest right. Changed:",
      ...changed.map((object) => `  - ${object}`),
    ].join("\n"),
  );
