/** Chooses the URL of the remote database for the application. Pure. */
import { bareUrl } from "../../lib/pasted-url.ts";
import type { Endpoint } from "./connection-values.ts";

const LOCAL = /^(localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[?::1\]?|database|host\.docker\.internal)$/;

/** The URL of the remote database. */
export interface RemoteUrl {
  url: string;
  /** Whether it comes from the application's own file. */
  isOwn: boolean;
}

/** Possible sources of the URL. */
export interface UrlSources {
  /** DATABASE_URL of the application's file without the block. */
  own: string | undefined;
  /** NEON_DATABASE_URL. */
  environment: string | undefined;
  /** The value that the block set last time. */
  given: string | undefined;
  /** Host names of the application's services. */
  services: readonly string[];
}

/**
 * Chooses the URL of the remote database.
 * @returns the file's own URL, unchanged, if it names a remote database; else that of the environment, with the scheme postgresql://
 *   and without parameters: SQLAlchemy 2 rejects postgres://, and psycopg2 and asyncpg accept different parameters. Both drivers use
 *   TLS by default if the server offers it.
 * @throws {Error} if there is neither. The message quotes no URL, because it contains a password.
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
    "handoverTarget is neon, but NEON_DATABASE_URL is not set, and the application's file has no remote DATABASE_URL of its own. " +
      "Copy the connection string from the Neon console: export NEON_DATABASE_URL='postgresql://user:password@host/database'",
  );
}

function bareOf(text: string): string {
  const url = parse(bareUrl(text));
  if (url === undefined)
    throw new Error("NEON_DATABASE_URL is not a URL. The format is postgresql://user:password@host/database");
  if (`${url.pathname}${url.search}`.includes("@"))
    throw new Error("NEON_DATABASE_URL contains a second @; write an @ of the password as %40");
  if (url.password.includes("%")) {
    throw new Error(
      "NEON_DATABASE_URL has a password with percent-encoded characters, which Alembic's configuration cannot read. In the Neon " +
        "console, give the role a password of letters and digits",
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

/** Returns the parts of a URL, or undefined if the text is not a URL. */
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
