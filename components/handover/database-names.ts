/** By which names services know the application's database, and where it is from now on. Pure. */
import type { Project, Service } from "./compose-project.ts";
import { type Endpoint, type Redirection, redirectVariables } from "./connection-values.ts";

/**
 * How a program reaches the server: by the stack's network, by the host's own, within the server's container, or as a program
 * of this machine, outside of containers.
 */
export type View = "network" | "host" | "container" | "machine";

/** The main database, that for tests, and further ones by name, as a program finds them. */
export interface Endpoints {
  main: Endpoint;
  test: Endpoint;
  further: Readonly<Record<string, Endpoint>>;
}

/** Which database is replaced, and by what. */
export interface Replacement {
  /** The application's own database service. */
  service: string;
  /** The stack's server: its name in the network, its container, its port on this machine. */
  alias: string;
  container: string;
  port: number;
  /** Remote databases that are this one too, as {@link placeOf} writes them. */
  remotePlaces: readonly string[];
  /** What it is called in the application's variables. */
  formerDatabase: string | undefined;
  endpointsFor: (view: View) => Endpoints;
}

/** A database's name, and who logs in to it. */
export type Login = Omit<Endpoint, "host" | "port">;

/** The logins of {@link Endpoints}. */
export interface Logins {
  main: Login;
  test: Login;
  further: Readonly<Record<string, Login>>;
}

/**
 * Places the logins where a program finds the server.
 * @param remote the main database, where that is another server's.
 */
export function endpointsAt(
  { main, test, further }: Logins,
  { alias, port }: { alias: string; port: number },
  remote?: Endpoint,
): (view: View) => Endpoints {
  return (view) => {
    const place = {
      network: { host: alias, port: POSTGRES_PORT },
      host: { host: "127.0.0.1", port },
      container: { host: "localhost", port: POSTGRES_PORT },
      machine: { host: "localhost", port },
    }[view];
    const at = (login: Login): Endpoint => ({ ...login, ...place });
    return {
      main: remote ?? at(main),
      test: at(test),
      further: Object.fromEntries(Object.entries(further).map(([name, login]) => [name, at(login)])),
    };
  };
}

/** The names by which services know the database. */
export interface DatabaseNames {
  hosts: Set<string>;
  /** Those of them that the stack's server does not have. */
  former: string[];
  /** Ports of this machine that lead to it, and those that lead to other services. */
  ports: Set<number>;
  otherPorts: Set<number>;
  /** What it is called on its server. */
  databases: Set<string>;
  /** Other databases on its server that services named, as they were looked at. */
  others: Set<string>;
  remotePlaces: Set<string>;
}

export const POSTGRES_PORT = 5432;

const LOOPBACK =
  /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?|host\.docker\.internal|gateway\.docker\.internal|172\.17\.0\.1)$/i;

/** A host and port as one text; Neon's pooler and the server behind it are one place. */
export const placeOf = (host: string, port: number | undefined): string =>
  `${host.toLowerCase().replace(/-pooler(?=\.)/, "")}:${port ?? POSTGRES_PORT}`;

/** Returns the database that the application means by a name. */
function endpointNamed({ main, test, further }: Endpoints, database: string | undefined): Endpoint {
  if (database === undefined) return main;
  const own = Object.hasOwn(further, database) ? further[database] : undefined;
  if (own !== undefined) return own;
  return /(^test_)|(_test$)/i.test(database) ? test : main;
}

/** Images that stand between services and a database. */
const POOLER = /(^|\/|-)(pgbouncer|pgcat|pgpool|odyssey)/;

const isText = (value: string | undefined): value is string => value !== undefined && value !== "";

/** Collects the names: of the service, its container and its links, and of poolers that stand before it. */
export function databaseNames({ name: project, services }: Project, replacement: Replacement): DatabaseNames {
  const { service, alias, container, port, remotePlaces } = replacement;
  const database = services[service];
  const aliases = Object.values(database?.networks ?? {}).flatMap((wants) => (wants?.aliases ?? []) as string[]);
  const links = Object.values(services)
    .flatMap(({ links }) => links.map((link) => link.split(":")))
    .filter(([linked]) => linked === service)
    .map(([, name]) => name);
  const own = [service, database?.containerName, database?.hostname, alias, container, ...aliases, ...links];
  const published = database?.published ?? [];
  const others = Object.entries(services).filter(([name]) => name !== service);
  // PostgreSQL's image calls the database like its user, and without variables both like the superuser: no name of an application's.
  const { POSTGRES_DB, POSTGRES_USER } = database?.environment ?? {};
  const hosts = own.filter(isText).map((name) => name.toLowerCase());
  const names = {
    // Those that docker compose gives to containers without a name are no names of other networks.
    hosts: new Set([...hosts, `${project}-${service}-1`, `${project}_${service}_1`]),
    former: [...new Set(hosts)].filter((name) => name !== alias && name !== container).sort(),
    // Without a port that is told, it is on this machine where PostgreSQL usually is.
    ports: new Set([port, ...(published.length > 0 ? published : [POSTGRES_PORT])]),
    otherPorts: new Set(others.flatMap(([, other]) => other.published)),
    databases: new Set([POSTGRES_DB ?? POSTGRES_USER, replacement.formerDatabase].filter(isText)),
    others: new Set<string>(),
    remotePlaces: new Set(remotePlaces),
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

/** What is redirected for a program that looks from a place. */
export function redirectionFor(
  { hosts, ports, otherPorts, databases, others, remotePlaces }: DatabaseNames,
  view: View,
  { endpointsFor }: Replacement,
  database?: Service,
): Redirection {
  const endpoints = endpointsFor(view);
  const seesMachine = view === "host" || view === "machine";
  return {
    names(host, port, name) {
      if (hosts.has(host.toLowerCase()) || remotePlaces.has(placeOf(host, port))) return true;
      if (!LOOPBACK.test(host) || port === undefined) return false;
      if (ports.has(port) || (view === "container" && port === POSTGRES_PORT)) return true;
      // A port that no service publishes: known by the database's name, to a program that sees this machine's ports.
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

/** The login that PostgreSQL's image makes of its variables. */
function formerLogin({ environment }: Service): Redirection["former"] {
  const { POSTGRES_USER: user = "postgres", POSTGRES_PASSWORD: password, POSTGRES_DB } = environment;
  return { user, password, database: POSTGRES_DB ?? user };
}
