/** One run of the migrations: plan, connection lock, migration backup, Alembic, checks. */
import type pg from "pg";
import { blockConnections, LOCK_KEY, readLeftoverLock, unblockConnections } from "../../lib/connection-lock.ts";
import { removeContainers } from "../../lib/docker.ts";
import { isSample } from "../../lib/import-summary.ts";
import { isRefreshing } from "../../lib/locks.ts";
import {
  type Address,
  authorityOf,
  connect,
  ident,
  isPassing,
  maintenance,
  withConnection,
} from "../../lib/postgres.ts";
import { announceRecoveryTarget } from "../backups/confirm-target.ts";
import { readMarker } from "../import/staging/swap.ts";
import { type Disconnect, holdQueries } from "../pooler/pooler-container.ts";
import {
  AUTHORITY_FILE,
  type Failure,
  MigrationFailure,
  migrationsLabel,
  type Plan,
  type Step,
  startRun,
  type WaitingRun,
} from "./container.ts";
import { bareUrlOf, type OwnerConnection } from "./environment.ts";
import { masked, secretValues } from "./masking.ts";
import {
  backupName,
  completeMigrationBackup,
  createMigrationBackup,
  type MigrationBackup,
  readMigrationBackup,
  restoreMigrationBackup,
} from "./migration-backup.ts";
import { changesResults, readResultTypes } from "./result-types.ts";
import { readRevisions } from "./revision.ts";
import { grantTemporarily, revokeTemporaryGrant } from "./temporary-grant.ts";

/** Milliseconds between two lines of progress. */
const PACE_MS = 1000;
/** The number of characters of a failed statement that the error shows. */
const STATEMENT_SHOWN = 600;
/** Names of the chain's head, which is one revision only if there is one head. */
const HEADS = new Set(["head", "heads"]);
const STOPPED = "The migrations were stopped.";

/** Input of {@link runMigrations}. */
export interface MigrationsSpec {
  stack: string;
  /** The database, with the superuser's login, from this machine. */
  address: Address;
  owner: string;
  ownerPassword: string;
  /** The Alembic project's folder. */
  folder: string;
  image: string;
  arguments: readonly string[];
  /** A revision (an id or its beginning, or a branch's `label@head`), `head` or `base`. */
  wanted: string;
  allowDowngrade: boolean;
  network: string;
  /** The server's name inside the network. */
  alias: string;
  /** The application's environment. If it lacks a DATABASE_URL, the run adds one. */
  variables?: Readonly<Record<string, string>>;
  /** The sources of that environment, for messages. */
  sources?: readonly string[];
  /** The command that rebuilds the image, for messages; undefined if it is not the image of a service. */
  buildCommand?: string | undefined;
  dockerHost: string | undefined;
}

/** The result of a run. */
export interface MigrationsResult {
  /** The database's revision now; null before the first. */
  revision: string | null;
  /** The revisions that were run, in order. */
  ran: string[];
}

const ofOwner = ({ address, owner, ownerPassword }: MigrationsSpec): Address => ({
  ...address,
  user: owner,
  password: ownerPassword,
});

const PORT_INSIDE = 5432;

/** Returns the owner's connection as the migrations' container uses it. */
export const ownerConnection = (
  spec: Pick<MigrationsSpec, "owner" | "ownerPassword" | "alias"> & { database: string; authority?: string },
): OwnerConnection => ({
  host: spec.alias,
  port: PORT_INSIDE,
  user: spec.owner,
  password: spec.ownerPassword,
  database: spec.database,
  ...(spec.authority ? { authorityFile: AUTHORITY_FILE } : {}),
});

/** Values that no message may contain. */
const secretsOf = ({ variables, ownerPassword }: MigrationsSpec): string[] => [
  ...secretValues(variables ?? {}),
  ownerPassword,
];

/** Returns a revision's name for messages: `1a2b add ships`. */
export const nameStep = ({ id, title }: { id: string; title: string | null }): string =>
  title ? `${id} ${title}` : id;

/** Objects in the application's schemas that do not belong to the owner, except those of extensions. */
const FOREIGN_OBJECTS = `
  SELECT what, pg_get_userbyid(who) AS owner FROM (
    SELECT 'pg_class'::regclass AS class, oid, 'relation ' || oid::regclass AS what, relowner AS who, relnamespace AS ns
      FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
    UNION ALL SELECT 'pg_proc'::regclass, oid, 'function ' || oid::regprocedure, proowner, pronamespace FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, oid, 'type ' || oid::regtype, typowner, typnamespace FROM pg_type
      WHERE typtype IN ('e', 'd', 'r')
    UNION ALL SELECT 'pg_namespace'::regclass, oid, 'schema ' || oid::regnamespace, nspowner, oid FROM pg_namespace
  ) o
  WHERE who <> $1::regrole AND ns::regnamespace::text !~ '^(pg_|information_schema$|sectorwars_stack$)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
  ORDER BY 1`;

async function readForeignObjects({ address, owner }: MigrationsSpec): Promise<string[]> {
  return withConnection(address, async (client) => {
    const { rows } = await client.query<{ what: string; owner: string }>(FOREIGN_OBJECTS, [ident(owner)]);
    return rows.map((row) => `${row.what} (${row.owner})`);
  });
}

/**
 * Migrates the database to the wanted revision. If that fails, restores the database.
 * @param signal cancels the run, which then restores the database.
 * @throws {Error} with the revision, the SQL statement, the file and line, and the last lines of output.
 */
export async function runMigrations(
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal?: AbortSignal,
): Promise<MigrationsResult> {
  const { address, owner } = spec;
  const lockSession = await connect(maintenance(address), { patienceMs: 30_000 });
  try {
    await lockMigrations(lockSession);
    await removeContainers(migrationsLabel(spec.stack), { host: spec.dockerHost });
    await revokeTemporaryGrant(lockSession, owner);
    await cleanUpKilledRun(lockSession, spec, say);
    return await plannedRun(spec, signal, (run, current) => change(lockSession, run, current, spec, say, signal));
  } finally {
    await lockSession.end().catch(() => {});
  }
}

/**
 * Migrates a database that is not in use yet to the wanted revision. Needs neither a connection lock nor a migration backup: if it
 * fails, the caller drops the database.
 * @param lockSession a superuser's session in the server's own database that holds the migrations' lock.
 * @param spec its address is that of the unused database.
 * @param signal cancels the run.
 * @throws {Error} with the revision, the SQL statement, the file and line, and the last lines of output.
 */
export async function migrateUnused(
  lockSession: pg.Client,
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal?: AbortSignal,
): Promise<MigrationsResult> {
  await removeContainers(migrationsLabel(spec.stack), { host: spec.dockerHost });
  await revokeTemporaryGrant(lockSession, spec.owner);
  return plannedRun(spec, signal, (run, current) => changeUnused(lockSession, run, current, spec, say, signal));
}

/** Asks Alembic for its plan, and carries it out if there is something to do. */
async function plannedRun(
  spec: MigrationsSpec,
  signal: AbortSignal | undefined,
  carryOut: (run: WaitingRun, current: string | null) => Promise<void>,
): Promise<MigrationsResult> {
  const current = await onlyRevision(ofOwner(spec));
  const { variables = {} } = spec;
  const url = variables.DATABASE_URL ?? bareUrlOf(ownerConnection({ ...spec, database: spec.address.database }));
  const authority = authorityOf(spec.address);
  const job = { ...spec, url, current, variables, authority, secrets: secretsOf(spec) };
  const run = await startRun(job).catch((error) => {
    throw describeError(error, spec, `The database is untouched.`);
  });
  const stop = () => void run.end().catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    if (run.plan.unknown === "current" && (await holdsSample(spec))) throw new Error(sampleMessage(spec, current));
    assertPlanAllowed(run.plan, current, spec);
    if (run.plan.steps.length === 0) return { revision: current, ran: [] };
    if (signal?.aborted) throw new Error(`${STOPPED} The database is untouched.`);
    await carryOut(run, current);
    return { revision: run.plan.wanted, ran: run.plan.steps.map(({ id }) => id) };
  } finally {
    signal?.removeEventListener("abort", stop);
    await run.end();
  }
}

/**
 * Takes the migrations' lock, which prevents other migrations, undos and refreshes on the server until the session ends.
 * @throws {Error} if another session holds it.
 */
export async function lockMigrations(client: pg.Client): Promise<void> {
  const { rows } = await client.query(`SELECT pg_try_advisory_lock(${LOCK_KEY}) AS mine`);
  if (rows[0].mine) return;
  if (await isRefreshing(client)) {
    throw new Error("A refresh is running on this server. Wait until it has ended, then try again.");
  }
  throw new Error("Migrations are already running on this server. Wait until they have ended, then try again.");
}

/** Returns the database's revision, or null. @throws {Error} if there are several. */
async function onlyRevision(address: Address): Promise<string | null> {
  const revisions = await readRevisions(address);
  if (revisions.length > 1) {
    throw new Error(
      `${address.database} is at ${revisions.length} revisions at once (${revisions.join(", ")}), because their branches were not ` +
        `merged. Merge them in the source of the data (alembic merge), or delete the older rows of alembic_version.`,
    );
  }
  return revisions[0] ?? null;
}

/** Cleans up after a killed run: keeps a migration that was complete, and restores the database otherwise. */
async function cleanUpKilledRun(
  lockSession: pg.Client,
  spec: MigrationsSpec,
  say: (line: string) => void,
): Promise<void> {
  const { database } = spec.address;
  const properties = await readLeftoverLock(lockSession, database);
  if (properties === undefined) return;
  const backup = await readMigrationBackup(lockSession, database);
  if (backup?.running) {
    const [now = null] = await readRevisions(ofOwner(spec));
    if (now !== backup.to) {
      say(`migrations: the last run was killed before its end; restoring ${database} to its state at ${backup.at}`);
      await restoreMigrationBackup(lockSession, database, { backup, properties, keep: false });
      return;
    }
    await completeMigrationBackup(lockSession, database, backup);
  }
  await unblockConnections(lockSession, properties);
}

/** Returns whether the database contains the sample data. */
const holdsSample = ({ address }: MigrationsSpec): Promise<boolean> =>
  withConnection(address, async (client) => isSample(await readMarker(client)));

/** Returns the error for a chain that cannot migrate the sample data. */
const sampleMessage = ({ folder }: MigrationsSpec, current: string | null): string =>
  `The database contains the sample data. Its revision ${current} belongs to no application, so the chain in ${folder} cannot ` +
  `migrate it. Start with an empty database: pulumi destroy; pulumi config set bootstrap empty; pulumi up. Or start with your data ` +
  `from Neon: set NEON_DATABASE_URL, and use neon instead of empty. Nothing was changed.`;

/** @throws {Error} if the chain does not fit the database, or a downgrade is not allowed. */
function assertPlanAllowed(
  { heads, unknown, why, direction, steps, wanted }: Plan,
  current: string | null,
  spec: MigrationsSpec,
): void {
  const where = `The chain in ${spec.folder}`;
  const its = `its head${heads.length === 1 ? " is" : "s are"} ${heads.join(", ")}`;
  if (unknown === "current") {
    throw new Error(
      `${where} does not know the database's revision ${current}; ${its}. The data comes from another version of the ` +
        `application: check out that version, or import newer data. Nothing was changed.`,
    );
  }
  if (heads.length === 0) throw new Error(`${where} has no revisions. Nothing was changed.`);
  if (heads.length > 1 && HEADS.has(spec.wanted)) {
    throw new Error(
      `${where} has several heads: ${heads.join(", ")}. Merge them (alembic merge), or choose one: ` +
        `pulumi config set alembicRevision ${heads[0]}. Nothing was changed.`,
    );
  }
  if (unknown === "wanted") {
    throw new Error(
      `alembicRevision is "${spec.wanted}", which ${where.replace("The", "the")} does not know${why ? ` (${why})` : ""}; ${its}. ` +
        `Nothing was changed.`,
    );
  }
  if (unknown === "way") {
    throw new Error(
      `${where} has no path from the database's revision ${current} to ${wanted}: they are on different branches. Nothing was changed.`,
    );
  }
  if (direction === "down" && !spec.allowDowngrade) {
    throw new Error(
      `alembicRevision ${spec.wanted} is older than the database's ${current}. Migrating to it runs ${steps.length} ` +
        `downgrade${steps.length === 1 ? "" : "s"}, which may drop data: ${steps.map(nameStep).join(", ")}. To allow that: ` +
        `pulumi config set alembicDowngrade true. Nothing was changed.`,
    );
  }
}

/** Runs Alembic while the queries wait in the stack's pooler, if it has one. */
async function change(
  lockSession: pg.Client,
  run: WaitingRun,
  current: string | null,
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { stack, dockerHost, address } = spec;
  say(inWords(run.plan, current));
  // Before the connection lock, so that a server restored to this point accepts connections.
  await announceRecoveryTarget(stack, lockSession, (line) => say(`migrations: ${line}`), dockerHost);
  const held = await holdQueries({ stack, dockerHost }, { databases: [address.database], say });
  let disconnect: Disconnect = "none";
  try {
    const before = held.isHolding ? await readResultTypes(address) : undefined;
    await changeLocked(lockSession, run, current, spec, say, signal);
    // Clients keep the result types of prepared statements, and would not notice that they have changed: PgBouncer prepares them anew.
    if (before && changesResults(before, await readResultTypes(address))) disconnect = "statements";
  } finally {
    await held.release(disconnect);
  }
}

/** Runs Alembic with a connection lock and a migration backup. Restores the database if the run fails. */
async function changeLocked(
  lockSession: pg.Client,
  run: WaitingRun,
  current: string | null,
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { address, owner, stack } = spec;
  const { database } = address;
  const { steps, wanted } = run.plan;
  const backup: MigrationBackup = { from: current, to: wanted, at: new Date().toISOString(), running: true };
  const foreign = await readForeignObjects(spec);
  const properties = await blockConnections(lockSession, database);
  let isCopied = false;
  let revokeGrant: (() => Promise<void>) | undefined;
  try {
    await createMigrationBackup(lockSession, database, backup);
    isCopied = true;
    revokeGrant = await grantTemporarily(lockSession, maintenance(address), owner);
    await run.go(progress(steps, say));
    await assertReached(spec, wanted, say);
    await assertOwnership(spec, foreign);
    await revokeGrant();
    await completeMigrationBackup(lockSession, database, backup);
    await unblockConnections(lockSession, properties);
  } catch (error) {
    await run.end().catch(() => {});
    await revokeGrant?.().catch(() => {});
    if (!isCopied) {
      await unblockConnections(lockSession, properties);
      throw error;
    }
    const outcome = await restoreMigrationBackup(lockSession, database, { backup, properties, keep: false }).then(
      () => `The database was restored to its state before the run, at revision ${current ?? "none"}.`,
      (worse) =>
        `Restoring the database failed (${(worse as Error).message}); the next pulumi up restores it from ${backupName(database)}.`,
    );
    throw describeError(signal?.aborted ? new Error(STOPPED) : error, spec, outcome);
  }
  say(
    `migrations: done; the state of ${database} before the run is kept as ${backupName(database)}. To restore it: ` +
      `./db migrations undo --stack ${stack}`,
  );
}

/** Runs Alembic in a database that is not in use. */
async function changeUnused(
  lockSession: pg.Client,
  run: WaitingRun,
  current: string | null,
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  say(inWords(run.plan, current));
  const foreign = await readForeignObjects(spec);
  const revokeGrant = await grantTemporarily(lockSession, maintenance(spec.address), spec.owner);
  try {
    await run.go(progress(run.plan.steps, say));
    await assertOwnership(spec, foreign);
    await revokeGrant();
  } catch (error) {
    await run.end().catch(() => {});
    await revokeGrant().catch(() => {});
    throw describeError(signal?.aborted ? new Error(STOPPED) : error, spec, "Nothing was changed.");
  }
}

/** Returns the progress line about the revisions that are about to run. */
function inWords({ steps, direction, wanted }: Plan, current: string | null): string {
  const what = `${direction === "down" ? "downgrade" : "revision"}${steps.length === 1 ? "" : "s"}`;
  return `migrations: ${steps.length} ${what} from ${current ?? "an empty chain"} to ${wanted ?? "base"}`;
}

/** Reports at most one line per second, and always the first and the last revision. */
function progress(steps: readonly Step[], say: (line: string) => void): (step: Step) => void {
  let done = 0;
  let last = 0;
  return (step) => {
    done += 1;
    if (Date.now() - last < PACE_MS && done < steps.length) return;
    last = Date.now();
    say(`migrations: ${done} of ${steps.length}: ${nameStep(step)}`);
  };
}

/** Checks that the database is at the wanted revision, because the project's env.py may have connected to another database. */
async function assertReached(spec: MigrationsSpec, wanted: string | null, say: (line: string) => void): Promise<void> {
  const { database } = spec.address;
  const [now] = await readRevisions(ofOwner(spec));
  if (now === (wanted ?? undefined)) return;
  if (now === undefined) {
    say(`migrations: ${database} has no table alembic_version, so its revision cannot be compared with ${wanted}`);
    return;
  }
  throw new Error(
    `Alembic ended without an error, but ${database} is at revision ${now}, not at ${wanted ?? "base"}. Its env.py must connect to ` +
      "DATABASE_URL, and commit",
  );
}

/** Checks that new objects belong to the owner, because the next migration could not change them otherwise. */
async function assertOwnership(spec: MigrationsSpec, before: readonly string[]): Promise<void> {
  const created = (await readForeignObjects(spec)).filter((object) => !before.includes(object));
  if (created.length === 0) return;
  throw new Error(`The migrations created objects that do not belong to ${spec.owner}: ${created.join(", ")}.`);
}

/** Returns the first line of a failure's message. */
function whatFailed({ phase, step, kind, message, variables = [] }: Failure, { folder }: MigrationsSpec): string {
  const what =
    phase === "plan"
      ? `The Alembic project in ${folder} cannot be read`
      : step
        ? `The migration ${nameStep(step)} failed`
        : "The migrations failed";
  if (variables.length > 0) {
    const missing = variables.filter(({ problem }) => problem === null).map(({ name }) => name);
    const refused = variables
      .filter(({ problem }) => problem !== null)
      .map(({ name, problem }) => `${name} (${problem})`);
    const parts = [
      ...(missing.length > 0 ? [`variables that are not set: ${missing.join(", ")}`] : []),
      ...(refused.length > 0 ? [`other values of variables: ${refused.join(", ")}`] : []),
    ];
    return `${what}: the application needs ${parts.join("; and ")}`;
  }
  if (kind === "OtherDatabase") return `${what}: the project connects to ${message}, not to DATABASE_URL`;
  return `${what}: ${kind === "Ended" ? "" : `${kind}: `}${message}`;
}

/** Returns the lines about the remedy, if it is known. */
function remedyFor(
  { kind, message, variables = [] }: Failure,
  { sources = [], buildCommand }: MigrationsSpec,
): string[] {
  const missing = /^No module named '([\w.]+)'/.exec(message)?.[1];
  if (missing && buildCommand !== undefined)
    return [`  The image has no ${missing}. Rebuild it with everything that the models import: ${buildCommand}`];
  if (missing) {
    return [
      `  The image has no ${missing}. Set alembicImage to the application's own image, which contains what its models import.`,
    ];
  }
  if (kind === "OtherDatabase") {
    return [
      "  Use DATABASE_URL in its env.py, or set the variable that it uses to this database's URL: " +
        `pulumi config set --path 'alembicEnvironment[0]' 'VARIABLE=\${DATABASE_URL}'`,
    ];
  }
  const [first] = variables;
  if (first === undefined) return [];
  return [
    `  Its environment comes from ${sources.length > 0 ? sources.join(" and ") : "no file: set handoverFolder to the application's folder"}.`,
    `  Set ${variables.length === 1 ? "it" : "them"} there, or: pulumi config set --secret --path 'alembicEnvironment[0]' '${first.name}=VALUE'`,
  ];
}

/** Returns the error for the user. Values of the application's environment are masked in it. */
function describeError(error: unknown, spec: MigrationsSpec, outcome: string): Error {
  const secrets = secretsOf(spec);
  const clean = (text: string) => masked(text, secrets);
  if (!(error instanceof MigrationFailure)) {
    const { message } = error as Error;
    const lost = isPassing(error) ? "The connection to the database server was lost during the migrations: " : "";
    return new Error(clean(`${lost}${message.replace(/\.$/, "")}. ${outcome}`), { cause: undefined });
  }
  const { failure, log } = error;
  const { place, variables = [] } = failure;
  // The failure is known without the log, and the application's traceback would quote its settings.
  const lines = variables.length > 0 ? [] : log;
  const statement = failure.statement?.trim().slice(0, STATEMENT_SHOWN);
  return new Error(
    [
      whatFailed({ ...failure, message: clean(failure.message) }, spec),
      ...remedyFor(failure, spec),
      ...(place ? [`  at ${place}`] : []),
      ...(statement
        ? [
            "  SQL:",
            ...clean(statement)
              .split("\n")
              .map((line) => `  | ${line}`),
          ]
        : []),
      ...(lines.length > 0 ? ["  The last lines of output:", ...lines.map((line) => `  | ${clean(line)}`)] : []),
      outcome,
    ].join("\n"),
  );
}
