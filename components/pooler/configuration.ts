/** PgBouncer's configuration. Pure. docs/pooler.md explains what clients notice of it. */
import { POOLER_ROLE } from "../../lib/role-names.ts";

/** The port inside the container and the network. */
export const POOLER_PORT = 6432;
/** The largest number of clients. Each takes about 8 KiB. */
export const MOST_CLIENTS = 1000;
/** The server's own database, in which the pooler looks up passwords (sql/pooler.sql). */
const LOGIN_DATABASE = "postgres";
/** Server connections for looking up passwords. */
const LOGIN_CONNECTIONS = 2;

/** What the configuration depends on. */
export interface PoolerConfiguration {
  /** The server's name inside the network, and its port there. */
  host: string;
  port: number;
  /** The databases that clients can connect to. */
  databases: readonly string[];
  /** The largest number of server connections to each of them, of all roles together. */
  size: number;
  /** The replicas' name inside the network; undefined if the stack has none. */
  replicas?: string | undefined;
}

/** Returns the name under which the pooler offers a database on the replicas. */
export const onReplicas = (database: string): string => `${database}_readonly`;

/** Returns the text of pgbouncer.ini. */
export function poolerConfiguration({ host, port, databases, size, replicas }: PoolerConfiguration): string {
  const database = (name: string, limit: number, at = host, dbname = name) =>
    `${name} = host=${at} port=${port} dbname=${dbname} pool_size=${limit} max_db_connections=${limit}`;
  const copies = databases.filter((name) => replicas !== undefined && !databases.includes(onReplicas(name)));
  return `; Written by pulumi up, which replaces it whenever a setting changes.
[databases]
; With * instead of names, any name that a client asks for would become a database here.
${databases.map((name) => database(name, size)).join("\n")}
${copies.map((name) => `${database(onReplicas(name), size, replicas, name)}\n`).join("")}${database(LOGIN_DATABASE, LOGIN_CONNECTIONS)}

[pgbouncer]
listen_addr = 0.0.0.0
listen_port = ${POOLER_PORT}
unix_socket_dir = /run/pgbouncer

; Clients log in with their own passwords, which the server verifies (SCRAM pass-through). The only password here is the pooler's own.
auth_type = scram-sha-256
auth_file = /etc/pgbouncer/users.txt
auth_user = ${POOLER_ROLE}
auth_query = SELECT usename, passwd FROM pooler.login($1)
auth_dbname = ${LOGIN_DATABASE}
stats_users = sectorwars_monitor

pool_mode = transaction
max_prepared_statements = 200
default_pool_size = ${size}
max_client_conn = ${MOST_CLIENTS}
; JDBC and the Prometheus exporter send it, and cannot connect otherwise.
ignore_startup_parameters = extra_float_digits

; Seconds. A query may wait while the server restarts, but not for ever.
query_wait_timeout = 60
server_login_retry = 1
; A new container of the server may have another address.
dns_max_ttl = 1
dns_nxdomain_ttl = 1

log_connections = 0
log_disconnections = 0
log_stats = 0

[users]
${POOLER_ROLE} = max_user_connections=${LOGIN_CONNECTIONS}
`;
}

/** Returns the text of the file with the pooler's own password, which PgBouncer needs in clear text to log in to the server. */
export const poolerUsers = (password: string): string => `"${POOLER_ROLE}" "${password}"\n`;
