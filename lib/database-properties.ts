/** What belongs to a database beside its content: a copy by template, or another one in its place, does not have it. */
import type pg from "pg";

/** Settings that are lists of names, kept with their quotes: quoted once more, a list would become one name (pg_dump does so). */
const LISTS = [
  ...["search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"],
  ...["shared_preload_libraries", "unix_socket_directories"],
];

/** A database's comment; undefined where there is no such database. */
export async function commentOf(client: pg.Client, database: string): Promise<string | null | undefined> {
  const { rows } = await client.query<{ comment: string | null }>(
    "SELECT shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = $1",
    [database],
  );
  return rows[0]?.comment ?? (rows[0] ? null : undefined);
}

/**
 * Statements that give whatever bears a database's name what the one of today has: grants, settings, limit of connections and
 * comment (PostgreSQL manual, CREATE DATABASE, Notes).
 */
export async function databaseProperties(client: pg.Client, database: string): Promise<string[]> {
  const { rows } = await client.query<{ statement: string }>(
    `SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text) AS statement
     UNION ALL
     SELECT format('GRANT %s ON DATABASE %I TO %s%s', a.privilege_type, datname,
         CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
         CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
       FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE datname = $1 AND a.grantee <> datdba
     UNION ALL
     SELECT format('ALTER %s SET %s TO %s',
         CASE WHEN s.setrole = 0 THEN format('DATABASE %I', d.datname)
              ELSE format('ROLE %I IN DATABASE %I', pg_get_userbyid(s.setrole), d.datname) END,
         -- The name of an extension's setting has a dot, which belongs between its parts.
         (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(name, '.')) part),
         -- An empty list is kept as an empty name, which cannot be written.
         CASE WHEN name = ANY ($2) AND value <> '""' THEN value ELSE quote_literal(CASE WHEN name = ANY ($2) THEN '' ELSE value END) END)
       FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) item,
         LATERAL (SELECT split_part(item, '=', 1) AS name, substr(item, strpos(item, '=') + 1) AS value) x
       WHERE d.datname = $1
     UNION ALL
     SELECT format('ALTER DATABASE %I CONNECTION LIMIT %s', datname, datconnlimit) FROM pg_database WHERE datname = $1
     UNION ALL
     SELECT format('COMMENT ON DATABASE %I IS %L', datname, shobj_description(oid, 'pg_database')) FROM pg_database WHERE datname = $1`,
    [database, LISTS],
  );
  return rows.map(({ statement }) => statement);
}
