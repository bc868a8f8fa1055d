/**
 * What every `pulumi up` guards in a database: its owner, its connection limit, the privileges of the stack's roles and PUBLIC on it and
 * on the schemas public and sectorwars_stack, and the event trigger of the deny list. The owner's migrations may change everything else
 * (extensions, default privileges, grants to other roles), so other differences are not drift.
 */
import type pg from "pg";
import { readLeftoverLock } from "../../lib/connection-lock.ts";
import { glance } from "../../lib/glance.ts";
import type { Address } from "../../lib/postgres.ts";
import { maintenance } from "../../lib/postgres.ts";

/** The roles whose privileges are guarded, and the databases. */
export interface Guard {
  /** The database's own roles and the monitor. */
  roles: readonly string[];
  /** Databases whose privileges are guarded in addition to the database's own. */
  otherDatabases: readonly string[];
}

/** $1: the roles; $2: the other databases. */
const GUARDED = `
  WITH guarded AS (
    SELECT 'database ' || d.datname AS what, d.datdba AS owner, 'd'::"char" AS kind, d.datacl AS acl
      FROM pg_catalog.pg_database d
      WHERE d.datname = pg_catalog.current_database() OR d.datname = ANY ($2)
    UNION ALL
    SELECT 'schema ' || n.nspname, n.nspowner, 'n', n.nspacl
      FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('public', 'sectorwars_stack')
  )
  SELECT line FROM (
    SELECT g.what || ' belongs to ' || pg_catalog.pg_get_userbyid(g.owner) AS line FROM guarded g
    UNION ALL
    SELECT g.what || ' gives ' || a.privilege_type || ' to '
        || CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(a.grantee) END
        || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
      FROM guarded g, pg_catalog.aclexplode(coalesce(g.acl, pg_catalog.acldefault(g.kind, g.owner))) a
      WHERE a.grantee <> g.owner AND (a.grantee = 0 OR pg_catalog.pg_get_userbyid(a.grantee) = ANY ($1))
    UNION ALL
    SELECT 'database has a connection limit of ' || d.datconnlimit
      FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
    UNION ALL
    SELECT 'database is a template' FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND d.datistemplate
    UNION ALL
    SELECT 'event trigger ' || t.evtname || ' is ' || CASE t.evtenabled WHEN 'D' THEN 'disabled' ELSE 'enabled' END
      FROM pg_catalog.pg_event_trigger t WHERE t.evtname = 'sectorwars_deny_readonly'
    UNION ALL
    -- A restore to an earlier time may bring back functions of an earlier version of this program.
    SELECT 'function ' || p.oid::pg_catalog.regprocedure || ' is ' || pg_catalog.md5(pg_catalog.concat_ws(' ', p.proowner, p.prosecdef,
        p.proconfig, p.proacl, p.prosrc))
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'sectorwars_stack'
  ) lines ORDER BY line COLLATE "C"`;

/** Returns what is guarded, as it is now, one line each. */
export async function readGuarded(client: pg.Client, { roles, otherDatabases }: Guard): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(GUARDED, [roles, otherDatabases]);
  return rows.map(({ line }) => line);
}

/**
 * Describes how a database differs from its state after the preparation.
 * @param before {@link readGuarded} right after the preparation.
 */
export function guardedDrift(before: readonly string[], now: readonly string[]): string[] {
  return [
    ...now.filter((line) => !before.includes(line)),
    ...before.filter((line) => !now.includes(line)).map((line) => `no longer: ${line}`),
  ];
}

/**
 * Returns the drift of a database, for a resource's diff. It neither fails nor waits long if the server is down.
 * @param address the database, as the superuser.
 * @param before {@link readGuarded} right after the preparation.
 * @returns no drift while migrations run, or after a killed run. The run's connection lock is not drift, and removing it before the next
 * run has put the database back would allow writes that are then lost.
 */
export async function glanceAtGuarded(address: Address, guard: Guard, before: readonly string[]): Promise<string[]> {
  const lock = await glance(
    maintenance(address),
    async (client) => (await readLeftoverLock(client, address.database)) !== undefined,
  );
  if (lock !== false) return [];
  const now = await glance(address, (client) => readGuarded(client, guard));
  return now === undefined ? [] : guardedDrift(before, now);
}
