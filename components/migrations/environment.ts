/** Builds the environment of the migrations: the application's own, with the connection of this database. Pure. */
import { libpqVariables } from "../../lib/pg-environment.ts";
import { libpqTls } from "../../lib/server-tls.ts";
import { secretValues } from "./masking.ts";

/** The owner's connection inside the stack's network. */
export interface OwnerConnection {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
  /** The container's file with the authority of the server's certificate; undefined for a server without TLS. */
  authorityFile?: string;
}

/** The parts of the environment, in ascending order of precedence. */
export interface EnvironmentParts {
  /** The variables of the application's env files, without the hand-over's blocks. */
  files: Readonly<Record<string, string>>;
  /** The Compose service's environment. */
  service: Readonly<Record<string, string>>;
  /** The variables that the hand-over's blocks set: a service may have read them from such a file. */
  blocks: readonly Readonly<Record<string, string>>[];
  /** Further entries: NAME=VALUE, or NAME for its value in this process. */
  extra: readonly string[];
  connection: OwnerConnection;
  /** The superuser's password. No variable may contain it, because migrations run with the owner's privileges. */
  superuserPassword: string;
  /** The environment of this process. */
  process: Readonly<Record<string, string | undefined>>;
}

const DEFAULT_PORT = "5432";
const DRIVER_URL = /^postgresql\+\w+(?=:\/\/)/;
const POSTGRES_URL = /^(postgres(?:ql)?(?:\+\w+)?):\/\//;

/** Returns the connection URL without encoding and parameters, which Alembic's configuration and asyncpg do not accept. */
export const bareUrlOf = ({ host, port, user, password, database }: OwnerConnection): string =>
  `postgresql://${user}:${password}@${host}:${port}/${database}`;

/** Returns the URL with the driver of the application's own URL, for example `postgresql+asyncpg`. */
const withDriverOf = (url: string, own: string | undefined): string =>
  url.replace("postgresql", DRIVER_URL.exec(own ?? "")?.[0] ?? "postgresql");

/** Returns host, port and database of a PostgreSQL URL, or undefined for any other text. */
function databaseOf(text: string): string | undefined {
  if (!POSTGRES_URL.test(text)) return undefined;
  const url = URL.parse(text.replace(POSTGRES_URL, "http://"));
  return url === null ? undefined : `${url.hostname}:${url.port || DEFAULT_PORT}${url.pathname}`;
}

/**
 * Replaces secrets that a service has read from the hand-over's block by the values of the file without the block, or removes them.
 * Other values are kept, because the Compose file itself may set them.
 */
function withoutBlocks({ service, files, blocks }: EnvironmentParts): Record<string, string> {
  const kept = Object.entries(service).flatMap(([name, value]): [string, string][] => {
    const isOurs = blocks.some((ours) => ours[name] === value) && secretValues({ [name]: value }).length > 0;
    if (!isOurs) return [[name, value]];
    const former = files[name];
    return former === undefined ? [] : [[name, former]];
  });
  return Object.fromEntries(kept);
}

/** Returns libpq's variables for this database. All others of libpq are removed: an `sslmode` for Neon, for example, fails here. */
function libpqValues(connection: OwnerConnection): Record<string, string> {
  const { host, port, user, password, database } = connection;
  return { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: database };
}

/** Returns the parts of the connection that `alembicEnvironment` may refer to as ${NAME}. */
function references(connection: OwnerConnection): Record<string, string> {
  return {
    DATABASE_URL: bareUrlOf(connection),
    DATABASE_HOST: connection.host,
    DATABASE_PORT: String(connection.port),
    DATABASE_USER: connection.user,
    DATABASE_PASSWORD: connection.password,
    DATABASE_NAME: connection.database,
  };
}

/**
 * Returns the further variables, by name.
 * @throws {Error} for a NAME that is not set in this process.
 */
function extraVariables({ extra, connection, process }: EnvironmentParts): Record<string, string> {
  const known = new Map(Object.entries(references(connection)));
  return Object.fromEntries(
    extra.map((entry): [string, string] => {
      const equals = entry.indexOf("=");
      if (equals >= 0) {
        const value = entry.slice(equals + 1).replaceAll(/\$\{(\w+)\}/g, (whole, name) => known.get(name) ?? whole);
        return [entry.slice(0, equals), value];
      }
      const value = process[entry];
      if (value !== undefined) return [entry, value];
      throw new Error(
        `alembicEnvironment names ${entry}, which is not set. Set it before pulumi up (export ${entry}=...), or put the value ` +
          `into the setting: ${entry}=VALUE`,
      );
    }),
  );
}

/**
 * Builds the environment. A variable with the URL of the application's own database gets the URL of this one, with its own scheme,
 * because the migrations must not reach any other database.
 * @throws {Error} for an entry of `extra` that has no value.
 */
export function migrationEnvironment(parts: EnvironmentParts): Record<string, string> {
  const { files, connection, superuserPassword } = parts;
  const service = withoutBlocks(parts);
  const url = bareUrlOf(connection);
  const own = new Set(
    [files.DATABASE_URL, service.DATABASE_URL, url]
      .map((text) => databaseOf(text ?? ""))
      .filter((at) => at !== undefined),
  );
  const merged: Record<string, string> = {};
  for (const [name, value] of Object.entries({ ...files, ...service })) {
    if (name.startsWith("COMPOSE_")) continue;
    const at = databaseOf(value);
    const scheme = POSTGRES_URL.exec(value)?.[1];
    merged[name] = at !== undefined && own.has(at) ? url.replace("postgresql:", `${scheme}:`) : value;
  }
  const libpq = libpqValues(connection);
  for (const name of libpqVariables(merged)) {
    if (Object.hasOwn(libpq, name)) merged[name] = libpq[name] as string;
    else delete merged[name];
  }
  // In the environment, because a URL's parameters differ between drivers.
  if (connection.authorityFile) Object.assign(merged, libpqTls(connection.authorityFile));
  Object.assign(merged, extraVariables(parts), {
    // If the service just passes DATABASE_URL on, it already has this database's URL; the file has the application's own driver.
    DATABASE_URL: withDriverOf(
      url,
      service.DATABASE_URL === url ? files.DATABASE_URL : (service.DATABASE_URL ?? files.DATABASE_URL),
    ),
  });
  const allowed = Object.entries(merged).filter(
    ([, value]) => !superuserPassword || !value.includes(superuserPassword),
  );
  return Object.fromEntries(allowed);
}
