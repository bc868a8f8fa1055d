/** Works out which services use the database, and what has to change in each. Pure. */
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

/** What the services get. */
export interface ServiceTarget extends Replacement {
  stack: string;
  /** Services that get the superuser's variables too. */
  superuserServices: readonly string[];
  superuser: { user: string; password: string };
  /** Docker's name of the stack's network, and what the application's file calls it. */
  network: string;
  networkKey: string;
  /** Image with pg_isready, there already. */
  image: string;
  /** `+psycopg` and the like; empty leaves the application's own. */
  driver: string;
  /** The remote database's URL, where the services are to use that. */
  remoteUrl: string | undefined;
  /** Settings of the pools, by the variables that the application has for them. */
  pools: Readonly<Record<string, string>>;
}

/** What changes in a service. */
export interface Redirect {
  environment: Record<string, string>;
  /** All its dependencies from now on; undefined where they stay. */
  dependsOn?: Record<string, Dependency>;
  /** Whether it joins the stack's network. */
  joins: boolean;
  /** The network mode from now on, null for none; undefined where it stays. */
  networkMode?: string | null;
  /** Names under which it finds the stack's server, beside the one in its variables: scripts may know the former ones. */
  hostNames: string[];
  /** Undefined where they stay. */
  links?: string[];
  volumesFrom?: string[];
  /** Namespaces that it shares from now on, or null for none. */
  shared: Record<string, string | null>;
  view: View;
  /** Whether it uses the database. One that does not may still have to do without the application's own. */
  isUser: boolean;
  isSuperuser: boolean;
  /** Variables that name a file with the login, which stays as it is. */
  fileVariables: string[];
}

/** Service that waits for the database. */
export const WAITER = "database-ready";

/** Whether a mode is to share with the database's container, by its service or by its name. */
const isDatabases = (mode: string | undefined, database: string, services: Project["services"]): boolean => {
  const container = services[database]?.containerName;
  return mode === `service:${database}` || (container !== undefined && mode === `container:${container}`);
};

/** Returns the service in whose network a service is, itself most often, and how that reaches the server. */
export function networkOwner(
  services: Project["services"],
  name: string,
  database: string,
): { owner: string; view: View } {
  const seen = new Set<string>();
  for (let owner = name; ; ) {
    const mode = services[owner]?.networkMode;
    if (mode === "host") return { owner, view: "host" };
    if (isDatabases(mode, database, services)) return { owner, view: "container" };
    const next = /^service:(.+)$/.exec(mode ?? "")?.[1];
    if (next === undefined || seen.has(next)) return { owner, view: "network" };
    seen.add(owner);
    owner = next;
  }
}

/** Returns an endpoint's URL, bare. */
export const urlOf = ({ host, port, database, user, password }: Endpoint): string =>
  `postgresql://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${host}:${port}/${database}`;

/**
 * The variables by which the application finds its databases.
 * @param own the application's own DATABASE_URL, whose driver is kept where none is set.
 */
export function urlVariables(
  { main, test, further }: Endpoints,
  { driver, remoteUrl }: Pick<ServiceTarget, "driver" | "remoteUrl">,
  own: string | undefined,
): Record<string, string> {
  const url = (to: Endpoint) => withDriver(urlOf(to), driver || driverOf(own));
  return {
    DATABASE_URL: remoteUrl ?? url(main),
    DATABASE_TEST_URL: url(test),
    ...Object.fromEntries(Object.entries(further).map(([name, to]) => [`DATABASE_URL_${name.toUpperCase()}`, url(to)])),
  };
}

/** The superuser's variables, for services that make databases and roles. */
const superuserVariables = ({ main }: Endpoints, { user, password }: ServiceTarget["superuser"]) => ({
  DB_HOST: main.host,
  DB_PORT: String(main.port),
  DB_SUPERUSER: user,
  DB_SUPERUSER_PASSWORD: password,
});

/** A service's variables that change; undefined where it does not use the database. */
function environmentOf(
  name: string,
  { environment, dependsOn }: Service,
  view: View,
  project: Project,
  names: DatabaseNames,
  target: ServiceTarget,
): Record<string, string> | undefined {
  const redirection = redirectionFor(names, view, target, project.services[target.service]);
  const depends = Object.hasOwn(dependsOn, target.service) || view === "container";
  const found = redirectVariables(environment, redirection, depends);
  if (Object.keys(found).length === 0 && !depends) return undefined;
  const endpoints = target.endpointsFor(view);
  const own = environment.DATABASE_URL;
  // One with a database of its own keeps that, whatever else it uses.
  const isElsewhere = own !== undefined && own !== "" && found.DATABASE_URL === undefined;
  const main = isElsewhere ? {} : { ...urlVariables(endpoints, target, own), ...target.pools };
  if (found.DATABASE_URL !== undefined && target.remoteUrl === undefined) {
    main.DATABASE_URL = withDriver(found.DATABASE_URL, target.driver || driverOf(own));
  }
  const isSuperuser = target.remoteUrl === undefined && target.superuserServices.includes(name);
  return { ...found, ...main, ...(isSuperuser ? superuserVariables(endpoints, target.superuser) : {}) };
}

/** What changes where a service refers to the database's container, which is the stack's now, or gone. Empty where it does not. */
function references(
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
  if (isDatabases(service.networkMode, target.service, services)) changed.networkMode = container;
  // Docker's own bridge excludes all other networks.
  else if (service.networkMode === "bridge" && isUser) changed.networkMode = null;
  const shared = Object.keys(service.shared).filter((key) =>
    isDatabases(service.shared[key], target.service, services),
  );
  if (shared.length > 0) changed.shared = Object.fromEntries(shared.map((key) => [key, container]));
  return changed;
}

/** A service's dependencies from now on, or undefined where they stay. */
function dependenciesOf({ dependsOn }: Service, isUser: boolean, target: ServiceTarget): Redirect["dependsOn"] {
  const { [target.service]: gone, ...others } = dependsOn;
  const waits = isUser && target.remoteUrl === undefined;
  if (gone === undefined && !waits) return undefined;
  return { ...others, ...(waits ? { [WAITER]: { condition: "service_completed_successfully" } } : {}) };
}

/** What the hand-over does to a project. */
export interface Redirects {
  services: Record<string, Redirect>;
  names: DatabaseNames;
}

/** Works out what changes. Services that are not named stay as they are. */
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
    const changed = references(service, isUser, project.services, target);
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
  fileVariables: [],
};

/** Variables by which images read a login from a file, as PostgreSQL's own does. */
const fileVariablesOf = ({ environment }: Service): string[] =>
  Object.keys(environment).filter((name) => /^(POSTGRES|PG|DB|DATABASE|SQL).*(PASSWORD|USER|URL)_FILE$/i.test(name));
