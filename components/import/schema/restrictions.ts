/**
 * Revokes on the target what was revoked on the source. New objects get this stack's default grants, and functions and types get
 * PostgreSQL's, but a migration may have revoked some of them (the game's revokes UPDATE and DELETE on its audit log from the app).
 * Additional grants of the source are not copied, except those that replace a revoked one: columns in place of their table, single
 * roles in place of PUBLIC.
 */
import type pg from "pg";
import { ident } from "../../../lib/postgres.ts";
import { isUsers } from "./catalog.ts";
import { isNoMember } from "./facts.ts";

/** Kind of object in GRANT. */
type Kind = "TABLE" | "SEQUENCE" | "ROUTINE" | "TYPE" | "SCHEMA";

/** A privilege of one role on an object or a column. */
export interface Privilege {
  kind: Kind;
  /** For messages: `public.ships`, `function public.dock(integer)`. */
  object: string;
  /** The quoted name for GRANT, without the kind. */
  sql: string;
  /** A role's name, or PUBLIC. */
  grantee: string;
  /** For instance SELECT; null means only that the object has an explicit ACL. */
  privilege: string | null;
  column: string | null;
  /** Granted to the grantee itself. */
  direct: boolean;
  /** Granted to the grantee itself or to a role that it is a member of, and not only to PUBLIC. */
  own: boolean;
}

/** A privilege to revoke, or to grant in place of a revoked one. */
export interface Change extends Pick<Privilege, "kind" | "object" | "sql" | "grantee" | "column"> {
  action: "REVOKE" | "GRANT";
  privilege: string;
}

/** A NULL ACL means the default: PUBLIC may use functions and types. */
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
 * Returns the changes for grantees that have an explicit ACL on the source: a role that was granted anything on the same object, and
 * PUBLIC if a function's or type's privileges were ever changed. They lose what the target grants and the source does not. A role that
 * does not exist on the source, or has no grant on the object, keeps the default grants.
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
    // The role may have the privilege already, possibly on the whole table.
    const remains = (key: string) => held.has(key) && theirs.has(key);
    if (remains(asKey(one)) || remains(asKey({ ...one, column: null }))) return false;
    // A role without any privilege on the table here is on the stack's deny list.
    if (one.column !== null) return holders.has(ofGrantee(one));
    return (one.kind === "ROUTINE" || one.kind === "TYPE") && objects.has(keyOf(one.kind, one.sql)) && isLost(one);
  });
  return [...revokes, ...grants.map((one) => change("GRANT", one))];

  /** Returns whether PUBLIC's privilege, through which the role has its own here, is missing or will be revoked. */
  function isLost(one: Privilege): boolean {
    const ofPublic = asKey({ ...one, grantee: "PUBLIC" });
    return !ours.has(ofPublic) || !theirs.has(ofPublic);
  }
}

/**
 * Returns remarks about roles that have privileges on most of the source's tables but none on a few. There, nothing was ever granted or
 * everything was revoked, which cannot be distinguished; on the target they have the stack's default grants.
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
    // A role with grants on few tables was granted just those; a role that lacks few may have lost them.
    if (names.length === 0 || names.length >= here) return [];
    return [
      `${grantee} has this stack's default grants on ${names.join(", ")}, and no grants on these on the source; if they were revoked ` +
        `there, revoke them here, too`,
    ];
  });
}

/** Reads the privileges of roles and of PUBLIC on source and target. */
async function readBoth(roles: readonly string[], source: pg.Client, target: pg.Client) {
  const [theirs, ours] = await Promise.all(
    [source, target].map((client) => client.query<Privilege>(PRIVILEGES, [roles])),
  );
  return { theirs: theirs?.rows ?? [], ours: ours?.rows ?? [] };
}

/** Returns the changes that would make the target's privileges follow the source's restrictions; empty after an import. */
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

/** Describes a difference between source and target. */
export const describeRestriction = ({ action, privilege, column, grantee }: Change): string => {
  const it = `${privilege}${column === null ? "" : ` (${column})`}`;
  return action === "REVOKE"
    ? `${grantee} has ${it} on the target, and not on the source`
    : `${grantee} has ${it} on the source, and not on the target`;
};

const asSql = ({ action, privilege, column, kind, sql, grantee }: Change): string =>
  `${action} ${privilege}${column === null ? "" : ` (${ident(column)})`} ON ${kind} ${sql} ` +
  `${action === "REVOKE" ? "FROM" : "TO"} ${grantee === "PUBLIC" ? "PUBLIC" : ident(grantee)}`;

/** Returns changes as one SQL script. */
export const restrictionsSql = (changes: readonly Change[]): string => changes.map(asSql).join(";\n");

/** Revokes on the target what was revoked on the source. Returns the changes, and remarks for the report. */
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
