/** The source's schema, read by the real pg_dump and made again on the target. */
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { DockerError, docker } from "../../lib/docker.ts";
import { type Address, type ChannelBinding, ident, literal } from "../../lib/postgres.ts";
import { PINNED_SETTINGS, startupOptions } from "../../lib/session-settings.ts";
import { NEON_EXTENSIONS, NEON_SCHEMAS, STACK_SCHEMA } from "./catalog.ts";
import { describeEntry, type Entry, isCopied, splitDump } from "./dump-entries.ts";
import { remedyFor } from "./remedies.ts";
import { asOwner } from "./session.ts";
import type { Catalog, ImportSpec } from "./types.ts";

/** The schema in two parts: what rows need to be loaded, and what is better made after they are. */
export interface Schema {
  before: Entry[];
  after: Entry[];
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

/** Between the two parts, on a line of its own, which no text of a schema can hold. */
const DIVIDER = `-- after the rows ${randomUUID()}`;

/** Understood by pg_dump and pg_restore alike; from an archive, owners and grants are left out only by the latter. */
const LEFT_OUT =
  "--no-owner --no-privileges --no-publications --no-subscriptions --no-security-labels --no-tablespaces";

/** Behind the certificates, on a line of its own. */
const ROOTS_END = "sectorwars: no more certificates";

/** A source whose packets stop coming is given up within half a minute (PostgreSQL manual, "Parameter Key Words"). */
const KEEPALIVES = "keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=25000";

/**
 * Runs in the container. Password and certificates come by standard input: an argument would show in ps, a variable in
 * docker inspect. Behind them standard input stays open as long as this process lives; when it ends, however it ends, all in
 * the container is killed. The archive tells the two sections apart for certain; plain output would have to be guessed at.
 */
const DUMP_SCRIPT = `
  set -eu
  umask 077
  read -r PGPASSWORD
  export PGPASSWORD
  while IFS= read -r line && [ "$line" != "${ROOTS_END}" ]; do echo "$line"; done >/tmp/roots.pem
  exec 3<&0
  { cat <&3 >/dev/null; kill -KILL -1; } &
  pg_dump --dbname="${KEEPALIVES}" --format=custom --schema-only --lock-wait-timeout=5s ${LEFT_OUT} --file=/tmp/schema "$@"
  pg_restore ${LEFT_OUT} --section=pre-data --file=- /tmp/schema
  echo "${DIVIDER}"
  pg_restore ${LEFT_OUT} --section=post-data --file=- /tmp/schema
`;

/** What pg_dump does not pin by itself, but for what a server of another version does not know. */
const DUMP_SETTINGS = Object.fromEntries(
  Object.entries(PINNED_SETTINGS).filter(([name]) => !["client_encoding", "idle_session_timeout"].includes(name)),
);

/** SQLSTATE of a lock that was not to be had in the time that was given. */
export const LOCK_NOT_AVAILABLE = "55P03";

/** Label of the short-lived containers of a stack's import; a dead run's are found by it. */
export const helperLabel = (stack: string): string => `sectorwars.import=${stack}`;

/**
 * Reads a schema with pg_dump.
 * @param snapshot the exported snapshot to read in, or undefined for the present.
 * @throws {Error} with pg_dump's own words.
 */
export async function dumpSchema(
  access: DumpAccess,
  options: {
    image: string;
    stack: string;
    dockerHost: string | undefined;
    snapshot?: string;
  },
): Promise<Schema> {
  const { host, port, network, database, user, password, rootCertificates, channelBinding } = access;
  const environment = {
    PGHOST: host,
    PGPORT: String(port),
    PGDATABASE: database,
    PGUSER: user,
    PGSSLMODE: rootCertificates === undefined ? "disable" : "verify-full",
    ...(rootCertificates === undefined ? {} : { PGSSLROOTCERT: "/tmp/roots.pem" }),
    ...(channelBinding === undefined ? {} : { PGCHANNELBINDING: channelBinding }),
    PGOPTIONS: startupOptions({ ...DUMP_SETTINGS, default_transaction_read_only: "on" }),
    PGCONNECT_TIMEOUT: "30",
  };
  const excluded = [...NEON_SCHEMAS, STACK_SCHEMA].map((schema) => `--exclude-schema=${schema}`);
  try {
    const dump = await docker(
      [
        "run",
        "--rm",
        "-i",
        "--label",
        helperLabel(options.stack),
        ...(network ? ["--network", network] : []),
        ...Object.entries(environment).flatMap(([name, value]) => ["-e", `${name}=${value}`]),
        "--entrypoint",
        "sh",
        options.image,
        "-c",
        DUMP_SCRIPT,
        "pg_dump",
        ...excluded,
        ...(options.snapshot ? [`--snapshot=${options.snapshot}`] : []),
      ],
      { host: options.dockerHost, input: `${password}\n${rootCertificates ?? ""}\n${ROOTS_END}\n`, holdInput: true },
    );
    const [before = "", after = ""] = dump.split(`\n${DIVIDER}\n`);
    return { before: splitDump(before).filter(isCopied), after: splitDump(after).filter(isCopied) };
  } catch (error) {
    if (!(error instanceof DockerError)) throw error;
    if (/canceling statement due to (statement|lock) timeout/.test(error.stderr)) {
      throw Object.assign(new Error(error.stderr.trim()), { code: LOCK_NOT_AVAILABLE });
    }
    throw new Error(`The schema of ${host}/${database} could not be read: ${error.stderr.trim()}`);
  }
}

/** The source's schema, inside the snapshot. */
export function dumpSource(spec: ImportSpec, image: string, snapshot: string): Promise<Schema> {
  const { source, stack, dockerHost } = spec;
  const { database, user, password, channelBinding } = source.address;
  return dumpSchema(
    { ...source.fromContainer, database, user, password, channelBinding, rootCertificates: source.rootCertificates },
    { image, stack, dockerHost, snapshot },
  );
}

/** The schema of the staging database, written by the same pg_dump, which its owner runs. */
export function dumpAside(spec: ImportSpec, image: string, aside: Address): Promise<Schema> {
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

/** Runs one entry; its failure names the object. */
export const makeEntry = (client: pg.Client, entry: Entry): Promise<void> =>
  makeOne(client, describeEntry(entry), entry.sql);

async function makeOne(client: pg.Client, subject: string, sql: string): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    const { message, hint } = error as { message: string; hint?: string };
    const remedy = remedyFor(message);
    throw new Error(
      `${subject} cannot be made on the target: ${message}${hint ? ` (${hint})` : ""}${remedy ? `. ${remedy}.` : ""}`,
      { cause: error },
    );
  }
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
        -- A foreign-data wrapper is the superuser's; servers that use it are the owner's to make.
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
 */
export async function makeBefore(
  { superuser, owner }: { superuser: pg.Client; owner: pg.Client },
  schema: Schema,
  catalog: Catalog,
  ownerName: string,
): Promise<void> {
  await makeExtensions(catalog, ownerName, (subject, sql) => makeOne(superuser, subject, sql));
  await owner.query("BEGIN");
  for (const entry of entriesOfOwner(schema.before, catalog)) await makeEntry(owner, entry);
  await owner.query("COMMIT");
}
