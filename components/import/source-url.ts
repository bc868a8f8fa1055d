/** Reads a connection URL as Neon hands it out. Pure: it opens nothing. */
import tls from "node:tls";
import type { Source } from "./types.ts";

const DEFAULT_PORT = 5432;
const WITHOUT_TLS = new Set(["disable", "allow", "prefer"]);
const SSL_MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/** Whether a host is this machine. */
export const isLoopback = (host: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)$/.test(host);

/** A pooled Neon host is PgBouncer, which knows neither pg_dump's settings nor exported snapshots: the direct host. */
export function directHost(host: string): string {
  return host.replace(/^(ep-[^.]+?)-pooler\./, "$1.");
}

/**
 * Turns a connection URL into a source.
 * @param rootCertificates PEM bundle to trust in place of the machine's.
 * @throws {Error} that says what is wrong with the URL, without quoting it: it holds a password.
 */
export function parseSourceUrl(url: string, rootCertificates?: string): Source {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw new Error("NEON_DATABASE_URL is not a URL. It looks like postgresql://user:password@host/database");
  }
  if (!/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new Error(`NEON_DATABASE_URL begins with ${parsed.protocol}//, but must begin with postgresql://`);
  }
  const database = decodeURIComponent(parsed.pathname.slice(1));
  const missing = [
    [parsed.hostname, "a host"],
    [parsed.username, "a user"],
    [parsed.password, "a password"],
    [database, "a database"],
  ].flatMap(([value, what]) => (value ? [] : [what]));
  if (missing.length > 0)
    throw new Error(`NEON_DATABASE_URL lacks ${missing.join(" and ")}: postgresql://user:password@host/database`);

  const remarks: string[] = [];
  const host = directHost(parsed.hostname);
  if (host !== parsed.hostname) remarks.push(`pooled host ${parsed.hostname} replaced by the direct one, ${host}`);
  const mode = sslMode(parsed, host, remarks);
  for (const key of parsed.searchParams.keys()) {
    if (key === "options" && /endpoint/.test(parsed.searchParams.get(key) ?? "")) {
      remarks.push("options=endpoint left out: the host's name says it to the server (SNI)");
    } else if (key !== "sslmode" && key !== "channel_binding") {
      remarks.push(`URL parameter ${key} is not used`);
    }
  }
  const port = Number(parsed.port || DEFAULT_PORT);
  const trusted = rootCertificates ?? tls.getCACertificates("default").join("\n");
  return {
    label: `${host}${port === DEFAULT_PORT ? "" : `:${port}`}/${database}`,
    address: {
      host,
      port,
      database,
      user: decodeURIComponent(parsed.username),
      password: decodeURIComponent(parsed.password),
      tls: mode === "none" ? undefined : { ca: trusted, servername: host, rejectUnauthorized: true },
    },
    // A container does not share this machine's loopback, unless it joins its network.
    fromContainer: { host, port, ...(isLoopback(host) ? { network: "host" } : {}) },
    rootCertificates: mode === "none" ? undefined : trusted,
    remarks,
  };
}

/** Certificate and host name are verified wherever the data leaves this machine: `require` alone trusts anybody. */
function sslMode(url: URL, host: string, remarks: string[]): "none" | "verify" {
  const asked = url.searchParams.get("sslmode");
  if (asked !== null && !SSL_MODES.includes(asked)) {
    throw new Error(`NEON_DATABASE_URL has sslmode=${asked}; it may be ${SSL_MODES.join(", ")}`);
  }
  if (isLoopback(host) && (asked === null || WITHOUT_TLS.has(asked))) return "none";
  if (asked !== "verify-full") {
    remarks.push(`sslmode ${asked ?? "not given"}: certificate and host name are verified all the same (verify-full)`);
  }
  return "verify";
}
