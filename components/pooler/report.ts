/** The state of a pooler, from its admin console. Pure. */
import { MAINTENANCE_DATABASE } from "../../lib/postgres.ts";

/** A pooler's state; also a part of the format of `./db status --json`. */
export interface PoolerReport {
  /** For example 1.24.1. */
  version: string;
  /** Clients that run a query or are idle, and those that wait for a server connection. */
  clients: number;
  waiting: number;
  /** How long the first client in the queue has waited, in seconds. */
  maxWait: number;
  /** Connections to the server. */
  servers: number;
  /** Databases whose queries are held, without the server's own, in which clients run none. */
  paused: string[];
}

/** The line between two tables of the report (images/pooler/sectorwars-pooler.sh). */
const BETWEEN = "--";

type Row = Readonly<Record<string, string>>;

/** Reads a table of PgBouncer's console, whose values contain neither commas nor quotes. */
function rowsOf(table: string): Row[] {
  const [header = "", ...lines] = table.split("\n").filter((line) => line !== "");
  const names = header.split(",");
  return lines.map((line) => {
    const values = line.split(",");
    return Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""]));
  });
}

/** Parses the output of `sectorwars-pooler report`: the version, the databases and the pools. */
export function parsePoolerReport(text: string): PoolerReport {
  const [version = "", databases = "", pools = ""] = text.split(`${BETWEEN}\n`);
  const ours = rowsOf(pools).filter(({ database }) => database !== "pgbouncer");
  const sum = (...columns: string[]) =>
    ours.reduce((total, row) => columns.reduce((part, column) => part + Number(row[column] ?? 0), total), 0);
  return {
    version: /\d+(\.\d+)+/.exec(version)?.[0] ?? "unknown",
    clients: sum("cl_active", "cl_waiting"),
    waiting: sum("cl_waiting"),
    maxWait: Math.max(0, ...ours.map(({ maxwait }) => Number(maxwait))),
    servers: sum("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login"),
    paused: rowsOf(databases)
      .filter(({ name, paused }) => paused === "1" && name !== MAINTENANCE_DATABASE)
      .map(({ name = "" }) => name),
  };
}

/** Returns the report in words. */
export function poolerSummary({ version, clients, waiting, servers }: PoolerReport): string {
  const plural = (n: number, word: string) => `${n} ${word}${n === 1 ? "" : "s"}`;
  return `PgBouncer ${version}, ${plural(clients, "client")} (${waiting} waiting) on ${plural(servers, "server connection")}`;
}

/** Seconds that a query may wait for a server connection before the report calls it a problem. */
const LONG_WAIT = 5;

/** Returns the problems that a report shows, each with its remedy. */
export function poolerTroubles({ paused, waiting, maxWait }: PoolerReport, stack: string, container: string): string[] {
  return [
    ...(paused.length > 0
      ? [
          `The pooler holds all queries to ${paused.join(", ")}. A migration, a restore or an update may be running; otherwise: ` +
            `docker exec ${container} sectorwars-pooler resume`,
        ]
      : []),
    ...(paused.length === 0 && maxWait >= LONG_WAIT
      ? [
          `${waiting} client${waiting === 1 ? " waits" : "s wait"} for a server connection, the first one for ${maxWait} s. End long ` +
            `transactions, or raise poolerSize: pulumi config set poolerSize NUMBER --stack ${stack}, then pulumi up`,
        ]
      : []),
  ];
}
