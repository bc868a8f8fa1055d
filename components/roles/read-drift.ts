/** Reads and repairs the drift of a server's roles. role-drift.ts defines what counts as drift. */
import type pg from "pg";
import { TEMPORARY_GRANT_KEY } from "../../lib/locks.ts";
import { type Address, MAINTENANCE_DATABASE, withConnection } from "../../lib/postgres.ts";
import {
  compare,
  type Drift,
  type Expected,
  type Found,
  type FoundDatabase,
  type FoundMembership,
  type FoundParameterGrant,
  type FoundRole,
  type FoundSetting,
} from "./role-drift.ts";

const ROLES = `
  SELECT rolname AS name, rolsuper AS superuser, rolcreatedb AS "createDatabase", rolcreaterole AS "createRole",
    rolreplication AS replication, rolbypassrls AS "bypassRls", rolcanlogin AS login, rolinherit AS inherit,
    rolconnlimit AS "connectionLimit", CASE WHEN pg_catalog.isfinite(rolvaliduntil) THEN rolvaliduntil::text END AS "validUntil"
  FROM pg_catalog.pg_roles`;

const MEMBERSHIPS = `
  SELECT pg_catalog.pg_get_userbyid(roleid) AS role, pg_catalog.pg_get_userbyid(member) AS member, admin_option AS admin
  FROM pg_catalog.pg_auth_members ORDER BY 2, 1`;

const SETTINGS = `
  SELECT CASE WHEN s.setrole <> 0 THEN pg_catalog.pg_get_userbyid(s.setrole) END AS role, d.datname AS database,
    pg_catalog.split_part(c, '=', 1) AS name, pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1) AS value
  FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
    pg_catalog.unnest(s.setconfig) c
  ORDER BY 1, 2, 3`;

const PARAMETER_GRANTS = `
  SELECT p.parname AS parameter, CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END AS grantee
  FROM pg_catalog.pg_parameter_acl p, pg_catalog.aclexplode(p.paracl) a ORDER BY 1, 2`;

const DATABASES = `
  SELECT d.datname AS name, pg_catalog.pg_get_userbyid(d.datdba) AS owner, d.datconnlimit AS "connectionLimit",
    (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
        'grantee', CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END, 'privilege', a.privilege_type)), '[]')
      FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a) AS grants
  FROM pg_catalog.pg_database d ORDER BY 1`;

/** Only the superuser's lock counts, because any role can take a lock with that key. */
const TEMPORARY_GRANT = `
  SELECT count(*) > 0 AS held FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_stat_activity s USING (pid) JOIN pg_catalog.pg_database d ON d.oid = l.database
  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = $2 AND s.usename = $3
    AND (l.classid::bigint << 32) + l.objid::bigint = $1`;

/** Reads a server's roles, settings and databases. Any role can read them in any database, because they are in shared catalogs. */
export async function readFound(client: pg.Client, superuser: string): Promise<Found> {
  const held = [TEMPORARY_GRANT_KEY, MAINTENANCE_DATABASE, superuser];
  return {
    roles: (await client.query<FoundRole>(ROLES)).rows,
    memberships: (await client.query<FoundMembership>(MEMBERSHIPS)).rows,
    settings: (await client.query<FoundSetting>(SETTINGS)).rows,
    parameterGrants: (await client.query<FoundParameterGrant>(PARAMETER_GRANTS)).rows,
    databases: (await client.query<FoundDatabase>(DATABASES)).rows,
    temporaryGrant: (await client.query<{ held: boolean }>(TEMPORARY_GRANT, held)).rows[0]?.held === true,
  };
}

/** Whether SQL can repair it. */
const isRepairable = (drift: Drift): drift is Drift & { repair: string } => drift.repair !== undefined;

/** Returns the drift that {@link repairRoles} repairs. */
export async function repairableDrift(client: pg.Client, expected: Expected): Promise<(Drift & { repair: string })[]> {
  return compare(await readFound(client, expected.superuser), expected).filter(isRepairable);
}

/** Returns a drift as a sentence without a full stop. */
export const sentence = ({ subject, what }: Drift): string => `${subject} ${what}`;

/**
 * Repairs the roles in one transaction. Then it ends the sessions that could keep a revoked privilege: after SET ROLE, a session keeps the
 * role even if it has lost the membership.
 * @param maintenance the server's own database, as the superuser.
 * @returns the drift that was repaired.
 * @throws {Error} that names the drift that remains after the repair.
 */
export async function repairRoles(maintenance: Address, expected: Expected, patienceMs = 0): Promise<Drift[]> {
  return withConnection(
    maintenance,
    async (client) => {
      const drifts = await repairableDrift(client, expected);
      if (drifts.length === 0) return [];
      await client.query(`BEGIN; ${drifts.map(({ repair }) => repair).join("; ")}; COMMIT`);
      const left = await repairableDrift(client, expected);
      if (left.length > 0) {
        throw new Error(
          `The roles could not be repaired: ${left.map(sentence).join("; ")}. ` +
            `Run as a superuser: ${left.map(({ repair }) => repair).join("; ")}`,
        );
      }
      await client.query(
        `SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity
         WHERE usename = ANY ($1) AND usename <> $2 AND pid <> pg_catalog.pg_backend_pid()`,
        [[...new Set(drifts.flatMap(({ sessionsOf }) => sessionsOf))], expected.superuser],
      );
      return drifts;
    },
    { patienceMs },
  );
}
