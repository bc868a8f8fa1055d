/**
 * Removes libpq's environment variables (PGHOST, PGOPTIONS ...) from this process, and so from its child processes. Users export them
 * from Neon's console, and node-postgres, psql and pg_dump use them for parameters that were not given. Every module that opens
 * connections or starts programs imports this one. (script/plugins does the same for Pulumi's PostgreSQL provider, which Pulumi starts.)
 */

/** The variables of libpq (PostgreSQL manual, libpq, "Environment Variables"), and those that node-postgres derives from its options. */
const LIBPQ =
  /^PG(HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|CHANNELBINDING|SERVICE|SERVICEFILE|OPTIONS|APPNAME|SSL[A-Z]*|REQUIRE[A-Z]*|KRBSRVNAME|GSS[A-Z]*|CONNECT_TIMEOUT|CLIENTENCODING|CLIENT_ENCODING|DATESTYLE|TZ|GEQO|SYSCONFDIR|LOCALEDIR|TARGETSESSIONATTRS|LOADBALANCEHOSTS|(MIN|MAX)PROTOCOLVERSION|BINARY|REPLICATION)$/;

/** Returns the names of libpq's variables in an environment. */
export const libpqVariables = (environment: NodeJS.ProcessEnv): string[] =>
  Object.keys(environment).filter((name) => LIBPQ.test(name));

for (const name of libpqVariables(process.env)) delete process.env[name];
