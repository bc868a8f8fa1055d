/** Settings of the database server. */
import { flag, matches, number, rule, text, whole } from "../../lib/setting.ts";

/** The server's limits, its port, and the engine that it runs on. */
export interface ServerSettings {
  /** PostgreSQL 15 image that the database image is built on. */
  readonly baseImage: string;
  /** Port on 127.0.0.1. */
  readonly port: number;
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
  /** Docker engine; undefined for the environment's or the local one. */
  readonly dockerHost: string | undefined;
  /** Whether the setting names the engine; otherwise it is the docker command's. */
  readonly dockerHostIsSet: boolean;
}

/** The pattern of a database's name. Names of roles and copies have it as a part, and PostgreSQL allows 63 bytes. */
export const DATABASE_NAME = /^[a-z][a-z0-9_]{0,40}$/;

export const SERVER_SETTINGS = {
  database: text(
    matches(DATABASE_NAME, "use at most 41 lowercase letters, digits or underscores, starting with a letter"),
    rule((name) => name !== "postgres" && !name.startsWith("template"), "PostgreSQL uses that name itself"),
  ),
  port: number(
    rule(
      (port) => port === 0 || (Number.isInteger(port) && port >= 1024 && port <= 65535),
      "choose 1024 to 65535, or 0 for the default",
    ),
  ),
  memory: number(whole(256, 4_194_304, "give MiB, at least 256")),
  cpus: number(whole(1, 1024, "give a whole number, at least 1")),
  maxConnections: number(whole(10, 10_000)),
  passwordVersion: number(whole(1, 1e9, "give a whole number, at least 1")),
  keepDataOnDestroy: flag(),
  baseImage: text(),
  dockerHost: text(),
};
