/**
 * What a stack's state says of its database. Pulumi records the outputs at the end of the program, so that a stack whose first update
 * failed, by a refused import for instance, has a running server and no outputs. Pure.
 */
import { ROLE_NAMES } from "./role-names.ts";

/** A resource of a state. Inputs and outputs of most hold secrets: they are for work, not for showing. */
export interface StateResource {
  urn: string;
  type: string;
  /** What the last update wanted of it. */
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
}

/** The server that a state records. */
export interface RecordedServer {
  container: string;
  postgresVersion: string;
  /** For instance 127.0.0.1:5433/sectorwars_dev. */
  address: string;
  /** By what a role is for. They hold passwords. */
  urls: Record<string, string>;
}

const SERVER = "sectorwars:server:DatabaseServer";
const PASSWORD = "random:index/randomPassword:RandomPassword";
const ROLE = "postgresql:index/role:Role";

/** Superuser and roles, by what they are for. */
const LOGINS: Readonly<Record<string, string>> = { superuser: "postgres", ...ROLE_NAMES };

/** A resource's own name: the last part of its URN. */
const nameOf = ({ urn }: StateResource): string => urn.slice(urn.lastIndexOf("::") + 2);

/** How Pulumi marks a secret in a stack's exported state (its SDK's `specialSigKey` and `specialSecretSig`). */
const SIGNATURE = "4dabf18193072939515e22adb298388d";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";

/** A value of a stack's exported state without the marks of its secrets, which are in clear. */
export function withoutMarks(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutMarks);
  if (typeof value !== "object" || value === null) return value;
  const { [SIGNATURE]: signature, plaintext } = value as Record<string, unknown>;
  if (signature === SECRET && typeof plaintext === "string") return withoutMarks(JSON.parse(plaintext));
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withoutMarks(inner)]));
}

/** A state, as `pulumi stack export` prints it (`deployment`), and as a file backend keeps it (`checkpoint.latest`). */
export interface Deployment {
  resources?: (StateResource & { delete?: boolean })[];
}

/** Returns the resources of a state, without those that an update has replaced and not deleted yet. */
export function resourcesOf({ resources = [] }: Deployment): StateResource[] {
  return resources.filter(({ delete: goes }) => !goes).map((resource) => withoutMarks(resource) as StateResource);
}

/**
 * Reads the resources of a state.
 * @param text what `pulumi stack export` prints, with or without `--show-secrets`.
 */
export const stateResources = (text: string): StateResource[] => resourcesOf(JSON.parse(text).deployment ?? {});

/**
 * Reads a server from a state.
 * @param database the stack's database, which the settings name.
 * @returns undefined as long as the server has not answered, or one of its roles was not made.
 */
export function recordedServer(resources: readonly StateResource[], database: string): RecordedServer | undefined {
  const outputs = resources.find(({ type }) => type === SERVER)?.outputs;
  const made = new Set(resources.filter(({ type }) => type === ROLE).map(nameOf));
  if (outputs?.version === undefined || Object.keys(ROLE_NAMES).some((key) => !made.has(key))) return undefined;
  const address = `${outputs.host}:${outputs.port}/${database}`;
  const passwordOf = (key: string) =>
    resources.find((one) => one.type === PASSWORD && nameOf(one) === `${key}-password`)?.outputs?.result;
  const urls = Object.entries(LOGINS).map(([key, user]) => [key, `postgresql://${user}:${passwordOf(key)}@${address}`]);
  return {
    container: String(outputs.containerName),
    postgresVersion: String(outputs.version),
    address,
    urls: Object.fromEntries(urls),
  };
}
