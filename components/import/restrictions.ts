/**
 * Privileges that were taken away on the source, taken away here too. New objects are born with this stack's default grants, and
 * functions and types with PostgreSQL's, but a migration may have revoked some (the game's takes UPDATE and DELETE on its audit
 * log from the app). What the source grants beyond that is not copied, but for what makes up for a revoked whole: columns in place
 * of their table, single roles in place of PUBLIC.
 */
import type pg from "pg";
import { ident } from "../../lib/postgres.ts";
import { isUsers } from "./catalog.ts";
import { isNoMember } from "./facts.ts";

/** What GRANT calls an object. */
type Kind = "TABLE" | "SEQUENCE" | "ROUTINE" | "TYPE" | "SCHEMA";

/** What one role may do with an object, or with a column of it. */
export interface Privilege {
  kind: Kind;
  /** For messages: `public.ships`, `function public.dock(integer)`. */
  object: string;
  /** The name behind the kind, quoted. */
  sql: string;
  /** A role's name, or PUBLIC. */
  grantee: string;
  /** For instance SELECT; null says only that somebody has decided what the grantee may. */
  privilege: string | null;
  column: string | null;
  /** Granted to the grantee itself. */
  direct: boolean;
  /** Granted to the grantee itself or to a role that it is a member of; not merely to everybody. */
  own: boolean;
}

/** A privilege that is to be taken away, or given in place of one that is. */
export interface Change extends Pick<Privilege, "kind" | "object" | "sql" | "grantee" | "column"> {
  action: "REVOKE" | "GRANT";
  privilege: string;
}

/** An ACL that is not there means the default: for functions and types, that everybody may use them. */
const OBJECTS = `
  SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, 'pg_class'::regclass AS class, c.oid,
      c.relowner AS owner, c.relacl AS acl, false AS chosen, NULL::name AS col
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND ${isUsers("n.nspname")} AND ${isNoMember("pg_class", "c.oid")}
  UNION ALL
  SELECT 'TABLE', 'pg_class'::regclass, c.oid, c.relowner, a.attacl, false, a.attname
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND ${isUsers("n.nspname")} AND ${isNoMember("pg_class", "c.oid")}
  UNION ALL
  SELECT 'ROUTINE', 'pg_proc'::regclass, p.oid, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)), p.proacl IS NOT NULL, NULL
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE ${isUsers("n.nspname")} AND ${isNoMember("pg_proc", "p.oid")}
  UNION ALL
  SELECT 'TYPE', 'pg_type'::regclass, t.oid, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner)), t.typacl IS NOT NULL, NULL
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE ${isUsers("n.nspname")} AND ${isNoMember("pg_type", "t.oid")} AND t.typcategory <> 'A' AND t.typtype <> 'm'
      AND (t.typtype <> 'c' OR EXISTS (SELECT FROM pg_class WHERE oid = t.typrelid AND relkind = 'c'))
  UNION ALL
  SELECT 'SCHEMA', 'pg_namespace'::regclass, n.oid, n.nspowner, n.nspacl, false, NULL FROM pg_namespace n WHERE ${isUsers("n.nspname")}`;

const PRIVILEGES = `
  WITH objects AS (${OBJECTS}),
  who AS (SELECT oid, rolname AS grantee FROM pg_roles WHERE rolname = ANY ($1) UNION ALL SELECT 0, 'PUBLIC'),
  held AS (
    SELECT o.kind, o.class, o.oid, o.col, w.grantee, a.privilege_type AS privilege,
      bool_or(a.grantee = w.oid) AS direct, bool_or(a.grantee <> 0) AS own
    FROM objects o CROSS JOIN LATERAL aclexplode(o.acl) a JOIN who w
      ON w.oid = a.grantee OR a.grantee = 0 OR w.oid <> 0 AND pg_has_role(w.oid, a.grantee, 'USAGE')
    WHERE w.oid <> o.owner GROUP BY 1, 2, 3, 4, 5, 6
    UNION ALL SELECT kind, class, oid, NULL, 'PUBLIC', NULL, false, false FROM objects WHERE chosen
  )
  SELECT h.kind, CASE h.kind WHEN 'TABLE' THEN '' ELSE i.type || ' ' END || replace(i.identity, 'pg_catalog.', '') AS object,
    i.identity AS sql,
    h.grantee, h.privilege, h.col AS column, h.direct, h.own
  FROM held h, LATERAL pg_identify_object(h.class, h.oid, 0) i ORDER BY 1, 2, 4, 5, 6`;

const keyOf = (...parts: (string | null)[]) => JSON.stringify(parts);
const ofGrantee = ({ kind, sql, grantee }: Privilege | Change) => keyOf(kind, sql, grantee);
const asKey = ({ kind, sql, grantee, privilege, column }: Privilege) => keyOf(kind, sql, grantee, privilege, column);
const isGiven = (one: Privilege): one is Privilege & { privilege: string } => one.privilege !== null;

const change = (action: Change["action"], from: Privilege & { privilege: string }): Change => {
  const { kind, object, sql, grantee, privilege, column } = from;
  return { action, kind, object, sql, grantee, privilege, column };
};

/**
 * What the target grants and the source does not, for grantees about whom somebody has decided on the source: a role that was
 * granted anything on the same object, everybody (PUBLIC) where a function's or type's privileges were ever changed. A role that
 * the source does not know, or that was granted nothing on the object, keeps the default grants.
 */
export function findRestrictions(source: readonly Privilege[], target: readonly Privilege[]): Change[] {
  const theirs = new Set(source.map(asKey));
  const decided = new Set(source.filter(({ own, grantee }) => own || grantee === "PUBLIC").map(ofGrantee));
  const revokes = target
    .filter(isGiven)
    .filter((ours) => ours.direct && decided.has(ofGrantee(ours)) && !theirs.has(asKey(ours)))
    .map((ours) => change("REVOKE", ours));

  const ours = new Set(target.map(asKey));
  const held = new Set(target.filter(({ own }) => own).map(asKey));
  const holders = new Set(target.filter(({ direct }) => direct).map(ofGrantee));
  const objects = new Set(target.map(({ kind, sql }) => keyOf(kind, sql)));
  const grants = source.filter(isGiven).filter((one) => {
    if (!one.own || one.grantee === "PUBLIC") return false;
    // It may have it already, be it by the whole table.
    const remains = (key: string) => held.has(key) && theirs.has(key);
    if (remains(asKey(one)) || remains(asKey({ ...one, column: null }))) return false;
    // One that holds nothing of the table here is kept out of it by the stack's own list.
    if (one.column !== null) return holders.has(ofGrantee(one));
    return (one.kind === "ROUTINE" || one.kind === "TYPE") && objects.has(keyOf(one.kind, one.sql)) && isLost(one);
  });
  return [...revokes, ...grants.map((one) => change("GRANT", one))];

  /** Whether everybody's privilege, by which the role had its own here, is not there or goes. */
  function isLost(one: Privilege): boolean {
    const everybodys = asKey({ ...one, grantee: "PUBLIC" });
    return !ours.has(everybodys) || !theirs.has(everybodys);
  }
}

/**
 * What cannot be told: roles that hold something on the source's tables, and on some nothing. Nothing was ever granted there, or
 * all of it was revoked; here they have the stack's default grants.
 */
export function findUndecided(source: readonly Privilege[], target: readonly Privilege[]): string[] {
  const theirs = source.filter(({ kind, own }) => kind === "TABLE" && own);
  const known = new Set(theirs.map(({ grantee }) => grantee));
  const decided = new Set(theirs.map(ofGrantee));
  const through = new Set(source.map(ofGrantee));
  return [...known].sort().flatMap((grantee) => {
    const open = target.filter(
      (one) =>
        one.kind === "TABLE" &&
        one.direct &&
        one.grantee === grantee &&
        !decided.has(ofGrantee(one)) &&
        !through.has(ofGrantee(one)),
    );
    const names = [...new Set(open.map(({ object }) => object))];
    const here = new Set(theirs.filter((one) => one.grantee === grantee).map(ofGrantee)).size;
    // A role that was granted little was granted just that; one that lacks little may have lost it.
    if (names.length === 0 || names.length >= here) return [];
    return [
      `${grantee} has this stack's default grants on ${names.join(", ")}, and none there on the source; where they were revoked, ` +
        `revoke them here too`,
    ];
  });
}

/** The privileges of roles and of everybody, on both sides. */
async function readBoth(roles: readonly string[], source: pg.Client, target: pg.Client) {
  const [theirs, ours] = await Promise.all([source, target].map((end) => end.query<Privilege>(PRIVILEGES, [roles])));
  return { theirs: theirs?.rows ?? [], ours: ours?.rows ?? [] };
}

/** What the target's roles may do though somebody took it from the same roles on the source, and what they lack in its place. */
export async function readRestrictions(
  roles: readonly string[],
  source: pg.Client,
  target: pg.Client,
): Promise<Change[]> {
  const { theirs, ours } = await readBoth(roles, source, target);
  return findRestrictions(theirs, ours);
}

const what = ({ privilege, column, object }: Change) =>
  `${privilege}${column === null ? "" : ` (${column})`} on ${object}`;

/** A difference between the sides, in words. */
export const describeRestriction = ({ action, privilege, column, grantee }: Change): string => {
  const it = `${privilege}${column === null ? "" : ` (${column})`}`;
  return action === "REVOKE"
    ? `${grantee} has ${it} on the target, and not on the source`
    : `${grantee} has ${it} on the source, and not on the target`;
};

const asSql = ({ action, privilege, column, kind, sql, grantee }: Change): string =>
  `${action} ${privilege}${column === null ? "" : ` (${ident(column)})`} ON ${kind} ${sql} ` +
  `${action === "REVOKE" ? "FROM" : "TO"} ${grantee === "PUBLIC" ? "PUBLIC" : ident(grantee)}`;

/** Changes as one script. */
export const restrictionsSql = (changes: readonly Change[]): string => changes.map(asSql).join(";\n");

/** Revokes on the target what the source had revoked. Returns what it did, and for the report also what it could not know. */
export async function copyRestrictions(
  roles: readonly string[],
  source: pg.Client,
  target: pg.Client,
): Promise<{ changes: Change[]; remarks: string[] }> {
  const { theirs, ours } = await readBoth(roles, source, target);
  const changes = findRestrictions(theirs, ours);
  await target.query(restrictionsSql(changes));
  const remarks = changes.map((one) =>
    one.action === "REVOKE"
      ? `${what(one)} is revoked from ${one.grantee}, as on the source`
      : `${what(one)} is granted to ${one.grantee}, as on the source`,
  );
  return { changes, remarks: [...remarks, ...findUndecided(theirs, ours)] };
}
