/**
 * Reads the database server from a stack's state. Pulumi records the outputs at the end of the program, so a stack whose first update
 * failed, for example during the import, has a running server but no outputs. Pure.
 */
import { ROLE_NAMES } from "./role-names.ts";

/** A resource of a state. Most inputs and outputs contain secrets, so never print them. */
export interface StateResource {
  urn: string;
  type: string;
  /** The inputs of the last update. */
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
}

/** A server in a state. */
export interface RecordedServer {
  container: string;
  postgresVersion: string;
  /** For example 127.0.0.1:5433/sectorwars_dev. */
  address: string;
  /** URLs by the purpose of the role. They contain passwords. */
  urls: Record<string, string>;
  /** The authority of the server's certificate, PEM; missing for a server without TLS. */
  authority?: string;
}

const SERVER = "sectorwars:server:DatabaseServer";
const AUTHORITY = "pulumi-nodejs:dynamic/server:CertificateAuthority";
const PASSWORD = "random:index/randomPassword:RandomPassword";
const ROLE = "postgresql:index/role:Role";

/** The components whose children are the passwords, in the URN of a child. */
const OF_SERVER = `::${SERVER}$`;
const OF_ROLES = "::sectorwars:roles:Roles$";

/** The superuser and the roles, by their purpose. */
const LOGINS: Readonly<Record<string, string>> = { superuser: "postgres", ...ROLE_NAMES };

/** The markers of a secret in a stack's exported state (`specialSigKey` and `specialSecretSig` of Pulumi's SDK). */
const SIGNATURE = "4dabf18193072939515e22adb298388d";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";

/** Returns a value of a stack's exported state without the markers of its decrypted secrets. */
export function withoutMarks(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMarks);
  if (typeof value !== "object" || value === null) return value;
  const { [SIGNATURE]: signature, plaintext } = value as Record<string, unknown>;
  if (signature === SECRET && typeof plaintext === "string") return withoutMarks(JSON.parse(plaintext));
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withoutMarks(inner)]));
}

/** A state, from `pulumi stack export` (`deployment`), or from a file backend (`checkpoint.latest`). */
export interface Deployment {
  resources?: (StateResource & { delete?: boolean })[];
}

/** Returns the resources of a state, without those that an update has replaced but not deleted yet. */
export function resourcesOf({ resources = [] }: Deployment): StateResource[] {
  return resources.filter(({ delete: goes }) => !goes).map((resource) => withoutMarks(resource) as StateResource);
}

/**
 * Reads the resources of a state.
 * @param text the output of `pulumi stack export`, with or without `--show-secrets`.
 */
export const stateResources = (text: string): StateResource[] => resourcesOf(JSON.parse(text).deployment ?? {});

/**
 * Returns whether a resource is the password of the superuser or of a role of the stack. The name of a further database's password may end
 * like it, so the component counts too. In earlier versions, the name did not begin with the component's.
 */
const isPasswordOf = (key: string, { urn, type }: StateResource): boolean =>
  type === PASSWORD &&
  urn.includes(key === "superuser" ? OF_SERVER : OF_ROLES) &&
  new RegExp(`(::|-)${key}-password$`).test(urn);

/**
 * Reads a server from a state.
 * @param database the name of the stack's database, from the settings.
 * @returns undefined if the server has not answered yet, or one of its roles does not exist yet.
 */
export function recordedServer(resources: readonly StateResource[], database: string): RecordedServer | undefined {
  const outputs = resources.find(({ type }) => type === SERVER)?.outputs;
  const made = new Set(resources.filter(({ type }) => type === ROLE).map(({ outputs: role }) => role?.name));
  if (outputs?.version === undefined || !Object.values(ROLE_NAMES).every((role) => made.has(role))) return undefined;
  const address = `${outputs.host}:${outputs.port}/${database}`;
  const passwordOf = (key: string) => resources.find((resource) => isPasswordOf(key, resource))?.outputs?.result;
  const authority = resources.find(({ type }) => type === AUTHORITY)?.outputs?.authority;
  const urls = Object.entries(LOGINS).map(([key, user]) => [key, `postgresql://${user}:${passwordOf(key)}@${address}`]);
  return {
    container: String(outputs.containerName),
    postgresVersion: String(outputs.version),
    address,
    urls: Object.fromEntries(urls),
    ...(typeof authority === "string" ? { authority } : {}),
  };
}
