/**
 * Redirects variables from one database to another: URLs, keyword/value connection strings, and separate variables for host, port,
 * user, password and database name. Pure.
 */

/** The address of a database and the login, as a program uses them. */
export interface Endpoint {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string;
}

/** The database that is replaced, and its replacement. */
export interface Redirection {
  /** Whether a host and port belong to the replaced database. Port and database are undefined if no variable gives them. */
  names: (host: string, port: number | undefined, database: string | undefined) => boolean;
  /** Returns the replacement of a database of the replaced server. */
  endpointOf: (database: string | undefined) => Endpoint;
  /** The login of the replaced database, which identifies its parts in variables with other prefixes. */
  former?: { user?: string; password?: string; database?: string };
}

const POSTGRES_PORT = 5432;

/** `scheme://user:password@host:port/database` anywhere in a text; jdbc: and Celery's db+ may come before the scheme. */
const URLS =
  /\b((?:jdbc:|db\+)?(?:postgres(?:ql)?|postgis|pgsql|psql)(?:\+\w+)?):\/\/(?:([^\s/?#'"]*)@)?(\[[^\]\s]+\]|[^\s:/?#'",@]+)(?::(\d+))?(?:\/([^\s/?#'",;)\]}]*))?(\?[^\s#'"]*)?/gi;

/** URL parameters that only the remote database needs. */
const REMOTE_PARAMETER = /^(ssl\w*|channel_binding|options|gssencmode)=/i;

/** Removes parameters that a server without TLS rejects. */
function localQuery(query: string): string {
  const kept = query
    .slice(1)
    .split("&")
    .filter((part) => part !== "" && !REMOTE_PARAMETER.test(part));
  return kept.length === 0 ? "" : `?${kept.join("&")}`;
}

/** Returns the long form of the scheme, the only one that SQLAlchemy accepts. */
const fullScheme = (scheme: string) => scheme.replace(/^((?:db\+)?)postgres(?=$|\+)/i, "$1postgresql");

/** Whether a host is on the Internet, as opposed to a service or this machine. */
const isRemoteHost = (host: string) => host.includes(".") && !/^(127\.|0\.0\.0\.0$|.*\.internal$)/.test(host);

/** Redirects the URLs in a text. Returns undefined if none of them names the database. */
function redirectUrls(text: string, { names, endpointOf }: Redirection): string | undefined {
  let isNamed = false;
  const redirected = text.replaceAll(
    URLS,
    (all, scheme: string, login: string | undefined, host: string, port, name, query = "") => {
      if (!names(host, Number(port ?? POSTGRES_PORT), name || undefined)) return all;
      isNamed = true;
      const to = endpointOf(name || undefined);
      // JDBC takes the login from elsewhere. Other drivers without one use the name of the operating-system user, or "trust".
      const isElsewhere = login === undefined && /^jdbc:/i.test(scheme);
      const who = isElsewhere ? "" : `${encodeURIComponent(to.user)}:${encodeURIComponent(to.password)}@`;
      const parameters = isRemoteHost(host) && !isRemoteHost(to.host) ? localQuery(query) : query;
      return `${fullScheme(scheme)}://${who}${to.host}:${to.port}/${encodeURIComponent(to.database)}${parameters}`;
    },
  );
  return isNamed ? redirected : undefined;
}

/** Returns the driver that a URL names, with its plus sign, or an empty string. */
export const driverOf = (url: string | undefined): string => /^[a-z]+(\+\w+):\/\//i.exec(url ?? "")?.[1] ?? "";

/** Returns the URL with another driver. */
export const withDriver = (url: string, driver: string): string =>
  url.replace(/^([a-z]+)(?:\+\w+)?:\/\//i, (_all, scheme: string) => `${scheme}${driver}://`);

/** The parts of a keyword/value connection string, by the names that libpq and .NET use. */
const KEYWORDS: ReadonlyArray<[RegExp, (to: Endpoint) => string]> = [
  [/^(host|hostaddr|server|data source)$/i, ({ host }) => host],
  [/^port$/i, ({ port }) => String(port)],
  [/^(dbname|database|initial catalog)$/i, ({ database }) => database],
  [/^(user|username|user id|uid)$/i, ({ user }) => user],
  [/^(password|pwd)$/i, ({ password }) => password],
];

/** Redirects `host=... port=... dbname=...` and `Host=...;Port=...`. Returns undefined if they name another host. */
function redirectKeywords(text: string, { names, endpointOf }: Redirection): string | undefined {
  const separator = text.includes(";") ? ";" : " ";
  const parts = text.split(separator).map((part) => part.split("="));
  if (parts.length < 2 || parts.some((part) => part.length !== 2 && part.join("").trim() !== "")) return undefined;
  const find = (which: number) => parts.find(([key = ""]) => KEYWORDS[which]?.[0].test(key.trim()))?.[1]?.trim();
  const [host, port, name] = [find(0), find(1), find(2)];
  if (host === undefined || !names(host, Number(port ?? POSTGRES_PORT), name)) return undefined;
  const to = endpointOf(name);
  const changed = parts.map(([key = "", ...rest]) => {
    const keyword = KEYWORDS.find(([pattern]) => pattern.test(key.trim()));
    return keyword === undefined ? [key, ...rest].join("=") : `${key}=${keyword[1](to)}`;
  });
  const hasPort = port !== undefined || to.port === POSTGRES_PORT;
  return [...changed.filter((part) => part !== ""), ...(hasPort ? [] : [`port=${to.port}`])].join(separator);
}

/** The names of the variables that belong to a host variable, without their common prefix. */
const SIBLINGS: ReadonlyArray<[RegExp, (to: Endpoint) => string]> = [
  [/^PORT$/i, ({ port }) => String(port)],
  [/^(USER|USERNAME|USR|LOGIN)$/i, ({ user }) => user],
  [/^(PASSWORD|PASS|PASSWD|PWD)$/i, ({ password }) => password],
  [/^(NAME|DATABASE|DB|DBNAME|DB_NAME|DATABASE_NAME)$/i, ({ database }) => database],
];
/** Prefixes of variables that configure a database. */
const DATABASE_PREFIX = /^(POSTGRES|PG|DB|DATABASE|SQL)/i;
const HOST_NAME = /^(.*?)(HOST|HOSTNAME|HOST_NAME|SERVER|ADDRESS|ADDR|ENDPOINT|SEEDS)$/i;
const URL_NAME = /^(.*?)(?:JDBC_)?(?:URL|URI|DSN)$/i;

/** Returns the prefix that a variable shares with its group, or undefined if it does not name the database's host. */
function anchorPrefix(
  name: string,
  value: string,
  all: Readonly<Record<string, string>>,
  redirection: Redirection,
): string | undefined {
  const [, prefix] = HOST_NAME.exec(name) ?? [];
  const [, host, port] = /^([\w.-]+)(?::(\d+))?$/.exec(value) ?? [];
  if (prefix !== undefined && host !== undefined) {
    const given = port ?? (prefix === "" ? undefined : all[`${prefix}PORT`]);
    // Without a port and without a database prefix, the host may be that of any kind of server.
    const usual = DATABASE_PREFIX.test(prefix) ? POSTGRES_PORT : undefined;
    const number = given !== undefined && /^\d+$/.test(given) ? Number(given) : usual;
    return redirection.names(host, number, siblingOf(all, prefix, 3)) ? prefix : undefined;
  }
  // A URL without a user takes its login from the other variables of the group.
  const [, urlPrefix] = URL_NAME.exec(name) ?? [];
  const isAnonymous = urlPrefix !== undefined && /^[\w+:]+:\/\/[^@]*$/.test(value);
  return isAnonymous && redirectUrls(value, redirection) !== undefined ? urlPrefix : undefined;
}

const siblingOf = (all: Readonly<Record<string, string>>, prefix: string, kind: number): string | undefined =>
  Object.entries(all).find(
    ([name]) => name.startsWith(prefix) && SIBLINGS[kind]?.[0].test(name.slice(prefix.length)),
  )?.[1];

/** Returns the new host, with the port if the old value had one. */
const hostValue = (value: string, { host, port }: Endpoint) => (value.includes(":") ? `${host}:${port}` : host);

/** Variables of the superuser. The services in composeSuperusers get these separately. */
const SUPERUSER = /SUPERUSER/i;

/** Returns the group of variables of the database's host, redirected. */
function redirectGroup(
  prefix: string,
  anchor: string,
  all: Readonly<Record<string, string>>,
  { endpointOf }: Redirection,
): Record<string, string> {
  const to = endpointOf(siblingOf(all, prefix, 3));
  const changed: Record<string, string> = {};
  if (HOST_NAME.test(anchor)) changed[anchor] = hostValue(all[anchor] ?? "", to);
  // Variables without a prefix, such as PORT, may belong to something else.
  if (prefix === "") return changed;
  for (const name of Object.keys(all)) {
    if (!name.startsWith(prefix) || SUPERUSER.test(name)) continue;
    const sibling = SIBLINGS.find(([pattern]) => pattern.test(name.slice(prefix.length)));
    if (sibling !== undefined) changed[name] = sibling[1](to);
  }
  // A login that needed no password ("trust") needs one now.
  const has = (kind: number) => siblingOf(all, prefix, kind) !== undefined;
  const hasFile = Object.keys(all).some((name) => name.startsWith(prefix) && name.endsWith("_FILE"));
  if (has(1) && !has(2) && !hasFile) changed[`${prefix}PASSWORD`] = to.password;
  const tellsPort = all[anchor]?.includes(":") || Object.hasOwn(changed, `${prefix}PORT`);
  if (HOST_NAME.test(anchor) && !tellsPort && to.port !== POSTGRES_PORT) changed[`${prefix}PORT`] = String(to.port);
  return changed;
}

/** Returns variables with other prefixes that contain the replaced database's login, such as `POSTGRES_PASSWORD` beside `DB_HOST`. */
function redirectLogin(
  all: Readonly<Record<string, string>>,
  { former = {}, endpointOf }: Redirection,
): Record<string, string> {
  const to = endpointOf(former.database);
  const parts: [RegExp, string | undefined, string][] = [
    [/(PASS|PWD)/i, former.password, to.password],
    [/(USER|LOGIN)/i, former.user, to.user],
    [/(DB|DATABASE|NAME)$/i, former.database, to.database],
  ];
  const changed: Record<string, string> = {};
  for (const [name, value] of Object.entries(all)) {
    if (value === "" || !(DATABASE_PREFIX.test(name) || /^(USER|PASSWORD)$/i.test(name)) || SUPERUSER.test(name))
      continue;
    const part = parts.find(([pattern, was]) => was === value && pattern.test(name));
    if (part !== undefined) changed[name] = part[2];
  }
  return changed;
}

/**
 * Redirects the variables of a service or a file.
 * @param isUser whether the service is known to use the database; its host may then be fixed in its code.
 * @returns the variables to change or add, with their new values.
 */
export function redirectVariables(
  all: Readonly<Record<string, string>>,
  redirection: Redirection,
  isUser = false,
): Record<string, string> {
  const changed: Record<string, string> = {};
  let hasParts = isUser;
  for (const [name, value] of Object.entries(all)) {
    const prefix = anchorPrefix(name, value, all, redirection);
    if (prefix === undefined) continue;
    hasParts = true;
    Object.assign(changed, redirectGroup(prefix, name, all, redirection));
  }
  if (hasParts) {
    for (const [name, value] of Object.entries(redirectLogin(all, redirection))) changed[name] ??= value;
  }
  for (const [name, value] of Object.entries(all)) {
    if (Object.hasOwn(changed, name)) continue;
    const redirected = redirectUrls(value, redirection) ?? redirectKeywords(value, redirection);
    if (redirected !== undefined) changed[name] = redirected;
  }
  return changed;
}
