/**
 * Settings of the source's database (`ALTER DATABASE ... SET`, `ALTER ROLE ... IN DATABASE ... SET`). Those that decide what a
 * statement means or returns are copied; those about a server's resources and limits are not. A value may be a secret
 * (`app.jwt_secret`), so values are never printed.
 */
import type pg from "pg";
import { type Address, ident, literal } from "../../../lib/postgres.ts";
import { ROLE_NAMES } from "../../../lib/role-names.ts";
import { openTarget } from "../session/session.ts";
import type { Skipped } from "../types.ts";
import type { States } from "./states.ts";

/** One setting. */
export interface Setting {
  /** Role whose sessions get it; null for all roles. */
  role: string | null;
  /** Whether it holds for the role in every database. */
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
/** Settings of modules that only monitor a server. An application's settings (`app.tenant`) have the same form and are copied. */
const OF_A_SERVER = /^(neon|auto_explain|pgaudit|pg_stat_statements)\./;

const isKept = (name: string): boolean =>
  KEPT.has(name.toLowerCase()) || (name.includes(".") && !OF_A_SERVER.test(name));

/** Settings of the database, and those of the session's role or of all roles in every database. */
const SETTINGS = `
  SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END AS role, s.setdatabase = 0 AS everywhere,
    split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value
  FROM pg_db_role_setting s, unnest(s.setconfig) c
  WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    OR s.setdatabase = 0 AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
  ORDER BY 1 NULLS FIRST, 2, 3`;

/** Reads the settings that apply in a session's database. */
export async function readSettings(client: pg.Client): Promise<Setting[]> {
  return (await client.query<Setting>(SETTINGS)).rows;
}

/** Returns a setting's name in messages and states. */
export const nameOf = ({ role, everywhere, name }: Setting): string =>
  `setting ${name} of ${role === null ? (everywhere ? "all roles" : "the database") : `the role ${role}${everywhere ? "" : " in the database"}`}`;

/**
 * Roles that get the settings of the source's database. Superusers and the stack's own sessions must not have them: a setting such
 * as search_path decides what a statement means.
 */
const APPLICATION_ROLES: readonly string[] = [ROLE_NAMES.owner, ROLE_NAMES.app, ROLE_NAMES.readonly];

/** Returns the settings that are copied. */
export const keptSettings = (settings: readonly Setting[], roles = APPLICATION_ROLES): Setting[] =>
  settings.filter(
    ({ role, everywhere, name }) => !everywhere && isKept(name) && (role === null || roles.includes(role)),
  );

/** Returns whether a setting of the stack's database is one that an import copies, so that the next import replaces it. */
export const isOfImport = ({ role, name }: { role: string | null; name: string }): boolean =>
  role !== null && APPLICATION_ROLES.includes(role) && isKept(name);

/** Returns the settings that are not copied, each with its reason. */
export function leftOutSettings(settings: readonly Setting[]): Skipped[] {
  const kept = new Set(keptSettings(settings));
  return settings
    .filter((setting) => !kept.has(setting))
    .map((setting) => ({
      what: nameOf(setting),
      why: isKept(setting.name)
        ? "that role is not copied; if the application needs it: ALTER DATABASE ... SET"
        : "it is about that server's resources or limits; if you want it here: ALTER DATABASE ... SET",
    }));
}

/** Returns the settings of each role. A setting of the database applies to every role that has none of its own. */
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

/** Returns the copied settings of each role as states. */
export const settingStates = (settings: readonly Setting[], roles = APPLICATION_ROLES): States =>
  new Map(ofRoles(keptSettings(settings, roles), roles).map((setting) => [nameOf(setting), setting.value]));

/** The settings that were set, and remarks for the report, also about those that the target rejects. */
export interface CopiedSettings {
  taken: Setting[];
  remarks: string[];
}

/**
 * Sets the settings of the source's database for roles, in the staging database only. They apply to sessions that begin later. Call
 * it before anything of the source is in the database, because it uses a superuser's session.
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
        return `${nameOf(setting)} was left out, because this server does not know it or its value`;
      }
      const whose = setting.role === null ? `, for ${roles.join(", ")}` : "";
      return `${nameOf(setting)} is as on the source${whose}`;
    });
    return { taken, remarks };
  } finally {
    await client.end().catch(() => {});
  }
}

/** SQLSTATEs for a setting or value that a server rejects: undefined_object, invalid_parameter_value, cant_change_runtime_param, ... */
const REFUSED = new Set(["42704", "22023", "55P02", "42602"]);

/** A setting whose value is a list of names. Set from one string literal, it would become a single name. */
const LIST_OF_NAMES = "search_path";

/**
 * Sets a role's setting to the source's exact value: `SET ... FROM CURRENT` would turn the date style `German` into `German, DMY`. A list
 * of names is set for the transaction first, and then set FROM CURRENT.
 * @returns whether the server accepts it.
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
