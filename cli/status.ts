/** `./db status`: how the database is. */

import type { Command } from "@commander-js/extra-typings";
import { readReport, takesBackups } from "../components/backups/backup-container.ts";
import { keyFile, readKeyFile } from "../components/backups/key-file.ts";
import { type BackupFigures, figuresIn, summaryOf, troublesOf } from "../components/backups/report.ts";
import { type RetainedData, retainedDataIn } from "../components/backups/retained-data.ts";
import { listBranches } from "../components/branches/branches.ts";
import { readMarker } from "../components/import/swap.ts";
import { listSnapshots } from "../components/snapshots/snapshots.ts";
import { containerState } from "../lib/docker.ts";
import { humanBytes } from "../lib/human-bytes.ts";
import type { ImportSummary } from "../lib/import-summary.ts";
import { withConnection } from "../lib/postgres.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { readRevision } from "./support/revision.ts";
import { maintenanceAddress, monitorAddress, type RoleFinding, readRoleFindings, whyNoLogin } from "./support/roles.ts";
import { onStack } from "./support/subcommand.ts";

/** What is told; also the form of --json. */
interface Status {
  stack: string;
  container: string;
  /** Docker's word for the container's state, with its health where it has one. */
  state: string;
  healthy: boolean;
  /** True where the stack's first update failed after its server was up. */
  unfinished?: true;
  address: string;
  version?: string;
  /** Bytes of the database on disk. */
  size?: number;
  /** Copies of it beside it, by `./db snapshot`. */
  savePoints?: { count: number; bytes: number };
  /** Copies of it that can be written, by `./db branch`. */
  branches?: { count: number; bytes: number };
  connections?: { used: number; max: number };
  /** What was imported, and whether its mark is still in the database; without that while nobody is let into it. */
  import?: ImportSummary & { markPresent?: boolean };
  /** The schema's revision, as the database has it, where migrations run; empty where none has run. */
  revision?: string | undefined;
  /** What the last update brought the schema to, and the remedy, where the database has another revision. */
  revisionExpected?: { revision: string; remedy: string };
  /** What the application was given, and whether its pools fit. */
  handover?: StackOutputs["handedOver"];
  /** By role: `ok`, or what is wrong. */
  roles: Record<string, string>;
  /** Roles and databases that were changed by hand, further databases' among them, each with the remedy. */
  drift: RoleFinding[];
  backups?: BackupStatus;
  /** What `pulumi destroy` deletes and keeps of a stack with backups. */
  onDestroy?: string;
}

/** What is there to restore from, and what is wrong with it. */
interface BackupStatus {
  summary: string;
  troubles: string[];
  /** Whether somebody said that a copy of the key is elsewhere. */
  keyIsSafe: boolean;
  /** What restores have put aside. */
  kept?: RetainedData[];
  /** For monitoring; not there while the backups' container does not answer. */
  figures?: BackupFigures;
}

async function askBackups({ stack, backups }: StackOutputs): Promise<BackupStatus | undefined> {
  // One that was removed is no stack without backups.
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
    return { summary: "not known", troubles: [(error as Error).message], keyIsSafe };
  }
}

/** Whether the import's mark is in the database. Every role may see that a table is there, though not read it. */
const MARK = `
  SELECT count(*) > 0 AS mark FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'sectorwars_stack' AND c.relname = 'import'`;

/** The mark, and what it says; not there while migrations let nobody into the database. */
const askForMark = (outputs: StackOutputs): Promise<{ markPresent?: boolean; summary?: ImportSummary }> =>
  withConnection(
    monitorAddress(outputs),
    async (client) => {
      const markPresent = (await client.query<{ mark: boolean }>(MARK)).rows[0]?.mark === true;
      // A stack of an older version does not let its monitor read it.
      const summary = await readMarker(client).catch(() => undefined);
      return { markPresent, ...(summary && { summary }) };
    },
    { attemptMs: 5000 },
  ).catch(() => ({}));

/**
 * What the data was imported from, as the database itself says: a refresh has imported since the last update, or a restore has
 * brought the data of another import back.
 */
async function askForImport(outputs: StackOutputs): Promise<Status["import"]> {
  const { summary, ...mark } = await askForMark(outputs);
  const imported = summary ?? outputs.imported;
  return imported ? { ...imported, ...mark } : undefined;
}

const sumOf = (copies: readonly { bytes: number }[]) => ({
  count: copies.length,
  bytes: copies.reduce((sum, { bytes }) => sum + bytes, 0),
});

/** Figures of the server, as the monitor sees them: pg_monitor may read the size of every database. */
async function askServer(outputs: StackOutputs): Promise<Partial<Status>> {
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
      return { ...rows[0], saved, branches };
    },
    { attemptMs: 5000 },
  );
  const { version, size, used, max, saved, branches } = figures;
  const imported = await askForImport(outputs);
  return {
    version,
    size,
    savePoints: sumOf(saved),
    branches: sumOf(branches),
    connections: { used, max },
    ...(imported && { import: imported }),
  };
}

/** The schema's revision, which an undo, a reset or a restore has changed without the stack's knowing. */
async function askRevision(outputs: StackOutputs): Promise<Pick<Status, "revision" | "revisionExpected">> {
  // Why the owner cannot log in is told beside its name.
  const revision = await readRevision(outputs).catch(() => undefined);
  if (!revision) return {};
  const { found, expected, remedy } = revision;
  return { revision: found, ...(found === expected ? {} : { revisionExpected: { revision: expected, remedy } }) };
}

/** A role's verdict: whether it can log in, and what is wrong with it. */
async function checkRole(role: string, url: string, findings: readonly RoleFinding[]): Promise<string> {
  const { user } = addressOf(url);
  const reason = await whyNoLogin(role, url);
  const wrong = findings.filter(({ subject }) => subject === user).map(({ what }) => what);
  return [...(reason === undefined ? [] : [`cannot log in: ${reason}`]), ...wrong].join("; ") || "ok";
}

async function readStatus(stack: string): Promise<Status> {
  const outputs = await readStack(stack);
  const container = await containerState(outputs.container);
  const state = container ? [container.status, container.health].filter(Boolean).join(", ") : "not there";
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
  const backups = await askBackups(outputs);
  if (backups) status.backups = backups;
  if (outputs.onDestroy) status.onDestroy = outputs.onDestroy;
  status.healthy &&= (backups?.troubles.length ?? 0) === 0 && !outputs.unfinished;
  if (!running) return status;
  try {
    status.drift = await readRoleFindings(outputs);
  } catch (error) {
    return { ...status, healthy: false, state: `${state}, but it does not answer: ${(error as Error).message}` };
  }
  try {
    Object.assign(status, await askServer(outputs));
    Object.assign(status, await askRevision(outputs));
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

/** For a stack whose data would go with its volume. */
const NO_BACKUPS = "off; for any moment back: pulumi config set backups true, then pulumi up";

/** The status in words, a line each. */
export function describe(status: Status): string {
  const { import: imported } = status;
  const roles = Object.entries(status.roles).map(([role, verdict]) => `${role} ${verdict}`);
  const lines: [string, string | undefined][] = [
    ["state", `${status.state} (container ${status.container})`],
    [
      "UNFINISHED",
      status.unfinished &&
        `the first update of this stack failed. Correct what it named, then run: script/up --stack ${status.stack}`,
    ],
    ["version", status.version && `PostgreSQL ${status.version}`],
    ["address", status.address],
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
          imported.butFor === undefined ? "proven equal to" : `identical but for ${imported.butFor}: from`
        } ${imported.source} at ` +
          `${imported.finishedAt}${imported.markPresent !== false ? "" : "; ITS MARK IS GONE: the database was replaced since"}`,
    ],
    ["revision", status.revision === undefined ? undefined : status.revision || "none"],
    [
      "REVISION",
      status.revisionExpected &&
        `the last update brought it to ${status.revisionExpected.revision}. ${status.revisionExpected.remedy}`,
    ],
    ["handover", status.handover && `${status.handover.target} database, by ${status.handover.file}`],
    ["services", status.handover?.services?.join(", ") || undefined],
    ["start", status.handover?.next || undefined],
    ["pools", status.handover?.pools.sum],
    ["roles", roles.length > 0 ? roles.join(", ") : undefined],
    ...status.drift.map(({ subject, what, remedy }): [string, string] => ["DRIFT", `${subject} ${what}: ${remedy}`]),
    ["backups", status.backups?.summary ?? (status.version && NO_BACKUPS)],
    ...(status.backups?.troubles ?? []).map((trouble): [string, string] => ["TROUBLE", trouble]),
    ...(status.backups?.kept ?? []).map(({ folder, until, undo }): [string, string] => [
      "kept",
      `${folder}, what was there before a restore; until ${until} at least. Back to it: ${undo}`,
    ]),
    [
      "key",
      status.backups && !status.backups.keyIsSafe
        ? `only on this machine: copy ${keyFile(status.stack)} to a safe place, then ./db backup --key-is-safe`
        : undefined,
    ],
    ["on destroy", status.onDestroy],
  ];
  const shown = lines.filter(([, value]) => value !== undefined);
  return [
    `Sectorwars database, stack ${status.stack}`,
    ...shown.map(([name, value]) => `  ${name.padEnd(12)}${value}`),
  ].join("\n");
}

/** Adds what `./db status` takes and does to its command. */
export default function status(command: Command): void {
  command
    .description(
      "Tells how the database is: state, version, size, connections, what was imported, whether each role can log in and is as it " +
        "should be, and what can be restored. Exits with 1 when it is not healthy.",
    )
    .action(
      onStack(async ({ stack, json, print }) => {
        const status = await readStatus(stack);
        print(describe(status), status);
        if (!status.healthy && !json) console.log("\nSomething is wrong; ./db doctor looks for the cause.");
        return status.healthy ? 0 : 1;
      }),
    );
}
