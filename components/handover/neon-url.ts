/** The remote database's URL, as the application takes it. Pure. */
import { bareUrl } from "../../lib/pasted-url.ts";

const LOCAL = /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?|database)$/;

/**
 * Chooses the URL to go back to.
 * @param fromEnvironment NEON_DATABASE_URL.
 * @param kept what the application's file had before the stack, and what it was given when it went back the last time.
 * @returns the kept one as it was; the environment's bare: SQLAlchemy 2 refuses postgres://, and a parameter that psycopg2
 *   knows is one that asyncpg does not. Both drivers use TLS by themselves where the server has it.
 * @throws {Error} when there is neither. No URL is quoted: it holds a password.
 */
export function neonUrl(fromEnvironment: string | undefined, kept: readonly (string | undefined)[]): string {
  if (fromEnvironment) {
    const url = parse(bareUrl(fromEnvironment));
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
  const remote = kept.find((url) => url && !LOCAL.test(parse(url)?.hostname ?? "localhost"));
  if (remote !== undefined) return remote;
  throw new Error(
    "handoverTarget is neon, but NEON_DATABASE_URL is not set, and the file had no remote DATABASE_URL before. " +
      "Copy the connection string from the Neon console: export NEON_DATABASE_URL='postgresql://user:password@host/database'",
  );
}

function parse(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}
