/** `npm run status`: how the database is. */
import { readReport, takesBackups } from "../components/backups/console.ts";
import { type Kept, keptAmong } from "../components/backups/kept.ts";
import { keyFile, readKeyFile } from "../components/backups/key-file.ts";
import { type BackupFigures, figuresIn, summaryOf, troublesOf } from "../components/backups/report.ts";
import { humanBytes } from "../components/import/progress.ts";
import type { ImportSummary } from "../components/import/types.ts";
import { listSnapshots } from "../components/snapshots/snapshots.ts";
import { containerState } from "../lib/docker.ts";
import { withConnection } from "../lib/postgres.ts";
import { addressOf, readStack, type StackOutputs } from "../lib/stack.ts";
import { main } from "./cli.ts";

/** What is told; also the form of --json. */
interface Status {
  stack: string;
  container: string;
  /** Docker's word for the container's state, with its health where it has one. */
  state: string;
  healthy: boolean;
  address: string;
  version?: string;
  /** Bytes of the database on disk. */
  size?: number;
  /** Copies of it beside it, by `npm run snapshot`. */
  savePoints?: { count: number; bytes: number };
  connections?: { used: number; max: number };
  /** What was imported, and whether its mark is still in the database. */
  import?: ImportSummary & { markPresent: boolean };
  /** The schema's revision, where migrations run. */
  revision?: string | null;
  /** What the application was given, and whether its pools fit. */
  handover?: StackOutputs["handedOver"];
  roles: Record<string, string>;
  backups?: BackupStatus;
}

/** What is there to restore from, and what is wrong with it. */
interface BackupStatus {
  summary: string;
  troubles: string[];
  /** Whether somebody said that a copy of the key is elsewhere. */
  keyIsSafe: boolean;
  /** What restores have put aside. */
  kept?: Kept[];
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
      kept: keptAmong(stack, report.kept),
      figures: figuresIn(report),
    };
  } catch (error) {
    return { summary: "not known", troubles: [(error as Error).message], keyIsSafe };
  }
}

/** Logs in as a role, as an application would, and looks whether it is what it should be. */
async function checkRole(role: string, url: string): Promise<string> {
  try {
    return await withConnection(
      addressOf(url),
      async (client) => {
        const { rows } = await client.query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user");
        const mayRule = role === "superuser";
        if (rows[0].rolsuper === mayRule) return "ok";
        return mayRule ? "is no superuser" : "is a superuser, and must not be";
      },
      { attemptMs: 5000 },
    );
  } catch (error) {
    return `cannot log in: ${(error as Error).message}`;
  }
}

async function askServer(outputs: StackOutputs): Promise<Partial<Status>> {
  return withConnection(
    addressOf(outputs.urls.superuser ?? ""),
    async (client) => {
      const { rows } = await client.query(`
        SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
          pg_database_size(current_database())::float8 AS size,
          (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') - 1 AS used,
          current_setting('max_connections')::int AS max,
          to_regclass('sectorwars_stack.import') IS NOT NULL AS mark`);
      const { version, size, used, max, mark } = rows[0];
      const saved = await listSnapshots(client, addressOf(outputs.urls.superuser ?? "").database);
      return {
        version,
        size,
        savePoints: { count: saved.length, bytes: saved.reduce((sum, { bytes }) => sum + bytes, 0) },
        connections: { used, max },
        ...(outputs.imported ? { import: { ...outputs.imported, markPresent: mark } } : {}),
      };
    },
    { attemptMs: 5000 },
  );
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
    revision: outputs.revision,
    handover: outputs.handedOver,
    roles: {},
  };
  const backups = await askBackups(outputs);
  if (backups) status.backups = backups;
  status.healthy &&= (backups?.troubles.length ?? 0) === 0;
  if (!running) return status;
  try {
    Object.assign(status, await askServer(outputs));
  } catch (error) {
    return { ...status, healthy: false, state: `${state}, but it does not answer: ${(error as Error).message}` };
  }
  for (const [role, url] of Object.entries(outputs.urls)) status.roles[role] = await checkRole(role, url);
  status.healthy &&= Object.values(status.roles).every((verdict) => verdict === "ok");
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
    ["version", status.version && `PostgreSQL ${status.version}`],
    ["address", status.address],
    ["size", status.size === undefined ? undefined : humanBytes(status.size)],
    [
      "save points",
      status.savePoints?.count ? `${status.savePoints.count}, ${humanBytes(status.savePoints.bytes)}` : undefined,
    ],
    ["connections", status.connections && `${status.connections.used} of ${status.connections.max}`],
    [
      "import",
      imported &&
        `${imported.tables} tables, ${imported.rows.toLocaleString("en")} rows ${
          imported.butFor === undefined ? "proven equal to" : `identical but for ${imported.butFor}: from`
        } ${imported.source} at ` +
          `${imported.finishedAt}${imported.markPresent ? "" : "; ITS MARK IS GONE: the database was replaced since"}`,
    ],
    ["revision", status.revision ?? undefined],
    ["handover", status.handover && `${status.handover.target} database, by ${status.handover.file}`],
    ["pools", status.handover?.pools.sum],
    ["roles", roles.length > 0 ? roles.join(", ") : undefined],
    ["backups", status.backups?.summary ?? (status.version && NO_BACKUPS)],
    ...(status.backups?.troubles ?? []).map((trouble): [string, string] => ["TROUBLE", trouble]),
    ...(status.backups?.kept ?? []).map(({ folder, until, undo }): [string, string] => [
      "kept",
      `${folder}, what was there before a restore; until ${until} at least. Back to it: ${undo}`,
    ]),
    [
      "key",
      status.backups && !status.backups.keyIsSafe
        ? `only on this machine: copy ${keyFile(status.stack)} to a safe place, then npm run backup -- --key-is-safe`
        : undefined,
    ],
  ];
  const shown = lines.filter(([, value]) => value !== undefined);
  return [
    `Sectorwars database, stack ${status.stack}`,
    ...shown.map(([name, value]) => `  ${name.padEnd(12)}${value}`),
  ].join("\n");
}

if (import.meta.main) {
  await main({
    help: `
usage: npm run status [-- --json] [--stack NAME]

Tells how the database is: state, version, size, connections, what was imported, whether each role can log in,
and what can be restored.
Exits with 1 when it is not healthy.

      --json        the same for machines`,
    options: { json: { type: "boolean" } },
    async run({ stack, values }) {
      const status = await readStatus(stack);
      console.log(values.json ? JSON.stringify(status, null, 2) : describe(status));
      if (!status.healthy && !values.json) console.log("\nSomething is wrong; npm run doctor looks for the cause.");
      return status.healthy ? 0 : 1;
    },
  });
}
