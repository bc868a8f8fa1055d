/** What a preflight asks of the target's server and of its container. */
import { statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type pg from "pg";
import { docker } from "../../../lib/docker.ts";
import type { ImportSummary } from "../../../lib/import-summary.ts";
import { literal } from "../../../lib/postgres.ts";
import { describeCollation, findRelations } from "../catalog.ts";
import { asideName, formerName, IS_ITS_OWN, LOCK_KEY, readMarker, scratchName } from "../swap.ts";
import { plainLocale, type Rules } from "./collations.ts";

/** All that matters of the target. */
export interface TargetLook extends Rules {
  /** What it was imported from before. */
  marker: ImportSummary | undefined;
  /** Some of the user's relations; none in a database that is empty. */
  relations: string[];
  version: string;
  /** Extensions that can be made, with all their versions; the first is the one that is made. */
  extensions: ReadonlyMap<string, readonly string[]>;
  roles: ReadonlySet<string>;
  /** Connections that a superuser may still open. */
  connectionsLeft: number;
  /** Bytes of the write-ahead log that the server lets pile up. */
  walBytes: number;
  /** Databases of the names that an import needs: whether an import made them. */
  sideDatabases: { name: string; ours: boolean }[];
  /** Whether somebody else holds the import's lock. */
  lockHeld: boolean;
}

const about = (database: string) => `
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
        ${IS_ITS_OWN})), '[]')
      FROM pg_database WHERE datname IN (${[asideName, scratchName, formerName].map((name) => literal(name(database))).join(", ")})) AS "sideDatabases",
    EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
      AND ((classid::bigint << 32) | objid::bigint) = ${LOCK_KEY}) AS "lockHeld"
  FROM pg_database d WHERE d.datname = current_database()`;

/** Looks at the database that is to be filled, and at its server. Reads only. */
export async function lookAtTarget(client: pg.Client, database: string): Promise<TargetLook> {
  const marker = await readMarker(client);
  const relations = await findRelations(client);
  const { rows } = await client.query(about(database));
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

/** Functions that the server has of its own, as regprocedure writes them. */
export async function readFunctions(client: pg.Client): Promise<Set<string>> {
  const { rows } = await client.query<{ names: string[] }>(`
    SELECT array_agg(oid::regprocedure::text) AS names FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace`);
  return new Set(rows[0]?.names);
}

/** Free bytes where a container keeps its data, or undefined where nobody can tell. */
export async function freeBytes(container: string | undefined, host: string | undefined): Promise<number | undefined> {
  if (container === undefined) return undefined;
  const said = await docker(["exec", container, "sh", "-c", 'df -Pk "$PGDATA"'], { host, timeoutMs: 10_000 }).catch(
    () => "",
  );
  return parseDf(said);
}

/** Free bytes where files of a folder would go, which need not be there yet; undefined where nobody can tell. */
export async function freeForFiles(folder: string): Promise<number | undefined> {
  for (let path = resolve(folder); ; path = dirname(path)) {
    const found = await statfs(path).catch(() => undefined);
    if (found) return found.bavail * found.bsize;
    if (path === dirname(path)) return undefined;
  }
}

/** Free bytes of `df -Pk` (POSIX's own format: names may hold blanks, so it is read from its end). */
export function parseDf(said: string): number | undefined {
  const match = /\s(\d+)\s+\d+%\s+\/.*$/.exec(said.trim());
  return match ? Number(match[1]) * 1024 : undefined;
}

/**
 * Major version of an image's pg_dump. What the image says of itself is asked first: that is ten times faster than to run it.
 * @returns 0 for an image that is not there.
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
