/**
 * Settings that somebody gave the source's database (`ALTER DATABASE ... SET`, `ALTER ROLE ... IN DATABASE ... SET`). Those that
 * decide what a statement means or gives are kept; those about a server's resources and limits stay with that server. A value
 * may be a secret (`app.jwt_secret`), so none is ever told.
 */
import type pg from "pg";
import { type Address, ident, literal } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { openTarget } from "./session.ts";
import type { States } from "./states.ts";
import type { Skipped } from "./types.ts";

/** One setting. */
export interface Setting {
  /** Whose sessions get it; null for everybody's. */
  role: string | null;
  /** Whether it is the role's in every database. */
  everywhere: boolean;
  name: string;
  value: string;
}

/** PostgreSQL manual, "Client Connection Defaults" and "Version and Platform Compatibility". */
const KEPT = new Set([
  "search_path",
  "timezone",
  "timezone_abbreviations",
  "datestyle",
  "intervalstyle",
  "bytea_output",
  "xmlbinary",
  "xmloption",
  "extra_float_digits",
  "lc_monetary",
  "lc_numeric",
  "lc_time",
  "default_text_search_config",
  "default_transaction_isolation",
  "default_transaction_deferrable",
  "array_nulls",
  "transform_null_equals",
  "check_function_bodies",
]);
/** Of a module's own settings, those of modules that only watch. An application's own (`app.tenant`) look the same and are kept. */
const OF_A_SERVER = /^(neon|auto_explain|pgaudit|pg_stat_statements)\./;

const isKept = (name: string): boolean =>
  KEPT.has(name.toLowerCase()) || (name.includes(".") && !OF_A_SERVER.test(name));

/** Those of the database, and those of the session's own role and of all roles that hold in it, too. */
const SETTINGS = `
  SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END AS role, s.setdatabase = 0 AS everywhere,
    split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value
  FROM pg_db_role_setting s, unnest(s.setconfig) c
  WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    OR s.setdatabase = 0 AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
  ORDER BY 1 NULLS FIRST, 2, 3`;

/** Reads the settings that hold in a session's database. */
export async function readSettings(client: pg.Client): Promise<Setting[]> {
  return (await client.query<Setting>(SETTINGS)).rows;
}

/** How a setting is called. */
export const nameOf = ({ role, everywhere, name }: Setting): string =>
  `setting ${name} of ${role === null ? (everywhere ? "all roles" : "the database") : `the role ${role}${everywhere ? "" : " in the database"}`}`;

/**
 * Roles that get the settings of the source's database here. Superusers and the stack's own sessions must not: a setting such as
 * search_path decides what a statement means.
 */
const APPLICATION_ROLES: readonly string[] = [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly];

/** Settings that come along. */
export const keptSettings = (settings: readonly Setting[], roles = APPLICATION_ROLES): Setting[] =>
  settings.filter(
    ({ role, everywhere, name }) => !everywhere && isKept(name) && (role === null || roles.includes(role)),
  );

/** Whether a setting of the stack's own database is one that an import gives: the next import decides about it. */
export const isOfImport = ({ role, name }: { role: string | null; name: string }): boolean =>
  role !== null && APPLICATION_ROLES.includes(role) && isKept(name);

/** Settings that do not, each with its reason. */
export function leftOutSettings(settings: readonly Setting[]): Skipped[] {
  const kept = new Set(keptSettings(settings));
  return settings
    .filter((setting) => !kept.has(setting))
    .map((setting) => ({
      what: nameOf(setting),
      why: isKept(setting.name)
        ? "that role is not copied; should the application need it: ALTER DATABASE ... SET"
        : "it is about that server's resources or limits; should it be wanted here: ALTER DATABASE ... SET",
    }));
}

/** Settings as roles have them: one of the database is each role's, unless the role has its own. */
function ofRoles(settings: readonly Setting[], roles: readonly string[]): (Setting & { role: string })[] {
  const own = settings.flatMap((setting) => (setting.role === null ? [] : [{ ...setting, role: setting.role }]));
  const has = new Set(own.map(({ role, name }) => JSON.stringify([role, name])));
  const shared = settings.filter(({ role }) => role === null);
  return [
    ...own,
    ...roles.flatMap((role) =>
      shared.filter(({ name }) => !has.has(JSON.stringify([role, name]))).map((setting) => ({ ...setting, role })),
    ),
  ];
}

/** Settings that are kept, as states of the roles that have them. */
export const settingStates = (settings: readonly Setting[], roles = APPLICATION_ROLES): States =>
  new Map(ofRoles(keptSettings(settings, roles), roles).map((setting) => [nameOf(setting), setting.value]));

/** What was given: settings, and for the report also what the target's server refuses. */
export interface CopiedSettings {
  taken: Setting[];
  remarks: string[];
}

/**
 * Gives roles, in the staging database alone, the settings that the source's database has. They hold for sessions that begin later.
 * To be called before anything of the source is in the database: it takes a superuser's session.
 */
export async function copySettings(
  settings: readonly Setting[],
  staging: Address,
  roles = APPLICATION_ROLES,
): Promise<CopiedSettings> {
  const kept = keptSettings(settings, roles);
  if (kept.length === 0) return { taken: [], remarks: [] };
  const client = await openTarget(staging);
  try {
    const taken: Setting[] = [];
    const refused = new Set<string>();
    for (const setting of ofRoles(kept, roles)) {
      if (await giveSetting(client, setting, staging.database)) taken.push(setting);
      else refused.add(setting.name);
    }
    const remarks = kept.map((setting) => {
      if (refused.has(setting.name)) {
        return `${nameOf(setting)} is not known to this server, or not with that value, and was left out`;
      }
      const whose = setting.role === null ? `, for ${roles.join(", ")}` : "";
      return `${nameOf(setting)} is as on the source${whose}`;
    });
    return { taken, remarks };
  } finally {
    await client.end().catch(() => {});
  }
}

/** SQLSTATEs of a setting or a value that a server does not know: undefined_object, invalid_parameter_value, cant_change_runtime_param. */
const REFUSED = new Set(["42704", "22023", "55P02", "42602"]);

/** A list of names, each quoted by itself where it must be: as one text it would be one name. */
const LIST_OF_NAMES = "search_path";

/**
 * Gives a role a setting, worded as on the source: `SET ... FROM CURRENT` would make `German, DMY` of the date style `German`. A list of names
 * is made the transaction's own first, and taken over from there.
 * @returns whether the server knows it.
 */
async function giveSetting(client: pg.Client, setting: Setting & { role: string }, database: string): Promise<boolean> {
  const { role, name, value } = setting;
  try {
    await client.query("BEGIN");
    const isList = name.toLowerCase() === LIST_OF_NAMES;
    if (isList) await client.query("SELECT pg_catalog.set_config($1, $2, true)", [name, value]);
    await client.query(
      `ALTER ROLE ${ident(role)} IN DATABASE ${ident(database)} SET ${name.split(".").map(ident).join(".")} ` +
        (isList ? "FROM CURRENT" : `TO ${literal(value)}`),
    );
    await client.query("COMMIT");
    return true;
  } catch (error) {
    await client.query("ROLLBACK");
    if (REFUSED.has((error as { code?: string }).code ?? "")) return false;
    throw error;
  }
}
