/**
 * Takes libpq's environment variables (PGHOST, PGOPTIONS ...) out of this process, and so out of all that it starts. Neon's console
 * hands them out to be exported; node-postgres, psql and pg_dump would fill in with them whatever was not given. To be imported by
 * whatever opens connections or starts programs. (script/plugins does the same for Pulumi's PostgreSQL provider, which Pulumi starts.)
 */

/** PostgreSQL manual, "Environment Variables" of libpq, and those that node-postgres derives from its options' names. */
const LIBPQ =
  /^PG(HOST|HOSTADDR|PORT|DATABASE|USER|PASSWORD|PASSFILE|CHANNELBINDING|SERVICE|SERVICEFILE|OPTIONS|APPNAME|SSL[A-Z]*|REQUIRE[A-Z]*|KRBSRVNAME|GSS[A-Z]*|CONNECT_TIMEOUT|CLIENTENCODING|CLIENT_ENCODING|DATESTYLE|TZ|GEQO|SYSCONFDIR|LOCALEDIR|TARGETSESSIONATTRS|LOADBALANCEHOSTS|(MIN|MAX)PROTOCOLVERSION|BINARY|REPLICATION)$/;

/** The names of libpq's variables in an environment. */
export const libpqVariables = (environment: NodeJS.ProcessEnv): string[] =>
  Object.keys(environment).filter((name) => LIBPQ.test(name));

for (const name of libpqVariables(process.env)) delete process.env[name];
