/** The properties of a database that are not part of its contents, and that a copy or replacement of it does not have. */
import type pg from "pg";
import { ident, literal } from "./postgres.ts";

/** Settings that are lists of names. PostgreSQL stores them as one text, with quotes around names that need them. */
const LISTS = new Set([
  ...["search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"],
  ...["shared_preload_libraries", "unix_socket_directories"],
]);

/**
 * Splits a list as PostgreSQL stores it, like its function SplitGUCList, which pg_dump uses for the same purpose. A name without quotes
 * can contain anything except white space and commas, for example a semicolon, so the text itself must never become SQL.
 * @returns undefined for a text that PostgreSQL could not split either.
 */
export function namesInList(text: string): string[] | undefined {
  if (text.trim() === "") return [];
  const names: string[] = [];
  let rest = text;
  for (;;) {
    const found = /^\s*(?:"((?:[^"]|"")*)"|([^\s,"][^\s,]*))\s*(,|$)/.exec(rest);
    if (found === null) return undefined;
    const [all, quoted, plain, end] = found;
    names.push(quoted?.replaceAll('""', '"') ?? plain ?? "");
    if (end === "") return names;
    rest = rest.slice(all.length);
  }
}

/** Returns a setting's value for SET ... TO, or undefined for a value that cannot be written. */
export function settingValue(name: string, value: string): string | undefined {
  if (!LISTS.has(name)) return literal(value);
  const names = namesInList(value);
  return names && (names.length === 0 ? "''" : names.map(literal).join(", "));
}

/** Returns a database's comment, null if it has none, or undefined if the database does not exist. */
export async function commentOf(client: pg.Client, database: string): Promise<string | null | undefined> {
  const { rows } = await client.query<{ comment: string | null }>(
    "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1",
    [database],
  );
  return rows[0]?.comment ?? (rows[0] ? null : undefined);
}

/** Options of {@link databaseProperties} and {@link settingStatements}. */
export interface PropertyOptions {
  /** The database that gets the properties; by default the database that has them. */
  as?: string;
  /** Selects settings; by default all. */
  wants?: (setting: { role: string | null; name: string }) => boolean;
}

/**
 * Returns statements that give another database under this name the properties of the current one: owner, grants, settings, connection
 * limit and comment (PostgreSQL manual, CREATE DATABASE, Notes).
 */
export async function databaseProperties(
  client: pg.Client,
  database: string,
  options: PropertyOptions = {},
): Promise<string[]> {
  const { rows } = await client.query<{ statement: string }>(
    `SELECT format('ALTER DATABASE %I OWNER TO %I', $2::text, pg_get_userbyid(datdba)) AS statement FROM pg_database WHERE datname = $1
     UNION ALL
     SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $2::text)
     UNION ALL
     SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, $2::text,
         CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
         CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
       FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE datname = $1 AND a.grantee <> datdba
     UNION ALL
     SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', $2::text, datconnlimit) FROM pg_database WHERE datname = $1
     UNION ALL
     SELECT format('COMMENT ON DATABASE %I IS %L', $2::text, shobj_description(oid, 'pg_database')) FROM pg_database WHERE datname = $1`,
    [database, options.as ?? database],
  );
  return [...rows.map(({ statement }) => statement), ...(await settingStatements(client, database, options))];
}

/** Returns statements that copy the settings of a database, and of roles in it. */
export async function settingStatements(
  client: pg.Client,
  database: string,
  { as = database, wants = () => true }: PropertyOptions = {},
): Promise<string[]> {
  const { rows } = await client.query<{ role: string | null; name: string; value: string }>(
    `SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END AS role,
       split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1) AS value
     FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) item
     WHERE d.datname = $1`,
    [database],
  );
  return rows.filter(wants).flatMap(({ role, name, value }) => {
    const whose = `${role === null ? "" : `ROLE ${ident(role)} IN `}DATABASE ${ident(as)}`;
    const written = settingValue(name, value);
    // The name of an extension's setting contains a dot, which must stay unquoted.
    return written === undefined ? [] : [`ALTER ${whose} SET ${name.split(".").map(ident).join(".")} TO ${written}`];
  });
}
