/** Finds the services that use the database, and computes what has to change in each. Pure. */
import type { ServiceTls } from "./authority.ts";
import type { Dependency, Project, Service } from "./compose-project.ts";
import { driverOf, type Endpoint, redirectVariables, withDriver } from "./connection-values.ts";
import {
  type DatabaseNames,
  databaseNames,
  type Endpoints,
  type Replacement,
  redirectionFor,
  type View,
} from "./database-names.ts";

/** The database and settings that the services get. */
export interface ServiceTarget extends Replacement {
  stack: string;
  /** Services that also get the superuser's variables. */
  superuserServices: readonly string[];
  superuser: { user: string; password: string };
  /** The Docker name of the stack's network, and its key in the application's Compose file. */
  network: string;
  networkKey: string;
  /** A local image that contains pg_isready. */
  image: string;
  /** `+psycopg`, `+psycopg2` or `+asyncpg`; empty keeps the application's own. */
  driver: string;
  /** The remote database's URL, if the services use the remote database. */
  remoteUrl: string | undefined;
  /** The application's variables for its connection pools. */
  pools: Readonly<Record<string, string>>;
  /** The pooler that `endpointsFor` leads to; undefined if it leads to the server. */
  pooler?: TargetPooler | undefined;
  /** How the services verify the server; undefined for a server without TLS. */
  tls?: ServiceTls | undefined;
}

/** The pooler of a hand-over. */
export interface TargetPooler {
  /** Its name in the network. */
  alias: string;
  /** Services that connect to the server all the same. */
  directServices: readonly string[];
  directEndpointsFor: (view: View) => Endpoints;
}

/** Returns whether a service connects through the pooler. The superuser cannot log in there, so services that get its login do not. */
export const isPooled = (name: string, { pooler, superuserServices }: ServiceTarget): boolean =>
  pooler !== undefined && !pooler.directServices.includes(name) && !superuserServices.includes(name);

/** The changes to a service. */
export interface Redirect {
  environment: Record<string, string>;
  /** All new dependencies; undefined if they stay. */
  dependsOn?: Record<string, Dependency>;
  /** Whether the service joins the stack's network. */
  joins: boolean;
  /** The new network mode, null to remove it; undefined if it stays. */
  networkMode?: string | null;
  /** Former host names of the database, which the stack's server also gets: the service's scripts may use them. */
  hostNames: string[];
  /** Undefined if they stay. */
  links?: string[];
  volumesFrom?: string[];
  /** The new namespaces to share, null to remove one. */
  shared: Record<string, string | null>;
  view: View;
  /** Whether the service uses the database. A service that does not may still refer to the removed database service. */
  isUser: boolean;
  isSuperuser: boolean;
  /** Whether it connects through the pooler. */
  isPooled: boolean;
  /** Variables that name a file with the login. The file stays unchanged. */
  fileVariables: string[];
}

/** The name of the service that waits for the database. */
export const WAITER = "database-ready";

/** Whether a mode shares a namespace with the database's container, by service name or by container name. */
const sharesWithDatabase = (mode: string | undefined, database: string, services: Project["services"]): boolean => {
  const container = services[database]?.containerName;
  return mode === `service:${database}` || (container !== undefined && mode === `container:${container}`);
};

/**
 * Follows `network_mode: service:...` to the service that owns the network namespace. Returns it (usually the service itself) and where
 * it runs.
 */
export function networkOwner(
  services: Project["services"],
  name: string,
  database: string,
): { owner: string; view: View } {
  const seen = new Set<string>();
  for (let owner = name; ; ) {
    const mode = services[owner]?.networkMode;
    if (mode === "host") return { owner, view: "host" };
    if (sharesWithDatabase(mode, database, services)) return { owner, view: "container" };
    const next = /^service:(.+)$/.exec(mode ?? "")?.[1];
    if (next === undefined || seen.has(next)) return { owner, view: "network" };
    seen.add(owner);
    owner = next;
  }
}

/** Returns an endpoint's URL without a driver or parameters. */
export const urlOf = ({ host, port, database, user, password }: Endpoint): string =>
  `postgresql://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${host}:${port}/${database}`;

/**
 * Returns the URL variables of the application's databases.
 * @param own the application's own DATABASE_URL, whose driver is kept if the setting names none.
 * @param direct the databases without the pooler, if there is one: for code that needs a session of its own.
 */
export function urlVariables(
  { main, test, further, readonly }: Endpoints,
  { driver, remoteUrl }: Pick<ServiceTarget, "driver" | "remoteUrl">,
  own: string | undefined,
  direct?: Endpoints,
): Record<string, string> {
  const url = (to: Endpoint) => withDriver(urlOf(to), driver || driverOf(own));
  const furtherUrls = (databases: Endpoints["further"], suffix = "") =>
    Object.entries(databases).map(([name, to]) => [`DATABASE_URL_${name.toUpperCase()}${suffix}`, url(to)]);
  return {
    DATABASE_URL: remoteUrl ?? url(main),
    ...(direct && { DATABASE_URL_DIRECT: url(direct.main) }),
    DATABASE_TEST_URL: url(test),
    ...(readonly ? { DATABASE_URL_READONLY: url(readonly) } : {}),
    ...Object.fromEntries([...furtherUrls(further), ...furtherUrls(direct?.further ?? {}, "_DIRECT")]),
  };
}

/** Returns the superuser's variables, for services that create databases and roles. */
const superuserVariables = ({ main }: Endpoints, { user, password }: ServiceTarget["superuser"]) => ({
  DB_HOST: main.host,
  DB_PORT: String(main.port),
  DB_SUPERUSER: user,
  DB_SUPERUSER_PASSWORD: password,
});

/** Returns the variables of a service that change, or undefined if it does not use the database. */
function environmentOf(
  name: string,
  { environment, dependsOn }: Service,
  view: View,
  project: Project,
  names: DatabaseNames,
  given: ServiceTarget,
): Record<string, string> | undefined {
  const direct = given.pooler?.directEndpointsFor;
  const target = direct && !isPooled(name, given) ? { ...given, endpointsFor: direct } : given;
  const redirection = redirectionFor(names, view, target, project.services[target.service]);
  const depends = Object.hasOwn(dependsOn, target.service) || view === "container";
  const found = redirectVariables(environment, redirection, depends);
  if (Object.keys(found).length === 0 && !depends) return undefined;
  const endpoints = target.endpointsFor(view);
  const own = environment.DATABASE_URL;
  // A service whose DATABASE_URL names another database keeps it.
  const isElsewhere = own !== undefined && own !== "" && found.DATABASE_URL === undefined;
  const main = isElsewhere
    ? {}
    : { ...urlVariables(endpoints, target, own, direct?.(view)), ...target.pools, ...target.tls?.variables };
  if (found.DATABASE_URL !== undefined && target.remoteUrl === undefined) {
    main.DATABASE_URL = withDriver(found.DATABASE_URL, target.driver || driverOf(own));
  }
  const isSuperuser = target.remoteUrl === undefined && target.superuserServices.includes(name);
  return { ...found, ...main, ...(isSuperuser ? superuserVariables(endpoints, target.superuser) : {}) };
}

/** Returns the changes to a service's links, volumes_from and shared namespaces that refer to the former database service. */
function referenceChanges(
  service: Service,
  isUser: boolean,
  services: Project["services"],
  target: ServiceTarget,
): Partial<Redirect> {
  const isDatabase = (text: string) => text.split(":")[0] === target.service;
  const changed: Partial<Redirect> = {};
  if (service.links.some(isDatabase)) changed.links = service.links.filter((link) => !isDatabase(link));
  if (service.volumesFrom.some(isDatabase)) {
    changed.volumesFrom = service.volumesFrom.filter((from) => !isDatabase(from));
  }
  const container = target.remoteUrl === undefined ? `container:${target.container}` : null;
  if (sharesWithDatabase(service.networkMode, target.service, services)) changed.networkMode = container;
  // A container with network_mode "bridge" cannot join other networks.
  else if (service.networkMode === "bridge" && isUser) changed.networkMode = null;
  const shared = Object.keys(service.shared).filter((key) =>
    sharesWithDatabase(service.shared[key], target.service, services),
  );
  if (shared.length > 0) changed.shared = Object.fromEntries(shared.map((key) => [key, container]));
  return changed;
}

/** Returns the new dependencies of a service, or undefined if they stay. */
function dependenciesOf({ dependsOn }: Service, isUser: boolean, target: ServiceTarget): Redirect["dependsOn"] {
  const { [target.service]: gone, ...others } = dependsOn;
  const waits = isUser && target.remoteUrl === undefined;
  if (gone === undefined && !waits) return undefined;
  return { ...others, ...(waits ? { [WAITER]: { condition: "service_completed_successfully" } } : {}) };
}

/** The changes of the hand-over to a project. */
export interface Redirects {
  services: Record<string, Redirect>;
  names: DatabaseNames;
}

/** Computes the changes. Services that are not in the result stay unchanged. */
export function planRedirects(project: Project, target: ServiceTarget): Redirects {
  const names = databaseNames(project, target);
  const isLocal = target.remoteUrl === undefined;
  const services: Record<string, Redirect> = {};
  const owners = new Set<string>();
  for (const [name, service] of Object.entries(project.services)) {
    if (name === target.service) continue;
    const network = networkOwner(project.services, name, target.service);
    const view = network.view === "container" && !isLocal ? "network" : network.view;
    const environment = environmentOf(name, service, view, project, names, target);
    const isUser = environment !== undefined;
    const changed = referenceChanges(service, isUser, project.services, target);
    if (!isUser && Object.keys(changed).length === 0) continue;
    if (isUser && isLocal && view === "network" && service.networkMode !== "none") owners.add(network.owner);
    services[name] = {
      ...UNCHANGED,
      environment: environment ?? {},
      dependsOn: dependenciesOf(service, isUser, target),
      ...changed,
      view,
      isUser,
      isSuperuser: isUser && isLocal && target.superuserServices.includes(name),
      isPooled: isUser && isPooled(name, target),
      fileVariables: isUser ? fileVariablesOf(service) : [],
    };
  }
  // The owner of a network need not use the database itself.
  for (const owner of owners) {
    services[owner] = { ...(services[owner] ?? UNCHANGED), joins: true, hostNames: names.former };
  }
  return { services, names };
}

const UNCHANGED: Redirect = {
  environment: {},
  joins: false,
  hostNames: [],
  shared: {},
  view: "network",
  isUser: false,
  isSuperuser: false,
  isPooled: false,
  fileVariables: [],
};

/** Returns the variables that name a file with the login, as with the postgres image. */
const fileVariablesOf = ({ environment }: Service): string[] =>
  Object.keys(environment).filter((name) => /^(POSTGRES|PG|DB|DATABASE|SQL).*(PASSWORD|USER|URL)_FILE$/i.test(name));
