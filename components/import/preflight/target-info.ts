/** Reads what a preflight needs from the target's server and its container. */
import { statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type pg from "pg";
import { docker } from "../../../lib/docker.ts";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import { literal } from "../../../lib/postgres.ts";
import { describeCollation, findRelations } from "../schema/catalog.ts";
import { formerName, IS_MADE_BY_IMPORT, LOCK_KEY, readMarker, scratchName, stagingName } from "../staging/swap.ts";
import { plainLocale, type Rules } from "./collations.ts";

/** State of the target. */
export interface TargetInfo extends Rules {
  /** Summary of the import that filled it, if any. */
  marker: ImportSummary | undefined;
  /** Up to five of the user's relations; empty if the database is empty. */
  relations: string[];
  version: string;
  /** Available extensions with all their versions, the default version first. */
  extensions: ReadonlyMap<string, readonly string[]>;
  roles: ReadonlySet<string>;
  /** Connections that a superuser may still open. */
  connectionsLeft: number;
  /** max_wal_size in bytes. */
  walBytes: number;
  /** Existing databases with names that an import needs, and whether an import made them. */
  sideDatabases: { name: string; ours: boolean }[];
  /** Whether any session holds the import's lock. */
  lockHeld: boolean;
}

const targetSql = (database: string) => `
  SELECT split_part(current_setting('server_version'), ' ', 1) AS version, to_jsonb(d) AS database,
    current_setting('max_connections')::int
      - (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') + 1 AS "connectionsLeft",
    pg_size_bytes(current_setting('max_wal_size'))::float8 AS "walBytes",
    (SELECT jsonb_object_agg(name, versions) FROM (
      SELECT e.name, jsonb_agg(v.version ORDER BY v.version = e.default_version DESC) AS versions
      FROM pg_available_extensions e JOIN pg_available_extension_versions v ON v.name = e.name GROUP BY e.name) x) AS extensions,
    (SELECT jsonb_agg(rolname) FROM pg_roles) AS roles,
    (SELECT jsonb_agg(collname) FROM pg_collation WHERE collnamespace = 'pg_catalog'::regnamespace) AS collations,
    (SELECT jsonb_agg(DISTINCT collcollate) FROM pg_collation WHERE collprovider = 'c' AND collcollate IS NOT NULL) AS locales,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('name', datname, 'ours',
        ${IS_MADE_BY_IMPORT})), '[]')
      FROM pg_database WHERE datname IN (${[stagingName, scratchName, formerName].map((name) => literal(name(database))).join(", ")})) AS "sideDatabases",
    EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND ((classid::bigint << 32) | objid::bigint) = ${LOCK_KEY}) AS "lockHeld"
  FROM pg_database d WHERE d.datname = current_database()`;

/** Reads the state of the database to fill and of its server. */
export async function readTargetInfo(client: pg.Client, database: string): Promise<TargetInfo> {
  const marker = await readMarker(client);
  const relations = await findRelations(client);
  const { rows } = await client.query(targetSql(database));
  const { extensions, roles, collations, locales, database: own, ...rest } = rows[0];
  return {
    ...rest,
    marker,
    relations,
    collation: describeCollation(own),
    extensions: new Map(Object.entries(extensions)),
    roles: new Set(roles),
    collations: new Set(collations),
    locales: new Set((locales as string[]).map(plainLocale)),
  };
}

/** Returns PostgreSQL's own functions, as regprocedure writes them. */
export async function readFunctions(client: pg.Client): Promise<Set<string>> {
  const { rows } = await client.query<{ names: string[] }>(`
    SELECT array_agg(oid::regprocedure::text) AS names FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace`);
  return new Set(rows[0]?.names);
}

/** Returns the free bytes of a container's data directory, or undefined if they cannot be read. */
export async function freeBytes(container: string | undefined, host: string | undefined): Promise<number | undefined> {
  if (container === undefined) return undefined;
  const said = await docker(["exec", container, "sh", "-c", 'df -Pk "$PGDATA"'], { host, timeoutMs: 10_000 }).catch(
    () => "",
  );
  return parseDf(said);
}

/** Returns the free bytes for files in a folder, which need not exist yet; undefined if they cannot be read. */
export async function freeForFiles(folder: string): Promise<number | undefined> {
  for (let path = resolve(folder); ; path = dirname(path)) {
    const found = await statfs(path).catch(() => undefined);
    if (found) return found.bavail * found.bsize;
    if (path === dirname(path)) return undefined;
  }
}

/** Parses the free bytes from `df -Pk`. Names may hold spaces in this POSIX format, so it is parsed from its end. */
export function parseDf(said: string): number | undefined {
  const match = /\s(\d+)\s+\d+%\s+\/.*$/.exec(said.trim());
  return match ? Number(match[1]) * 1024 : undefined;
}

/**
 * Returns the major version of an image's pg_dump. The image's environment is read first, which is ten times faster than running it.
 * @returns 0 if the image does not exist.
 */
export async function dumpVersion(image: string, host: string | undefined): Promise<number> {
  const environment = await docker(["image", "inspect", "-f", '{{join .Config.Env "\\n"}}', image], { host }).catch(
    () => undefined,
  );
  if (environment === undefined) return 0;
  const told = /^PG_MAJOR=(\d+)$/m.exec(environment) ?? /\/usr\/lib\/postgresql\/(\d+)\/bin/.exec(environment);
  if (told) return Number(told[1]);
  const said = await docker(["run", "--rm", "--entrypoint", "pg_dump", image, "--version"], { host }).catch(() => "");
  return Number(/\(PostgreSQL\) (\d+)/.exec(said)?.[1] ?? 0);
}
