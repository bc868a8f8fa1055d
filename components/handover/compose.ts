/**
 * Builds the Compose file that overrides the application's own: it removes the application's database service, redirects the
 * services that used it to the stack's server, and makes them wait until that server accepts connections. Pure.
 */
import { POOLER_PORT } from "../pooler/configuration.ts";
import { AUTHORITY_IN_SERVICE } from "./authority.ts";
import type { Project } from "./compose-project.ts";
import { type Redirect, type Redirects, type ServiceTarget, WAITER } from "./redirection.ts";

/** Returns a value as YAML. Each $ is doubled, because Compose reads a single one as a variable. */
const text = (value: unknown) => JSON.stringify(value).replaceAll("$", "$$$$");

/** The key of the file with the server's authority. */
const AUTHORITY_CONFIG = "sectorwars-authority";

/** The key of a network that only the stack uses. */
const OWN_NETWORK = "sectorwars-stack";

/**
 * Returns the key under which services join the stack's network: the application's own key for its database network, unless services
 * have fixed addresses in that network, or it is shared with other projects.
 */
export function networkKeyFor(
  { services, networks }: Project,
  { network, networkKey, service }: ServiceTarget,
): string {
  // Compose refuses a network of this name that it did not create.
  const same = Object.entries(networks).find(([, { name, isExternal }]) => name === network && !isExternal);
  const key = same?.[0] ?? networkKey;
  if (same === undefined && networks[key]?.isExternal && networks[key].name !== network) return OWN_NETWORK;
  const hasAddresses =
    networks[key]?.hasAddresses ||
    Object.entries(services).some(
      ([name, { networks }]) => name !== service && /"ipv[46]_address"/.test(JSON.stringify(networks[key] ?? {})),
    );
  return hasAddresses && same === undefined ? OWN_NETWORK : key;
}

/** Returns the text of the file. It contains passwords. */
export function composeOverride(project: Project, { services }: Redirects, target: ServiceTarget): string {
  const isLocal = target.remoteUrl === undefined;
  const key = networkKeyFor(project, target);
  const lines = [
    "# Written by pulumi up, for docker compose 2.24.4 or newer; the .env file of the application names it. It holds passwords.",
    `# The stack ${target.stack}${isLocal ? "" : ", but the services use the remote database"}.`,
    "services:",
  ];
  if (Object.hasOwn(project.services, target.service)) lines.push(`  ${text(target.service)}: !reset null`);
  if (isLocal) lines.push(...waiter(key, profilesOfUsers(project, services), target));
  for (const [name, redirect] of Object.entries(services)) {
    const networks = Object.keys(project.services[name]?.networks ?? {});
    lines.push(...overrideOf(name, redirect, { networks, networkKey: key, container: target.container }));
  }
  if (isLocal || Object.hasOwn(project.networks, key)) {
    lines.push("networks:", `  ${text(key)}: !override`, "    external: true", `    name: ${text(target.network)}`);
  }
  if (target.tls) lines.push("configs:", `  ${AUTHORITY_CONFIG}: ${text(target.tls.config)}`);
  return `${lines.join("\n")}\n`;
}

/** Returns the profiles in which a service waits for the database; empty if one waits in every profile. */
function profilesOfUsers(project: Project, services: Redirects["services"]): string[] {
  const users = Object.keys(services).filter((name) => services[name]?.isUser);
  const profiles = users.map((name) => project.services[name]?.profiles ?? []);
  return profiles.some((some) => some.length === 0) ? [] : [...new Set(profiles.flat())];
}

/** Returns a service that exits with 0 once the database answers. Services cannot depend on a container outside their project. */
function waiter(networkKey: string, profiles: readonly string[], { image, alias, pooler }: ServiceTarget): string[] {
  const answers = [
    `pg_isready -q -h ${alias}`,
    ...(pooler ? [`pg_isready -q -h ${pooler.alias} -p ${POOLER_PORT}`] : []),
  ];
  const script = `for i in $(seq 240); do ${answers.join(" && ")} && exit 0; sleep 0.5; done; echo 'no database answers; is the stack up?'; exit 1`;
  return [
    `  ${WAITER}:`,
    `    image: ${text(image)}`,
    "    pull_policy: never",
    `    entrypoint: ${text(["sh", "-c", script])}`,
    '    restart: "no"',
    `    networks: [${text(networkKey)}]`,
    // It starts only together with the services that wait for it.
    ...(profiles.length > 0 ? [`    profiles: ${text(profiles)}`] : []),
  ];
}

/** Returns the line that replaces or removes a list. */
const whole = (key: string, value: readonly string[]): string =>
  value.length === 0 ? `    ${key}: !reset null` : `    ${key}: !override ${text(value)}`;

/** The networks that the override of a service refers to. */
interface Place {
  /** The service's own networks, the key of the stack's network, and the container of the stack's server. */
  networks: readonly string[];
  networkKey: string;
  container: string;
}

function overrideOf(name: string, redirect: Redirect, { networks, networkKey, container }: Place): string[] {
  const { dependsOn, environment, links, volumesFrom, networkMode, shared, joins, hostNames } = redirect;
  const lines: string[] = [];
  if (dependsOn !== undefined && Object.keys(dependsOn).length === 0) lines.push("    depends_on: !reset null");
  else if (dependsOn !== undefined) {
    lines.push("    depends_on: !override");
    for (const [on, how] of Object.entries(dependsOn)) lines.push(`      ${text(on)}: ${text(how)}`);
  }
  // Sorted, so that the order does not depend on where the application sets them.
  const sorted = Object.entries(environment).sort(([a], [b]) => (a < b ? -1 : 1));
  const variables = sorted.map(([variable, value]) => `      ${text(variable)}: ${text(value)}`);
  if (variables.length > 0) lines.push("    environment:", ...variables);
  if (environment.PGSSLROOTCERT === AUTHORITY_IN_SERVICE) {
    lines.push(`    configs: [${text({ source: AUTHORITY_CONFIG, target: AUTHORITY_IN_SERVICE })}]`);
  }
  if (links !== undefined) lines.push(whole("links", links));
  if (joins && hostNames.length > 0) {
    lines.push(`    external_links: ${text(hostNames.map((former) => `${container}:${former}`))}`);
  }
  if (volumesFrom !== undefined) lines.push(whole("volumes_from", volumesFrom));
  for (const [key, mode] of Object.entries({ network_mode: networkMode, ...shared })) {
    if (mode !== undefined) lines.push(`    ${key}: ${mode === null ? "!reset null" : text(mode)}`);
  }
  // A service that names no network is in the project's default network, and would leave it if only another were listed.
  if (joins && !networks.includes(networkKey)) {
    const now = [...(networks.length === 0 ? ["default"] : networks), networkKey];
    lines.push(`    networks: { ${now.map((network) => `${text(network)}: {}`).join(", ")} }`);
  }
  return lines.length === 0 ? [] : [`  ${text(name)}:`, ...lines];
}
