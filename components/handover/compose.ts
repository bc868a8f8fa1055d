/**
 * The Compose file that lies over the application's own: it takes the application's database away, leads the services that
 * used it to the stack's, and makes them wait until that answers. Pure.
 */
import type { Project } from "./compose-project.ts";
import { type Redirect, type Redirects, type ServiceTarget, WAITER } from "./redirection.ts";

/** A value as YAML; Compose takes every $ for a variable's. */
const text = (value: unknown) => JSON.stringify(value).replaceAll("$", "$$$$");

/** Key of a network that is the stack's alone. */
const OWN_NETWORK = "sectorwars-stack";

/**
 * Returns the key of the network that becomes the stack's: the one that the application has for it, unless services have
 * addresses of their own in that, or it is shared with other projects.
 */
export function networkKeyFor(
  { services, networks }: Project,
  { network, networkKey, service }: ServiceTarget,
): string {
  // Compose would refuse a network of this name that it has not made.
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

/** Returns the file. It holds passwords. */
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
  return `${lines.join("\n")}\n`;
}

/** The profiles in which somebody waits for the database; empty is always. */
function profilesOfUsers(project: Project, services: Redirects["services"]): string[] {
  const users = Object.keys(services).filter((name) => services[name]?.isUser);
  const profiles = users.map((name) => project.services[name]?.profiles ?? []);
  return profiles.some((some) => some.length === 0) ? [] : [...new Set(profiles.flat())];
}

/** A container that ends well as soon as the database answers: what is no service of Compose's cannot be depended on. */
function waiter(networkKey: string, profiles: readonly string[], { image, alias }: ServiceTarget): string[] {
  const script = `for i in $(seq 240); do pg_isready -q -h ${alias} && exit 0; sleep 0.5; done; echo 'no database answers; is the stack up?'; exit 1`;
  return [
    `  ${WAITER}:`,
    `    image: ${text(image)}`,
    "    pull_policy: never",
    `    entrypoint: ${text(["sh", "-c", script])}`,
    '    restart: "no"',
    `    networks: [${text(networkKey)}]`,
    // With a profile's services it starts, and without any it does not start alone.
    ...(profiles.length > 0 ? [`    profiles: ${text(profiles)}`] : []),
  ];
}

/** What replaces a list or map, or takes it away. */
const whole = (key: string, value: readonly string[]): string =>
  value.length === 0 ? `    ${key}: !reset null` : `    ${key}: !override ${text(value)}`;

/** Where a service is. */
interface Place {
  /** Its own networks, the key of the stack's, and the container of the stack's server. */
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
  // In an order that does not depend on where the application sets them.
  const sorted = Object.entries(environment).sort(([a], [b]) => (a < b ? -1 : 1));
  const variables = sorted.map(([variable, value]) => `      ${text(variable)}: ${text(value)}`);
  if (variables.length > 0) lines.push("    environment:", ...variables);
  if (links !== undefined) lines.push(whole("links", links));
  if (joins && hostNames.length > 0) {
    lines.push(`    external_links: ${text(hostNames.map((former) => `${container}:${former}`))}`);
  }
  if (volumesFrom !== undefined) lines.push(whole("volumes_from", volumesFrom));
  for (const [key, mode] of Object.entries({ network_mode: networkMode, ...shared })) {
    if (mode !== undefined) lines.push(`    ${key}: ${mode === null ? "!reset null" : text(mode)}`);
  }
  // One that names no network is on the project's own, and would lose that by being put on another.
  if (joins && !networks.includes(networkKey)) {
    const now = [...(networks.length === 0 ? ["default"] : networks), networkKey];
    lines.push(`    networks: { ${now.map((network) => `${text(network)}: {}`).join(", ")} }`);
  }
  return lines.length === 0 ? [] : [`  ${text(name)}:`, ...lines];
}
