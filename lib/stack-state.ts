/**
 * What a stack's state says of its database. Pulumi records the outputs at the end of the program, so that a stack whose first update
 * failed, by a refused import for instance, has a running server and no outputs. Pure.
 */
import { ROLE_NAMES } from "../components/roles/names.ts";

/** A resource of `pulumi stack export --show-secrets`. */
interface StateResource {
  urn: string;
  type: string;
  outputs?: Record<string, unknown>;
}

/** The part of a deployment that is read. */
export interface Deployment {
  resources?: readonly StateResource[];
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

/** A value of a state: a secret is an object that holds the value as JSON. */
function plain(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("plaintext" in value)) return value;
  return JSON.parse(String(value.plaintext));
}

/**
 * Reads a server from a state.
 * @param database the stack's database, which the settings name.
 * @returns undefined as long as the server has not answered, or one of its roles was not made.
 */
export function recordedServer({ resources = [] }: Deployment, database: string): RecordedServer | undefined {
  const outputs = resources.find(({ type }) => type === SERVER)?.outputs;
  const made = new Set(resources.filter(({ type }) => type === ROLE).map(nameOf));
  if (outputs?.version === undefined || Object.keys(ROLE_NAMES).some((key) => !made.has(key))) return undefined;
  const address = `${outputs.host}:${outputs.port}/${database}`;
  const passwordOf = (key: string) =>
    plain(resources.find((one) => one.type === PASSWORD && nameOf(one) === `${key}-password`)?.outputs?.result);
  const urls = Object.entries(LOGINS).map(([key, user]) => [key, `postgresql://${user}:${passwordOf(key)}@${address}`]);
  return {
    container: String(outputs.containerName),
    postgresVersion: String(outputs.version),
    address,
    urls: Object.fromEntries(urls),
  };
}
