/** Collects the names under which services reach the application's database, and maps them to the stack's server. Pure. */
import { onReplicas, POOLER_PORT } from "../pooler/configuration.ts";
import type { Project, Service } from "./compose-project.ts";
import { type Endpoint, type Redirection, redirectVariables } from "./connection-values.ts";

/**
 * Where a program runs: in the stack's network, in the host's network, in the network of the server's container, or on this machine
 * outside of containers.
 */
export type View = "network" | "host" | "container" | "machine";

/** The main database, the test database, and further databases by name. */
export interface Endpoints {
  main: Endpoint;
  test: Endpoint;
  further: Readonly<Record<string, Endpoint>>;
  /** The main database on the read replicas, for a role that only reads; undefined without replicas. */
  readonly?: Endpoint | undefined;
}

/** The database that is replaced, and the stack's server that replaces it. */
export interface Replacement {
  /** The application's own database service. */
  service: string;
  /** The stack's server: its name in the network, its container, and its port on this machine. */
  alias: string;
  container: string;
  port: number;
  /** Addresses of remote databases that the stack's database replaces, in the form of {@link addressOf}. */
  remoteAddresses: readonly string[];
  /** The database's name in the application's variables. */
  formerDatabase: string | undefined;
  endpointsFor: (view: View) => Endpoints;
}

/** A database's name, with the user and password to log in with. */
export type Login = Omit<Endpoint, "host" | "port">;

/** The logins of {@link Endpoints}. */
export interface Logins {
  main: Login;
  test: Login;
  further: Readonly<Record<string, Login>>;
  readonly?: Login | undefined;
}

/** A program in the network: its name there, and where it is published on this machine. */
export interface Published {
  alias: string;
  port: number;
  /** The address of {@link port}; undefined for 127.0.0.1. */
  host?: string | undefined;
}

/** Returns the address of a program in the stack's network, which the server's container is in as well. */
function addressAt({ alias, port, host }: Published, view: View, inside = POSTGRES_PORT): Place {
  if (view === "network" || view === "container") return { host: alias, port: inside };
  return { host: host ?? (view === "host" ? "127.0.0.1" : "localhost"), port };
}

type Place = Pick<Endpoint, "host" | "port">;

/**
 * Combines the logins with the address of the server, or of its pooler, as a program sees it. The test database has no pooler, because
 * tests change the schema all the time. Services in the network reach any replica by one name, programs on this machine the first one.
 * @param remote the main database, if it is on a remote server.
 */
export function endpointsAt(
  { main, test, further, readonly }: Logins,
  server: Published & { replicas?: Published | undefined },
  remote?: Endpoint,
  pooler?: Published,
): (view: View) => Endpoints {
  return (view) => {
    const direct = view === "container" ? { host: "localhost", port: POSTGRES_PORT } : addressAt(server, view);
    const pooled = pooler && addressAt(pooler, view, POOLER_PORT);
    const at = (login: Login): Endpoint => ({ ...login, ...(pooled ?? direct) });
    const onReplica = (login: Login, replicas: Published): Endpoint =>
      pooled
        ? { ...login, database: onReplicas(login.database), ...pooled }
        : { ...login, ...addressAt(replicas, view) };
    return {
      main: remote ?? at(main),
      test: { ...test, ...direct },
      further: Object.fromEntries(Object.entries(further).map(([name, login]) => [name, at(login)])),
      ...(readonly && server.replicas && !remote ? { readonly: onReplica(readonly, server.replicas) } : {}),
    };
  };
}

/** The names under which services reach the database. */
export interface DatabaseNames {
  hosts: Set<string>;
  /** The host names that the stack's server does not have by itself. */
  former: string[];
  /** Ports of this machine that reach the database, and those that reach other services. */
  ports: Set<number>;
  otherPorts: Set<number>;
  /** The database's names on its server. */
  databases: Set<string>;
  /** Other databases on its server that services use. Filled while the services are read. */
  others: Set<string>;
  remoteAddresses: Set<string>;
}

export const POSTGRES_PORT = 5432;

const LOOPBACK =
  /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?|host\.docker\.internal|gateway\.docker\.internal|172\.17\.0\.1)$/i;

/** Returns host and port as one text. Neon's pooler and its server get the same one. */
export const addressOf = (host: string, port: number | undefined): string =>
  `${host.toLowerCase().replace(/-pooler(?=\.)/, "")}:${port ?? POSTGRES_PORT}`;

/** Returns the database that replaces the one with this name. */
function endpointNamed({ main, test, further }: Endpoints, database: string | undefined): Endpoint {
  if (database === undefined) return main;
  const own = Object.hasOwn(further, database) ? further[database] : undefined;
  if (own !== undefined) return own;
  return /(^test_)|(_test$)/i.test(database) ? test : main;
}

/** Images of connection poolers. */
const POOLER = /(^|\/|-)(pgbouncer|pgcat|pgpool|odyssey)/;

const isText = (value: string | undefined): value is string => value !== undefined && value !== "";

/** Collects the names of the service, its container and its links, and of the poolers in front of it. */
export function databaseNames({ name: project, services }: Project, replacement: Replacement): DatabaseNames {
  const { service, alias, container, port, remoteAddresses } = replacement;
  const database = services[service];
  const aliases = Object.values(database?.networks ?? {}).flatMap((wants) => (wants?.aliases ?? []) as string[]);
  const links = Object.values(services)
    .flatMap(({ links }) => links.map((link) => link.split(":")))
    .filter(([linked]) => linked === service)
    .map(([, name]) => name);
  const own = [service, database?.containerName, database?.hostname, alias, container, ...aliases, ...links];
  const published = database?.published ?? [];
  const others = Object.entries(services).filter(([name]) => name !== service);
  // The postgres image names the database after POSTGRES_USER. Its default for both, "postgres", identifies no application.
  const { POSTGRES_DB, POSTGRES_USER } = database?.environment ?? {};
  const hosts = own.filter(isText).map((name) => name.toLowerCase());
  const names = {
    // The default container names of docker compose are not resolved in other networks.
    hosts: new Set([...hosts, `${project}-${service}-1`, `${project}_${service}_1`]),
    former: [...new Set(hosts)].filter((name) => name !== alias && name !== container).sort(),
    // If the service publishes no port, variables of this machine mean PostgreSQL's default port.
    ports: new Set([port, ...(published.length > 0 ? published : [POSTGRES_PORT])]),
    otherPorts: new Set(others.flatMap(([, other]) => other.published)),
    databases: new Set([POSTGRES_DB ?? POSTGRES_USER, replacement.formerDatabase].filter(isText)),
    others: new Set<string>(),
    remoteAddresses: new Set(remoteAddresses),
  };
  const usesIt = ({ environment }: Service) =>
    Object.keys(redirectVariables(environment, redirectionFor(names, "network", replacement))).length > 0;
  for (const [name, pooler] of Object.entries(services)) {
    if (name === service || !POOLER.test(pooler.image ?? "") || !usesIt(pooler)) continue;
    for (const known of [name, pooler.containerName, pooler.hostname].filter(isText))
      names.hosts.add(known.toLowerCase());
  }
  return names;
}

/** Returns the redirection for a program that runs in `view`. */
export function redirectionFor(
  { hosts, ports, otherPorts, databases, others, remoteAddresses }: DatabaseNames,
  view: View,
  { endpointsFor }: Replacement,
  database?: Service,
): Redirection {
  const endpoints = endpointsFor(view);
  const seesMachine = view === "host" || view === "machine";
  return {
    names(host, port, name) {
      if (hosts.has(host.toLowerCase()) || remoteAddresses.has(addressOf(host, port))) return true;
      if (!LOOPBACK.test(host) || port === undefined) return false;
      if (ports.has(port) || (view === "container" && port === POSTGRES_PORT)) return true;
      // No service publishes the port, so only the database's name identifies it, and only if the program sees this machine's ports.
      return seesMachine && !otherPorts.has(port) && name !== undefined && databases.has(name);
    },
    endpointOf(name) {
      const found = endpointNamed(endpoints, name);
      const isMain = name === undefined || databases.size === 0 || databases.has(name) || name === found.database;
      if (found === endpoints.main && !isMain) others.add(name);
      return found;
    },
    former: database && formerLogin(database),
  };
}

/** Returns the login that the postgres image creates from its variables. */
function formerLogin({ environment }: Service): Redirection["former"] {
  const { POSTGRES_USER: user = "postgres", POSTGRES_PASSWORD: password, POSTGRES_DB } = environment;
  return { user, password, database: POSTGRES_DB ?? user };
}
