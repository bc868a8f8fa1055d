/**
 * Privileges that a migration took away on the source, taken away here too. New tables are born with this stack's default
 * grants, but a migration may have revoked some (the game's takes UPDATE and DELETE on its audit log from the app).
 */
import type pg from "pg";
import { ident, qualified } from "../../lib/postgres.ts";

interface Privilege {
  schema: string;
  name: string;
  grantee: string;
  privilege: string;
}

const GRANTED = `
  SELECT n.nspname AS schema, c.relname AS name, g.rolname AS grantee, a.privilege_type AS privilege
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL aclexplode(c.relacl) a
  JOIN pg_roles g ON g.oid = a.grantee
  WHERE c.relkind IN ('r', 'p', 'v', 'm') AND g.rolname = ANY ($1) AND n.nspname NOT LIKE 'pg\\_%'`;

const asKey = ({ schema, name, grantee, privilege }: Privilege) => JSON.stringify([schema, name, grantee, privilege]);

/**
 * What the target grants and the source does not, for roles that the source grants anything on the same table: there
 * somebody decided. A role that the source does not know, or that holds nothing on the table, keeps the default grants.
 */
export function findRestrictions(source: readonly Privilege[], target: readonly Privilege[]): Privilege[] {
  const granted = new Set(source.map(asKey));
  const decided = new Set(source.map(({ schema, name, grantee }) => JSON.stringify([schema, name, grantee])));
  return target.filter(
    (privilege) =>
      decided.has(JSON.stringify([privilege.schema, privilege.name, privilege.grantee])) &&
      !granted.has(asKey(privilege)),
  );
}

/** What the target's roles may do with a relation though somebody took it from the same roles on the source. */
export async function readRestrictions(
  roles: readonly string[],
  source: pg.Client,
  target: pg.Client,
): Promise<Privilege[]> {
  const [theirs, ours] = await Promise.all([source, target].map((end) => end.query<Privilege>(GRANTED, [roles])));
  return findRestrictions(theirs?.rows ?? [], ours?.rows ?? []);
}

/** Revokes on the target what the source had revoked. Returns what it did, for the report. */
export async function copyRestrictions(
  roles: readonly string[],
  source: pg.Client,
  target: pg.Client,
): Promise<string[]> {
  const restrictions = await readRestrictions(roles, source, target);
  for (const { schema, name, grantee, privilege } of restrictions) {
    await target.query(`REVOKE ${privilege} ON ${qualified(schema, name)} FROM ${ident(grantee)}`);
  }
  return restrictions.map(
    ({ schema, name, grantee, privilege }) =>
      `${privilege} on ${schema}.${name} is revoked from ${grantee}, as on the source`,
  );
}
