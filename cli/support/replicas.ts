/** Reads the state of a stack's read replicas for `status` and `doctor`. */
import type pg from "pg";
import { containerState } from "../../lib/docker.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import type { StackOutputs } from "../../lib/stack.ts";

/** A read replica, as the primary sees it. */
export interface ReplicaStatus {
  name: string;
  address: string;
  /** Whether it streams from the primary, so that its rows are those of the primary but for the lag. */
  streaming: boolean;
  /** Bytes of WAL that it has not replayed yet; missing unless it streams. */
  lagBytes?: number;
  /** Seconds by which its newest row is older than the primary's; 0 while nothing is written. */
  lagSeconds?: number;
  /** Why it does not stream, with the remedy. */
  trouble?: string;
}

interface Row {
  slot: string;
  lost: boolean;
  state: string | null;
  bytes: number | null;
  seconds: number | null;
}

/**
 * The slots, each with the stream that uses it. replay_lag is NULL on an idle server, and shows the last value for a while after the
 * replica has caught up (PostgreSQL manual, "pg_stat_replication").
 */
const REPLICATION = `
  SELECT s.slot_name AS slot, s.wal_status = 'lost' AS lost, r.state,
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn)::float8 AS bytes,
    CASE WHEN r.replay_lsn >= pg_catalog.pg_current_wal_flush_lsn() THEN 0
      ELSE coalesce(extract(epoch FROM r.replay_lag), 0)::float8 END AS seconds
  FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
  WHERE s.slot_type = 'physical'`;

/**
 * Returns the replicas, and a message for each physical slot without a replica, which keeps WAL to no purpose.
 * @param client a session of the monitor role.
 */
export async function readReplicas(
  client: pg.Client,
  outputs: StackOutputs,
): Promise<{ replicas: ReplicaStatus[]; orphans: string[] }> {
  const { rows } = await client.query<Row>(REPLICATION);
  const expected = outputs.replicas ?? [];
  const replicas = expected.map(async (replica) => {
    const row = rows.find(({ slot }) => slot === replica.name);
    const address = `${replica.host}:${replica.port}`;
    if (row?.state === "streaming") {
      return {
        name: replica.name,
        address,
        streaming: true,
        lagBytes: Math.max(row.bytes ?? 0, 0),
        lagSeconds: row.seconds ?? 0,
      };
    }
    const state = await containerState(replica.container).catch(() => undefined);
    return { name: replica.name, address, streaming: false, trouble: troubleOf(replica.container, state?.status, row) };
  });
  const orphans = rows.filter(({ slot, state }) => state === null && !expected.some(({ name }) => name === slot));
  return { replicas: await Promise.all(replicas), orphans: orphans.map(({ slot }) => orphanOf(slot, outputs.stack)) };
}

/** Returns why a replica does not stream, with the remedy. */
function troubleOf(container: string, status: string | undefined, row: Row | undefined): string {
  if (status === undefined) return `its container ${container} does not exist: pulumi refresh, then pulumi up`;
  if (status !== "running") return `its container ${container} is ${status}: docker start ${container}`;
  if (row?.lost) return "the primary has removed WAL that it needs; it clones the data again by itself";
  if (row?.state) return `it is catching up (${row.state})`;
  return `it clones the data, or cannot connect to the primary. To see which: docker logs ${container}`;
}

const orphanOf = (slot: string, stack: string) =>
  `the replication slot ${slot} keeps WAL (4 GB at most), and no replica of the stack uses it. If nothing else does: ` +
  `./db psql --role superuser --stack ${stack} -- -c "SELECT pg_drop_replication_slot('${slot.replaceAll("'", "''")}')"`;

/** Returns a replica's state in words. */
export const describeReplica = ({ name, address, streaming, lagBytes = 0, lagSeconds = 0 }: ReplicaStatus): string =>
  `${name} at ${address} ${streaming ? `streams, ${humanBytes(lagBytes)} and ${lagSeconds.toFixed(1)} s late` : "does not stream"}`;
