/** An application's Compose project, as `docker compose config --format json` tells it. Pure. */

/** How a service depends on another; Compose's own keys. */
export type Dependency = Record<string, unknown>;

/** A service, as far as the hand-over looks at it. */
export interface Service {
  image?: string;
  /** Files of variables included. */
  environment: Record<string, string>;
  dependsOn: Record<string, Dependency>;
  /** By the network's key, what the service wants of it. */
  networks: Record<string, Record<string, unknown> | null>;
  networkMode?: string;
  links: string[];
  volumesFrom: string[];
  /** Namespaces that it shares with another: `pid`, `ipc`. */
  shared: Record<string, string>;
  profiles: string[];
  containerName?: string;
  hostname?: string;
  /** Ports of this machine that lead to PostgreSQL's in it. */
  published: number[];
  replicas: number;
  /** Named volumes, by the path where they are. */
  volumes: { source: string; target: string }[];
  /** The service as Compose tells it, for comparisons. */
  told: unknown;
}

/** A project. */
export interface Project {
  name: string;
  services: Record<string, Service>;
  networks: Record<string, { name: string; isExternal: boolean; hasAddresses: boolean }>;
  /** Docker's names of the volumes, by their keys. */
  volumes: Record<string, string>;
}

type Told = Record<string, unknown>;

const POSTGRES = 5432;

const record = (value: unknown): Record<string, unknown> => (value ?? {}) as Record<string, unknown>;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const texts = (value: unknown): string[] => list(value).map(String);
const optional = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

/** Compose writes each $ of a value twice, as in its files. */
const single = (value: string) => value.replaceAll("$$", "$");

function serviceOf(told: Told): Service {
  const environment = Object.entries(record(told.environment)).map(([name, value]) => [
    name,
    single(String(value ?? "")),
  ]);
  const deploy = record(told.deploy);
  return {
    image: optional(told.image),
    environment: Object.fromEntries(environment),
    dependsOn: record(told.depends_on) as Record<string, Dependency>,
    networks: record(told.networks) as Service["networks"],
    networkMode: optional(told.network_mode),
    links: texts(told.links),
    volumesFrom: texts(told.volumes_from),
    shared: Object.fromEntries(
      ["pid", "ipc"].flatMap((key) => (typeof told[key] === "string" ? [[key, told[key]]] : [])),
    ),
    profiles: texts(told.profiles),
    containerName: optional(told.container_name),
    hostname: optional(told.hostname),
    published: list(told.ports)
      .map(record)
      .filter(({ target, published }) => target === POSTGRES && published !== undefined)
      .map(({ published }) => Number(published)),
    replicas: Number(told.scale ?? deploy.replicas ?? 1),
    volumes: list(told.volumes)
      .map(record)
      .filter(({ type }) => type === "volume")
      .map(({ source, target }) => ({ source: String(source ?? ""), target: String(target) })),
    told,
  };
}

/** Reads what Compose tells. */
export function projectOf(told: Told): Project {
  const services = Object.entries(record(told.services)).map(([name, service]) => [name, serviceOf(record(service))]);
  const networks = Object.entries(record(told.networks)).map(([key, value]) => {
    const network = record(value);
    const hasAddresses = list(record(network.ipam).config).length > 0;
    return [key, { name: String(network.name ?? key), isExternal: network.external === true, hasAddresses }];
  });
  const volumes = Object.entries(record(told.volumes)).map(([key, value]) => [key, String(record(value).name ?? key)]);
  return {
    name: String(told.name ?? ""),
    services: Object.fromEntries(services),
    networks: Object.fromEntries(networks),
    volumes: Object.fromEntries(volumes),
  };
}

/** Where PostgreSQL images keep their data. */
const DATA_FOLDER = "/var/lib/postgresql";

/** The volumes in which a service keeps a database's data, as Docker names them. */
export function dataVolumes({ services, volumes }: Project, service: string): string[] {
  const mounts = services[service]?.volumes ?? [];
  return mounts
    .filter(({ source, target }) => source !== "" && target.startsWith(DATA_FOLDER))
    .map(({ source }) => volumes[source] ?? source);
}
