/**
 * The Compose file that lies over the application's own: it takes the application's database away, puts the services on
 * the stack's network, and makes them wait until the stack's database answers. Pure.
 */
import { type Document, isMap, parseDocument } from "yaml";

/** What the services find inside the stack's network. */
export interface ComposeTarget {
  stack: string;
  /** The Docker network's name. */
  network: string;
  /** The server's name in it. */
  alias: string;
  /** Name of the network as the application's file has it. */
  networkKey: string;
  /** Image with pg_isready, there already. */
  image: string;
  /** The application's database, by whose going away the services are found. */
  service: string;
  /** Services that get the superuser's variables too. */
  superuserServices: readonly string[];
  /** Further databases: the services get the URL of each. */
  databases: readonly string[];
  /** Whether the services are to use the stack's database; else they use what the .env file says. */
  isLocal: boolean;
}

type Service = Record<string, unknown>;

/** Variables that a container finds otherwise than a program on this machine, and where the .env file has them. */
const INSIDE = ["DATABASE_URL", "DATABASE_TEST_URL"] as const;
/** The names that the values of {@link INSIDE} have in the .env file. */
export const insideName = (name: string): string => `${name}_IN_NETWORK`;
/** Passed on as they are. */
const PASSED = ["SQLALCHEMY_POOL_SIZE", "SQLALCHEMY_MAX_OVERFLOW", "SQLALCHEMY_POOL_TIMEOUT"];
/** For services that make databases and roles. */
const FOR_SUPERUSERS = ["DB_SUPERUSER", "DB_SUPERUSER_PASSWORD"];
const WAITER = "database-ready";

/**
 * What a Compose file says, as far as it matters here.
 * @throws {Error} for what is no Compose file.
 */
export function parseCompose(
  text: string,
  file: string,
): {
  name?: string;
  services: Record<string, Service>;
  networks: string[];
  volumes: Record<string, { name?: string } | null>;
} {
  const document: Document = parseDocument(text, { merge: true, logLevel: "error" });
  const [error] = document.errors;
  if (error !== undefined) throw new Error(`${file} is no YAML: ${error.message.split("\n")[0]}`);
  if (!isMap(document.contents)) throw new Error(`${file} is no Compose file: it has no services`);
  const { name, services, networks, volumes } = document.toJS() as Record<string, unknown>;
  if (typeof services !== "object" || services === null) throw new Error(`${file} has no services`);
  return {
    name: typeof name === "string" ? name : undefined,
    services: services as Record<string, Service>,
    networks: Object.keys((networks as object | null) ?? {}),
    volumes: (volumes as Record<string, { name?: string } | null> | null) ?? {},
  };
}

/** What several files say together, as docker compose adds them up: a service's parts are those of all of them. */
function mergeSources(sources: readonly string[], files: readonly string[]) {
  const services: Record<string, Service> = {};
  const networks = new Set<string>();
  sources.forEach((source, i) => {
    const found = parseCompose(source, files[i] ?? "");
    for (const name of found.networks) networks.add(name);
    for (const [name, service] of Object.entries(found.services)) {
      const former = services[name] ?? {};
      services[name] = {
        ...former,
        ...service,
        depends_on: { ...dependencies(former), ...dependencies(service ?? {}) },
        environment: Object.fromEntries(
          [...environment(former), ...environment(service ?? {})].map((key) => [key, ""]),
        ),
        networks: service?.networks ?? former.networks,
      };
    }
  });
  return { services, networks: [...networks] };
}

/** A service's dependencies, in the long form. */
function dependencies({ depends_on: on }: Service): Record<string, unknown> {
  if (Array.isArray(on)) return Object.fromEntries(on.map((name) => [name, { condition: "service_started" }]));
  return (on as Record<string, unknown> | undefined) ?? {};
}

/** The variables that a service sets, in either form. */
function environment({ environment: of }: Service): string[] {
  if (Array.isArray(of)) return of.map((entry) => String(entry).split("=")[0] as string);
  return Object.keys((of as object | undefined) ?? {});
}

/** Services that use the database: they depend on it, or have one of its variables. */
export function databaseUsers(services: Readonly<Record<string, Service>>, database: string): string[] {
  return Object.entries(services)
    .filter(([name]) => name !== database)
    .filter(([, service]) => {
      const named = environment(service);
      return (
        Object.hasOwn(dependencies(service), database) || named.includes("DATABASE_URL") || named.includes("DB_HOST")
      );
    })
    .map(([name]) => name);
}

/** YAML that is plain enough to be written by hand: quoted texts, two spaces. */
const text = (value: unknown) => JSON.stringify(value);

/**
 * The file.
 * @param sources the application's own files, in the order in which docker compose reads them.
 * @param files their names, for messages.
 * @throws {Error} where the application's files have no service that uses a database.
 */
export function composeOverride(sources: readonly string[], files: readonly string[], target: ComposeTarget): string {
  const { services, networks } = mergeSources(sources, files);
  const { service: database } = target;
  const users = databaseUsers(services, database);
  if (users.length === 0) {
    throw new Error(
      `${files.join(", ")} has no service that uses a database: none depends on "${database}", none sets DATABASE_URL. ` +
        `Its services are ${Object.keys(services).join(", ") || "none"}.`,
    );
  }
  const lines = [
    "# Written by pulumi up, for docker compose 2.24 or newer; the .env file beside the application's own Compose file names it.",
    `# The stack ${target.stack}${target.isLocal ? "" : ", but the services use the remote database"}.`,
    "services:",
  ];
  if (Object.hasOwn(services, database)) lines.push(`  ${text(database)}: !reset null`);
  if (target.isLocal) lines.push(...waiter(target));
  for (const [name, service] of Object.entries(services)) {
    if (name === database) continue;
    lines.push(...overrideOf(name, service, users.includes(name), target));
  }
  const networkLines = [
    `  ${text(target.networkKey)}: !override`,
    "    external: true",
    `    name: ${text(target.network)}`,
  ];
  if (target.isLocal || networks.includes(target.networkKey)) lines.push("networks:", ...networkLines);
  return `${lines.join("\n")}\n`;
}

/** A container that ends well as soon as the database answers: what is no service of Compose's cannot be depended on. */
function waiter({ image, alias, networkKey }: ComposeTarget): string[] {
  const script = `for i in $$(seq 240); do pg_isready -q -h ${alias} && exit 0; sleep 0.5; done; echo 'no database answers; is the stack up?'; exit 1`;
  return [
    `  ${WAITER}:`,
    `    image: ${text(image)}`,
    "    pull_policy: never",
    `    entrypoint: ${text(["sh", "-c", script])}`,
    '    restart: "no"',
    `    networks: [${text(networkKey)}]`,
  ];
}

function overrideOf(name: string, service: Service, isUser: boolean, target: ComposeTarget): string[] {
  const { service: database, alias, networkKey, isLocal } = target;
  const former = dependencies(service);
  const { [database]: gone, ...others } = former;
  const waits = isUser && isLocal ? { [WAITER]: { condition: "service_completed_successfully" } } : {};
  const now = { ...others, ...waits };
  const lines: string[] = [];
  if (gone !== undefined || Object.keys(waits).length > 0) {
    if (Object.keys(now).length === 0) lines.push("    depends_on: !reset null");
    else {
      lines.push("    depends_on: !override");
      for (const [on, how] of Object.entries(now))
        lines.push(`      ${text(on)}: ${text(how ?? { condition: "service_started" })}`);
    }
  }
  if (isUser) {
    lines.push("    environment:");
    const further = target.databases.map((database) => `DATABASE_URL_${database.toUpperCase()}`);
    for (const variable of [...INSIDE, ...further])
      lines.push(`      ${variable}: ${text(`\${${insideName(variable)}}`)}`);
    const mayRule = isLocal && target.superuserServices.includes(name);
    for (const variable of [...PASSED, ...(mayRule ? FOR_SUPERUSERS : [])])
      lines.push(`      ${variable}: ${text(`\${${variable}}`)}`);
    if (mayRule) lines.push(`      DB_HOST: ${text(alias)}`, '      DB_PORT: "5432"');
  }
  // One that names no network is on the project's own, and would lose that by being put on another.
  if (isUser && isLocal && !namesNetwork(service, networkKey)) {
    const named = service.networks === undefined ? ["default"] : [];
    lines.push(`    networks: { ${[...named, networkKey].map((network) => `${text(network)}: {}`).join(", ")} }`);
  }
  return lines.length === 0 ? [] : [`  ${text(name)}:`, ...lines];
}

function namesNetwork({ networks }: Service, key: string): boolean {
  return Array.isArray(networks) ? networks.includes(key) : Object.hasOwn((networks as object | undefined) ?? {}, key);
}

/** Where PostgreSQL images keep their data. */
const DATA_FOLDER = "/var/lib/postgresql";

/**
 * The volumes in which the application's own database kept its data, as docker compose names them.
 * @param project the project's name: the folder's, unless somebody gave it another.
 */
export function databaseVolumes(
  sources: readonly string[],
  files: readonly string[],
  service: string,
  project: string,
): string[] {
  const found = sources.flatMap((source, i) => {
    const { services, volumes } = parseCompose(source, files[i] ?? "");
    const mounts = services[service]?.volumes;
    if (!Array.isArray(mounts)) return [];
    return mounts.flatMap((mount: unknown) => {
      const [name, path] =
        typeof mount === "string"
          ? mount.split(":")
          : [(mount as Record<string, string>).source, (mount as Record<string, string>).target];
      if (!name || !path?.startsWith(DATA_FOLDER) || /^[./~]/.test(name)) return [];
      return [volumes[name]?.name ?? `${project}_${name}`];
    });
  });
  return [...new Set(found)];
}

/** The image of the application's own database, where the files name one outright. */
export function databaseImage(
  sources: readonly string[],
  files: readonly string[],
  service: string,
): string | undefined {
  const images = sources.map((source, i) => parseCompose(source, files[i] ?? "").services[service]?.image);
  return images.findLast((image): image is string => typeof image === "string" && !image.includes("$"));
}

/** The name that docker compose makes of a folder's: its small letters, digits, - and _. */
export const projectName = (folder: string): string =>
  folder
    .toLowerCase()
    .replaceAll(/[^a-z0-9_-]/g, "")
    .replace(/^[_-]+/, "");
