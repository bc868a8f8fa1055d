/** One run of the migrations, from the look at the chain to the restore point that stays. */
import type pg from "pg";
import { blockConnections, LOCK_KEY, readLeftoverLock, unblockConnections } from "../../lib/connection-lock.ts";
import { removeContainers } from "../../lib/docker.ts";
import { isRefreshing } from "../../lib/locks.ts";
import { type Address, connect, ident, isPassing, maintenance, withConnection } from "../../lib/postgres.ts";
import { announceRestorePoint } from "../backups/restore-point.ts";
import { isSample, readMarker } from "../import/swap.ts";
import {
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
  makeRestorePoint,
  pointName,
  putBack,
  type RestorePoint,
  readRestorePoint,
  settleRestorePoint,
} from "./migration-backup.ts";
import { readRevisions } from "./revision.ts";
import { grantTemporarily, revokeTemporaryGrant } from "./temporary-grant.ts";

/** Milliseconds between two lines of progress. */
const PACE_MS = 1000;
/** Longest part of a failing statement that is shown, characters. */
const STATEMENT_SHOWN = 600;
/** Words that mean the chain's end, and so only one revision where there is one end. */
const HEADS = new Set(["head", "heads"]);
const STOPPED = "The migrations were stopped.";

/** What to migrate, with what, and how far. */
export interface MigrationsSpec {
  stack: string;
  /** The database, as the superuser reaches it from here. */
  address: Address;
  owner: string;
  ownerPassword: string;
  /** The Alembic project's folder. */
  folder: string;
  image: string;
  arguments: readonly string[];
  /** A revision (its beginning is enough, or a branch's `label@head`), `head` or `base`. */
  wanted: string;
  allowDowngrade: boolean;
  network: string;
  /** The server inside the network. */
  alias: string;
  /** The environment that the application gets. Without a DATABASE_URL in it, there is one of the database. */
  variables?: Readonly<Record<string, string>>;
  /** Where that environment comes from, for messages. */
  sources?: readonly string[];
  /** The command that builds the image again, for messages; undefined for one that is not the service's. */
  buildCommand?: string | undefined;
  dockerHost: string | undefined;
}

/** What a run has done. */
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

/** The database as the migrations reach it. */
export const ownerConnection = (
  spec: Pick<MigrationsSpec, "owner" | "ownerPassword" | "alias"> & { database: string },
): OwnerConnection => ({
  host: spec.alias,
  port: PORT_INSIDE,
  user: spec.owner,
  password: spec.ownerPassword,
  database: spec.database,
});

/** Values that no message may contain. */
const secretsOf = ({ variables, ownerPassword }: MigrationsSpec): string[] => [
  ...secretValues(variables ?? {}),
  ownerPassword,
];

/** How revisions are named to people: `1a2b add ships`. */
export const nameStep = ({ id, title }: { id: string; title: string | null }): string =>
  title ? `${id} ${title}` : id;

/** Objects in the application's schemas that belong to somebody else than the owner; extensions' own are theirs. */
const STRANGERS = `
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

async function readStrangers({ address, owner }: MigrationsSpec): Promise<string[]> {
  return withConnection(address, async (client) => {
    const { rows } = await client.query<{ what: string; owner: string }>(STRANGERS, [ident(owner)]);
    return rows.map((row) => `${row.what} (${row.owner})`);
  });
}

/**
 * Brings the database to the wanted revision. When that fails, the database is as it was.
 * @param signal calls it off: what has begun is taken back.
 * @throws {Error} that names the revisions, the statement, the place and the last lines.
 */
export async function runMigrations(
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal?: AbortSignal,
): Promise<MigrationsResult> {
  const { address, owner } = spec;
  const keeper = await connect(maintenance(address), { patienceMs: 30_000 });
  try {
    await lockMigrations(keeper);
    await removeContainers(migrationsLabel(spec.stack), { host: spec.dockerHost });
    await revokeTemporaryGrant(keeper, owner);
    await settleKilled(keeper, spec, say);
    return await plannedRun(spec, signal, (run, current) => change(keeper, run, current, spec, say, signal));
  } finally {
    await keeper.end().catch(() => {});
  }
}

/**
 * Brings a database that nobody uses yet to the wanted revision. It has neither a connection lock nor a migration backup: when
 * this fails, the caller drops it.
 * @param keeper a superuser's session in the server's own database that holds the migrations' lock.
 * @param spec its address is the unused database's.
 * @param signal calls it off.
 * @throws {Error} that names the revisions, the statement, the place and the last lines.
 */
export async function migrateUnused(
  keeper: pg.Client,
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal?: AbortSignal,
): Promise<MigrationsResult> {
  await removeContainers(migrationsLabel(spec.stack), { host: spec.dockerHost });
  await revokeTemporaryGrant(keeper, spec.owner);
  return plannedRun(spec, signal, (run, current) => changeUnused(keeper, run, current, spec, say, signal));
}

/** Asks Alembic for its plan, and carries it out where there is something to do. */
async function plannedRun(
  spec: MigrationsSpec,
  signal: AbortSignal | undefined,
  carryOut: (run: WaitingRun, current: string | null) => Promise<void>,
): Promise<MigrationsResult> {
  const current = await onlyRevision(ofOwner(spec));
  const { variables = {} } = spec;
  const url = variables.DATABASE_URL ?? bareUrlOf(ownerConnection({ ...spec, database: spec.address.database }));
  const job = { ...spec, url, current, variables, secrets: secretsOf(spec) };
  const run = await startRun(job).catch((error) => {
    throw explained(error, spec, `The database is untouched.`);
  });
  const stop = () => void run.end().catch(() => {});
  signal?.addEventListener("abort", stop);
  try {
    if (run.plan.unknown === "current" && (await holdsSample(spec))) throw new Error(sampleMessage(spec, current));
    refuse(run.plan, current, spec);
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
 * Makes sure that nobody else migrates, or undoes a migration, on the server, for as long as the session lives.
 * @throws {Error} when somebody does.
 */
export async function lockMigrations(client: pg.Client): Promise<void> {
  const { rows } = await client.query(`SELECT pg_try_advisory_lock(${LOCK_KEY}) AS mine`);
  if (rows[0].mine) return;
  if (await isRefreshing(client)) {
    throw new Error("A refresh is running on this server. Wait for its end, then try again.");
  }
  throw new Error("Migrations are running on this server already. Wait for them, then try again.");
}

/** The database's only revision, or null. */
async function onlyRevision(address: Address): Promise<string | null> {
  const revisions = await readRevisions(address);
  if (revisions.length > 1) {
    throw new Error(
      `${address.database} stands at ${revisions.length} revisions at once (${revisions.join(", ")}), of branches that were not ` +
        `merged. Merge them on the source of the data (alembic merge), or delete the older rows of alembic_version.`,
    );
  }
  return revisions[0] ?? null;
}

/** Ends what a run that was killed has begun: a change that was complete stays, any other is taken back. */
async function settleKilled(keeper: pg.Client, spec: MigrationsSpec, say: (line: string) => void): Promise<void> {
  const { database } = spec.address;
  const properties = await readLeftoverLock(keeper, database);
  if (properties === undefined) return;
  const point = await readRestorePoint(keeper, database);
  if (point?.running) {
    const [now = null] = await readRevisions(ofOwner(spec));
    if (now !== point.to) {
      say(`migrations: a run was killed half-way; ${database} is put back as it was at ${point.at}`);
      await putBack(keeper, database, { point, properties, keep: false });
      return;
    }
    await settleRestorePoint(keeper, database, point);
  }
  await unblockConnections(keeper, properties);
}

/** Whether the database was filled with the sample. */
const holdsSample = ({ address }: MigrationsSpec): Promise<boolean> =>
  withConnection(address, async (client) => isSample(await readMarker(client)));

/** Says how to begin with data that the application's chain can migrate. */
const sampleMessage = ({ folder }: MigrationsSpec, current: string | null): string =>
  `The database holds the sample. Its revision ${current} belongs to no application, so the chain in ${folder} cannot migrate ` +
  `it. Begin with an empty database: pulumi destroy; pulumi config set bootstrap empty; pulumi up. Or begin with your data from ` +
  `Neon: set NEON_DATABASE_URL, and choose neon in place of empty. Nothing was changed.`;

/** Stops before anything moves where the chain and the database do not fit. */
function refuse(
  { heads, unknown, why, direction, steps, wanted }: Plan,
  current: string | null,
  spec: MigrationsSpec,
): void {
  const where = `The chain in ${spec.folder}`;
  const its = `its head${heads.length === 1 ? " is" : "s are"} ${heads.join(", ")}`;
  if (unknown === "current") {
    throw new Error(
      `${where} does not know the database's revision ${current}; ${its}. The data comes from another version of the ` +
        `application: check out that version, or import a newer copy. Nothing was changed.`,
    );
  }
  if (heads.length === 0) throw new Error(`${where} has no revisions. Nothing was changed.`);
  if (heads.length > 1 && HEADS.has(spec.wanted)) {
    throw new Error(
      `${where} has several heads: ${heads.join(", ")}. Merge them (alembic merge), or name the one that is wanted: ` +
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
      `${where} has no way from the database's revision ${current} to ${wanted}: they are on two branches. Nothing was changed.`,
    );
  }
  if (direction === "down" && !spec.allowDowngrade) {
    throw new Error(
      `alembicRevision ${spec.wanted} is older than the database's ${current}. Going there runs ${steps.length} ` +
        `downgrade${steps.length === 1 ? "" : "s"}, which may drop data: ${steps.map(nameStep).join(", ")}. If that is wanted: ` +
        `pulumi config set alembicDowngrade true. Nothing was changed.`,
    );
  }
}

/** Lets Alembic run, behind a shut door and with a restore point; takes all of it back when it fails. */
async function change(
  keeper: pg.Client,
  run: WaitingRun,
  current: string | null,
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { address, owner, stack } = spec;
  const { database } = address;
  const { steps, wanted } = run.plan;
  say(inWords(run.plan, current));
  const point: RestorePoint = { from: current, to: wanted, at: new Date().toISOString(), running: true };
  // While the door is open: a server that is restored to this moment is to let everybody in.
  await announceRestorePoint(stack, keeper, (line) => say(`migrations: ${line}`), spec.dockerHost);
  const strangers = await readStrangers(spec);
  const properties = await blockConnections(keeper, database);
  let isCopied = false;
  let giveBack: (() => Promise<void>) | undefined;
  try {
    await makeRestorePoint(keeper, database, point);
    isCopied = true;
    giveBack = await grantTemporarily(keeper, maintenance(address), owner);
    await run.go(progress(steps, say));
    await assertReached(spec, wanted, say);
    await refuseStrangers(spec, strangers);
    await giveBack();
    await settleRestorePoint(keeper, database, point);
    await unblockConnections(keeper, properties);
  } catch (error) {
    await run.end().catch(() => {});
    await giveBack?.().catch(() => {});
    if (!isCopied) {
      await unblockConnections(keeper, properties);
      throw error;
    }
    const fate = await putBack(keeper, database, { point, properties, keep: false }).then(
      () => `The database is as it was before the run, at revision ${current ?? "none"}.`,
      (worse) =>
        `The database could not be put back (${(worse as Error).message}); the next pulumi up does it, from ${pointName(database)}.`,
    );
    throw explained(signal?.aborted ? new Error(STOPPED) : error, spec, fate);
  }
  say(
    `migrations: done; ${database} as it was before is kept as ${pointName(database)}. To go back to it: ` +
      `./db migrations undo --stack ${stack}`,
  );
}

/** Lets Alembic run in a database that nobody else uses. */
async function changeUnused(
  keeper: pg.Client,
  run: WaitingRun,
  current: string | null,
  spec: MigrationsSpec,
  say: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  say(inWords(run.plan, current));
  const strangers = await readStrangers(spec);
  const giveBack = await grantTemporarily(keeper, maintenance(spec.address), spec.owner);
  try {
    await run.go(progress(run.plan.steps, say));
    await refuseStrangers(spec, strangers);
    await giveBack();
  } catch (error) {
    await run.end().catch(() => {});
    await giveBack().catch(() => {});
    throw explained(signal?.aborted ? new Error(STOPPED) : error, spec, "Nothing was changed.");
  }
}

/** What is about to run. */
function inWords({ steps, direction, wanted }: Plan, current: string | null): string {
  const what = `${direction === "down" ? "downgrade" : "revision"}${steps.length === 1 ? "" : "s"}`;
  return `migrations: ${steps.length} ${what} from ${current ?? "an empty chain"} to ${wanted ?? "base"}`;
}

/** A line each second at most, and always the first and the last revision. */
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

/** Alembic's success counts for the database that it was run for: its project may connect to another one. */
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

/** What a migration makes must belong to the owner, or the next migration could not change it. */
async function refuseStrangers(spec: MigrationsSpec, before: readonly string[]): Promise<void> {
  const made = (await readStrangers(spec)).filter((stranger) => !before.includes(stranger));
  if (made.length === 0) return;
  throw new Error(`The migrations made what does not belong to ${spec.owner}: ${made.join(", ")}.`);
}

/** What failed, as the first words of a message. */
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

/** What to do about it, where that is known. */
function remedyFor(
  { kind, message, variables = [] }: Failure,
  { sources = [], buildCommand }: MigrationsSpec,
): string[] {
  const missing = /^No module named '([\w.]+)'/.exec(message)?.[1];
  if (missing && buildCommand !== undefined)
    return [`  The image has no ${missing}. Build it again, with all that the models import: ${buildCommand}`];
  if (missing) {
    return [
      `  The image has no ${missing}; set alembicImage to the application's own image, which has what its models import.`,
    ];
  }
  if (kind === "OtherDatabase") {
    return [
      "  Let its env.py use DATABASE_URL, or give the variable that it uses this database's URL: " +
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

/** The error as people need it. No value of the application's environment is in it, whatever the application printed. */
function explained(error: unknown, spec: MigrationsSpec, fate: string): Error {
  const secrets = secretsOf(spec);
  const clean = (text: string) => masked(text, secrets);
  if (!(error instanceof MigrationFailure)) {
    const { message } = error as Error;
    const lost = isPassing(error) ? "The database server went away while the migrations ran: " : "";
    return new Error(clean(`${lost}${message.replace(/\.$/, "")}. ${fate}`), { cause: undefined });
  }
  const { failure, log } = error;
  const { place, variables = [] } = failure;
  // What failed is known by now; the traceback that an application prints of it would quote its settings.
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
      ...(lines.length > 0 ? ["  Its last lines:", ...lines.map((line) => `  | ${clean(line)}`)] : []),
      fate,
    ].join("\n"),
  );
}
