/** Finds the service of a Compose project that an Alembic project belongs to. Pure. */
import { basename, dirname, resolve, sep } from "node:path";

/** The part of a service that this module uses, as `docker compose config --format json` prints it: with `$$` for `$`. */
export interface ComposeService {
  image?: string;
  build?: { context?: string; dockerfile?: string } | null;
  /** Null for a variable without a value. */
  environment?: Record<string, string | null> | null;
}

/** The part of a Compose project that this module uses. */
export interface ComposeProject {
  name: string;
  services: Record<string, ComposeService>;
}

/** A service of the application. */
export interface FoundService {
  name: string;
  /** The Docker name of its image. */
  image: string;
  /** Whether Compose can build the image. */
  isBuilt: boolean;
  environment: Record<string, string>;
}

/** The result of {@link serviceOfFolder}. */
export interface ServiceSearch {
  /** Undefined if no service matches, or several match equally well. */
  service: FoundService | undefined;
  /** The names of other services that match equally well. */
  others: string[];
}

/** Compose prints every $ twice. */
const single = (value: string) => value.replaceAll("$$", "$");

/** Returns a service's environment, without variables that have no value. */
function environmentOf({ environment }: ComposeService): Record<string, string> {
  const set = Object.entries(environment ?? {}).filter((entry): entry is [string, string] => entry[1] !== null);
  return Object.fromEntries(set.map(([name, value]) => [name, single(String(value))]));
}

/** Returns the service with this name. The default image name of a service that Compose builds is PROJECT-SERVICE. */
function found(project: ComposeProject, name: string): FoundService {
  const service = project.services[name] ?? {};
  return {
    name,
    image: service.image ?? `${project.name}-${name}`,
    isBuilt: Boolean(service.build),
    environment: environmentOf(service),
  };
}

const isInside = (path: string, folder: string) => path === folder || path.startsWith(`${folder}${sep}`);

/** Rates how closely a service's build belongs to a folder: 2 for its own context or Dockerfile, 1 for a context above it, else 0. */
function closeness({ build }: ComposeService, folder: string, real: (path: string) => string): number {
  if (!build?.context || /^[a-z+]+:\/\//.test(build.context)) return 0;
  const context = real(single(build.context));
  if (context === folder) return 2;
  if (!isInside(folder, context)) return 0;
  return isInside(real(dirname(resolve(context, single(build.dockerfile ?? "Dockerfile")))), folder) ? 2 : 1;
}

/**
 * Finds the service that builds a folder. If there are several, prefers one with a DATABASE_URL, then one named like the folder.
 * @param folder the Alembic project's folder, without symbolic links.
 * @param real resolves symbolic links in a path.
 */
export function serviceOfFolder(
  project: ComposeProject,
  folder: string,
  real: (path: string) => string,
): ServiceSearch {
  const ranked = Object.entries(project.services)
    .map(([name, service]) => ({
      name,
      rank: closeness(service, folder, real),
      tie: (Object.hasOwn(service.environment ?? {}, "DATABASE_URL") ? 2 : 0) + (name === basename(folder) ? 1 : 0),
    }))
    .filter(({ rank }) => rank > 0)
    .sort((a, b) => b.rank - a.rank || b.tie - a.tie || (a.name < b.name ? -1 : 1));
  const [best] = ranked;
  if (best === undefined) return { service: undefined, others: [] };
  const equals = ranked.filter(({ rank, tie }) => rank === best.rank && tie === best.tie).map(({ name }) => name);
  // A context above the folder is weak evidence: it may be the whole repository, used by unrelated services.
  if (best.rank === 1 && equals.length > 1) return { service: undefined, others: equals };
  return { service: found(project, best.name), others: equals.slice(1) };
}

/**
 * Returns the service with this name.
 * @throws {Error} if the project has no such service.
 */
export function serviceNamed(project: ComposeProject, name: string): FoundService {
  if (Object.hasOwn(project.services, name)) return found(project, name);
  const names = Object.keys(project.services).sort();
  throw new Error(
    `alembicService is "${name}", but the application's Compose files have no such service. Their services are ` +
      `${names.join(", ") || "none"}: pulumi config set alembicService ${names[0] ?? "NAME"}`,
  );
}
