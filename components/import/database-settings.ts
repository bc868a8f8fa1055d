/**
 * Settings that somebody gave the source's database (`ALTER DATABASE ... SET`, `ALTER ROLE ... IN DATABASE ... SET`). Those that
 * decide what a statement means or gives are kept; those about a server's resources and limits stay with that server. A value
 * may be a secret (`app.jwt_secret`), so none is ever told.
 */
import type pg from "pg";
import { type Address, ident } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../roles/names.ts";
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

const STACK_ROLES: readonly string[] = Object.values(ROLE_NAMES);

/** Settings that come along. */
export const keptSettings = (settings: readonly Setting[]): Setting[] =>
  settings.filter(
    ({ role, everywhere, name }) => !everywhere && isKept(name) && (role === null || STACK_ROLES.includes(role)),
  );

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

/** Settings that are kept, as states to be compared. */
export const settingStates = (settings: readonly Setting[]): States =>
  new Map(keptSettings(settings).map((setting) => [nameOf(setting), setting.value]));

/**
 * Gives the database that is loaded aside the settings of the source's. They hold for sessions that begin later.
 * @returns those that it took, and for the report also what the target's server refuses.
 */
export async function copySettings(
  settings: readonly Setting[],
  aside: Address,
): Promise<{ taken: Setting[]; remarks: string[] }> {
  const kept = keptSettings(settings);
  if (kept.length === 0) return { taken: [], remarks: [] };
  // A session of its own: each setting is made its own first, whatever kind of value it has, and taken over from there.
  const client = await openTarget(aside);
  try {
    const taken: Setting[] = [];
    const remarks: string[] = [];
    for (const setting of kept) {
      const { role, name, value } = setting;
      const database = ident(aside.database);
      const whose = role === null ? `DATABASE ${database}` : `ROLE ${ident(role)} IN DATABASE ${database}`;
      try {
        await client.query("SELECT pg_catalog.set_config($1, $2, false)", [name, value]);
        await client.query(`ALTER ${whose} SET ${name.split(".").map(ident).join(".")} FROM CURRENT`);
        taken.push(setting);
        remarks.push(`${nameOf(setting)} is as on the source`);
      } catch (error) {
        const { code } = error as { code?: string };
        if (!REFUSED.has(code ?? "")) throw error;
        remarks.push(`${nameOf(setting)} is not known to this server, or not with that value, and was left out`);
      }
    }
    return { taken, remarks };
  } finally {
    await client.end().catch(() => {});
  }
}

/** SQLSTATEs of a setting or a value that a server does not know: undefined_object, invalid_parameter_value, cant_change_runtime_param. */
const REFUSED = new Set(["42704", "22023", "55P02", "42602"]);
