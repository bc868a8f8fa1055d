/** Checks for every copy of the sample, from any version. */
import { expect } from "vitest";
import type { ImportSpec } from "../../components/import/types.ts";
import { literal } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { contentsOf } from "./compare.ts";
import { readReport, type Server } from "./lab.ts";

/** Expects the rows, sequences and objects of the source. `spelling` removes differences between versions. */
export async function expectSameContents(spec: ImportSpec, spelling = (object: string) => object): Promise<void> {
  const [theirs, ours] = await Promise.all([contentsOf(spec.source.address), contentsOf(spec.target.address)]);
  expect(Object.keys(theirs.tables).length).toBeGreaterThan(40);
  expect(ours.tables).toEqual(theirs.tables);
  expect(Object.keys(theirs.sequences).length).toBeGreaterThan(15);
  expect(ours.sequences).toEqual(theirs.sequences);
  for (const kind of [
    "index",
    "trigger",
    "policy",
    "v ",
    "m ",
    "comment",
    "enum",
    "function",
    "partition",
    "statistics",
  ]) {
    expect(theirs.objects.filter((object) => object.startsWith(kind)).length, kind).toBeGreaterThan(0);
  }
  expect(ours.objects.map(spelling)).toEqual(theirs.objects.map(spelling));
  expect(ours.objects.filter((object) => /valid=false|ready=false/.test(object))).toEqual([]);
}

/** Expects a report that describes the copy. */
export async function expectGoodReport(spec: ImportSpec, rows: number): Promise<void> {
  const report = await readReport(spec);
  expect(report.verdict).toBe("identical");
  expect(report.error).toBeUndefined();
  expect(report.rows).toBe(rows);
  expect(report.alembicRevision).toBe("a7c3e91b04d2");
  expect(report.tables.every(({ verdict }) => verdict.startsWith("equal"))).toBe(true);
  expect(report.tables.every(({ source, target }) => source === target)).toBe(true);
  expect(report.sequences.every(({ source, target }) => source === target)).toBe(true);
  expect(report.schema.compared).toBeGreaterThan(150);
}

/** Expects that everything belongs to the owner, and nothing to the superuser. */
export async function expectOwnership(server: Server, database: string): Promise<void> {
  const strangers = await server.sql(
    database,
    `SELECT 'relation ' || c.oid::regclass AS what, pg_get_userbyid(c.relowner) AS owner FROM pg_class c
       JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname IN ('public', 'audit') AND c.relowner <> '${ROLE_NAMES.owner}'::regrole
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     UNION ALL
     SELECT 'function ' || p.oid::regprocedure, pg_get_userbyid(p.proowner) FROM pg_proc p
       WHERE p.pronamespace IN ('public'::regnamespace, 'audit'::regnamespace) AND p.proowner <> '${ROLE_NAMES.owner}'::regrole
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
     UNION ALL
     SELECT 'type ' || t.oid::regtype, pg_get_userbyid(t.typowner) FROM pg_type t
       WHERE t.typnamespace IN ('public'::regnamespace, 'audit'::regnamespace) AND t.typowner <> '${ROLE_NAMES.owner}'::regrole
         AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
         AND t.typelem = 0 AND t.typrelid = 0
     UNION ALL
     SELECT 'schema ' || nspname, pg_get_userbyid(nspowner) FROM pg_namespace
       WHERE nspname IN ('public', 'audit') AND nspowner <> '${ROLE_NAMES.owner}'::regrole
     UNION ALL
     SELECT 'database ' || datname, pg_get_userbyid(datdba) FROM pg_database
       WHERE datname = current_database() AND datdba <> '${ROLE_NAMES.owner}'::regrole`,
  );
  expect(strangers).toEqual([]);
}

const MAY = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER".split(", ");

/** Returns a role's privileges on a table, one word each. */
async function privilegesOf(server: Server, database: string, role: string, table: string): Promise<string> {
  const [row] = await server.sql<{ may: string }>(
    database,
    `SELECT coalesce(string_agg(p, ' ' ORDER BY n), '') AS may
     FROM unnest('{${MAY.join(",")}}'::text[]) WITH ORDINALITY x(p, n) WHERE has_table_privilege(${literal(role)}, ${literal(table)}, p)`,
  );
  return row?.may ?? "";
}

/** Expects the stack's default grants, its deny list, and the privileges that the source's migration revoked. */
export async function expectGrants(server: Server, database: string): Promise<void> {
  const { app, readonly, monitor } = ROLE_NAMES;
  const may = (role: string, table: string) => privilegesOf(server, database, role, table);
  for (const table of ["players", "audit.changes", "audit.changes_2025", "player_overview", "market_summary"]) {
    expect(await may(app, table), `${app} on ${table}`).toBe("SELECT INSERT UPDATE DELETE");
    expect(await may(readonly, table), `${readonly} on ${table}`).toBe("SELECT");
    expect(await may(monitor, table), `${monitor} on ${table}`).toBe("");
  }
  for (const table of ["admin_credentials", "mfa_secrets", "refresh_tokens", "oauth_accounts"]) {
    expect(await may(readonly, table), `${readonly} on ${table}`).toBe("");
    expect(await may(app, table), `${app} on ${table}`).toBe("SELECT INSERT UPDATE DELETE");
  }
  // The migration granted only SELECT and INSERT; the default grants must not add others.
  expect(await may(app, "admin_action_logs")).toBe("SELECT INSERT");
  expect(await may(readonly, "admin_action_logs")).toBe("SELECT");
  expect(
    await server.value(database, `SELECT has_sequence_privilege('${app}', 'refresh_tokens_id_seq', 'USAGE')`),
  ).toBe(true);
  expect(await server.value(database, `SELECT has_schema_privilege('${app}', 'audit', 'USAGE')`)).toBe(true);
  expect(await server.value(database, `SELECT has_schema_privilege('${app}', 'public', 'CREATE')`)).toBe(false);
  expect(await server.value(database, `SELECT has_schema_privilege('${app}', 'sectorwars_stack', 'USAGE')`)).toBe(
    false,
  );
}
