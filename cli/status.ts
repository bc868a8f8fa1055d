/** `./db status`: shows the state of the database. */

import type { Command } from "@commander-js/extra-typings";
import { readReport, takesBackups } from "../components/backups/backup-container.ts";
import { keyFile, readKeyFile } from "../components/backups/key-file.ts";
import { type BackupFigures, figuresIn, summaryOf, troublesOf } from "../components/backups/report.ts";
import { type RetainedData, retainedDataIn } from "../components/backups/retained-data.ts";
import { listBranches } from "../components/branches/branches.ts";
import { readMarker } from "../components/import/staging/swap.ts";
import { type PoolerReport, poolerSummary, poolerTroubles } from "../components/pooler/report.ts";
import { listSnapshots } from "../components/snapshots/snapshots.ts";
import { containerState } from "../lib/docker.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import type { ImportSummary } from "../lib/import-summary.ts";
import { withConnection } from "../lib/postgres.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { type CertificateStatus, describeCertificate, readCertificate } from "./support/certificate.ts";
import { examinePooler } from "./support/pooler.ts";
import { describeReplica, type ReplicaStatus, readReplicas } from "./support/replicas.ts";
import { readRevision } from "./support/revision.ts";
import { maintenanceAddress, monitorAddress, type RoleFinding, readRoleFindings, whyNoLogin } from "./support/roles.ts";
import { onStack } from "./support/subcommand.ts";

/** The result; also the format of --json. */
interface Status {
  stack: string;
  container: string;
  /** Docker's state of the container, with its health if it has a health check. */
  state: string;
  healthy: boolean;
  /** True if the stack's first update failed after its server was up. */
  unfinished?: true;
  address: string;
  version?: string;
  /** The certificate of a server with TLS. */
  tls?: Partial<CertificateStatus> & Pick<CertificateStatus, "problem">;
  /** Bytes of the database on disk. */
  size?: number;
  /** The snapshots of the database. JSON keeps the old name `savePoints` for compatibility. */
  savePoints?: { count: number; bytes: number };
  /** The branches of the database. */
  branches?: { count: number; bytes: number };
  connections?: { used: number; max: number };
  /** The import, and whether its mark is still in the database; unknown during a connection lock. */
  import?: ImportSummary & { markPresent?: boolean };
  /** The schema's revision in the database, if migrations are configured; empty if none has run. */
  revision?: string | undefined;
  /** The revision that the last update reached, and the remedy, if the database is at another one. */
  revisionExpected?: { revision: string; remedy: string };
  /** The hand-over, and whether the application's pools fit. */
  handover?: StackOutputs["handedOver"];
  /** For each role `ok`, or the problem. */
  roles: Record<string, string>;
  /** Roles and databases that were changed by hand, including those of further databases, each with the remedy. */
  drift: RoleFinding[];
  /** Read replicas; missing if there are none. */
  replicas?: ReplicaStatus[];
  /** What is wrong with replication slots, each with the remedy. */
  slots?: string[];
  /** The pooler; missing if the stack has none. */
  pooler?: { summary: string; troubles: string[]; report?: PoolerReport };
  backups?: BackupStatus;
  /** What `pulumi destroy` deletes and keeps, for a stack with backups. */
  onDestroy?: string;
}

/** The state of the backups. */
interface BackupStatus {
  summary: string;
  troubles: string[];
  /** Whether the user confirmed that a copy of the key is elsewhere. */
  keyIsSafe: boolean;
  /** The retained data of restores. */
  kept?: RetainedData[];
  /** Metrics; missing if the backup container does not answer. */
  figures?: BackupFigures;
}

async function readBackups({ stack, backups }: StackOutputs): Promise<BackupStatus | undefined> {
  // A missing backup container does not mean that backups are off.
  if (backups === undefined && !(await takesBackups(stack))) return undefined;
  const keyIsSafe = (await readKeyFile(keyFile(stack)).catch(() => undefined))?.confirmedAt !== undefined;
  try {
    const report = await readReport(stack);
    return {
      summary: summaryOf(report),
      troubles: troublesOf(report),
      keyIsSafe,
      kept: retainedDataIn(stack, report.kept),
      figures: figuresIn(report),
    };
  } catch (error) {
    return { summary: "unknown", troubles: [(error as Error).message], keyIsSafe };
  }
}

/** Checks whether the import's mark is in the database. Every role can see in pg_class that the table exists, without reading it. */
const MARK = `
  SELECT count(*) > 0 AS mark FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'sectorwars_stack' AND c.relname = 'import'`;

/** Reads the import's mark. Returns an empty object during a connection lock. */
const readMark = (outputs: StackOutputs): Promise<{ markPresent?: boolean; summary?: ImportSummary }> =>
  withConnection(
    monitorAddress(outputs),
    async (client) => {
      const markPresent = (await client.query<{ mark: boolean }>(MARK)).rows[0]?.mark === true;
      // In a stack of an older version, the monitor role may not read it.
      const summary = await readMarker(client).catch(() => undefined);
      return { markPresent, ...(summary && { summary }) };
    },
    { attemptMs: 5000 },
  ).catch(() => ({}));

/**
 * Returns the import according to the database itself. The stack's outputs may be older: a refresh may have imported since the last
 * update, or a restore may have brought back the data of another import.
 */
async function readImport(outputs: StackOutputs): Promise<Status["import"]> {
  const { summary, ...mark } = await readMark(outputs);
  const imported = summary ?? outputs.imported;
  return imported ? { ...imported, ...mark } : undefined;
}

const sumOf = (copies: readonly { bytes: number }[]) => ({
  count: copies.length,
  bytes: copies.reduce((sum, { bytes }) => sum + bytes, 0),
});

/** Reads the server's figures as the monitor role, which may read the size of every database (pg_monitor). */
async function readServer(outputs: StackOutputs): Promise<Partial<Status>> {
  const { database } = monitorAddress(outputs);
  const figures = await withConnection(
    maintenanceAddress(outputs.urls.monitor ?? ""),
    async (client) => {
      const { rows } = await client.query(
        `SELECT pg_catalog.split_part(pg_catalog.current_setting('server_version'), ' ', 1) AS version,
          pg_catalog.pg_database_size($1::name)::float8 AS size,
          (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend') - 1 AS used,
          pg_catalog.current_setting('max_connections')::int AS max`,
        [database],
      );
      const [saved, branches] = [await listSnapshots(client, database), await listBranches(client, database)];
      const { replicas, orphans } = await readReplicas(client, outputs);
      return { ...rows[0], saved, branches, replicas, orphans };
    },
    { attemptMs: 5000 },
  );
  const { version, size, used, max, saved, branches, replicas, orphans } = figures;
  const imported = await readImport(outputs);
  return {
    version,
    size,
    savePoints: sumOf(saved),
    branches: sumOf(branches),
    connections: { used, max },
    ...(replicas.length > 0 && { replicas }),
    ...(orphans.length > 0 && { slots: orphans }),
    ...(imported && { import: imported }),
  };
}

/** Reads the schema's revision, which an undo, a reset or a restore changes without an update of the stack. */
async function readRevisionStatus(outputs: StackOutputs): Promise<Pick<Status, "revision" | "revisionExpected">> {
  // The roles' verdicts explain why the owner cannot log in.
  const revision = await readRevision(outputs).catch(() => undefined);
  if (!revision) return {};
  const { found, expected, remedy } = revision;
  return { revision: found, ...(found === expected ? {} : { revisionExpected: { revision: expected, remedy } }) };
}

/** Returns `ok` for a role, or why it cannot log in and how it has drifted. */
async function checkRole(role: string, url: string, findings: readonly RoleFinding[]): Promise<string> {
  const { user } = addressOf(url);
  const reason = await whyNoLogin(role, url);
  const wrong = findings.filter(({ subject }) => subject === user).map(({ what }) => what);
  return [...(reason === undefined ? [] : [`cannot log in: ${reason}`]), ...wrong].join("; ") || "ok";
}

/** Reads the pooler's figures and problems. */
async function readPoolerStatus(outputs: StackOutputs): Promise<Status["pooler"]> {
  const examined = await examinePooler(outputs);
  if (examined === undefined) return undefined;
  const { report, problem, container } = examined;
  if (report === undefined) return { summary: "unknown", troubles: [`${problem.seen}. ${problem.remedy}`] };
  const troubles = poolerTroubles(report, outputs.stack, container);
  if (problem) troubles.push(`${problem.seen}. ${problem.remedy}`);
  return { summary: `${poolerSummary(report)}, at 127.0.0.1:${outputs.pooler?.port}`, troubles, report };
}
/** Returns the server's certificate, or why it cannot be read; undefined for a stack without TLS. */
const readTls = (outputs: StackOutputs): Promise<Status["tls"]> =>
  readCertificate(outputs).catch(({ message }: Error) => ({ problem: message, remedy: "./db doctor" }));

async function readStatus(stack: string): Promise<Status> {
  const outputs = await readStack(stack);
  const container = await containerState(outputs.container);
  const state = container ? [container.status, container.health].filter(Boolean).join(", ") : "missing";
  const running = container?.status === "running";
  const status: Status = {
    stack,
    container: outputs.container,
    state,
    healthy: running && container.health !== "unhealthy",
    address: outputs.address,
    handover: outputs.handedOver,
    roles: {},
    drift: [],
  };
  if (outputs.unfinished) status.unfinished = true;
  const pooler = await readPoolerStatus(outputs);
  if (pooler) status.pooler = pooler;
  status.healthy &&= (pooler?.troubles.length ?? 0) === 0;
  const backups = await readBackups(outputs);
  if (backups) status.backups = backups;
  if (outputs.onDestroy) status.onDestroy = outputs.onDestroy;
  status.healthy &&= (backups?.troubles.length ?? 0) === 0 && !outputs.unfinished;
  if (!running) return status;
  const tls = await readTls(outputs);
  if (tls) status.tls = tls;
  status.healthy &&= tls?.problem === undefined;
  try {
    status.drift = await readRoleFindings(outputs);
  } catch (error) {
    return { ...status, healthy: false, state: `${state}, but it does not answer: ${(error as Error).message}` };
  }
  try {
    Object.assign(status, await readServer(outputs));
    // Docker checks only every few seconds, so a server that has just started can answer before Docker calls it healthy.
    if (container.health === "starting") status.state = `${container.status}, healthy`;
    Object.assign(status, await readRevisionStatus(outputs));
    status.healthy &&= status.slots === undefined && (status.replicas ?? []).every(({ streaming }) => streaming);
  } catch (error) {
    status.state = `${state}, but ${monitorAddress(outputs).user} cannot read its figures: ${(error as Error).message}`;
    status.healthy = false;
  }
  for (const [role, url] of Object.entries(outputs.urls)) {
    status.roles[role] = await checkRole(role, url, status.drift);
  }
  status.healthy &&= status.drift.length === 0 && Object.values(status.roles).every((verdict) => verdict === "ok");
  return status;
}

/** Shown for a stack without backups, whose data is lost with its volume. */
const NO_BACKUPS = "off; to be able to restore to any point in time: pulumi config set backups true, then pulumi up";

/** A line's name, in capitals if something is wrong, and its text; no line if that is undefined. */
type Line = [name: string, text: string | undefined];

const replicaLines = ({ replicas = [], slots = [] }: Status): Line[] => [
  ["replicas", replicas.map(describeReplica).join("; ") || undefined],
  ...replicas.map(({ name, trouble }): Line => ["REPLICA", trouble && `${name}: ${trouble}`]),
  ...slots.map((slot): Line => ["SLOT", slot]),
];

const backupLines = ({ stack, version, backups, onDestroy }: Status): Line[] => [
  ["backups", backups?.summary ?? (version && NO_BACKUPS)],
  ...(backups?.troubles ?? []).map((trouble): Line => ["TROUBLE", trouble]),
  ...(backups?.kept ?? []).map(
    ({ folder, until, undo }): Line => [
      "retained",
      `${folder}, the data from before a restore, at least until ${until}. To restore it: ${undo}`,
    ],
  ),
  [
    "key",
    backups && !backups.keyIsSafe
      ? `only on this machine: copy ${keyFile(stack)} to a safe place, then ./db backup --key-is-safe`
      : undefined,
  ],
  ["on destroy", onDestroy],
];

/** Formats the status for the terminal, one line per item. */
export function describe(status: Status): string {
  const { import: imported } = status;
  const roles = Object.entries(status.roles).map(([role, verdict]) => `${role} ${verdict}`);
  const lines: Line[] = [
    ["state", `${status.state} (container ${status.container})`],
    [
      "UNFINISHED",
      status.unfinished &&
        `the first update of this stack failed. Correct the error that it reported, then run: script/up --stack ${status.stack}`,
    ],
    ["version", status.version && `PostgreSQL ${status.version}`],
    ["address", status.address],
    ["tls", status.tls?.serial && describeCertificate(status.tls as CertificateStatus)],
    ["TLS", status.tls?.problem && `${status.tls.problem}. ${status.tls.remedy}`],
    ["size", status.size === undefined ? undefined : humanBytes(status.size)],
    [
      "snapshots",
      status.savePoints?.count ? `${status.savePoints.count}, ${humanBytes(status.savePoints.bytes)}` : undefined,
    ],
    ["branches", status.branches?.count ? `${status.branches.count}, ${humanBytes(status.branches.bytes)}` : undefined],
    ["connections", status.connections && `${status.connections.used} of ${status.connections.max}`],
    [
      "import",
      imported &&
        `${imported.tables} tables, ${imported.rows.toLocaleString("en")} rows ${
          imported.butFor === undefined ? "proven equal to" : `identical except for ${imported.butFor}: from`
        } ${imported.source} at ` +
          `${imported.finishedAt}${imported.markPresent !== false ? "" : "; ITS MARK IS GONE: the database was replaced after the import"}`,
    ],
    ["revision", status.revision === undefined ? undefined : status.revision || "none"],
    [
      "REVISION",
      status.revisionExpected &&
        `the last update migrated it to ${status.revisionExpected.revision}. ${status.revisionExpected.remedy}`,
    ],
    ["handover", status.handover && `${status.handover.target} database, by ${status.handover.file}`],
    ["services", status.handover?.services?.join(", ") || undefined],
    ["start", status.handover?.next || undefined],
    ["pools", status.handover?.pools.sum],
    ["pooler", status.pooler?.summary],
    ...(status.pooler?.troubles ?? []).map((trouble): Line => ["TROUBLE", trouble]),
    ["roles", roles.length > 0 ? roles.join(", ") : undefined],
    ...status.drift.map(({ subject, what, remedy }): Line => ["DRIFT", `${subject} ${what}: ${remedy}`]),
    ...replicaLines(status),
    ...backupLines(status),
  ];
  const shown = lines.filter(([, value]) => value !== undefined);
  return [
    `Sectorwars database, stack ${status.stack}`,
    ...shown.map(([name, value]) => `  ${name.padEnd(12)}${value}`),
  ].join("\n");
}

/** Configures the command `./db status`. */
export default function status(command: Command): void {
  command
    .description(
      "Shows the state of the database: version, size, connections, the import, whether each role can log in and is unchanged, and " +
        "what can be restored. Exits with 1 if the database is not healthy.",
    )
    .action(
      onStack(async ({ stack, json, print }) => {
        const status = await readStatus(stack);
        print(describe(status), status);
        if (!status.healthy && !json) console.log("\nThe database is not healthy. To find the cause: ./db doctor");
        return status.healthy ? 0 : 1;
      }),
    );
}
