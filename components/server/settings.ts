/** Settings of the database server. */
import { isIP, isIPv4 } from "node:net";
import { each, list, matches, number, oneOf, portNumber, rule, text, type ValuesOf, whole } from "../../lib/setting.ts";

/** The server's limits, its port, and the engine that it runs on. */
export interface ServerSettings {
  /** PostgreSQL 15 image that the database image is built on. */
  readonly baseImage: string;
  /** The address on which the port is published. */
  readonly listen: string;
  /** Port on {@link listen}. */
  readonly port: number;
  /** Undefined if connections are in clear text. */
  readonly tls: TlsSettings | undefined;
  /** Memory limit of the database container, MiB. */
  readonly memoryMiB: number;
  /** CPU limit of the database container. */
  readonly cpus: number;
  /** The number of sessions that the server permits. */
  readonly maxConnections: number;
  /** Raising this number gives the superuser and all roles new passwords. */
  readonly passwordVersion: number;
  /** Whether `pulumi destroy` keeps the data volume. */
  readonly keepDataOnDestroy: boolean;
  /** Whether Pulumi refuses to delete the data volume. */
  readonly protectData: boolean;
  /** Whether the server also logs connections, DDL and statements that take 250 ms. */
  readonly logsForProduction: boolean;
  /** Docker engine; undefined for the environment's or the local one. */
  readonly dockerHost: string | undefined;
  /** Whether the setting names the engine; otherwise it is the docker command's. */
  readonly dockerHostIsSet: boolean;
}

/** TLS of the server. */
export interface TlsSettings {
  /** Names and addresses of the certificate, in addition to those that the stack knows. */
  readonly names: readonly string[];
  /** The number of days for which a new certificate is valid. */
  readonly days: number;
}

/** The address on which only programs of this machine reach a port. */
export const LOOPBACK = "127.0.0.1";
/** The address that publishes a port on every IPv4 address of the machine. */
const EVERY_ADDRESS = "0.0.0.0";

/** Returns the address at which programs of this machine reach a port that is published on `listen`. */
export const reachedAt = (listen: string): string => (listen === EVERY_ADDRESS ? LOOPBACK : listen);

/** The longest lifetime of a server's certificate that common clients accept. */
const MAX_DAYS = 825;

/** The pattern of a database's name. Names of roles and copies have it as a part, and PostgreSQL allows 63 bytes. */
export const DATABASE_NAME = /^[a-z][a-z0-9_]{0,40}$/;

const HOST_NAME =
  /^(\*\.)?([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$/;

export const SERVER_SETTINGS = {
  database: text(
    matches(DATABASE_NAME, "use at most 41 lowercase letters, digits or underscores, starting with a letter"),
    rule((name) => name !== "postgres" && !name.startsWith("template"), "PostgreSQL uses that name itself"),
  ),
  port: portNumber(),
  listen: text(
    rule((address) => isIPv4(address), "give an IPv4 address of this machine; 0.0.0.0 stands for all of them"),
  ),
  tls: text(oneOf("auto", "true", "false")),
  certificateNames: list(
    each((name) => isIP(name) !== 0 || HOST_NAME.test(name), "give host names and IP addresses, without a port"),
  ),
  certificateDays: number(whole(1, MAX_DAYS)),
  memory: number(whole(256, 4_194_304, "give MiB, at least 256")),
  cpus: number(whole(1, 1024, "give a whole number, at least 1")),
  maxConnections: number(whole(10, 10_000)),
  passwordVersion: number(whole(1, 1e9, "give a whole number, at least 1")),
  keepDataOnDestroy: text(oneOf("auto", "true", "false")),
  protectData: text(oneOf("auto", "true", "false")),
  logging: text(oneOf("auto", "development", "production")),
  baseImage: text(),
  dockerHost: text(),
};

export type ServerValues = ValuesOf<typeof SERVER_SETTINGS>;

/** Returns the settings of TLS, or undefined if it is off. Pure. */
export const tlsOf = (values: ServerValues): TlsSettings | undefined =>
  values.tls === "true"
    ? Object.freeze({ names: Object.freeze([...values.certificateNames]), days: values.certificateDays })
    : undefined;

/** Returns a problem if passwords and rows could be read on the network. Pure. */
export function listenProblems(values: ServerValues): string[] {
  const isLocal = values.listen.startsWith("127.");
  if (isLocal || tlsOf(values) !== undefined || !isIPv4(values.listen)) return [];
  return [
    `listen is "${values.listen}" and tls is "${values.tls}": connections from other machines would be in clear text. Switch TLS on: ` +
      `pulumi config set tls true. Or publish the port on this machine only: pulumi config rm listen`,
  ];
}
