/** The source's schema, read by the real pg_dump and made again on the target. */
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { DockerError, docker } from "../../lib/docker.ts";
import { type Address, type ChannelBinding, ident, literal } from "../../lib/postgres.ts";
import { DUMP_SETTINGS, startupOptions } from "../../lib/session-settings.ts";
import { STACK_SCHEMA } from "../../lib/stack-schema.ts";
import { NEON_EXTENSIONS, NEON_SCHEMAS } from "./catalog.ts";
import { type Entry, isCopied, splitDump } from "./dump-entries.ts";
import type { Attempts } from "./failures.ts";
import { asOwner } from "./session.ts";
import type { Catalog, ImportSpec } from "./types.ts";

/** The schema in two parts: what rows need to be loaded, and what is better made after they are. */
export interface Schema {
  before: Entry[];
  after: Entry[];
}

/** A schema as pg_dump read it, with the archive that it wrote. */
export interface Dump extends Schema {
  /** pg_dump's archive, compressed, as base64: pg_restore makes the schema from it, without any code of this program. */
  archive: string;
  /** What pg_restore could not make, in its own words, where an archive was restored first. */
  refused: string;
}

/** Where and as whom pg_dump connects, from inside a container. */
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

/** Between the parts of the output, on a line of its own, which no text of a schema can hold. */
const DIVIDER = `-- next part ${randomUUID()}`;

/** Understood by pg_dump and pg_restore alike; from an archive, owners and grants are left out only by the latter. */
const LEFT_OUT =
  "--no-owner --no-privileges --no-publications --no-subscriptions --no-security-labels --no-tablespaces";

/** Behind the certificates, on a line of its own. */
const ROOTS_END = "sectorwars: no more certificates";

/** After an archive that is to be restored, on a line of its own. */
const ARCHIVE_END = "sectorwars: end of the archive";

/** A source whose packets stop coming is given up within half a minute (PostgreSQL manual, "Parameter Key Words"). */
const KEEPALIVES = "keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=25000";

/**
 * Runs in the container. Password and certificates come by standard input: an argument would show in ps, a variable in
 * docker inspect. Behind them standard input stays open as long as this process lives; when it ends, however it ends, all in
 * the container is killed. The archive tells the two sections apart for certain; plain output would have to be guessed at.
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

/** Nobody ever needs what is restored only to be dumped, so its commits wait for no disk. */
const RESTORE_OPTIONS = startupOptions({ ...DUMP_SETTINGS, synchronous_commit: "off" });

/**
 * Restores the archive that was given before the schema is read. pg_restore goes on after a statement that fails (an extension's
 * schema that is there already, a setting that an older server does not know), ends with 1, and says each.
 */
const RESTORE_GIVEN = `
  base64 -d /tmp/given | gzip -dc >/tmp/archive
  PGOPTIONS='${RESTORE_OPTIONS}' pg_restore --dbname="${KEEPALIVES}" ${LEFT_OUT} /tmp/archive 2>/tmp/refused || :`;

/** SQLSTATE of a lock that was not to be had in the time that was given. */
export const LOCK_NOT_AVAILABLE = "55P03";

/** Label of the short-lived containers of a stack's import; a dead run's are found by it. */
export const helperLabel = (stack: string): string => `sectorwars.import=${stack}`;

/** How a schema is read. */
export interface DumpOptions {
  image: string;
  stack: string;
  dockerHost: string | undefined;
  /** The exported snapshot to read in; the present, if left out. */
  snapshot?: string;
  /** A dump's archive, which pg_restore restores into the database before its schema is read. */
  restoring?: string;
}

/**
 * Reads a schema with pg_dump.
 * @throws {Error} with pg_dump's own words.
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

/** What docker is told to run pg_dump, and before it, where an archive is given, pg_restore. */
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

/** The source's schema, inside the snapshot. */
export function dumpSource(spec: ImportSpec, image: string, snapshot: string): Promise<Dump> {
  const { source, stack, dockerHost } = spec;
  const { database, user, password, channelBinding } = source.address;
  return dumpSchema(
    { ...source.fromContainer, database, user, password, channelBinding, rootCertificates: source.rootCertificates },
    { image, stack, dockerHost, snapshot },
  );
}

/** The schema of the staging database, written by the same pg_dump, which its owner runs. */
export function dumpAside(spec: ImportSpec, image: string, aside: Address): Promise<Dump> {
  const { target, stack, dockerHost } = spec;
  const { database, user, password } = asOwner(aside, target);
  return dumpSchema(
    { ...target.fromContainer, database, user, password, rootCertificates: undefined },
    { image, stack, dockerHost },
  );
}

/** Major version of the database that is filled. */
export const TARGET_MAJOR = 15;

/** pg_dump reads servers of its own version and older ones, never newer ones. */
export const dumpImage = (sourceMajor: number, image: string, newerImage: string): string =>
  sourceMajor > TARGET_MAJOR ? newerImage : image;

/** Milliseconds to and fro from which on a source is far away. */
const FAR_MS = 5;

/**
 * Image whose pg_dump reads the schema of a source: of a far one the newer, where it is at hand. It asks for many objects at once
 * what the other asks for each: of a far source's schema it takes half the time (PostgreSQL 16 and
 * 18 release notes, pg_dump).
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
 * Extensions as the source has them: in their schema, and in their version where the image has it. They are the superuser's
 * work, and come before all that uses them. Some are there already: every database of the stack has them.
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
        -- A foreign-data wrapper is the superuser's; servers that use it are the owner's to make. Nobody logs in by one: user
        -- mappings are not copied, and postgres_fdw lets nobody but superusers go without a password.
        FOR wrapper IN SELECT w.fdwname FROM pg_foreign_data_wrapper w JOIN pg_depend d ON d.classid = 'pg_foreign_data_wrapper'::regclass
            AND d.objid = w.oid AND d.deptype = 'e' JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = ${literal(name)} LOOP
          EXECUTE format('GRANT USAGE ON FOREIGN DATA WRAPPER %I TO %I', wrapper, ${literal(owner)});
        END LOOP;
      END $$;`,
    )
    .join("\n");
}

/**
 * Makes the source's extensions, in their schemas. That takes a superuser, in whose session nothing of the source may run: so it
 * is done before anything else of the source is there.
 * @param make makes one extension, of which it is told how it is called and its SQL.
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

/** The entries that are made as the owner. The schema of an extension is there already. */
export const entriesOfOwner = (entries: readonly Entry[], { extensions }: Catalog): Entry[] => {
  const made = new Set(extensions.map(({ schema }) => schema));
  return entries.filter(({ type, name }) => type !== "SCHEMA" || !made.has(name));
};

/**
 * Makes everything that rows need: extensions as the superuser, then, in one transaction of the owner's, schemas, types,
 * functions, tables, views, in pg_dump's order. So all of it belongs to the owner, and its default privileges apply from the
 * first moment.
 * @throws {Error} that lists every object that cannot be made.
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
  attempts.check("Not everything of the source can be made on the target, so no row was moved");
  await owner.query("COMMIT");
}
