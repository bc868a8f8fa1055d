/** Parses a connection URL in the form that Neon provides. Pure: it opens no connection. */
import { isIP } from "node:net";
import tls from "node:tls";
import { bareUrl } from "../../../lib/pasted-url.ts";
import type { ChannelBinding } from "../../../lib/postgres.ts";
import type { Source } from "../types.ts";

const DEFAULT_PORT = 5432;
const WITHOUT_TLS = new Set(["disable", "allow", "prefer"]);
const SSL_MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const CHANNEL_BINDINGS: readonly ChannelBinding[] = ["disable", "prefer", "require"];

/** Returns whether a host is this machine. */
export const isLoopback = (host: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)$/.test(host);

/** Returns the direct host for a pooled Neon host, which is PgBouncer and supports neither pg_dump's settings nor exported snapshots. */
export function directHost(host: string): string {
  return host.replace(/^(ep-[^.]+?)-pooler\./, "$1.");
}

/** Returns whether a URL has several hosts with commas, as libpq accepts them. User and password are before the last @. */
function hasSeveralHosts(url: string): boolean {
  const [, rest = ""] = /^postgres(?:ql)?:\/\/([^?#]*)/.exec(url) ?? [];
  const [hosts = ""] = rest.slice(rest.lastIndexOf("@") + 1).split("/");
  return hosts.includes(",");
}

/**
 * Parses a connection URL into a source.
 * @param rootCertificates PEM bundle to trust in place of the machine's.
 * @throws {Error} that says what is wrong with the URL, without quoting it, because it holds a password.
 */
export function parseSourceUrl(url: string, rootCertificates?: string): Source {
  const bare = bareUrl(url);
  const parsed = parseUrl(bare);
  const { user, password, database } = loginOf(parsed, bare);
  const remarks: string[] = [];
  const given = parsed.hostname.replace(/^\[(.*)\]$/, "$1");
  const host = directHost(given);
  if (host !== given) remarks.push(`pooled host ${given} replaced by the direct one, ${host}`);
  const mode = sslMode(parsed, host, remarks);
  const channelBinding = channelBindingOf(parsed, mode);
  remarks.push(...unusedParameters(parsed));
  const port = Number(parsed.port || DEFAULT_PORT);
  const trusted = rootCertificates ?? tls.getCACertificates("default").join("\n");
  // An IP address is not a server name (RFC 6066), but is still compared with the certificate.
  const verified = { ca: trusted, rejectUnauthorized: true, ...(isIP(host) ? {} : { servername: host }) };
  return {
    label: `${host}${port === DEFAULT_PORT ? "" : `:${port}`}/${database}`,
    address: {
      host,
      port,
      database,
      user,
      password,
      tls: mode === "none" ? undefined : verified,
      ...(channelBinding === undefined ? {} : { channelBinding }),
    },
    // A container does not share this machine's loopback, unless it joins its network.
    fromContainer: { host, port, ...(isLoopback(host) ? { network: "host" } : {}) },
    rootCertificates: mode === "none" ? undefined : trusted,
    remarks,
  };
}

/** @throws {Error} for text that is not the URL of one PostgreSQL server. */
function parseUrl(bare: string): URL {
  if (hasSeveralHosts(bare)) {
    throw new Error(
      "NEON_DATABASE_URL has several hosts, and the import reads from one server. Keep only the host and port of that server",
    );
  }
  if (!URL.canParse(bare)) {
    throw new Error(
      unencodedSign(bare) ?? "NEON_DATABASE_URL is not a URL. It looks like postgresql://user:password@host/database",
    );
  }
  const parsed = new URL(bare);
  if (!/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new Error(`NEON_DATABASE_URL begins with ${parsed.protocol}//, but must begin with postgresql://`);
  }
  return parsed;
}

/** @throws {Error} for a URL without a host, user, password or database. */
function loginOf(parsed: URL, bare: string): { user: string; password: string; database: string } {
  const database = decode(parsed.pathname.slice(1));
  const user = decode(parsed.username);
  const password = decode(parsed.password);
  // An unencoded character in the password moves part of it into the path or query, which messages would show.
  if (`${parsed.pathname}${parsed.search}`.includes("@")) {
    throw new Error(unencodedSign(bare) ?? "NEON_DATABASE_URL has a second @. Write an @ in the password as %40");
  }
  const missing = [
    [parsed.hostname, "a host"],
    [user, "a user"],
    [password, "a password"],
    [database, "a database"],
  ].flatMap(([value, what]) => (value ? [] : [what]));
  if (missing.length > 0) {
    const lacks = `NEON_DATABASE_URL lacks ${missing.join(" and ")}: postgresql://user:password@host/database`;
    throw new Error(unencodedSign(bare) ?? lacks);
  }
  return { user, password, database };
}

/** Returns remarks about the URL's parameters that have no effect. */
function unusedParameters({ searchParams }: URL): string[] {
  return [...searchParams.keys()].flatMap((key) => {
    if (key === "options" && /endpoint/.test(searchParams.get(key) ?? "")) {
      return ["options=endpoint left out: the host's name says it to the server (SNI)"];
    }
    return key === "sslmode" || key === "channel_binding" ? [] : [`URL parameter ${key} is not used`];
  });
}

/** Returns an error for an unencoded #, / or ? in the login, which ends the host for every parser; undefined for any other URL. */
function unencodedSign(url: string): string | undefined {
  const sign = /^postgres(?:ql)?:\/\/[^@]*?([#/?]).*@/s.exec(url)?.[1];
  if (sign === undefined) return undefined;
  const encoded = encodeURIComponent(sign);
  return `NEON_DATABASE_URL has a ${sign} before the @. Write it as ${encoded} in a user name or password`;
}

/** Decodes a part of the URL. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Error("NEON_DATABASE_URL has a % without two hexadecimal digits after it. Write a % itself as %25");
  }
}

/**
 * Returns the URL's channel_binding. Channel binding ties the password's proof to the certificate, so that a proxy on the way cannot
 * forward it. Like libpq, the import uses it whenever the server offers it; the URL may require it.
 */
function channelBindingOf(url: URL, mode: "none" | "verify"): ChannelBinding | undefined {
  const asked = url.searchParams.get("channel_binding");
  if (asked === null) return undefined;
  const known = CHANNEL_BINDINGS.find((value) => value === asked);
  if (known === undefined) {
    throw new Error(`NEON_DATABASE_URL has channel_binding=${asked}; it may be ${CHANNEL_BINDINGS.join(", ")}`);
  }
  if (known === "require" && mode === "none") {
    throw new Error("NEON_DATABASE_URL has channel_binding=require, which needs TLS: add sslmode=require");
  }
  return known;
}

/** Returns whether to use TLS. Data that leaves this machine needs a verified certificate and host name; `require` verifies neither. */
function sslMode(url: URL, host: string, remarks: string[]): "none" | "verify" {
  const asked = url.searchParams.get("sslmode");
  if (asked !== null && !SSL_MODES.includes(asked)) {
    throw new Error(`NEON_DATABASE_URL has sslmode=${asked}; it may be ${SSL_MODES.join(", ")}`);
  }
  if (isLoopback(host) && (asked === null || WITHOUT_TLS.has(asked))) return "none";
  if (asked !== "verify-full") {
    remarks.push(`sslmode ${asked ?? "not given"}: certificate and host name are verified anyway (verify-full)`);
  }
  return "verify";
}
