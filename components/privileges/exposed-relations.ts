/**
 * Finds the relations and functions through which readonly can read denied tables. PostgreSQL checks a view's tables with the privileges
 * of the view's owner, so privileges on the table cannot prevent this. The same holds for a materialized view, which contains a copy of
 * the rows, and for a SECURITY DEFINER function.
 */
import type pg from "pg";
import { ROLE_NAMES } from "../../lib/role-names.ts";

/** Something through which readonly can read rows of a denied table. */
export interface Exposed {
  kind: "table" | "view" | "materialized view" | "function";
  /** The qualified name, as SQL. */
  name: string;
  /** The relations and functions that it reads: denied ones, or others that read them. */
  reads: string[];
}

/** A relation or function of the database, as input of {@link findExposed}. */
export interface Candidate {
  /** Unique among relations and functions. */
  id: string;
  kind: Exposed["kind"];
  name: string;
  /** The unqualified name, as it may occur in the text of a function. */
  bareName: string;
  /** Whether it is on the deny list itself. */
  denied: boolean;
  /** Whether readonly may read or execute it. */
  usable: boolean;
  /** Whether it has the privileges of its caller instead of its owner. */
  asCaller: boolean;
  /** The `id`s of what it reads according to pg_depend. */
  dependsOn: string[];
  /** The text of a function, whose references pg_depend does not record. */
  text?: string;
}

/** Relations and functions outside PostgreSQL's own schemas, with what their rules and bodies depend on. $1 is the readonly role. */
const CANDIDATES = `
  WITH denied AS (
    SELECT d AS oid FROM sectorwars_stack.denied_relations(ARRAY(SELECT p.pattern FROM sectorwars_stack.readonly_denied p), NULL) d
  ), dependencies AS (
    SELECT 'r' || w.ev_class AS id, CASE d.refclassid WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN 'r' ELSE 'f' END || d.refobjid AS other
    FROM pg_catalog.pg_rewrite w
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
    WHERE d.refclassid = ANY (ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_proc']::pg_catalog.regclass[]) AND d.refobjid <> w.ev_class
    UNION SELECT 'f' || d.objid, CASE d.refclassid WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN 'r' ELSE 'f' END || d.refobjid
    FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND d.refclassid = ANY (ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_proc']::pg_catalog.regclass[])
  ), collected AS (
    SELECT e.id, pg_catalog.array_agg(e.other) AS others FROM dependencies e GROUP BY e.id
  ), schemas AS (
    SELECT n.oid, n.nspname, pg_catalog.has_schema_privilege(ro.oid, n.oid, 'USAGE') AS usable, ro.oid AS readonly
    FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles ro ON ro.rolname = $1
    WHERE n.nspname NOT IN ('information_schema', 'sectorwars_stack') AND n.nspname !~ '^pg_'
  ), candidates AS (
    SELECT 'r' || c.oid AS id, CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
      pg_catalog.format('%I.%I', s.nspname, c.relname) AS name, c.relname::text AS "bareName", c.oid IN (SELECT d.oid FROM denied d) AS denied,
      s.usable AND pg_catalog.has_any_column_privilege(s.readonly, c.oid, 'SELECT') AS usable,
      c.relkind = 'v' AND EXISTS (
        SELECT FROM pg_catalog.unnest(c.reloptions) o WHERE o LIKE 'security_invoker=%'
          AND pg_catalog.lower(pg_catalog.split_part(o, '=', 2)) IN ('true', 'on', 'yes', '1')) AS "asCaller",
      NULL AS text
    FROM pg_catalog.pg_class c JOIN schemas s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('v', 'm') OR c.oid IN (SELECT d.oid FROM denied d)
    UNION ALL SELECT 'f' || p.oid, 'function', pg_catalog.format('%I.%I(%s)', s.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
      p.proname, false, s.usable AND pg_catalog.has_function_privilege(s.readonly, p.oid, 'EXECUTE')
        AND p.prorettype <> ALL (ARRAY['trigger', 'event_trigger']::pg_catalog.regtype[]), NOT p.prosecdef, p.prosrc
    FROM pg_catalog.pg_proc p JOIN schemas s ON s.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE l.lanname NOT IN ('c', 'internal')
  )
  SELECT c.*, coalesce(e.others, '{}') AS "dependsOn" FROM candidates c LEFT JOIN collected e ON e.id = c.id ORDER BY c.name`;

/** Whether a text contains a name as a word. Case does not matter, as in SQL without quotes. */
function mentions(text: string, name: string): boolean {
  const escaped = name.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_$])${escaped}(?![\\p{L}\\p{N}_$])`, "iu").test(text);
}

/**
 * Returns what exposes rows of denied tables. A view with its caller's privileges exposes nothing, and neither do views on top of it. A
 * materialized view or a function that reads such a view does so with its owner's privileges.
 */
export function findExposed(candidates: readonly Candidate[]): Exposed[] {
  const reads = ({ dependsOn, text, id }: Candidate, other: Candidate) =>
    other.id !== id && (dependsOn.includes(other.id) || (text !== undefined && mentions(text, other.bareName)));
  /** What passes the rows on: to every reader, or only to what reads with an owner's privileges. */
  const carriers = new Map<string, { candidate: Candidate; toCallers: boolean }>();
  for (const candidate of candidates) {
    if (candidate.denied) carriers.set(candidate.id, { candidate, toCallers: true });
  }
  const exposed = new Map<string, Exposed>();
  for (let before = -1; before !== carriers.size; ) {
    before = carriers.size;
    for (const candidate of candidates) {
      if (carriers.has(candidate.id)) continue;
      // In a plain view, PostgreSQL checks the tables of a security_invoker view and of a function with the caller's privileges.
      const sources = [...carriers.values()].filter(
        (carrier) => (candidate.kind !== "view" || carrier.toCallers) && reads(candidate, carrier.candidate),
      );
      if (sources.length === 0) continue;
      carriers.set(candidate.id, { candidate, toCallers: !candidate.asCaller && candidate.kind !== "function" });
      if (candidate.asCaller || !candidate.usable) continue;
      const { kind, name } = candidate;
      exposed.set(candidate.id, { kind, name, reads: sources.map((source) => source.candidate.name).sort() });
    }
  }
  const open = candidates.filter(({ denied, usable }) => denied && usable);
  return [...open.map(({ kind, name }) => ({ kind, name, reads: [] })), ...exposed.values()];
}

/** Describes what is exposed, and the remedies. */
export function describeExposed(
  exposed: readonly Exposed[],
  readonly: string = ROLE_NAMES.readonly,
): { seen: string; remedy: string } {
  const lines = exposed.map(({ kind, name, reads }) => {
    if (reads.length === 0) return `${kind} ${name} itself`;
    return `${kind} ${name} (${kind === "function" ? "names" : "reads"} ${reads.join(", ")})`;
  });
  const remedies = [
    ...(exposed.some(({ reads }) => reads.length === 0)
      ? [`Revoke what gives ${readonly} more privileges than it should have: SUPERUSER, or membership in another role.`]
      : []),
    ...(exposed.some(({ kind }) => kind === "view")
      ? ["For a view: ALTER VIEW name SET (security_invoker = true)."]
      : []),
    ...(exposed.some(({ kind, reads }) => kind !== "function" && reads.length > 0)
      ? [
          `For a view or materialized view that ${readonly} does not need: REVOKE SELECT ON name FROM ${readonly}, PUBLIC.`,
        ]
      : []),
    ...(exposed.some(({ kind }) => kind === "function")
      ? [
          `For a function: REVOKE EXECUTE ON FUNCTION name FROM ${readonly}, PUBLIC, then grant it to the roles that use it.`,
        ]
      : []),
    "Do this in a migration. Functions are found by the names in their text, so a function that builds statements from strings is not found.",
  ];
  return { seen: `${readonly} can read rows of denied tables through ${lines.join("; ")}`, remedy: remedies.join(" ") };
}

/**
 * Returns what exposes denied tables to readonly. Denied tables that readonly can read directly come first; then readonly is a superuser
 * or a member of a role that it should not be a member of.
 * @param client connected to the database as monitor or as a superuser.
 * @param readonly the role that must not read the tables.
 * @throws {Error} with SQLSTATE 3F000 or 42883, if this version did not prepare the database.
 */
export async function readExposed(client: pg.Client, readonly: string = ROLE_NAMES.readonly): Promise<Exposed[]> {
  const { rows } = await client.query<Omit<Candidate, "text"> & { text: string | null }>(CANDIDATES, [readonly]);
  return findExposed(rows.map(({ text, ...row }) => ({ ...row, ...(text === null ? {} : { text }) })));
}
