/** An application's Compose project, from the output of `docker compose config --format json`. Pure. */

/** A service's dependency on another, with Compose's own keys. */
export type Dependency = Record<string, unknown>;

/** The parts of a service that the hand-over needs. */
export interface Service {
  image?: string;
  /** The variables, including those from env files. */
  environment: Record<string, string>;
  dependsOn: Record<string, Dependency>;
  /** The service's options for each network, by the network's key. */
  networks: Record<string, Record<string, unknown> | null>;
  networkMode?: string;
  links: string[];
  volumesFrom: string[];
  /** Namespaces that it shares with another: `pid`, `ipc`. */
  shared: Record<string, string>;
  profiles: string[];
  containerName?: string;
  hostname?: string;
  /** Ports of this machine that are published for port 5432 of the service. */
  published: number[];
  replicas: number;
  /** Named volumes with their mount points. */
  volumes: { source: string; target: string }[];
  /** The service's whole configuration, for comparisons. */
  config: unknown;
}

/** A project. */
export interface Project {
  name: string;
  services: Record<string, Service>;
  networks: Record<string, { name: string; isExternal: boolean; hasAddresses: boolean }>;
  /** The Docker names of the volumes, by their keys. */
  volumes: Record<string, string>;
}

type ComposeJson = Record<string, unknown>;

const POSTGRES = 5432;

const record = (value: unknown): Record<string, unknown> => (value ?? {}) as Record<string, unknown>;
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const texts = (value: unknown): string[] => list(value).map(String);
const optional = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

/** Compose prints each $ of a value twice, as in its files. */
const single = (value: string) => value.replaceAll("$$", "$");

function serviceOf(config: ComposeJson): Service {
  const environment = Object.entries(record(config.environment)).map(([name, value]) => [
    name,
    single(String(value ?? "")),
  ]);
  const deploy = record(config.deploy);
  return {
    image: optional(config.image),
    environment: Object.fromEntries(environment),
    dependsOn: record(config.depends_on) as Record<string, Dependency>,
    networks: record(config.networks) as Service["networks"],
    networkMode: optional(config.network_mode),
    links: texts(config.links),
    volumesFrom: texts(config.volumes_from),
    shared: Object.fromEntries(
      ["pid", "ipc"].flatMap((key) => (typeof config[key] === "string" ? [[key, config[key]]] : [])),
    ),
    profiles: texts(config.profiles),
    containerName: optional(config.container_name),
    hostname: optional(config.hostname),
    published: list(config.ports)
      .map(record)
      .filter(({ target, published }) => target === POSTGRES && published !== undefined)
      .map(({ published }) => Number(published)),
    replicas: Number(config.scale ?? deploy.replicas ?? 1),
    volumes: list(config.volumes)
      .map(record)
      .filter(({ type }) => type === "volume")
      .map(({ source, target }) => ({ source: String(source ?? ""), target: String(target) })),
    config,
  };
}

/** Converts the JSON of `docker compose config`. */
export function projectOf(config: ComposeJson): Project {
  const services = Object.entries(record(config.services)).map(([name, service]) => [name, serviceOf(record(service))]);
  const networks = Object.entries(record(config.networks)).map(([key, value]) => {
    const network = record(value);
    const hasAddresses = list(record(network.ipam).config).length > 0;
    return [key, { name: String(network.name ?? key), isExternal: network.external === true, hasAddresses }];
  });
  const volumes = Object.entries(record(config.volumes)).map(([key, value]) => [
    key,
    String(record(value).name ?? key),
  ]);
  return {
    name: String(config.name ?? ""),
    services: Object.fromEntries(services),
    networks: Object.fromEntries(networks),
    volumes: Object.fromEntries(volumes),
  };
}

/** The folder in which PostgreSQL images keep their data. */
const DATA_FOLDER = "/var/lib/postgresql";

/** Returns the Docker names of the volumes that hold a service's PostgreSQL data. */
export function dataVolumes({ services, volumes }: Project, service: string): string[] {
  const mounts = services[service]?.volumes ?? [];
  return mounts
    .filter(({ source, target }) => source !== "" && target.startsWith(DATA_FOLDER))
    .map(({ source }) => volumes[source] ?? source);
}
