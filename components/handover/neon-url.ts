/** The remote database's URL, as the application takes it. Pure. */
import { bareUrl } from "../../lib/pasted-url.ts";
import type { Endpoint } from "./connection-values.ts";

const LOCAL = /^(localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[?::1\]?|database|host\.docker\.internal)$/;

/** The URL to go back to. */
export interface RemoteUrl {
  url: string;
  /** Whether it is the one that the application's file has by itself. */
  isOwn: boolean;
}

/** Where a URL may come from. */
export interface UrlSources {
  /** DATABASE_URL of the application's file, without the block. */
  own: string | undefined;
  /** NEON_DATABASE_URL. */
  environment: string | undefined;
  /** What the block gave the application the last time. */
  given: string | undefined;
  /** Hosts that are services of the application. */
  services: readonly string[];
}

/**
 * Chooses the URL to go back to.
 * @returns the file's own as it was, where that leads to a remote database; else the environment's, bare: SQLAlchemy 2 refuses
 *   postgres://, and a parameter that psycopg2 knows is one that asyncpg does not. Both drivers use TLS by themselves where the
 *   server has it.
 * @throws {Error} when there is neither. No URL is quoted: it holds a password.
 */
export function neonUrl({ own, environment, given, services }: UrlSources): RemoteUrl {
  const isRemote = (url: string | undefined): url is string => {
    const host = parse(url ?? "")?.hostname ?? "localhost";
    return host !== "" && !LOCAL.test(host) && !services.includes(host);
  };
  if (isRemote(own)) return { url: own, isOwn: true };
  if (environment) return { url: bareOf(environment), isOwn: false };
  if (isRemote(given)) return { url: given, isOwn: false };
  throw new Error(
    "handoverTarget is neon, but NEON_DATABASE_URL is not set, and the file had no remote DATABASE_URL before. " +
      "Copy the connection string from the Neon console: export NEON_DATABASE_URL='postgresql://user:password@host/database'",
  );
}

function bareOf(text: string): string {
  const url = parse(bareUrl(text));
  if (url === undefined)
    throw new Error("NEON_DATABASE_URL is not a URL. It looks like postgresql://user:password@host/database");
  if (`${url.pathname}${url.search}`.includes("@"))
    throw new Error("NEON_DATABASE_URL has a second @; one that belongs to the password is written %40");
  if (url.password.includes("%")) {
    throw new Error(
      "NEON_DATABASE_URL has a password with signs that must be encoded, which Alembic's configuration cannot read. Give the " +
        "role a password of letters and digits in the Neon console",
    );
  }
  return `postgresql://${url.username}:${url.password}@${url.host}${url.pathname}`;
}

function parse(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

/** The parts of a URL; undefined for what is none. */
export function endpointOfUrl(text: string | undefined): Endpoint | undefined {
  const url = parse(text ?? "");
  if (url === undefined || url.hostname === "") return undefined;
  return {
    host: url.hostname,
    port: Number(url.port || 5432),
    database: decode(url.pathname.slice(1)),
    user: decode(url.username),
    password: decode(url.password),
  };
}

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};
