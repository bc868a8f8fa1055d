/** The import, from the preflight to the report. Each phase has a module of its own. */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { removeContainers } from "../../lib/docker.ts";
import { humanBytes } from "../../lib/human-bytes.ts";
import type { ImportSummary } from "../../lib/import-summary.ts";
import { type Address, isPassing, maintenance, withConnection } from "../../lib/postgres.ts";
import { ROLE_NAMES } from "../../lib/role-names.ts";
import { currentScope, outsideScopes, Scope } from "../../lib/scope.ts";
import { type Baseline, baselineOfRows, baselineOfStates, positionOf, writeBaseline } from "./baseline.ts";
import { readCatalog } from "./catalog.ts";
import { ConnectionMonitor, type MonitorTimeouts } from "./connection-monitor.ts";
import { copySettings, readSettings, settingStates } from "./database-settings.ts";
import { findDigestProgram } from "./digest.ts";
import { compareFacts, type FactDifference, findForeignOwners, readFacts } from "./facts.ts";
import { Attempts } from "./failures.ts";
import { keepInheritedColumns } from "./inheritance.ts";
import { copyLargeObjectsOf, proveLargeObjects } from "./large-objects-import.ts";
import { analyzeOthers, loadTables, makeRest, planTables, readBelonging, type WorkerConnections } from "./load.ts";
import { maskKey, setMaskKey } from "./masks.ts";
import { warningLines } from "./preflight/findings.ts";
import { preflight } from "./preflight.ts";
import { Progress } from "./progress.ts";
import { rehearse } from "./rehearsal.ts";
import { writeReport } from "./report.ts";
import { copyRestrictions, describeRestriction, readRestrictions } from "./restrictions.ts";
import { differentTexts, findRewordings, markRewordings, type Rewordings, statesOf } from "./rewording.ts";
import { SafetyCopy } from "./safety-copy.ts";
import { chooseDumpImage, dumpSource, dumpStaging, helperLabel, LOCK_NOT_AVAILABLE, makeBefore } from "./schema.ts";
import { readSearchPath } from "./search-path.ts";
import { describeSelection, selectRows } from "./selection.ts";
import { compareSequences, copySequences } from "./sequences.ts";
import { findServerChanges, readServerState, type ServerState, serverChanged } from "./server-state.ts";
import { openOwner, openTarget } from "./session.ts";
import { exportSnapshot, joinSnapshot, lockTables, tablesToLock } from "./snapshot.ts";
import { describeDisplaced, findDisplaced, makeRoom } from "./stack-extensions.ts";
import { compareStates, digestAll, type StateDifference } from "./states.ts";
import {
  CLEARING,
  clearDead,
  clearStaging,
  createStaging,
  importNames,
  lockServer,
  swapIn,
  writeMarker,
} from "./swap.ts";
import type { ImportSpec, Report, SafetyCopyFacts, Table } from "./types.ts";
import { populatedViews, refreshViews } from "./views.ts";

/** Phases in order. Tests end the process in each of them. */
export const PHASES = [
  "preflight",
  "snapshot",
  "schema",
  "rows",
  "constraints",
  "sequences",
  "compare",
  "swap",
] as const;
/** One of {@link PHASES}. */
export type Phase = (typeof PHASES)[number];

/** Callbacks of a running import. */
export interface ImportHooks {
  /** Shows a progress line. */
  say: (line: string) => void;
  /** Called when a phase begins. */
  onPhase?: (phase: Phase) => Promise<void>;
  /** Called when a table's rows are loaded, before they are compared. */
  onLoaded?: (table: Table) => Promise<void>;
  /** Called after the swap. */
  onSwapped?: () => Promise<void>;
  /** Timeouts of the connection monitor; tests use shorter ones. */
  monitorTimeouts?: Partial<MonitorTimeouts>;
}

/** Runs hooks outside the import's scope, so cancelling the import does not cancel them. */
const outside = ({ onPhase, onLoaded, onSwapped, ...hooks }: ImportHooks): ImportHooks => ({
  ...hooks,
  onPhase: onPhase && ((phase) => outsideScopes(() => onPhase(phase))),
  onLoaded: onLoaded && ((table) => outsideScopes(() => onLoaded(table))),
  onSwapped: onSwapped && (() => outsideScopes(() => onSwapped())),
});

type ImportServer = "source" | "target";

/** Roles whose privileges the import compares. */
const ROLES = Object.values(ROLE_NAMES);

/** SQLSTATE disk_full. */
const DISK_FULL = "53100";
/** Milliseconds until both ends of a broken connection have reported it. */
const NOTICING_MS = 300;
/** Milliseconds to wait for the clean-up after a failure or a cancellation. After that, the server finishes it without this process. */
const CLEARING_MS = 4000;

/** Returns the innermost cause: the error of the server or the network. */
function originOf(error: unknown): { code?: string } {
  const { cause } = error as { cause?: unknown };
  return cause instanceof Error ? originOf(cause) : (error as { code?: string });
}

/** Turns an error into one that a user can act on. A lost server is reported as such, not as a socket error. */
async function explain(error: unknown, scope: ImportScope): Promise<unknown> {
  const { message } = error as Error;
  const origin = originOf(error);
  const { code } = origin;
  if (scope.reason) return scope.reason;
  if (code === DISK_FULL) {
    return new Error(
      `The target's disk is full (${message}); ${scope.outcome} Free some space (docker system df shows what ` +
        `Docker holds), then run ${scope.command} again.`,
      { cause: error },
    );
  }
  // Only sessions on the source have a lock_timeout.
  if (code === LOCK_NOT_AVAILABLE) {
    return new Error(
      `Another session on the source holds a lock on a table, or waits for one (TRUNCATE, ALTER TABLE, VACUUM FULL, a migration): ` +
        `${message}. Nothing was changed here; run ${scope.command} again when that session has finished.`,
      { cause: error },
    );
  }
  // A query may fail before its connection emits the error event that sets `lost`.
  const isOfTheNetwork = isPassing(origin) || code === "ERR_STREAM_PREMATURE_CLOSE";
  if (scope.lost === undefined && isOfTheNetwork) await sleep(NOTICING_MS);
  return scope.lost === undefined ? error : scope.wentAway(scope.lost, message);
}

/** The sessions and containers of one import, on the source and on the target. All of them end at once when the import ends. */
class ImportScope extends Scope {
  /** The server whose connection was lost first. */
  lost: ImportServer | undefined;
  private readonly spec: ImportSpec;
  private readonly monitor: ConnectionMonitor;
  private lockSession: pg.Client | undefined;
  /** Whether the swap has begun. A connection that breaks from here on leaves open whether the renames were committed. */
  private swapping = false;
  /** Whether the copy is loaded and proven. From then on only the lock session is needed. */
  private loaded = false;

  constructor(spec: ImportSpec, timeouts: Partial<MonitorTimeouts> | undefined) {
    super();
    this.spec = spec;
    this.monitor = new ConnectionMonitor(this, timeouts);
  }

  /** Opens the session that holds the import's advisory lock. It outlives all other sessions. */
  async openLockSession(): Promise<pg.Client> {
    this.lockSession = await openTarget(maintenance(this.spec.target.address));
    await lockServer(this.lockSession);
    return this.lockSession;
  }

  override opened(client: pg.Client, address: Address, pid: number): void {
    const { target } = this.spec;
    const server = address.host === target.address.host && address.port === target.address.port ? "target" : "source";
    // Only a connection that breaks emits "error"; one that is closed does not.
    client.once("error", () => {
      if (this.reason === undefined && !(this.loaded && client !== this.lockSession)) this.lost ??= server;
    });
    this.monitor.watch(client, address, pid, (why) => {
      this.lost ??= server;
      this.close(this.wentAway(server, why));
    });
  }

  /** The command that starts the import again. */
  get command(): string {
    return this.spec.command ?? "pulumi up";
  }

  /** The state of the target's database, to follow "...; " in a message. */
  get outcome(): string {
    return this.swapping
      ? "the target's database is either as it was or the whole copy."
      : "the target's database is as it was.";
  }

  wentAway(server: ImportServer, why: string): Error {
    const name = server === "source" ? `The source ${this.spec.source.label}` : "The target's server";
    return new Error(
      `${name} went away while the import ran (${why}); ${this.outcome} When it is back, run ${this.command} again.`,
    );
  }

  /** Cancels the import. Once the swap has begun, it does nothing: the import finishes by itself. */
  stop(): void {
    if (this.swapping) return;
    this.close(new Error(`The import was stopped; ${this.outcome} Run ${this.command} to begin again.`));
  }

  /** Ends every session but the lock session: the source is no longer needed, and a {@link Replacement} completes the copy. */
  endLoad(): void {
    this.check();
    this.loaded = true;
    this.endAllBut(this.lockSession);
  }

  /** Ends the sessions that would block the renames. From here on, {@link stop} no longer cancels the import. */
  beginSwap(): void {
    this.endLoad();
    this.swapping = true;
  }

  override close(reason: Error): void {
    this.monitor.stop();
    super.close(reason);
  }
}

/**
 * Imports the source into the target's database, or returns the summary of an earlier import. After any failure the target is as
 * it was. Closing the surrounding scope cancels the import at once; the import drops what it has made before the promise is rejected.
 * @throws {Error} with the reason and the remedy; after a failed comparison, with the differences.
 */
export async function runImport(spec: ImportSpec, hooks: ImportHooks): Promise<ImportSummary> {
  const scope = new ImportScope(spec, hooks.monitorTimeouts);
  const ownHooks = outside(hooks);
  const unregister = currentScope()?.add(() => scope.stop());
  try {
    return await scope.run(() => importOrAdopt(spec, ownHooks, scope));
  } catch (error) {
    throw scope.reason ?? error;
  } finally {
    unregister?.();
    scope.close(new Error("the import ended"));
  }
}

async function importOrAdopt(spec: ImportSpec, hooks: ImportHooks, scope: ImportScope): Promise<ImportSummary> {
  const progress = new Progress(hooks.say);
  const startedAt = new Date().toISOString();
  const enter = async (phase: Phase, line: string) => {
    progress.phase(line);
    await hooks.onPhase?.(phase);
    scope.check();
    return progress.begin(phase);
  };

  const lockSession = await scope.openLockSession();
  const endPreflight = await enter("preflight", `checking ${spec.source.label} and the target`);
  const seen = await preflight(spec);
  endPreflight();
  if (seen.done) {
    // A run that was killed right after the swap has left the database that was replaced.
    await clearStaging(lockSession, spec.target.address.database);
    hooks.say(`import: ${spec.target.address.database} was imported before, at ${seen.done.finishedAt}; nothing to do`);
    return seen.done;
  }
  for (const line of warningLines(seen.findings)) hooks.say(`import: ${line}`);
  const report: Report = {
    verdict: "failed",
    stack: spec.stack,
    ...(spec.furtherDatabase !== undefined && { furtherDatabase: spec.furtherDatabase }),
    command: scope.command,
    source: spec.source.label,
    sourceVersion: seen.catalog.version,
    targetVersion: seen.targetVersion,
    collations: { source: seen.catalog.collation, target: seen.targetCollation },
    alembicRevision: seen.catalog.alembicRevision,
    startedAt,
    seconds: 0,
    rows: 0,
    bytes: 0,
    tables: [],
    sequences: [],
    schema: { compared: 0, differences: [] },
    skipped: seen.catalog.skipped,
    remarks: seen.remarks,
    spans: progress.spans,
  };
  const work: Work = { enter, progress, report, scope, lockSession, hooks };
  let safetyCopy: SafetyCopy | undefined;
  try {
    // Before anything is copied, so that an unusable folder fails the import at once and not after an hour.
    safetyCopy = spec.safetyCopy && (await SafetyCopy.begin(spec.safetyCopy, spec.stack, hooks.say));
    const summary = await copyAndProve(spec, safetyCopy, work);
    report.verdict = summary.butFor === undefined ? "identical" : "selected";
    return summary;
  } catch (error) {
    const changed = await outsideScopes(() => changesOf(spec, work.serverState));
    const explained = changed.length > 0 ? serverChanged(changed) : await explain(error, scope);
    report.error = (explained as Error).message;
    scope.close(explained as Error);
    throw explained;
  } finally {
    if (report.verdict !== "identical" && report.verdict !== "selected") {
      await outsideScopes(() => clearRemains(spec, safetyCopy));
      delete report.safetyCopy;
    }
    report.seconds = progress.seconds;
    hooks.say(`import: ${report.verdict}; ${await writeReportOrExplain(spec.reportFolder, report)}`);
  }
}

/** Writes the report. A failure to write it must not hide the result of the import, so it is only mentioned. */
const writeReportOrExplain = (folder: string, report: Report): Promise<string> =>
  writeReport(folder, report).then(
    (page) => `the report is ${page}`,
    (error: Error) => `the report could not be written: ${error.message}`,
  );

/**
 * Returns what code of the source has changed outside the staging database before the import failed; nothing if the server does not answer.
 */
async function changesOf({ target }: ImportSpec, before: ServerState | undefined): Promise<string[]> {
  if (before === undefined) return [];
  const find = (client: pg.Client) => findServerChanges(client, importNames(target.address.database), before);
  return withConnection(maintenance(target.address), find, { attemptMs: CLEARING_MS }).catch(() => []);
}

/** Removes what a failed import has made. If a server does not answer, the next run removes it first. */
async function clearRemains(spec: ImportSpec, safetyCopy: SafetyCopy | undefined): Promise<void> {
  const scope = new Scope();
  const timer = setTimeout(() => scope.close(new Error("the clean-up took too long")), CLEARING_MS);
  const clearDatabase = () =>
    withConnection(
      maintenance(spec.target.address),
      async (client) => {
        await lockServer(client);
        await clearStaging(client, spec.target.address.database);
      },
      { attemptMs: CLEARING_MS, applicationName: CLEARING },
    );
  const clearDocker = async () => {
    const clear = () => removeContainers(helperLabel(spec.stack), { host: spec.dockerHost });
    await clear();
    // Docker may still be creating a container that was requested just before the failure.
    await sleep(NOTICING_MS);
    await clear();
  };
  await scope.run(() => Promise.allSettled([clearDatabase(), clearDocker(), safetyCopy?.discard()]));
  clearTimeout(timer);
}

interface Work {
  enter: (phase: Phase, line: string) => Promise<() => number>;
  progress: Progress;
  report: Report;
  scope: ImportScope;
  lockSession: pg.Client;
  hooks: ImportHooks;
  /** The server's state before any code of the source ran in it; set at that point. */
  serverState?: ServerState;
}

async function copyAndProve(spec: ImportSpec, safetyCopy: SafetyCopy | undefined, work: Work): Promise<ImportSummary> {
  const { enter, progress, report, scope, lockSession, hooks } = work;
  const { source, target } = spec;
  await clearDead(lockSession);
  await clearStaging(lockSession, target.address.database);

  const endSnapshot = await enter("snapshot", "exporting one snapshot for all readers");
  const snapshot = await exportSnapshot(source).catch((error: Error) => {
    // The source answered the preflight, but no session on it is open that could have reported the loss.
    throw isPassing(error) ? scope.wentAway("source", error.message) : error;
  });
  const takenAt = new Date().toISOString();
  // The source may have changed since the preflight; from here on all sessions see the same snapshot.
  const found = await readCatalog(snapshot.holder);
  await lockTables(snapshot.holder, found.tables);
  const locked = await tablesToLock(snapshot.holder, found.tables, spec.jobs);
  const { selection } = spec;
  const key = selection && selection.masks.length > 0 ? maskKey(spec.maskSecret) : undefined;
  const openReader = async () => {
    const reader = await joinSnapshot(source, snapshot, locked);
    if (key !== undefined) await reader.query(setMaskKey(key));
    return reader;
  };
  const readers = await Promise.all(Array.from({ length: spec.jobs }, openReader));
  const tables = selection ? await selectRows(found.tables, selection, snapshot.holder) : found.tables;
  const catalog = { ...found, tables };
  report.skipped = catalog.skipped;
  endSnapshot();

  const endSchema = await enter("schema", "copying the schema with pg_dump");
  // pg_dump takes the longest, so everything that does not need its output runs at the same time.
  const dumpImage = await chooseDumpImage(spec, catalog.majorVersion, snapshot.roundTripMs);
  const dumping = dumpSource(spec, dumpImage, snapshot.id);
  dumping.catch(() => {});
  const belonging = await readBelonging(snapshot.holder);
  const staging = await createStaging(lockSession, spec);
  // Statements that may run code of the source run in the owner's session, never in the superuser's.
  const superuser = await openTarget(staging);
  await superuser.query(target.preparation(staging.database));
  const displaced = await findDisplaced(snapshot.holder, superuser, catalog);
  await makeRoom(
    superuser,
    displaced.map(({ extension }) => extension),
    catalog,
  );
  report.remarks.push(...displaced.map(describeDisplaced));
  const settings = await copySettings(await readSettings(snapshot.holder), staging, target.roles);
  work.serverState = await readServerState(lockSession, importNames(target.address.database));
  const owner = await openOwner(staging, target);
  const schema = await keepInheritedColumns(await dumping, snapshot.holder);
  const attempts = new Attempts(await readSearchPath(snapshot.holder));
  await makeBefore({ superuser, owner }, schema, catalog, { ownerName: target.owner, attempts });
  await rehearse(owner, schema.after);
  endSchema();

  const endRows = await enter("rows", `copying the rows of ${catalog.tables.length} tables, ${spec.jobs} at a time`);
  const { plans, foreignKeys, rest } = planTables(catalog.tables, schema.after, belonging);
  const connections = await openConnections();
  progress.expect(catalog.tables);
  const largeObjects = await copyLargeObjectsOf(spec, catalog, {
    source: snapshot.holder,
    owner,
    progress,
    report,
    safetyCopy,
  });
  report.tables = await loadTables({ plans, foreignKeys }, connections, {
    progress,
    onLoaded: hooks.onLoaded,
    observe: safetyCopy?.observe,
    attempts,
    reopen: openReader,
    digestProgram: await findDigestProgram(lockSession),
  });
  report.rows = report.tables.reduce((sum, proof) => sum + proof.rows, 0);
  report.bytes = report.tables.reduce((sum, proof) => sum + proof.bytes, 0);
  endRows();
  assertRowsEqual(report);

  const endConstraints = await enter("constraints", `creating ${rest.length} triggers, policies and other objects`);
  await makeRest(owner, rest, attempts);
  const restrictions = await copyRestrictions(ROLES, snapshot.holder, owner);
  report.remarks.push(...restrictions.remarks, ...settings.remarks);
  const definitions = [...schema.before, ...schema.after];
  const views = await refreshViews(
    definitions,
    snapshot.holder,
    { owner, superuser },
    { isWhole: selection === undefined, attempts },
  );
  report.remarks.push(...views.remarks);
  endConstraints();

  const endSequences = await enter(
    "sequences",
    `copying ${catalog.sequences.length} sequences, and computing statistics for the planner`,
  );
  // All definitions are in place. While pg_dump reads them, the rest is done and the checkpoint writes the loaded data to disk.
  const dumpingStaging = dumpStaging(spec, dumpImage, staging);
  dumpingStaging.catch(() => {});
  const rowsBaseline = baselineOfRows(
    catalog.tables,
    report.tables,
    // The superuser's sessions, because policies are in place now and may be forced on the owner.
    connections.map(({ superuser }) => superuser),
  );
  rowsBaseline.catch(() => {});
  const sequences = await copySequences(catalog.sequences, snapshot.holder, owner);
  await analyzeOthers(owner, attempts);
  report.remarks.push(...attempts.remarks);
  endSequences();

  const endCompare = await enter("compare", "comparing schemas and sequences in both directions");
  report.sequences = await compareSequences(sequences, owner);
  const [stagingSchema] = await Promise.all([dumpingStaging, lockSession.query("CHECKPOINT")]);
  const theirs = statesOf(schema);
  const ours = statesOf(stagingSchema);
  const theirFacts = await readFacts(snapshot.holder);
  const ourFacts = await readFacts(superuser);
  const theirSettings = settingStates(settings.taken, target.roles);
  const ourSettings = settingStates(await readSettings(superuser), target.roles);
  const differences = compareStates(theirs, ours);
  const factDifferences = [
    ...compareFacts(theirFacts, ourFacts),
    ...compareStates(theirSettings, ourSettings).map((difference) => ({ ...difference, tolerable: false })),
  ];
  const rewordings = await findRewordings(differentTexts(differences), {
    server: { ...spec, lockSession },
    image: dumpImage,
    source: { dump: schema, catalog, settings: settings.taken, session: snapshot.holder },
    target: { states: ours, session: superuser },
  });
  const changedDefinitions = differences.filter(({ object }) => !rewordings.proven.has(object));
  report.schema = {
    compared: theirs.size + theirFacts.size + theirSettings.size,
    differences: [...changedDefinitions, ...factDifferences].map(({ object, how }) => `${object}: ${how}`),
    reworded: [...rewordings.proven].sort(),
  };
  assertSchemaEqual(report, changedDefinitions, factDifferences, rewordings);
  const largeObjectStates = await proveLargeObjects(largeObjects, { source: snapshot.holder, superuser, report });
  await assertOwnership(report, superuser, target.owner);
  await assertRestrictions(report, snapshot.holder, superuser);
  const changed = await findServerChanges(lockSession, importNames(target.address.database), work.serverState);
  if (changed.length > 0) throw serverChanged(changed);
  const baseline: Baseline = new Map([
    ...markRewordings(baselineOfStates(digestAll(theirs), digestAll(ours)), rewordings),
    ...baselineOfStates(theirFacts, ourFacts),
    ...baselineOfStates(digestAll(theirSettings), digestAll(ourSettings)),
    ...report.sequences.map(({ name, ...positions }) => [positionOf(name), positions] as const),
    ...largeObjectStates,
    ...views.baseline,
    ...(await rowsBaseline),
  ]);
  endCompare();

  if (safetyCopy) {
    progress.phase("safety-copy: reading it back to verify it");
    const endCopy = progress.begin("safety-copy");
    const views = await populatedViews(definitions, snapshot.holder);
    report.safetyCopy = await safetyCopy.finish({
      source: source.label,
      catalog,
      schema,
      sequences,
      views,
      takenAt,
      settings: settings.taken,
      restrictions: restrictions.changes,
      displaced: displaced.map(({ extension }) => extension),
      searchPath: [...new Set([...attempts.searchPath, ...catalog.tables.map(({ schema }) => schema)])],
      largeObjects: largeObjects.grants,
    });
    endCopy();
    hooks.say(describeCopy(report.safetyCopy));
  }

  const first = spec.replacement ? "completing the copy" : "writing the copy to disk";
  const endSwap = await enter("swap", `${first}, then swapping it in for the target's database`);
  const summary = summarise(source.label, report, progress);
  await writeBaseline(superuser, baseline);
  await writeMarker(superuser, summary);
  if (spec.replacement) {
    scope.endLoad();
    await spec.replacement.complete(staging);
  }
  // The load used synchronous_commit = off. The checkpoint brings all of it to disk; most of it went there in the one before.
  await lockSession.query("CHECKPOINT");
  scope.beginSwap();
  await (spec.replacement?.swapIn(lockSession) ?? swapIn(lockSession, target.address));
  // The swap itself changed the server, so a later error must not be blamed on code of the source.
  delete work.serverState;
  await hooks.onSwapped?.();
  endSwap();
  hooks.say(
    `import: ${report.tables.length} tables, ${report.rows.toLocaleString("en")} rows, ${humanBytes(report.bytes)} proven ` +
      `${summary.butFor === undefined ? "equal" : `to match what the source sent, which is everything except ${summary.butFor},`} ` +
      `in ${progress.seconds.toFixed(1)} s`,
  );
  return summary;

  function openConnections(): Promise<WorkerConnections[]> {
    return Promise.all(
      readers.map(async (reader) => ({
        source: reader,
        target: await openOwner(staging, target),
        superuser: await openTarget(staging),
      })),
    );
  }
}

function assertRowsEqual(report: Report): void {
  const different = report.tables.filter((proof) => proof.verdict === "different");
  if (different.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      `The copy differs from the source, so it was dropped; the target is as it was:`,
      ...different.map(({ table, differences }) => `  - ${table}: ${differences?.join("; ")}`),
    ].join("\n"),
  );
}

/**
 * Ends the import if the copy's schema differs from the source's: an object is missing, is extra, or means something else. A
 * definition that PostgreSQL only words in another way is not a difference.
 */
function assertSchemaEqual(
  report: Report,
  differences: StateDifference[],
  facts: FactDifference[],
  { refused }: Rewordings,
): void {
  const fatal = [...differences, ...facts.filter(({ tolerable }) => !tolerable)];
  const sequences = report.sequences.filter((sequence) => sequence.source !== sequence.target);
  const lines = [
    ...fatal.map(({ object, how }) => `  - ${object}: ${how}`),
    ...refused.map((line) => `  - ${line}`),
    ...sequences.map((s) => `  - sequence ${s.name}: ${s.source} on the source, ${s.target} on the target`),
  ];
  if (lines.length > 0) {
    report.verdict = "different";
    throw new Error(
      `The copy's schema differs from the source's, so it was dropped; the target is as it was:\n${lines.join("\n")}`,
    );
  }
  for (const { object, how, tolerable } of facts) if (tolerable) report.remarks.push(`${object}: ${how}`);
}

/** Ends the import unless the owner owns every copied object, whatever role owned it on the source. */
async function assertOwnership(report: Report, target: pg.Client, owner: string): Promise<void> {
  const others = await findForeignOwners(target, owner);
  if (others.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      `Not everything in the copy belongs to ${owner}, so it was dropped; the target is as it was:`,
      ...others.map((other) => `  - ${other.object} belongs to ${other.owner}`),
    ].join("\n"),
  );
}

/** Ends the import if a role may do more in the copy than a restriction on the source allows it. */
async function assertRestrictions(report: Report, source: pg.Client, target: pg.Client): Promise<void> {
  const left = await readRestrictions(ROLES, source, target);
  if (left.length === 0) return;
  report.verdict = "different";
  throw new Error(
    [
      "Privileges in the copy are not as on the source, so it was dropped; the target is as it was:",
      ...left.map((restriction) => `  - ${restriction.object}: ${describeRestriction(restriction)}`),
    ].join("\n"),
  );
}

function summarise(source: string, report: Report, progress: Progress): ImportSummary {
  const hash = createHash("sha256");
  for (const { table, rows, target } of [...report.tables].sort((a, b) => (a.table < b.table ? -1 : 1))) {
    hash.update(`${table} ${rows} ${target}\n`);
  }
  if (report.largeObjects) hash.update(`large objects ${report.largeObjects.target}\n`);
  const butFor = describeSelection(report.tables);
  return {
    source,
    finishedAt: new Date().toISOString(),
    tables: report.tables.length,
    rows: report.rows,
    bytes: report.bytes,
    seconds: Math.round(progress.seconds * 10) / 10,
    fingerprint: hash.digest("hex"),
    ...(butFor !== "" && { butFor }),
    ...(report.safetyCopy && {
      safetyCopy: { name: report.safetyCopy.name, sha256: report.safetyCopy.sha256 },
    }),
  };
}

function describeCopy({ path, bytes, sha256, verified }: SafetyCopyFacts): string {
  const proof =
    verified === "decrypted"
      ? "decrypted and equal to what the source sent"
      : "read back as written; it was not decrypted, because its identity is not on this machine";
  return `import: safety copy ${path}, ${humanBytes(bytes)}, SHA-256 ${sha256}, ${proof}`;
}
