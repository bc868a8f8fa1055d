/** The environment that migrations run in: the application's own, with this database on top. Pure. */
import { libpqVariables } from "../../lib/pg-environment.ts";
import { secretValues } from "./masking.ts";

/** The owner's connection inside the stack's network. */
export interface OwnerConnection {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
}

/** What the environment is made of, from the weakest to the strongest. */
export interface EnvironmentParts {
  /** The application's files of variables, without the hand-over's blocks. */
  files: Readonly<Record<string, string>>;
  /** The Compose service's environment. */
  service: Readonly<Record<string, string>>;
  /** What the hand-over's blocks set, by variable: a service may have read it from such a file. */
  blocks: readonly Readonly<Record<string, string>>[];
  /** Further entries: NAME=VALUE, or NAME for the value that NAME has in this process. */
  extra: readonly string[];
  connection: OwnerConnection;
  /** The superuser's password: migrations run with the owner's rights, so no variable may contain it. */
  superuserPassword: string;
  /** Environment of this process. */
  process: Readonly<Record<string, string | undefined>>;
}

const DEFAULT_PORT = "5432";
const DRIVER_URL = /^postgresql\+\w+(?=:\/\/)/;
const POSTGRES_URL = /^(postgres(?:ql)?(?:\+\w+)?):\/\//;

/** The connection as an application takes it: bare, since Alembic's configuration and asyncpg stumble over anything more. */
export const bareUrlOf = ({ host, port, user, password, database }: OwnerConnection): string =>
  `postgresql://${user}:${password}@${host}:${port}/${database}`;

/** A URL with the driver that the application's own URL names, for instance `postgresql+asyncpg`. */
const withDriverOf = (url: string, own: string | undefined): string =>
  url.replace("postgresql", DRIVER_URL.exec(own ?? "")?.[0] ?? "postgresql");

/** Host, port and database of a PostgreSQL URL; undefined for any other text. */
function databaseOf(text: string): string | undefined {
  if (!POSTGRES_URL.test(text)) return undefined;
  const url = URL.parse(text.replace(POSTGRES_URL, "http://"));
  return url === null ? undefined : `${url.hostname}:${url.port || DEFAULT_PORT}${url.pathname}`;
}

/**
 * Takes out what gives a service passwords that the hand-over's block has: the value in the file without the block is the application's
 * own, if there is one. What is no secret may stand in the Compose file as well.
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

/** What libpq reads by itself leads to this database as well, or is left out: an `sslmode` for Neon does not fit here. */
function libpqValues(connection: OwnerConnection): Record<string, string> {
  const { host, port, user, password, database } = connection;
  return { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: database };
}

/** The parts of the connection that `alembicEnvironment` may refer to as ${NAME}. */
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
 * Further variables, by name.
 * @throws {Error} for a NAME that this process does not have.
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
        `alembicEnvironment names ${entry}, which is not set here. Set it before pulumi up (export ${entry}=...), or give the ` +
          `setting its value: ${entry}=VALUE`,
      );
    }),
  );
}

/**
 * Puts the environment together. A variable with a URL of the application's own database gets the URL of this one, with its own scheme:
 * the migrations must reach no other database.
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
  Object.assign(merged, extraVariables(parts), {
    // A service that passes DATABASE_URL on has this database's by now: its own stands in the file.
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
