/**
 * What a plain `pulumi up` guards in a database: its owner, its connection limit, what the stack's roles and PUBLIC may do with
 * it and with its first schemas, and the event trigger of the deny list. Everything else in a database may be changed by its
 * owner's migrations (extensions, default privileges, grants to roles of other making), so a difference there is no drift.
 */
import type pg from "pg";
import { readLeftoverLock } from "../../lib/connection-lock.ts";
import { glance } from "../../lib/glance.ts";
import type { Address } from "../../lib/postgres.ts";
import { MAINTENANCE_DATABASE } from "../../lib/postgres.ts";

/** Whose privileges are guarded, and where. */
export interface Guard {
  /** The database's own roles and the monitor. */
  roles: readonly string[];
  /** Databases whose privileges count beside the database's own. */
  otherDatabases: readonly string[];
}

/** $1 are the roles, $2 the other databases. */
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
    -- A restore to an earlier time may bring back those of an earlier version of this program.
    SELECT 'function ' || p.oid::pg_catalog.regprocedure || ' is ' || pg_catalog.md5(pg_catalog.concat_ws(' ', p.proowner, p.prosecdef,
        p.proconfig, p.proacl, p.prosrc))
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'sectorwars_stack'
  ) lines ORDER BY line COLLATE "C"`;

/** Reads what is guarded, one line each, as it is now. */
export async function readGuarded(client: pg.Client, { roles, otherDatabases }: Guard): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(GUARDED, [roles, otherDatabases]);
  return rows.map(({ line }) => line);
}

/**
 * How a database differs from what it was when it was prepared, in words.
 * @param before {@link readGuarded} right after the preparation.
 */
export function guardedDrift(before: readonly string[], now: readonly string[]): string[] {
  return [
    ...now.filter((line) => !before.includes(line)),
    ...before.filter((line) => !now.includes(line)).map((line) => `no longer: ${line}`),
  ];
}

/**
 * Looks for drift in a database, for a resource's diff: it neither fails nor waits long when the server is down.
 * @param address the database, as the superuser.
 * @param before {@link readGuarded} right after the preparation.
 * @returns none while migrations run, and after a run that was killed: that run's connection lock is no drift, and lifting it
 * before the migrations have put the database back would let rows in that are then lost.
 */
export async function glanceAtGuarded(address: Address, guard: Guard, before: readonly string[]): Promise<string[]> {
  const maintenance = { ...address, database: MAINTENANCE_DATABASE };
  const lock = await glance(
    maintenance,
    async (client) => (await readLeftoverLock(client, address.database)) !== undefined,
  );
  if (lock !== false) return [];
  const now = await glance(address, (client) => readGuarded(client, guard));
  return now === undefined ? [] : guardedDrift(before, now);
}
