/** Reads the source's schema with pg_dump and creates it on the target. */
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { DockerError, docker } from "../../../lib/docker.ts";
import { type Address, authorityOf, type ChannelBinding, ident, literal } from "../../../lib/postgres.ts";
import { DUMP_SETTINGS, startupOptions } from "../../../lib/session-settings.ts";
import { STACK_SCHEMA } from "../../../lib/stack-schema.ts";
import { asOwner } from "../session/session.ts";
import type { Catalog, ImportSpec } from "../types.ts";
import { NEON_EXTENSIONS, NEON_SCHEMAS } from "./catalog.ts";
import { type Entry, isCopied, splitDump } from "./dump-entries.ts";
import type { Attempts } from "./failures.ts";

/** The schema in two parts: what loading rows needs, and what is created after the rows. */
export interface Schema {
  before: Entry[];
  after: Entry[];
}

/** A schema that pg_dump read, with its archive. */
export interface Dump extends Schema {
  /** pg_dump's archive, compressed, as base64. pg_restore creates the schema from it without any code of this program. */
  archive: string;
  /** pg_restore's errors, if an archive was restored first. */
  refused: string;
}

/** Address and login of pg_dump, inside a container. */
export interface DumpAccess {
  host: string;
  port: number;
  network?: string;
  database: string;
  user: string;
  password: string;
  rootCertificates: string | undefined;
  channelBinding?: ChannelBinding;
}

/** A line between the parts of the output. It is random, so no text of a schema contains it. */
const DIVIDER = `-- next part ${randomUUID()}`;

/** Options of both pg_dump and pg_restore. For an archive, only pg_restore applies those about owners and grants. */
const LEFT_OUT =
  "--no-owner --no-privileges --no-publications --no-subscriptions --no-security-labels --no-tablespaces";

/** The line after the certificates. */
const ROOTS_END = "sectorwars: no more certificates";

/** The line after an archive that is to be restored. */
const ARCHIVE_END = "sectorwars: end of the archive";

/** Ends a connection whose server has not answered for 25 s (PostgreSQL manual, "Parameter Key Words"). */
const KEEPALIVES = "keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=25000";

/**
 * Returns the script that runs in the container. It reads password and certificates from standard input, because ps would show an
 * argument and docker inspect a variable. Standard input then stays open while this process lives; when it closes for any reason, the
 * script kills everything in the container. The archive separates the two sections reliably, which plain output does not.
 */
const dumpScript = (restore: string) => `
  set -eu
  umask 077
  IFS= read -r PGPASSWORD
  export PGPASSWORD
  lines_until() { while IFS= read -r line && [ "$line" != "$1" ]; do echo "$line"; done; }
  lines_until "${ROOTS_END}" >/tmp/roots.pem
  lines_until "${ARCHIVE_END}" >/tmp/given
  exec 3<&0
  { cat <&3 >/dev/null; kill -KILL -1; } &
  : >/tmp/refused
  ${restore}
  pg_dump --dbname="${KEEPALIVES}" --format=custom --schema-only --lock-wait-timeout=5s ${LEFT_OUT} --file=/tmp/schema "$@"
  pg_restore ${LEFT_OUT} --section=pre-data --file=- /tmp/schema
  echo "${DIVIDER}"
  pg_restore ${LEFT_OUT} --section=post-data --file=- /tmp/schema
  echo "${DIVIDER}"
  gzip -c /tmp/schema | base64
  echo "${DIVIDER}"
  cat /tmp/refused
`;

const READ_ONLY = startupOptions({ ...DUMP_SETTINGS, default_transaction_read_only: "on" });

/** The restored schema is dumped and then dropped, so its commits need not wait for the disk. */
const RESTORE_OPTIONS = startupOptions({ ...DUMP_SETTINGS, synchronous_commit: "off" });

/**
 * Restores the given archive before the schema is read. pg_restore continues after a failed statement (an extension's schema that
 * exists, a setting that an older server does not know), prints each error and exits with 1.
 */
const RESTORE_GIVEN = `
  base64 -d /tmp/given | gzip -dc >/tmp/archive
  PGOPTIONS='${RESTORE_OPTIONS}' pg_restore --dbname="${KEEPALIVES}" ${LEFT_OUT} /tmp/archive 2>/tmp/refused || :`;

/** SQLSTATE lock_not_available: the lock timeout expired. */
export const LOCK_NOT_AVAILABLE = "55P03";

/** Returns the label of an import's short-lived containers, by which those of a killed run are found. */
export const helperLabel = (stack: string): string => `sectorwars.import=${stack}`;

/** Options for reading a schema. */
export interface DumpOptions {
  image: string;
  stack: string;
  dockerHost: string | undefined;
  /** Exported snapshot to read in; the current state, if left out. */
  snapshot?: string;
  /** An archive that pg_restore restores into the database before its schema is read. */
  restoring?: string;
}

/**
 * Reads a schema with pg_dump.
 * @throws {Error} with pg_dump's message.
 */
export async function dumpSchema(access: DumpAccess, options: DumpOptions): Promise<Dump> {
  const { host, database, password, rootCertificates } = access;
  const { dockerHost, restoring = "" } = options;
  const input = [password, rootCertificates ?? "", ROOTS_END, restoring, ARCHIVE_END, ""].join("\n");
  try {
    const dump = await docker(dumpArguments(access, options), { host: dockerHost, input, holdInput: true });
    const [before = "", after = "", archive = "", refused = ""] = dump.split(`\n${DIVIDER}\n`);
    return {
      before: splitDump(before).filter(isCopied),
      after: splitDump(after).filter(isCopied),
      archive: archive.trim(),
      refused: refused.trim(),
    };
  } catch (error) {
    if (!(error instanceof DockerError)) throw error;
    if (/canceling statement due to (statement|lock) timeout/.test(error.stderr)) {
      throw Object.assign(new Error(error.stderr.trim()), { code: LOCK_NOT_AVAILABLE });
    }
    throw new Error(`The schema of ${host}/${database} could not be read: ${error.stderr.trim()}`);
  }
}

/** Returns the arguments of docker that run pg_dump, after pg_restore if an archive is given. */
function dumpArguments(access: DumpAccess, { image, stack, snapshot, restoring }: DumpOptions): string[] {
  const { host, port, network, database, user, rootCertificates, channelBinding } = access;
  const environment = {
    PGHOST: host,
    PGPORT: String(port),
    PGDATABASE: database,
    PGUSER: user,
    PGSSLMODE: rootCertificates === undefined ? "disable" : "verify-full",
    ...(rootCertificates === undefined ? {} : { PGSSLROOTCERT: "/tmp/roots.pem" }),
    ...(channelBinding === undefined ? {} : { PGCHANNELBINDING: channelBinding }),
    PGOPTIONS: READ_ONLY,
    PGCONNECT_TIMEOUT: "30",
  };
  return [
    "run",
    "--rm",
    "-i",
    "--label",
    helperLabel(stack),
    ...(network ? ["--network", network] : []),
    ...Object.entries(environment).flatMap(([name, value]) => ["-e", `${name}=${value}`]),
    "--entrypoint",
    "sh",
    image,
    "-c",
    dumpScript(restoring === undefined ? "" : RESTORE_GIVEN),
    "pg_dump",
    ...[...NEON_SCHEMAS, STACK_SCHEMA].map((schema) => `--exclude-schema=${schema}`),
    ...(snapshot ? [`--snapshot=${snapshot}`] : []),
  ];
}

/** Reads the source's schema in the exported snapshot. */
export function dumpSource(spec: ImportSpec, image: string, snapshot: string): Promise<Dump> {
  const { source, stack, dockerHost } = spec;
  const { database, user, password, channelBinding } = source.address;
  return dumpSchema(
    { ...source.fromContainer, database, user, password, channelBinding, rootCertificates: source.rootCertificates },
    { image, stack, dockerHost, snapshot },
  );
}

/** Reads the schema of the staging database with the same pg_dump, as its owner. */
export function dumpStaging(spec: ImportSpec, image: string, staging: Address): Promise<Dump> {
  const { target, stack, dockerHost } = spec;
  const { database, user, password } = asOwner(staging, target);
  return dumpSchema(
    { ...target.fromContainer, database, user, password, rootCertificates: authorityOf(target.address) },
    { image, stack, dockerHost },
  );
}

/** Major version of the target. */
export const TARGET_MAJOR = 15;

/** Returns the image for a source's version: pg_dump reads servers of its own version and older ones, never newer ones. */
export const dumpImage = (sourceMajor: number, image: string, newerImage: string): string =>
  sourceMajor > TARGET_MAJOR ? newerImage : image;

/** Round trip in milliseconds from which the newer pg_dump is preferred. */
const FAR_MS = 5;

/**
 * Chooses the image whose pg_dump reads a source's schema: for a distant source the newer one, if it is on this machine. It queries
 * many objects at once, so a distant source's schema takes half the time (PostgreSQL 16 and 18 release notes, pg_dump).
 */
export async function chooseDumpImage(
  { image, newerImage, dockerHost }: Pick<ImportSpec, "image" | "newerImage" | "dockerHost">,
  sourceMajor: number,
  roundTripMs: number,
): Promise<string> {
  const needed = dumpImage(sourceMajor, image, newerImage);
  if (needed === newerImage || roundTripMs < FAR_MS) return needed;
  const isHere = docker(["image", "inspect", newerImage], { host: dockerHost });
  return isHere.then(
    () => newerImage,
    () => image,
  );
}

/**
 * Returns SQL that creates the source's extensions in their schemas, and in their versions if the image has them. A superuser runs it
 * before anything that uses them. Some extensions exist already, because every database of the stack has them.
 */
export function extensionsSql(catalog: Pick<Catalog, "extensions">, owner: string): string {
  return catalog.extensions
    .filter(({ name }) => !NEON_EXTENSIONS.includes(name))
    .map(
      ({ name, schema, version }) => `
      DO $$ DECLARE wrapper name; BEGIN
        IF to_regnamespace(${literal(ident(schema))}) IS NULL THEN
          CREATE SCHEMA ${ident(schema)} AUTHORIZATION ${ident(owner)};
        END IF;
        IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = ${literal(name)}) THEN
          EXECUTE ${literal(`CREATE EXTENSION ${ident(name)} SCHEMA ${ident(schema)}`)} || coalesce((
            SELECT format(' VERSION %L', version) FROM pg_available_extension_versions
            WHERE name = ${literal(name)} AND version = ${literal(version)}), '');
        ELSIF EXISTS (SELECT FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
            WHERE e.extname = ${literal(name)} AND n.nspname <> ${literal(schema)}) THEN
          ALTER EXTENSION ${ident(name)} SET SCHEMA ${ident(schema)};
        END IF;
        -- A superuser owns a foreign-data wrapper, and the owner creates the servers that use it. No role can connect through
        -- one: user mappings are not copied, and postgres_fdw lets only superusers connect without a password.
        FOR wrapper IN SELECT w.fdwname FROM pg_foreign_data_wrapper w JOIN pg_depend d ON d.classid = 'pg_foreign_data_wrapper'::regclass
            AND d.objid = w.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = ${literal(name)} LOOP
          EXECUTE format('GRANT USAGE ON FOREIGN DATA WRAPPER %I TO %I', wrapper, ${literal(owner)});
        END LOOP;
      END $$;`,
    )
    .join("\n");
}

/**
 * Creates the source's extensions in their schemas. That needs a superuser, in whose session no code of the source may run, so it
 * happens before anything else of the source exists.
 * @param make creates one extension; it receives the object's name and the SQL.
 */
export async function makeExtensions(
  catalog: Catalog,
  owner: string,
  make: (subject: string, sql: string) => Promise<void>,
): Promise<void> {
  for (const extension of catalog.extensions) {
    const sql = extensionsSql({ extensions: [extension] }, owner);
    if (sql !== "") await make(`extension ${extension.name}`, sql);
  }
}

/** Returns the entries that the owner creates. The schemas of extensions exist already. */
export const entriesOfOwner = (entries: readonly Entry[], { extensions }: Catalog): Entry[] => {
  const made = new Set(extensions.map(({ schema }) => schema));
  return entries.filter(({ type, name }) => type !== "SCHEMA" || !made.has(name));
};

/**
 * Creates everything that rows need: extensions as the superuser, then, in one transaction of the owner, schemas, types, functions,
 * tables and views in pg_dump's order. So the owner owns all of it, and its default privileges apply from the start.
 * @throws {Error} that lists every object that cannot be created.
 */
export async function makeBefore(
  { superuser, owner }: { superuser: pg.Client; owner: pg.Client },
  schema: Schema,
  catalog: Catalog,
  { ownerName, attempts }: { ownerName: string; attempts: Attempts },
): Promise<void> {
  await makeExtensions(catalog, ownerName, async (subject, sql) => {
    await superuser.query(sql).catch((error) => attempts.note(subject, "-", error));
  });
  await owner.query("BEGIN");
  for (const entry of entriesOfOwner(schema.before, catalog)) {
    await attempts.makeWithin(owner, entry);
  }
  attempts.check("Not every object of the source can be created on the target, so no row was copied");
  await owner.query("COMMIT");
}
